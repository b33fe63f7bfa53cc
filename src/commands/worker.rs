//! `growth-chat worker`: runs jobs. It serves nothing but its metrics.

use std::{process::ExitCode, sync::Arc};

use anyhow::Context;
use api::config::metrics_address;
use jobs::{QueueConfig, Runtime};
use store::{
    clock::SystemClock,
    db::{is_temporary, reconnect_waits},
    ids::SystemEntropy,
    knowledge::KnowledgeError,
    settings::Settings,
};
use tokio::time::sleep;
use workers::{
    Deps, WorkerConfig,
    config::{HandoffConfig, OutgoingConfig},
    handlers::session_sweep::SweepDeps,
    handoff::{self, HandoffDeps},
    knowledge::KnowledgeDeps,
    webhooks::{self, WebhookDeps},
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
    worker: WorkerConfig,
    handoff: HandoffConfig,
    outgoing: OutgoingConfig,
}

impl WorkConfig {
    /// Reads what the queue and the handlers need.
    pub(super) fn read(settings: &mut Settings) -> Option<Self> {
        let queue = QueueConfig::read(settings);
        let worker = WorkerConfig::read(settings);
        let handoff = HandoffConfig::read(settings);
        let outgoing = OutgoingConfig::read(settings);
        Some(Self {
            queue: queue?,
            worker: worker?,
            handoff: handoff?,
            outgoing: outgoing?,
        })
    }

    /// Runs jobs in `process`.
    pub(super) fn start(self, process: &mut Process) -> anyhow::Result<()> {
        let database = process.database().clone();
        let bus = process.bus().clone();
        let deps = Deps::build(self.worker, &database, bus.clone())
            .context("the client of the providers could not be made")?;
        let entropy = Arc::new(SystemEntropy);
        let people = HandoffDeps::build(self.handoff, &database, bus.clone(), entropy)
            .context("the client of the handoff could not be made")?;
        deps.budget.watch_by(process.spend());
        let clock = Arc::new(SystemClock);
        let told = WebhookDeps::build(self.outgoing, &database, bus.clone(), clock)
            .context("the client of the webhooks could not be made")?;
        let runtime = Runtime::new(database, bus, self.queue).with_pruning();
        let runtime = workers::register(runtime, &deps);
        let runtime = handoff::register(runtime, &people);
        let runtime = webhooks::register(runtime, &told);
        process.write_events(deps.events);
        process.run_jobs(runtime, prepare(people, deps.knowledge, deps.sweep));
        Ok(())
    }
}

/// Tells of the business hours, prepares the knowledge base, and has the sessions be looked after that are
/// open. A knowledge base that does not fit the configuration fails: no job could be done.
async fn prepare(
    people: HandoffDeps,
    knowledge: KnowledgeDeps,
    sweep: SweepDeps,
) -> anyhow::Result<()> {
    once_there(|| async {
        people.tell_hours().await?;
        Ok(())
    })
    .await
    .context("the business hours can't be kept")?;
    once_there(|| async {
        knowledge.prepare().await?;
        knowledge.publish().await?;
        Ok(())
    })
    .await
    .context("the knowledge base can't be used")?;
    once_there(|| async {
        sweep.plan().await?;
        Ok(())
    })
    .await
    .context("the open sessions can't be looked at")
}

/// Does it, however long the database is away.
async fn once_there<F: Future<Output = Result<(), KnowledgeError>>>(
    prepare: impl Fn() -> F,
) -> Result<(), KnowledgeError> {
    let mut waits = reconnect_waits();
    loop {
        match prepare().await {
            Err(KnowledgeError::Database(error)) if is_temporary(&error) => {
                tracing::warn!(error = %error, "the work could not be prepared yet");
                sleep(waits.next().unwrap_or_default()).await;
            }
            prepared => return prepared,
        }
    }
}
