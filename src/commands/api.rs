//! `growth-chat api`: accepts messages and streams answers. It calls no third party and runs no job;
//! it may wake our own worker.

use std::process::ExitCode;

use anyhow::Context;
use api::ApiConfig;
use store::settings::Settings;
use url::Url;

use crate::{
    environment,
    process::{Process, ProcessConfig, bind_both},
    wake_worker::{self, WorkerWake},
};

pub(crate) async fn run() -> anyhow::Result<ExitCode> {
    let mut settings = environment::settings();
    let config = read(&mut settings);
    let ((process, api), wake) = settings.finish(config)?;
    let (http, metrics) = bind_both(&api).await?;
    let mut process = Process::start(process)?;
    // First, so that every figure is kept.
    process.serve_metrics(metrics)?;
    process.serve_api(api, http)?;
    if let Some(url) = wake {
        let wake =
            WorkerWake::new(url).context("the client of WORKER_WAKE_URL could not be made")?;
        process.wake_worker(wake);
    }
    process.run().await
}

/// What the role is configured with.
type ApiRole = ((ProcessConfig, ApiConfig), Option<Url>);

/// Reads all that the role needs.
pub(super) fn read(settings: &mut Settings) -> Option<ApiRole> {
    let service = read_service(settings);
    let wake = wake_worker::read_url(settings);
    Some((service?, wake))
}

/// Reads what it needs that has a worker in itself.
pub(super) fn read_service(settings: &mut Settings) -> Option<(ProcessConfig, ApiConfig)> {
    let process = ProcessConfig::read(settings);
    let api = ApiConfig::read(settings);
    process.zip(api)
}
