//! `growth-chat migrate`: brings the schema up to date.

use std::{process::ExitCode, time::Duration};

use anyhow::Context;
use store::{
    bus::reconnect_waits,
    db::{Database, DatabaseConfig, is_temporary},
};
use tokio::time::{Instant, sleep};

use crate::{environment, telemetry::LogConfig};

/// How long a database may take to come up: a serverless one takes seconds.
const PATIENCE: Duration = Duration::from_secs(30);

pub(crate) async fn run() -> anyhow::Result<ExitCode> {
    let mut settings = environment::settings();
    let log = LogConfig::read(&mut settings);
    let database = DatabaseConfig::read(&mut settings);
    let (log, database) = settings.finish(log.zip(database))?;
    log.start()?;
    let database = database
        .open()
        .context("the database's address could not be used")?;
    reach(&database).await?;
    database.migrate().await.context("migrating failed")?;
    tracing::info!("the database's schema is up to date");
    Ok(ExitCode::SUCCESS)
}

/// Waits until the database answers.
async fn reach(database: &Database) -> anyhow::Result<()> {
    let begun = Instant::now();
    let mut waits = reconnect_waits();
    loop {
        let Err(error) = database.probe().await else {
            return Ok(());
        };
        let wait = waits.next().unwrap_or_default();
        if !is_temporary(&error) {
            return Err(error).context("the database refuses the connection");
        }
        if begun.elapsed() + wait > PATIENCE {
            let waited = PATIENCE.as_secs();
            return Err(error)
                .with_context(|| format!("the database was not reached within {waited} s"));
        }
        tracing::warn!(error = %error, "the database is not there yet");
        sleep(wait).await;
    }
}
