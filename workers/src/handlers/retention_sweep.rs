//! `retention.sweep`: forgets the texts of the sessions that were closed more than `RETENTION_DAYS` ago,
//! every week (docs/decisions/0023). `growth-chat retention` does the same at once.

use std::time::Duration;

use chrono::Datelike;
use jobs::{HandlerResult, Outcome, Runtime, catalog::RetentionSweep, schedule::Schedule};
use store::retention::Gone;
use tokio::time::Instant;

use crate::retention::{Pace, RetentionDeps};

/// After this long the job makes room for others and goes on a little later.
const BUDGET: Duration = Duration::from_mins(4);
const GO_ON_AFTER: Duration = Duration::from_secs(1);

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
            async move { sweep(&deps).await }
        })
}

async fn sweep(deps: &RetentionDeps) -> HandlerResult {
    let until = Instant::now() + BUDGET;
    let (gone, finished) = deps.sweep(Some(until), Pace::BesideTurns).await?;
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
