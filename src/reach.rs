//! Opens the database, and waits for one that is coming up, for the commands that can do nothing
//! without it.

use std::time::Duration;

use anyhow::{Context, bail};
use store::{
    db::{Database, DatabaseConfig, is_temporary, reconnect_waits},
    migration::is_migrated,
    settings::Settings,
};
use tokio::time::{Instant, sleep};

use crate::{environment, telemetry::TelemetryConfig};

/// How long a database may take to come up: a serverless one takes seconds.
const PATIENCE: Duration = Duration::from_secs(30);

/// What every command is configured with that uses the database.
#[derive(Debug)]
pub(crate) struct ReachConfig {
    telemetry: TelemetryConfig,
    database: DatabaseConfig,
}

impl ReachConfig {
    /// Reads the variables of the database, the log and the traces.
    pub(crate) fn read(settings: &mut Settings) -> Option<Self> {
        let telemetry = TelemetryConfig::read(settings);
        let database = DatabaseConfig::read(settings);
        Some(Self {
            telemetry,
            database: database?,
        })
    }

    /// Starts the log, and opens the database.
    pub(crate) fn open(self) -> anyhow::Result<Database> {
        self.telemetry.start()?;
        self.database
            .open()
            .context("the database's address could not be used")
    }
}

/// Opens the database of a command that is configured with nothing else, and starts its log.
pub(crate) fn open_database() -> anyhow::Result<Database> {
    let mut settings = environment::settings();
    let config = ReachConfig::read(&mut settings);
    settings.finish(config)?.open()
}

/// Waits until the database answers.
pub(crate) async fn reach(database: &Database) -> anyhow::Result<()> {
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

/// The same for a database that has to have the schema already.
pub(crate) async fn reach_migrated(database: &Database) -> anyhow::Result<()> {
    reach(database).await?;
    let migrated = is_migrated(database.pool()).await;
    if migrated.context("the database's schema could not be looked at")? {
        return Ok(());
    }
    bail!("the database's schema is older than this program: run `growth-chat migrate`")
}
