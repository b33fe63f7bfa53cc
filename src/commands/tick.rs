//! `growth-chat tick`: does what is due, drains the queue, and ends. For a machine that is started by a
//! clock instead of running all day.
//!
//! Drained means that nothing runs, nothing is ready in a queue that may run, and no attempt is to be
//! made again within [`PATIENCE`]: jobs with longer waits are the next tick's.

use std::{process::ExitCode, time::Duration};

use anyhow::Context;
use chrono::{DateTime, Utc};
use jobs::{QueueConfig, Runtime};
use sqlx::PgPool;
use store::{bus::Bus, settings::Settings};
use tokio::time::sleep;
use tokio_util::sync::CancellationToken;
use workers::{Deps, WorkerConfig};

use super::worker::prepare;
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
    let process = ProcessConfig::read(&mut settings);
    let queue = QueueConfig::read(&mut settings);
    let worker = WorkerConfig::read(&mut settings);
    let ((process, queue), worker) = settings.finish(process.zip(queue).zip(worker))?;
    process.log.start()?;
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
    let deps = Deps::build(worker, &database, bus.clone())
        .context("the client of the providers could not be made")?;
    let recording = CancellationToken::new();
    let (events, until) = (deps.events.clone(), recording.clone());
    let recorder = tokio::spawn(async move { events.run(until).await });
    prepare(deps.knowledge.clone(), deps.sweep.clone()).await?;

    let pool = database.pool().clone();
    let begun = now(&pool).await?;
    let queues = queue.queues.clone();
    let mut runtime = Runtime::new(database, bus, queue).with_pruning();
    runtime = workers::register(runtime, &deps);
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
    let failed = failed_since(&pool, begun).await;
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

/// Returns when nothing is left to do soon. Empty `queues` are all.
async fn until_drained(pool: &PgPool, queues: &[String]) -> anyhow::Result<()> {
    loop {
        let left = sqlx::query_scalar!(
            r#"select exists (
                   select from queue.jobs j
                   where (cardinality($1::text[]) = 0 or j.queue = any ($1))
                     and (j.state = 'running'
                          or j.queue not in (select queue from queue.paused)
                             and (j.state = 'ready'
                                  or j.state = 'scheduled' and j.run_at < now() + $2::float8 * interval '1 s'
                                     and jsonb_array_length(coalesce(j.errors, '[]')) > 0)
                          or j.state = 'scheduled' and j.run_at <= now()
                             and j.queue not in (select queue from queue.paused))) as "left!""#,
            queues,
            PATIENCE.as_secs_f64(),
        )
        .fetch_one(pool)
        .await
        .context("the queue could not be looked at")?;
        if !left {
            return Ok(());
        }
        sleep(LOOK).await;
    }
}

async fn now(pool: &PgPool) -> anyhow::Result<DateTime<Utc>> {
    sqlx::query_scalar!(r#"select clock_timestamp() as "now!""#)
        .fetch_one(pool)
        .await
        .context("the database's clock could not be read")
}

/// Jobs that died, or that have failed and wait for another attempt.
async fn failed_since(pool: &PgPool, begun: DateTime<Utc>) -> anyhow::Result<i64> {
    sqlx::query_scalar!(
        r#"select (select count(*) from queue.history where outcome = 'dead' and finished_at >= $1)
                + (select count(*) from queue.jobs
                   where jsonb_path_exists(errors, '$[*]')
                     and (errors -> -1 ->> 'at')::timestamptz >= $1) as "failed!""#,
        begun
    )
    .fetch_one(pool)
    .await
    .context("the queue could not be looked at")
}
