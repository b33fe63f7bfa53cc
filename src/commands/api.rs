//! `growth-chat api`: accepts messages and streams answers. It calls no third party and runs no job.

use std::process::ExitCode;

use api::ApiConfig;

use crate::{
    environment,
    process::{Process, ProcessConfig, bind_both},
};

pub(crate) async fn run() -> anyhow::Result<ExitCode> {
    let mut settings = environment::settings();
    let process = ProcessConfig::read(&mut settings);
    let api = ApiConfig::read(&mut settings);
    let (process, api) = settings.finish(process.zip(api))?;
    let (http, metrics) = bind_both(&api).await?;
    let mut process = Process::start(process)?;
    // First, so that every figure is kept.
    process.serve_metrics(metrics)?;
    process.serve_api(api, http)?;
    process.run().await
}
