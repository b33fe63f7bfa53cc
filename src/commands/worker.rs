//! `growth-chat worker`: runs jobs. It serves nothing but its metrics.

use std::{net::SocketAddr, process::ExitCode, sync::Arc, time::Duration};

use anyhow::Context;
use api::config::metrics_address;
use jobs::{QueueConfig, Runtime};
use store::{
    bus::Bus,
    clock::SystemClock,
    db::{Database, is_temporary, reconnect_waits},
    ids::SystemEntropy,
    knowledge::KnowledgeError,
    settings::Settings,
};
use tokio::time::sleep;
use workers::{
    Deps, WorkerConfig,
    config::{HandoffConfig, OutgoingConfig},
    handoff::{self, HandoffDeps},
    privacy::here::unblock,
    webhooks::{self, WebhookDeps},
};

use crate::{
    environment,
    process::{Process, ProcessConfig},
    server::bind,
};

/// How to work on the queue.
#[derive(Debug, Default, PartialEq, Eq, clap::Args)]
pub(crate) struct WorkerArgs {
    /// Work on these queues only, comma-separated [default: `WORKER_QUEUES`, else all]
    #[arg(long, value_delimiter = ',', value_name = "QUEUE")]
    pub(crate) queues: Vec<String>,
}

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
    outgoing: OutgoingConfig,
    /// `IDLE_SHUTDOWN_SECONDS`: after how long without anything to do the process ends.
    idle_shutdown: Option<Duration>,
}

impl WorkConfig {
    /// Reads what the queue and the handlers need.
    pub(super) fn read(settings: &mut Settings) -> Option<Self> {
        let queue = QueueConfig::read(settings);
        let worker = WorkerConfig::read(settings);
        let handoff = HandoffConfig::read(settings);
        let outgoing = OutgoingConfig::read(settings);
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
            outgoing: outgoing?,
            idle_shutdown: (idle_shutdown > 0).then(|| Duration::from_secs(idle_shutdown)),
        })
    }

    /// The queues that are worked on; none: all.
    pub(super) fn queues(&self) -> &[String] {
        &self.queue.queues
    }

    /// Runs jobs in `process`.
    pub(super) fn start(self, process: &mut Process) -> anyhow::Result<()> {
        if let Some(window) = self.idle_shutdown {
            process.stop_when_idle(window);
        }
        let work = self.assemble(process.database(), process.bus())?;
        work.deps.budget.watch_by(process.spend());
        process.write_events(work.deps.events.clone());
        process.run_jobs(work.runtime, prepare(work.people, work.deps));
        Ok(())
    }

    /// Puts every handler together with what it works with.
    pub(super) fn assemble(self, database: &Database, bus: &Bus) -> anyhow::Result<Work> {
        let deps = Deps::build(self.worker, database, bus.clone())
            .context("the client of the providers could not be made")?;
        if deps.secret.is_none() {
            tracing::warn!(
                "PRIVACY_SECRET is not set: nobody can be forgotten by their address, and receipts of erasures \
                 are not signed"
            );
        }
        let entropy = Arc::new(SystemEntropy);
        let people = HandoffDeps::build(self.handoff, database, bus.clone(), entropy)
            .context("the client of the handoff could not be made")?;
        let clock = Arc::new(SystemClock);
        let told = WebhookDeps::build(self.outgoing, database, bus.clone(), clock)
            .context("the client of the webhooks could not be made")?;
        let runtime = Runtime::new(database.clone(), bus.clone(), self.queue).with_pruning();
        let runtime = workers::register(runtime, &deps);
        let runtime = handoff::register(runtime, &people);
        let runtime = workers::register_erasure(runtime, &deps, &people);
        let runtime = webhooks::register(runtime, &told);
        Ok(Work {
            runtime,
            deps,
            people,
        })
    }
}

/// Every handler, ready to run.
pub(super) struct Work {
    pub(super) runtime: Runtime,
    pub(super) deps: Deps,
    pub(super) people: HandoffDeps,
}

/// Tells of the business hours and of how long texts are kept, prepares the knowledge base, and has the sessions
/// be looked after that are open, and the erasures that waited for `PRIVACY_SECRET`. A knowledge base that does not
/// fit the configuration fails: no job could be done.
pub(super) async fn prepare(people: HandoffDeps, deps: Deps) -> anyhow::Result<()> {
    let Deps {
        knowledge,
        sweep,
        secret,
        retention,
        ..
    } = deps;
    once_there(|| async {
        people.tell_hours().await?;
        retention.tell_days().await?;
        Ok(())
    })
    .await
    .context("the business hours and the rule of retention can't be kept")?;
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
    .context("the open sessions can't be looked at")?;
    if secret.is_none() {
        return Ok(());
    }
    once_there(|| async {
        let after = unblock(&people.pool).await?;
        people.bus.publish(&after);
        Ok(())
    })
    .await
    .context("the erasures that waited for PRIVACY_SECRET can't be looked at")
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
