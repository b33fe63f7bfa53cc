//! `growth-chat tick`: does what is due, drains the queue, and ends. For a machine that is started by a
//! clock instead of running all day.
//!
//! Drained means that nothing runs, nothing is ready in a queue that may run, and no attempt is to be
//! made again within [`PATIENCE`]: jobs with longer waits are the next tick's.

use std::{process::ExitCode, time::Duration};

use anyhow::Context;
use jobs::operator;
use sqlx::PgPool;
use store::{bus::Bus, settings::Settings};
use tokio::time::sleep;
use tokio_util::sync::CancellationToken;

use super::worker::{Work, WorkConfig, prepare};
use crate::{
    environment,
    lifecycle::StopSignals,
    process::{ProcessConfig, fresh_name},
    reach::reach_migrated,
};

/// The next attempt of a job that failed is waited for so long.
const PATIENCE: Duration = Duration::from_secs(15);
/// Between two looks at the queue.
const LOOK: Duration = Duration::from_millis(250);

pub(crate) async fn run() -> anyhow::Result<ExitCode> {
    let mut settings: Settings = environment::settings();
    let config = read(&mut settings);
    let (process, work) = settings.finish(config)?;
    process.telemetry.start()?;
    let database = process.database.open()?;
    let shutdown = CancellationToken::new();
    tokio::spawn(StopSignals::listen()?.obey(shutdown.clone()));
    if let Some(reached) = shutdown
        .run_until_cancelled(reach_migrated(&database))
        .await
    {
        reached?;
    }
    let bus = Bus::new(fresh_name());
    let (carrier, of, until) = (bus.clone(), database.clone(), shutdown.clone());
    let carrying = tokio::spawn(async move { carrier.run(&of, until).await });
    let queues = work.queues().to_vec();
    let Work {
        mut runtime,
        deps,
        people,
    } = work.assemble(&database, &bus)?;
    let recording = CancellationToken::new();
    let (events, until) = (deps.events.clone(), recording.clone());
    let recorder = tokio::spawn(async move { events.run(until).await });
    prepare(people, deps).await?;

    let pool = database.pool().clone();
    let begun = operator::now(&pool).await?;
    runtime
        .fire_due()
        .await
        .context("the schedules could not be looked at")?;
    let done = shutdown.child_token();
    let working = tokio::spawn(runtime.run(done.clone(), process.drain));
    let drained = shutdown
        .run_until_cancelled(until_drained(&pool, &queues))
        .await;
    done.cancel();
    working.await.context("the queue's task panicked")??;
    recording.cancel();
    let _ = recorder.await;
    let failed = operator::failed_since(&pool, begun).await;
    shutdown.cancel();
    let _ = carrying.await;
    drained.unwrap_or(Ok(()))?;
    match failed? {
        0 => Ok(ExitCode::SUCCESS),
        count => {
            tracing::error!(jobs = count, "jobs failed: see ops.failed_jobs");
            Ok(ExitCode::FAILURE)
        }
    }
}

/// Reads all that the command needs.
pub(super) fn read(settings: &mut Settings) -> Option<(ProcessConfig, WorkConfig)> {
    let process = ProcessConfig::read(settings);
    let work = WorkConfig::read(settings);
    process.zip(work)
}

/// Returns when nothing is left to do soon. Empty `queues` are all.
async fn until_drained(pool: &PgPool, queues: &[String]) -> anyhow::Result<()> {
    while !operator::is_drained(pool, queues, PATIENCE).await? {
        sleep(LOOK).await;
    }
    Ok(())
}
