//! `growth-chat backup …`: makes, lists and verifies backups. Exit code 0 means that the backup is there.

mod list;

use std::{process::ExitCode, sync::Arc, time::Duration};

use anyhow::{Context, Result, anyhow, bail};
use chrono::{DateTime, Utc};
use clap::Subcommand;
use store::{bus::Bus, db::Database, settings::Settings};
use tokio::time::sleep;
use tokio_util::sync::CancellationToken;
use workers::{
    backup::{Ask, Backups, Ran, Say, Which, due_at, told},
    clients::bucket::Patience,
    config::BackupConfig,
};

use super::terminal::{note, write};
use crate::{
    environment,
    lifecycle::StopSignals,
    process::{ProcessConfig, fresh_name},
    reach::reach_migrated,
};

const STOPPED: &str = "stopped by a signal";

/// How to back up.
#[derive(Debug, clap::Args)]
#[command(args_conflicts_with_subcommands = true)]
pub(crate) struct BackupArgs {
    /// Only if the newest due time of `BACKUP_SCHEDULE` has no backup yet
    ///
    /// Waits for another process that is making it.
    #[arg(long)]
    if_due: bool,
    #[command(subcommand)]
    action: Option<Action>,
}

#[derive(Debug, Subcommand)]
enum Action {
    /// List the backups that are in the bucket, and when each was proved; needs no database
    List {
        /// Answer with JSON on standard output
        #[arg(long)]
        json: bool,
    },
    /// Restore a backup into a scratch database of the same server, and compare it with its manifest
    Verify {
        /// Its date (2026-11-21), or its name where a date has several (2026-11-21T1400)
        #[arg(value_name = "DATE", default_value = "latest")]
        which: Which,
        /// Go through all of `restore`
        #[arg(long)]
        drill: bool,
    },
}

pub(crate) async fn run(args: BackupArgs) -> Result<ExitCode> {
    match args.action {
        Some(Action::List { json }) => list::run(json).await,
        Some(Action::Verify { which, drill }) => {
            Box::pin(interruptible(async |backups| {
                verify(&backups, &which, drill).await
            }))
            .await
        }
        None => {
            Box::pin(interruptible(async |backups| {
                make(&backups, args.if_due).await
            }))
            .await
        }
    }
}

/// How long a run that was told to stop may take to clear up. A second signal ends it at once; what is left
/// then is cleared up by the next one, as after a crash.
const CLEARING_LIMIT: Duration = Duration::from_secs(15);

/// Runs with what makes the backups, until a signal.
async fn interruptible(work: impl AsyncFnOnce(Backups) -> Result<()>) -> Result<ExitCode> {
    let mut settings = environment::settings();
    let config = read(&mut settings);
    let (process, backup) = settings.finish(config)?;
    process.telemetry.start()?;
    let database = process.database.open()?;
    let shutdown = CancellationToken::new();
    tokio::spawn(StopSignals::listen()?.obey(shutdown.clone()));
    let bus = Bus::new(fresh_name());
    let told = CancellationToken::new();
    let (carrier, of, until) = (bus.clone(), database.clone(), told.clone());
    let carrying = tokio::spawn(async move { carrier.run(&of, until).await });
    let done = async {
        let reached = shutdown.run_until_cancelled(reach_migrated(&database));
        reached.await.unwrap_or_else(|| bail!(STOPPED))?;
        let backups = Backups::new(backup, database.clone(), bus, Patience::default());
        work(backups.until(shutdown.clone())).await
    };
    let late = async {
        shutdown.cancelled().await;
        sleep(CLEARING_LIMIT).await;
    };
    let done = tokio::select! {
        done = done => done,
        () = late => Err(anyhow!(STOPPED)),
    };
    // Tells the workers what it was given.
    told.cancel();
    let _ = carrying.await;
    done.map(|()| ExitCode::SUCCESS)
}

/// Reads all that making and verifying backups needs.
pub(super) fn read(settings: &mut Settings) -> Option<(ProcessConfig, BackupConfig)> {
    let process = ProcessConfig::read(settings);
    let backup = BackupConfig::read(settings);
    process.zip(backup)
}

async fn make(backups: &Backups, if_due: bool) -> Result<()> {
    let ask = if if_due {
        let now = now(backups.database()).await?;
        match due_at(&backups.config().schedule, now) {
            Some(due) => Ask::Due(due),
            None => return say("no backup has been due yet").await,
        }
    } else {
        Ask::ByHand
    };
    match backups.run(&ask).await.map_err(plainly)? {
        Ran::Made(manifest) => {
            let text = format!(
                "{}: {} bytes, of {} bytes of SQL, in {:.1} s",
                manifest.object, manifest.bytes, manifest.dump_bytes, manifest.duration_seconds
            );
            say(&text).await
        }
        Ran::WasMade => match ask {
            Ask::Due(due) => say(&format!("the backup of {due} is there")).await,
            Ask::ByHand => Ok(()),
        },
    }
}

async fn now(database: &Database) -> Result<DateTime<Utc>> {
    sqlx::query_scalar!(r#"select clock_timestamp() as "now!""#)
        .fetch_one(database.pool())
        .await
        .context("the database's clock could not be read")
}

async fn verify(backups: &Backups, which: &Which, drill: bool) -> Result<()> {
    let verified = backups.verify(which, drill, &steps()).await;
    let verified = verified.map_err(plainly)?;
    let mut text = format!(
        "{} is good: {} rows of {} tables are what the manifest says",
        verified.manifest.object,
        verified.rows,
        verified.manifest.tables.len()
    );
    if !verified.is_own {
        text.push_str("; this database knows of no run that made it, so that it counts for none of its backups");
    }
    say(&text).await
}

/// Tells each step to the person who waits.
pub(super) fn steps() -> Say {
    Arc::new(note)
}

/// An error in one line, without what a database may have quoted.
pub(super) fn plainly(error: impl std::error::Error + 'static) -> anyhow::Error {
    anyhow::anyhow!(told(&error))
}

async fn say(text: &str) -> Result<()> {
    write(format!("{text}\n")).await.map(drop)
}
