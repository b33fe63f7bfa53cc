//! `growth-chat serve`: `api` and `worker` in one process, for one small machine.

use std::process::ExitCode;

use api::ApiConfig;

use super::worker::{self, WorkConfig};
use crate::{
    cli::WorkerArgs,
    process::{Process, ProcessConfig, bind_both},
};

pub(crate) async fn run(args: WorkerArgs) -> anyhow::Result<ExitCode> {
    let mut settings = worker::settings(&args);
    let process = ProcessConfig::read(&mut settings);
    let api = ApiConfig::read(&mut settings);
    let work = WorkConfig::read(&mut settings);
    let ((process, api), work) = settings.finish(process.zip(api).zip(work))?;
    let (http, metrics) = bind_both(&api).await?;
    let mut process = Process::start(process)?;
    process.serve_metrics(metrics)?;
    process.serve_api(api, http)?;
    work.start(&mut process)?;
    process.run().await
}
