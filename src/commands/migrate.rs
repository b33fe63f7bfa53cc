//! `growth-chat migrate`: brings the schema up to date.

use std::process::ExitCode;

use anyhow::Context;

use crate::reach::{open_database, reach};

pub(crate) async fn run() -> anyhow::Result<ExitCode> {
    let database = open_database()?;
    reach(&database).await?;
    database.migrate().await.context("migrating failed")?;
    tracing::info!("the database's schema is up to date");
    Ok(ExitCode::SUCCESS)
}
