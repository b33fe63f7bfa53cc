//! `growth-chat worker`: runs jobs. It serves nothing but its metrics.

use std::{net::SocketAddr, process::ExitCode, sync::Arc, time::Duration};

use anyhow::Context;
use api::config::metrics_address;
use jobs::{QueueConfig, Runtime};
use store::{
    db::{is_temporary, reconnect_waits},
    ids::SystemEntropy,
    knowledge::KnowledgeError,
    settings::Settings,
};
use tokio::time::sleep;
use workers::{
    Deps, WorkerConfig,
    config::HandoffConfig,
    handlers::session_sweep::SweepDeps,
    handoff::{self, HandoffDeps},
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
    let config = read(&mut settings);
    let ((process, metrics), work) = settings.finish(config)?;
    let metrics = bind(metrics, "METRICS_PORT").await?;
    let mut process = Process::start(process)?;
    process.serve_metrics(metrics)?;
    work.start(&mut process)?;
    process.run().await
}

/// Reads all that the role needs.
pub(super) fn read(settings: &mut Settings) -> Option<((ProcessConfig, SocketAddr), WorkConfig)> {
    let process = ProcessConfig::read(settings);
    let metrics = metrics_address(settings);
    let work = WorkConfig::read(settings);
    Some(((process?, metrics), work?))
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
    /// `IDLE_SHUTDOWN_SECONDS`: after how long without anything to do the process ends.
    idle_shutdown: Option<Duration>,
}

impl WorkConfig {
    /// Reads what the queue and the handlers need.
    pub(super) fn read(settings: &mut Settings) -> Option<Self> {
        let queue = QueueConfig::read(settings);
        let worker = WorkerConfig::read(settings);
        let handoff = HandoffConfig::read(settings);
        let idle_shutdown = settings.with_default(
            "IDLE_SHUTDOWN_SECONDS",
            0,
            "0 (never) to 86400",
            |seconds| *seconds <= 86_400,
        );
        Some(Self {
            queue: queue?,
            worker: worker?,
            handoff: handoff?,
            idle_shutdown: (idle_shutdown > 0).then(|| Duration::from_secs(idle_shutdown)),
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
        let runtime = Runtime::new(database, bus, self.queue).with_pruning();
        let runtime = workers::register(runtime, &deps);
        let runtime = handoff::register(runtime, &people);
        process.write_events(deps.events);
        if let Some(window) = self.idle_shutdown {
            process.stop_when_idle(window);
        }
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
