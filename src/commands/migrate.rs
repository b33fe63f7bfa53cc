//! `growth-chat migrate`: brings the schema up to date.

use std::process::ExitCode;

use anyhow::Context;
use store::db::DatabaseConfig;

use crate::{environment, reach::reach, telemetry::LogConfig};

pub(crate) async fn run() -> anyhow::Result<ExitCode> {
    let mut settings = environment::settings();
    let log = LogConfig::read(&mut settings);
    let database = DatabaseConfig::read(&mut settings);
    let database = settings.finish(database)?;
    log.start()?;
    let database = database
        .open()
        .context("the database's address could not be used")?;
    reach(&database).await?;
    database.migrate().await.context("migrating failed")?;
    tracing::info!("the database's schema is up to date");
    Ok(ExitCode::SUCCESS)
}
