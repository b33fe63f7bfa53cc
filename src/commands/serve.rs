//! `growth-chat serve`: `api` and `worker` in one process, for one small machine.

use std::process::ExitCode;

use ::api::ApiConfig;
use store::settings::Settings;

use super::{
    api,
    worker::{self, WorkConfig, WorkerArgs},
};
use crate::process::{Process, ProcessConfig, bind_both};

pub(crate) async fn run(args: WorkerArgs) -> anyhow::Result<ExitCode> {
    let mut settings = worker::settings(&args);
    let config = read(&mut settings);
    let ((process, api), work) = settings.finish(config)?;
    let (http, metrics) = bind_both(&api).await?;
    let mut process = Process::start(process)?;
    process.serve_metrics(metrics)?;
    process.serve_api(api, http)?;
    work.start(&mut process)?;
    process.run().await
}

/// Reads all that the role needs.
pub(super) fn read(settings: &mut Settings) -> Option<((ProcessConfig, ApiConfig), WorkConfig)> {
    let api = api::read_service(settings);
    let work = WorkConfig::read(settings);
    api.zip(work)
}
