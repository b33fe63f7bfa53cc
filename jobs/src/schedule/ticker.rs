//! A process's timer of one schedule.
//!
//! Every process of the fleet has one. At a fire each reads the schedule's row, and the database's clock
//! says what is due; the first to lock the row moves it past the fire and enqueues the job in the same
//! transaction, and the others find it moved. Several fires that are due at once (the machine slept, the
//! database was away, nothing ran) are made up for by one job, that of the newest.
//!
//! # Versions with different rules
//!
//! ```text
//!              deployment of B begins          the last A ends
//!   A ───────────────┼───────────────────────────────┤
//!   B                ├──────────────────────────────────────────►
//!          A fires   │  A and B fire, no moment twice │  B fires
//! ```
//!
//! The row's `settled` is an instant, and counts for every rule of the name: whatever fires until then
//! has been settled. It moves by fires only, so that a version never takes away what another one is about
//! to fire. That a new rule does not fire for the past is a matter of its own: it counts `since` it was
//! first seen, which the row keeps for the rule that was brought last, and each process for its own. Old
//! and new may thus take turns in writing their rule into the row without either losing a fire. What an
//! old rule missed is not made up for under a new one.

use std::{fmt, panic::AssertUnwindSafe, time::Duration};

use chrono::{DateTime, Utc};
use futures::{FutureExt, future::BoxFuture};
use sqlx::{PgConnection, PgPool};
use store::{
    bus::Bus,
    clock::Clock,
    db::{MAX_RECONNECT_WAIT, reconnect_waits},
};
use tokio::time::Instant;

use super::{Fire, Schedule};
use crate::{
    enqueue::{QueueError, enqueue},
    fence::JobId,
    kind::JobKind,
    sql,
    sql::schedule::Row,
};

/// The timer asks the clock at least this often: tokio's stands still while a machine is suspended.
const SLICE: Duration = Duration::from_mins(1);
/// No look takes longer: a connection may hang without an end.
const LOOK_TIMEOUT: Duration = Duration::from_secs(30);

type Make = dyn for<'c> Fn(Fire, &'c mut PgConnection) -> BoxFuture<'c, Result<JobId, QueueError>>
    + Send
    + Sync;

/// A schedule and the job that its fires make, in one process.
pub struct Ticker {
    schedule: Schedule,
    make: Box<Make>,
    queue: &'static str,
    /// From when on this process's rule counts; none before the first look.
    since: Option<DateTime<Utc>>,
    /// A look failed: it may have committed a job that nobody was told of.
    in_doubt: bool,
}

impl fmt::Debug for Ticker {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Ticker")
            .field("schedule", &self.schedule)
            .finish_non_exhaustive()
    }
}

/// What a look at a schedule brought.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Tick {
    /// The fire that this process made a job of.
    pub fired: Option<Fire>,
    /// When it was looked at.
    pub now: DateTime<Utc>,
    /// The next fire; none: there is none any more.
    pub next: Option<Fire>,
}

/// Why a look failed.
#[derive(Debug, thiserror::Error)]
enum LookFailed {
    #[error("the fire could not be made a job of")]
    Queue(#[from] QueueError),
    #[error("the database did not answer in time")]
    TimedOut,
    #[error("the schedule's own code panicked")]
    Panicked,
}

impl LookFailed {
    /// Whether it passes by itself: the database is away, or busy.
    fn is_passing(&self) -> bool {
        match self {
            Self::Queue(QueueError::Database(error)) => sql::is_passing(error),
            Self::Queue(_) | Self::Panicked => false,
            Self::TimedOut => true,
        }
    }
}

impl Ticker {
    /// Has each fire of `schedule` enqueue what `job` makes of it.
    pub fn new<J: JobKind>(
        schedule: Schedule,
        job: impl Fn(Fire) -> J + Send + Sync + 'static,
    ) -> Self {
        Self {
            schedule,
            make: Box::new(move |fire, conn| {
                let job = job(fire);
                Box::pin(async move { Ok(enqueue(conn, &job).await?.id) })
            }),
            queue: J::QUEUE,
            since: None,
            in_doubt: false,
        }
    }

    /// Looks at the schedule, and makes a job of what is due. `now` is the database's; a test that
    /// simulates a year gives its own.
    pub async fn tick(
        &mut self,
        pool: &PgPool,
        bus: &Bus,
        now: Option<DateTime<Utc>>,
    ) -> Result<Tick, QueueError> {
        // Until it is known to have gone well.
        let in_doubt = std::mem::replace(&mut self.in_doubt, true);
        let (now, row) = self.look(pool, now).await?;
        let since = *self.since.get_or_insert(row.since);
        let due = self.schedule.latest_due(now);
        let due = due.filter(|fire| fire.at > since.max(row.settled));
        let mut fired = None;
        if let Some(fire) = due
            && self.fire(pool, fire, since).await?
        {
            fired = Some(fire);
        }
        if fired.is_some() || in_doubt {
            bus.jobs_ready(self.queue);
        }
        self.in_doubt = false;
        Ok(Tick {
            fired,
            now,
            next: self.schedule.next(now),
        })
    }

    /// Reads the row; the first time it is made to say this process's rule.
    async fn look(
        &self,
        pool: &PgPool,
        given: Option<DateTime<Utc>>,
    ) -> sqlx::Result<(DateTime<Utc>, Row)> {
        let name = self.schedule.name();
        loop {
            let (now, row) = sql::schedule::look(pool, name).await?;
            let now = given.unwrap_or(now);
            match row {
                Some(row) if self.since.is_some() || row.has_rule_of(&self.schedule) => {
                    return Ok((now, row));
                }
                // Of a row that somebody deleted meanwhile nothing is known either.
                _ => sql::schedule::adopt(pool, &self.schedule, now).await?,
            }
        }
    }

    /// Makes a job of a fire, unless somebody else has.
    async fn fire(
        &self,
        pool: &PgPool,
        fire: Fire,
        since: DateTime<Utc>,
    ) -> Result<bool, QueueError> {
        let mut tx = pool.begin().await?;
        // The row is locked before the serial key of the job, if it has one. Nobody who holds a serial
        // key takes the row of a schedule, so the two orders don't meet.
        if !sql::schedule::lock_unsettled(&mut tx, &self.schedule, fire).await? {
            return Ok(false);
        }
        let job = (self.make)(fire, &mut tx).await?;
        sql::schedule::settle(&mut tx, &self.schedule, since, fire, job).await?;
        tx.commit().await?;
        let name = self.schedule.name();
        tracing::info!(schedule = name, local = %fire.local, job = job.0, "a schedule fired");
        metrics::counter!("growth_chat_schedule_fires_total", "schedule" => name).increment(1);
        Ok(true)
    }

    fn warn(&self, failed: &LookFailed, wait: Duration) {
        let error: &(dyn std::error::Error + 'static) = failed;
        tracing::warn!(
            schedule = self.schedule.name(),
            error,
            again_in_seconds = wait.as_secs_f64(),
            "a schedule could not be looked at"
        );
    }

    /// Makes a job of every fire, for ever. Between two looks it issues no SQL.
    pub(crate) async fn run(mut self, pool: PgPool, bus: Bus, clock: &dyn Clock) {
        let mut waits = reconnect_waits();
        let mut refusals = 0_u32;
        loop {
            let look = AssertUnwindSafe(self.tick(&pool, &bus, None)).catch_unwind();
            let failed = match tokio::time::timeout(LOOK_TIMEOUT, look).await {
                Ok(Ok(Ok(tick))) => {
                    (waits, refusals) = (reconnect_waits(), 0);
                    match tick.next {
                        Some(next) => {
                            let wait = (next.at - tick.now).to_std().unwrap_or_default();
                            sleep(clock, wait).await;
                        }
                        None => std::future::pending().await,
                    }
                    continue;
                }
                Ok(Ok(Err(error))) => error.into(),
                Ok(Err(_)) => LookFailed::Panicked,
                Err(_) => LookFailed::TimedOut,
            };
            let wait = if failed.is_passing() {
                waits.next().unwrap_or(MAX_RECONNECT_WAIT)
            } else {
                refusals += 1;
                refused_wait(refusals)
            };
            self.warn(&failed, wait);
            sleep(clock, wait).await;
        }
    }
}

/// When to try again what the database or the schedule's own code refused: seconds, then minutes.
fn refused_wait(refusals: u32) -> Duration {
    Duration::from_secs(1 << refusals.clamp(1, 8))
}

/// Sleeps as long as the clock on the wall or tokio's timer says, whichever is faster: the one goes on
/// while the machine is suspended, the other does not when somebody sets the clock back. To be woken too
/// early costs a look.
pub(super) async fn sleep(clock: &dyn Clock, wait: Duration) {
    let (began, on_the_wall) = (Instant::now(), clock.now());
    loop {
        let shown = (clock.now() - on_the_wall).to_std().unwrap_or_default();
        let left = wait.saturating_sub(began.elapsed().max(shown));
        if left.is_zero() {
            return;
        }
        tokio::time::sleep(left.min(SLICE)).await;
    }
}
