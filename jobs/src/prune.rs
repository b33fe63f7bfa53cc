//! Keeps the queue's own tables bounded, what interrupted jobs leave behind and the frames of streams:
//! what nobody needs any more is deleted, every night.
//!
//! It is a job like any other, so that one process of the fleet does it, an operator sees it, and one
//! that dies half-way is followed by another. Rows go in batches, each a statement and a transaction of
//! its own; what somebody has locked is passed over and goes the next night.

use std::time::Duration;

use sqlx::PgPool;
use store::retention;
use tokio::time::Instant;

use crate::{
    catalog::QueuePrune,
    outcome::{HandlerResult, Outcome},
    runtime::Runtime,
    schedule::Schedule,
    sql::prune::{self as sql, Deleting},
};

/// Dead jobs are kept this many days, and not shorter than the others: somebody may still want to know
/// why, or run them again.
const DEAD_DAYS: i32 = 90;
/// The row of a schedule that no process has had for so many days is forgotten.
const SCHEDULE_DAYS: i32 = 90;
/// Embeddings of a document whose job died: whoever indexes it again within a week does not pay again.
const EMBEDDING_DAYS: i32 = 7;
/// Rows of one statement.
const BATCH: i64 = 5_000;
/// After this long the job makes room and goes on a little later.
const BUDGET: Duration = Duration::from_mins(4);
const GO_ON_AFTER: Duration = Duration::from_secs(1);

impl Runtime {
    /// Keeps the queue's own tables bounded: a job of every night, in one process of the fleet, deletes
    /// what they need not keep. At 03:20 UTC: seldom a busy hour in Europe, and no hour that clocks skip.
    #[must_use]
    pub fn with_pruning(self) -> Self {
        let pool = self.database.pool().clone();
        let history_days = self.config.history_days;
        let nightly = Schedule::parse("queue.prune", "20 3 * * *", "UTC")
            .expect("the expression and the zone are constants");
        self.schedule(nightly, |fire| QueuePrune { date: fire.date() })
            .register(move |_: QueuePrune, _| {
                let pool = pool.clone();
                async move {
                    let until = Instant::now() + BUDGET;
                    Pruner { pool, until }.prune(history_days).await
                }
            })
    }
}

/// One run of the job.
struct Pruner {
    pool: PgPool,
    /// When the budget is spent.
    until: Instant,
}

/// A statement that deletes some rows of a table that are older than so many days, behind the place
/// where the last one ended.
type Delete<P> = for<'p> fn(&'p PgPool, i32, Option<P>, i64) -> Deleting<'p, P>;

impl Pruner {
    /// Deletes until nothing is left that may go, or the budget is spent.
    async fn prune(&self, history_days: i32) -> HandlerResult {
        let dead_days = DEAD_DAYS.max(history_days);
        let emptied = self.table("history", sql::ended_jobs, history_days).await?
            && self
                .table("history_dead", sql::dead_jobs, dead_days)
                .await?
            && self.table("unique_keys", sql::unique_keys, 0).await?
            && self.table("buckets", sql::buckets, 0).await?
            && self
                .table("schedules", sql::schedules, SCHEDULE_DAYS)
                .await?
            && self
                .table("knowledge_embeddings", sql::embeddings, EMBEDDING_DAYS)
                .await?
            && self
                .table("webhook_attempts", sql::webhook_attempts, history_days)
                .await?
            && self
                .table("webhook_secrets", sql::webhook_secrets, 0)
                .await?
            && self.table("edge_limits", sql::edge_limits, 0).await?
            && self.table("edge_keys", sql::edge_keys, 0).await?
            && self.events().await?;
        Ok(if emptied {
            Outcome::Done
        } else {
            Outcome::Snooze(GO_ON_AFTER)
        })
    }

    /// Deletes the frames that nobody can still be joined to, with rests. False: the budget was
    /// spent first.
    async fn events(&self) -> sqlx::Result<bool> {
        let told = |deleted: i64| {
            if deleted > 0 {
                metrics::counter!("growth_chat_queue_pruned_total", "table" => "turn_events")
                    .increment(deleted.unsigned_abs());
            }
        };
        retention::forget_old_events(&self.pool, Some(self.until), retention::REST, told).await
    }

    /// Repeats a statement, each time from the row on that the last one came to: an index begins with
    /// the entries of what was just deleted. False: the budget was spent first.
    async fn table<P>(
        &self,
        table: &'static str,
        delete: Delete<P>,
        days: i32,
    ) -> sqlx::Result<bool> {
        let mut last = None;
        loop {
            let batch = delete(&self.pool, days, last, BATCH).await?;
            if batch.deleted > 0 {
                metrics::counter!("growth_chat_queue_pruned_total", "table" => table)
                    .increment(batch.deleted.unsigned_abs());
            }
            if batch.deleted < BATCH {
                return Ok(true);
            }
            if Instant::now() >= self.until {
                return Ok(false);
            }
            last = batch.last;
        }
    }
}
