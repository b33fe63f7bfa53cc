//! The command around the indexing: its configuration, its database, its workers.

use std::{
    io::{self, IsTerminal},
    process::ExitCode,
};

use anyhow::Context;
use jobs::{JobKind, QueueConfig, Runtime, catalog::KnowledgeIndexDocument};
use store::{bus::Bus, db::Database, settings::Settings};
use tokio_util::sync::CancellationToken;
use workers::{
    clients::{embeddings::Embedder, guarded::GuardedClient, http_client},
    config::{EmbeddingsConfig, KnowledgeConfig, OutgoingConfig},
    handlers::index_document,
    knowledge::{KnowledgeDeps, extract::Extractor, ingest::Ingest},
};

use super::IndexArgs;
use crate::{
    environment,
    lifecycle::StopSignals,
    process::{ProcessConfig, fresh_name},
    reach::reach_migrated,
};

/// Indexes, with a runtime of its own for the one queue.
pub(crate) async fn run(args: IndexArgs) -> anyhow::Result<ExitCode> {
    let mut settings = environment::settings();
    let config = read(&mut settings);
    let ((process, knowledge), queue) = settings.finish(config)?;
    process.telemetry.start()?;
    let database = process.database.open()?;
    let shutdown = CancellationToken::new();
    tokio::spawn(StopSignals::listen()?.obey(shutdown.clone()));
    if let Some(reached) = shutdown
        .run_until_cancelled(reach_migrated(&database))
        .await
    {
        reached?;
    }
    let bus = Bus::new(fresh_name());
    let (carrier, of, until) = (bus.clone(), database.clone(), shutdown.clone());
    tokio::spawn(async move { carrier.run(&of, until).await });
    let client = GuardedClient::new(knowledge.outgoing.rules.clone())
        .context("the client of the crawl could not be made")?;
    let deps = knowledge.deps(&database)?;
    let queue = QueueConfig {
        queues: vec![KnowledgeIndexDocument::QUEUE.to_owned()],
        ..queue
    };
    let runtime = Runtime::new(database, bus.clone(), queue);
    let runtime = index_document::register(runtime, &deps);
    let drain = process.drain;
    let work = |stop| async move { Ok(runtime.run(stop, drain).await?) };
    let program = std::env::current_exe().context("finding this program's file")?;
    let extractor = Extractor::of_program(program);
    let ingest = Ingest::new(deps.pool.clone(), bus, deps.profile(), extractor);
    let mut out = io::stdout();
    let is_terminal = out.is_terminal();
    let indexing = super::Indexing {
        args: &args,
        deps: &deps,
        ingest,
        client: &client,
        shutdown,
        is_terminal,
    };
    super::run(indexing, work, &mut out).await
}

/// Reads all that the command needs.
pub(crate) fn read(
    settings: &mut Settings,
) -> Option<((ProcessConfig, KnowledgeSettings), QueueConfig)> {
    let process = ProcessConfig::read(settings);
    let knowledge = KnowledgeSettings::read(settings);
    let queue = QueueConfig::read(settings);
    process.zip(knowledge).zip(queue)
}

/// What indexing and searching are configured with; they need no model.
#[derive(Debug)]
pub(crate) struct KnowledgeSettings {
    pub(crate) embeddings: EmbeddingsConfig,
    pub(crate) knowledge: KnowledgeConfig,
    outgoing: OutgoingConfig,
}

impl KnowledgeSettings {
    /// Reads the variables of the embeddings and the knowledge base.
    pub(crate) fn read(settings: &mut Settings) -> Option<Self> {
        let embeddings = EmbeddingsConfig::read(settings);
        let knowledge = KnowledgeConfig::read(settings);
        let outgoing = OutgoingConfig::read(settings);
        Some(Self {
            embeddings: embeddings?,
            knowledge: knowledge?,
            outgoing: outgoing?,
        })
    }

    /// What they work with.
    pub(crate) fn deps(self, database: &Database) -> anyhow::Result<KnowledgeDeps> {
        let http = http_client().context("the client of the providers could not be made")?;
        Ok(KnowledgeDeps {
            pool: database.pool().clone(),
            embedder: Embedder::new(self.embeddings, http),
            config: self.knowledge,
        })
    }
}
