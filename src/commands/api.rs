//! `growth-chat api`: accepts messages and streams answers. It calls no third party and runs no job.

use std::process::ExitCode;

use api::ApiConfig;
use store::settings::Settings;

use crate::{
    environment,
    process::{Process, ProcessConfig, bind_both},
};

pub(crate) async fn run() -> anyhow::Result<ExitCode> {
    let mut settings = environment::settings();
    let config = read(&mut settings);
    let (process, api) = settings.finish(config)?;
    let (http, metrics) = bind_both(&api).await?;
    let mut process = Process::start(process)?;
    // First, so that every figure is kept.
    process.serve_metrics(metrics)?;
    process.serve_api(api, http)?;
    process.run().await
}

/// Reads all that the role needs.
pub(super) fn read(settings: &mut Settings) -> Option<(ProcessConfig, ApiConfig)> {
    let process = ProcessConfig::read(settings);
    let api = ApiConfig::read(settings);
    process.zip(api)
}
