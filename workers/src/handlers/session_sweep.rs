//! `session.sweep`: closes the sessions that have been idle for `SESSION_TTL_HOURS`.
//!
//! In batches, each a transaction of its own: it takes the serial keys' locks of the sessions that
//! nobody is just writing in, looks again at what it found, and closes that. Whoever it meets it passes
//! over; the next sweep comes within the hour. When the last batch is done, the sweep that the remaining
//! sessions need is added ([`jobs::sweep_after`]).

use std::{collections::HashSet, time::Duration};

use jobs::{
    HandlerResult, JobError, JobKind, NextSweep, Outcome, QueueError, Runtime,
    catalog::{SessionSweep, session_serial_key},
    webhooks,
};
use sqlx::PgPool;
use store::{
    bus::{Bus, Wake},
    expiry,
    ids::SessionId,
    webhooks::Event,
};
use tokio::time::Instant;

/// Sessions of one transaction, which holds a lock of each: some milliseconds.
const BATCH: usize = 500;
/// After this long the job makes room for others and goes on a little later.
const BUDGET: Duration = Duration::from_mins(4);
const GO_ON_AFTER: Duration = Duration::from_secs(1);
/// A session that is idle and can't be closed yet has a turn that waits, or a busy lock.
const SOONEST_AGAIN: Duration = Duration::from_mins(1);

/// What the sweep works with.
#[derive(Debug, Clone)]
pub struct SweepDeps {
    /// The database.
    pub pool: PgPool,
    /// Tells the workers of the next sweep.
    pub bus: Bus,
    /// `SESSION_TTL_HOURS`.
    pub ttl: Duration,
}

/// Has `runtime` run the jobs of this kind.
pub fn register(runtime: Runtime, deps: &SweepDeps) -> Runtime {
    let deps = deps.clone();
    runtime.register(move |job: SessionSweep, _| {
        let deps = deps.clone();
        async move { deps.sweep(&job).await }
    })
}

impl SweepDeps {
    async fn sweep(&self, job: &SessionSweep) -> HandlerResult {
        let until = Instant::now() + BUDGET;
        let mut last = None;
        let mut closed = 0;
        loop {
            let found = self.find(last.as_ref()).await?;
            closed += self.close(&found).await?;
            if found.len() < BATCH {
                break;
            }
            if Instant::now() >= until {
                tracing::info!(closed, "idle sessions were closed; there are more");
                return Ok(Outcome::Snooze(GO_ON_AFTER));
            }
            last = found.into_iter().next_back();
        }
        tracing::info!(closed, "idle sessions were closed");
        match self.plan().await? {
            // It was made to run before its time, and its own hour is still to come.
            Some((next, wait)) if next.due == job.due => {
                Ok(Outcome::Snooze(wait.max(SOONEST_AGAIN)))
            }
            _ => Ok(Outcome::Done),
        }
    }

    async fn find(&self, after: Option<&SessionId>) -> sqlx::Result<Vec<SessionId>> {
        let mut conn = self.pool.acquire().await?;
        let limit = i64::try_from(BATCH).unwrap_or(i64::MAX);
        expiry::idle(&mut conn, self.ttl, after, limit).await
    }

    /// Closes those that nobody is writing in. The serial key's lock is the outermost one (decision 0006).
    async fn close(&self, found: &[SessionId]) -> Result<usize, JobError> {
        if found.is_empty() {
            return Ok(0);
        }
        let keys: Vec<String> = found.iter().map(session_serial_key).collect();
        let mut transaction = self.pool.begin().await?;
        let locked = jobs::try_lock_serial_keys(&mut transaction, &keys)
            .await
            .map_err(failed)?;
        let locked: HashSet<String> = locked.into_iter().collect();
        let ours: Vec<String> = found
            .iter()
            .zip(&keys)
            .filter(|(_, key)| locked.contains(*key))
            .map(|(session_id, _)| session_id.to_string())
            .collect();
        let closed = expiry::close_idle(&mut transaction, self.ttl, &ours).await?;
        let count = closed.sessions.len();
        let mut after = Wake::default();
        if closed.wanted {
            let events: Vec<Event> = closed
                .sessions
                .into_iter()
                .map(Event::SessionClosed)
                .collect();
            webhooks::announce(&mut transaction, &events, &mut after)
                .await
                .map_err(failed)?;
        }
        transaction.commit().await?;
        self.bus.publish(&after);
        Ok(count)
    }

    /// Adds the sweep that the open sessions need, if there are any, and says how long until the first
    /// of them expires. A worker does so at its start.
    pub async fn plan(&self) -> sqlx::Result<Option<(NextSweep, Duration)>> {
        let mut conn = self.pool.acquire().await?;
        let Some(wait) = expiry::next(&mut conn, self.ttl).await? else {
            return Ok(None);
        };
        let next = jobs::sweep_after(&mut conn, wait).await?;
        if next.new {
            self.bus.jobs_ready(SessionSweep::QUEUE);
        }
        Ok(Some((next, wait)))
    }
}

fn failed(error: QueueError) -> JobError {
    match error {
        QueueError::Database(error) => error.into(),
        other => JobError::fatal(other.to_string()),
    }
}
