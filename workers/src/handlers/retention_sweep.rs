//! `retention.sweep`: forgets the texts of the sessions that were closed more than `RETENTION_DAYS` ago,
//! every week (docs/decisions/0023). `growth-chat retention` does the same at once.

use std::time::Duration;

use chrono::Datelike;
use jobs::{HandlerResult, Outcome, Runtime, catalog::RetentionSweep, schedule::Schedule};
use sqlx::PgPool;
use store::retention::{self, BATCH_SESSIONS, BATCH_TURNS, Gone, REST};
use tokio::time::{Instant, sleep};

/// After this long the job makes room for others and goes on a little later.
const BUDGET: Duration = Duration::from_mins(4);
const GO_ON_AFTER: Duration = Duration::from_secs(1);

/// What retention works with.
#[derive(Debug, Clone)]
pub struct RetentionDeps {
    /// The database.
    pub pool: PgPool,
    /// `RETENTION_DAYS`.
    pub days: i32,
}

/// Has `runtime` do it every Monday at 03:40 UTC: no hour that clocks skip, and not that of the backup.
///
/// # Panics
///
/// Never: the schedule is a constant.
#[must_use]
pub fn register(runtime: Runtime, deps: &RetentionDeps) -> Runtime {
    let deps = deps.clone();
    // From the start on, so that a rate can be taken of the first one.
    for (table, _) in Gone::default().tables() {
        metrics::counter!("growth_chat_retention_deleted_total", "table" => table).increment(0);
    }
    let weekly = Schedule::parse("retention.sweep", "40 3 * * 1", "UTC")
        .expect("the expression and the zone are constants");
    runtime
        .schedule(weekly, |fire| {
            let week = fire.local.date().iso_week();
            RetentionSweep {
                week: format!("{}-W{:02}", week.year(), week.week()),
            }
        })
        .register(move |_: RetentionSweep, _| {
            let deps = deps.clone();
            async move { deps.sweep_as_job().await }
        })
}

impl RetentionDeps {
    async fn sweep_as_job(&self) -> HandlerResult {
        let (gone, finished) = self.sweep(Some(Instant::now() + BUDGET)).await?;
        tracing::info!(
            sessions = gone.sessions,
            messages = gone.messages,
            "old conversations were forgotten"
        );
        Ok(if finished {
            Outcome::Done
        } else {
            Outcome::Snooze(GO_ON_AFTER)
        })
    }

    /// Forgets until nothing is left that is old enough, or the time is over; says what went, and whether
    /// it came to the end. It rests for [`REST`] times as long as it works.
    pub async fn sweep(&self, until: Option<Instant>) -> sqlx::Result<(Gone, bool)> {
        let mut gone = Gone::default();
        let over = || until.is_some_and(|until| Instant::now() >= until);
        loop {
            let began = Instant::now();
            let batch =
                retention::forget_batch(&self.pool, self.days, BATCH_SESSIONS, BATCH_TURNS).await?;
            count(&batch);
            gone += batch;
            if batch.sessions == 0 {
                break;
            }
            if over() {
                return Ok((gone, false));
            }
            sleep(began.elapsed() * REST).await;
        }
        let told = |turn_events| {
            let batch = Gone {
                turn_events,
                ..Gone::default()
            };
            count(&batch);
            gone += batch;
        };
        let finished = retention::forget_old_events(&self.pool, until, told).await?;
        Ok((gone, finished))
    }
}

fn count(gone: &Gone) {
    for (table, rows) in gone.tables() {
        if rows > 0 {
            metrics::counter!("growth_chat_retention_deleted_total", "table" => table)
                .increment(rows.unsigned_abs());
        }
    }
}
