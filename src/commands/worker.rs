//! `growth-chat worker`: runs jobs. It serves nothing but its metrics.

use std::process::ExitCode;

use api::config::metrics_address;
use jobs::{QueueConfig, Runtime};
use store::settings::Settings;

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
}

impl WorkConfig {
    /// Reads what the queue and the handlers need.
    pub(super) fn read(settings: &mut Settings) -> Option<Self> {
        let queue = QueueConfig::read(settings);
        Some(Self { queue: queue? })
    }

    /// Runs jobs in `process`.
    pub(super) fn start(self, process: &mut Process) -> anyhow::Result<()> {
        let runtime = Runtime::new(
            process.database().clone(),
            process.bus().clone(),
            self.queue,
        );
        process.run_jobs(runtime, async { Ok(()) });
        Ok(())
    }
}
