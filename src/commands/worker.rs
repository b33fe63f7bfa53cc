//! `growth-chat worker`: runs jobs. It serves nothing but its metrics.

use std::process::ExitCode;

use anyhow::Context;
use api::config::metrics_address;
use jobs::{QueueConfig, Runtime};
use store::{
    bus::reconnect_waits,
    db::{Database, is_temporary},
    knowledge::KnowledgeError,
    settings::Settings,
};
use tokio::time::sleep;
use workers::{
    clients::{embeddings::Embedder, http_client},
    config::{EmbeddingsConfig, KnowledgeConfig},
    handlers::index_document,
    knowledge::KnowledgeDeps,
};

use crate::{
    cli::WorkerArgs,
    environment,
    process::{Process, ProcessConfig},
    server::bind,
};

pub(crate) async fn run(args: WorkerArgs) -> anyhow::Result<ExitCode> {
    let mut settings = settings(&args);
    let process = ProcessConfig::read(&mut settings);
    let metrics = metrics_address(&mut settings);
    let work = WorkConfig::read(&mut settings);
    let (process, work) = settings.finish(process.zip(work))?;
    let metrics = bind(metrics, "METRICS_PORT").await?;
    let mut process = Process::start(process)?;
    process.serve_metrics(metrics)?;
    work.start(&mut process)?;
    process.run().await
}

/// The environment, with what the command line says in its place.
pub(super) fn settings(args: &WorkerArgs) -> Settings {
    let queues = (!args.queues.is_empty()).then(|| ("WORKER_QUEUES", args.queues.join(",")));
    environment::settings_with(queues)
}

/// What a process that runs jobs is configured with.
#[derive(Debug)]
pub(super) struct WorkConfig {
    queue: QueueConfig,
    knowledge: KnowledgeSettings,
}

impl WorkConfig {
    /// Reads what the queue and the handlers need.
    pub(super) fn read(settings: &mut Settings) -> Option<Self> {
        let queue = QueueConfig::read(settings);
        let knowledge = KnowledgeSettings::read(settings);
        Some(Self {
            queue: queue?,
            knowledge: knowledge?,
        })
    }

    /// Runs jobs in `process`.
    pub(super) fn start(self, process: &mut Process) -> anyhow::Result<()> {
        let database = process.database().clone();
        let knowledge = self.knowledge.deps(&database)?;
        let runtime = Runtime::new(database, process.bus().clone(), self.queue);
        let runtime = index_document::register(runtime, &knowledge);
        process.run_jobs(runtime, prepare(knowledge));
        Ok(())
    }
}

/// What indexing and retrieval are configured with.
#[derive(Debug)]
pub(super) struct KnowledgeSettings {
    embeddings: EmbeddingsConfig,
    knowledge: KnowledgeConfig,
}

impl KnowledgeSettings {
    /// Reads the variables of the embeddings and the knowledge base.
    pub(super) fn read(settings: &mut Settings) -> Option<Self> {
        let embeddings = EmbeddingsConfig::read(settings);
        let knowledge = KnowledgeConfig::read(settings);
        Some(Self {
            embeddings: embeddings?,
            knowledge: knowledge?,
        })
    }

    /// What indexing and retrieval work with.
    pub(super) fn deps(self, database: &Database) -> anyhow::Result<KnowledgeDeps> {
        let http = http_client().context("the client of the providers could not be made")?;
        Ok(KnowledgeDeps {
            pool: database.pool().clone(),
            embedder: Embedder::new(self.embeddings, http),
            config: self.knowledge,
        })
    }
}

/// Prepares the knowledge base, however long the database is away. A knowledge base that does not fit
/// the configuration fails: no job could be done.
async fn prepare(knowledge: KnowledgeDeps) -> anyhow::Result<()> {
    let mut waits = reconnect_waits();
    loop {
        match knowledge.prepare().await {
            Ok(()) => return Ok(()),
            Err(KnowledgeError::Database(error)) if is_temporary(&error) => {
                tracing::warn!(error = %error, "the knowledge base could not be prepared yet");
                sleep(waits.next().unwrap_or_default()).await;
            }
            Err(error) => return Err(error).context("the knowledge base can't be used"),
        }
    }
}
