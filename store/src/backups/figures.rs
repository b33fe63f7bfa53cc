//! How the backups are, for whoever scrapes the metrics or asks `/ready`.
//!
//! The figures are the database's, the same for all processes. They are read on a scrape, and only when a
//! job of the queue `backup` has moved since the last read: an alert on their age needs no new read, and
//! a serverless database may sleep between two backups.

use std::{sync::Arc, time::Duration};

use chrono::{DateTime, Utc};
use futures::FutureExt;
use parking_lot::Mutex;
use sqlx::PgPool;
use tokio::{
    sync::Notify,
    time::{Instant, timeout},
};

use crate::bus::{Bus, Subscription};

/// The queue whose wake-ups tell that something has changed.
const QUEUE: &str = "backup";
/// How long a scrape waits for a read. The read goes on, for the next scrape.
const ANSWER_LIMIT: Duration = Duration::from_millis(900);
/// How long a read may take.
const READ_LIMIT: Duration = Duration::from_secs(30);
/// The shortest time between two reads, however many scrape.
const SHORTEST_PAUSE: Duration = Duration::from_secs(2);

/// How the backups are.
#[derive(Debug, Clone, PartialEq)]
pub struct Newest {
    /// When that was read, by the database's clock.
    pub now: DateTime<Utc>,
    /// The moment that is in the newest backup that was made.
    pub made: Option<DateTime<Utc>>,
    /// Its length in the bucket, in bytes.
    pub bytes: Option<i64>,
    /// How long its run took, in seconds.
    pub seconds: Option<f64>,
    /// The moment that is in the newest one of ours that was restored and compared.
    pub verified: Option<DateTime<Utc>>,
    /// Attempts to make one, since ever.
    pub backups: Ended,
    /// Attempts to restore one for a proof, since ever.
    pub verifies: Ended,
}

/// How attempts ended, whichever process made them.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Ended {
    /// So many went well.
    pub succeeded: i64,
    /// So many did not, those whose process vanished among them.
    pub failed: i64,
}

/// Reads them.
pub async fn newest(pool: &PgPool) -> sqlx::Result<Newest> {
    let row = sqlx::query!(
        r#"with ended as (
               select kind, status = 'succeeded' as well from backup_runs
               where status <> 'running' or lease_until < now())
           select clock_timestamp() as "now!", made.snapshot_at as "made?", made.bytes as "bytes?",
                  extract(epoch from made.finished_at - made.started_at)::float8 as seconds,
                  (select max(snapshot_at) from backup_runs
                   where kind = 'backup' and verified_at is not null) as verified,
                  (select count(*) from ended where kind = 'backup' and well) as "backups_succeeded!",
                  (select count(*) from ended where kind = 'backup' and not well) as "backups_failed!",
                  (select count(*) from ended where kind = 'verify' and well) as "verifies_succeeded!",
                  (select count(*) from ended where kind = 'verify' and not well) as "verifies_failed!"
           from (values (1)) one (row)
           left join lateral (select snapshot_at, bytes, started_at, finished_at from backup_runs
                              where kind = 'backup' and status = 'succeeded'
                              order by snapshot_at desc limit 1) made on true"#
    )
    .fetch_one(pool)
    .await?;
    Ok(Newest {
        now: row.now,
        made: row.made,
        bytes: row.bytes,
        seconds: row.seconds,
        verified: row.verified,
        backups: Ended {
            succeeded: row.backups_succeeded,
            failed: row.backups_failed,
        },
        verifies: Ended {
            succeeded: row.verifies_succeeded,
            failed: row.verifies_failed,
        },
    })
}

/// Exports `growth_chat_backup_last_…` and the numbers of attempts. Clones share what was read.
#[derive(Debug, Clone)]
pub struct BackupFigures {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    pool: PgPool,
    bus: Bus,
    state: Mutex<State>,
    read_ended: Notify,
}

#[derive(Debug)]
struct State {
    wakes: Subscription,
    /// A backup may have been made or verified since the last read began.
    changed: bool,
    under_way: bool,
    failed: bool,
    last: Option<Newest>,
    not_before: Option<Instant>,
}

impl BackupFigures {
    /// The figures of a database; nothing is read before the first scrape.
    pub fn new(pool: PgPool, bus: &Bus) -> Self {
        Self {
            inner: Arc::new(Inner {
                pool,
                bus: bus.clone(),
                state: Mutex::new(State {
                    wakes: bus.subscribe(),
                    changed: true,
                    under_way: false,
                    failed: false,
                    last: None,
                    not_before: None,
                }),
                read_ended: Notify::new(),
            }),
        }
    }

    /// Brings the gauges up to date. Takes no longer than a second, whatever the database does: then the
    /// last known figures stay.
    pub async fn refresh(&self) {
        let inner = &self.inner;
        let ended = inner.read_ended.notified();
        tokio::pin!(ended);
        // From here on the end of a read is noticed, that of one which is under way too.
        ended.as_mut().enable();
        let asleep = !inner.bus.is_listening() && !inner.bus.is_awake();
        let (wait, read) = inner.state.lock().next(Instant::now(), asleep);
        if read {
            // It outlives a scrape that was given up.
            tokio::spawn(Reading(Arc::clone(inner)).run());
        }
        if wait || read {
            // Too late is no failure: the read goes on.
            let _ = timeout(ANSWER_LIMIT, ended).await;
        }
        if let Some(newest) = &inner.state.lock().last {
            export(newest);
        }
    }
}

impl State {
    /// Whether a scrape waits for a read that is under way, and whether it begins one.
    fn next(&mut self, now: Instant, asleep: bool) -> (bool, bool) {
        if let Some(wake) = self.wakes.wait().now_or_never() {
            self.changed |= wake.rescan || wake.queues.contains(QUEUE);
        }
        if self.under_way {
            return (true, false);
        }
        // A scrape is no reason to wake a database that sleeps.
        let wanted = (self.changed || self.failed) && !asleep;
        if !wanted || self.not_before.is_some_and(|not_before| now < not_before) {
            return (false, false);
        }
        self.changed = false;
        self.under_way = true;
        (false, true)
    }
}

/// A read that is under way.
struct Reading(Arc<Inner>);

impl Reading {
    async fn run(self) {
        let inner = &self.0;
        let read = timeout(READ_LIMIT, newest(&inner.pool)).await;
        let mut state = inner.state.lock();
        state.not_before = Some(Instant::now() + SHORTEST_PAUSE);
        match read.unwrap_or(Err(sqlx::Error::PoolTimedOut)) {
            Ok(newest) => {
                state.failed = false;
                state.last = Some(newest);
            }
            Err(error) => {
                if !std::mem::replace(&mut state.failed, true) {
                    tracing::warn!(error = %error, "how the backups are could not be read");
                }
            }
        }
    }
}

impl Drop for Reading {
    fn drop(&mut self) {
        self.0.state.lock().under_way = false;
        self.0.read_ended.notify_waiters();
    }
}

fn export(newest: &Newest) {
    // 1970 where there is none: then an age is what it should be, too old.
    let seconds = |at: Option<DateTime<Utc>>| {
        #[expect(
            clippy::cast_precision_loss,
            reason = "milliseconds of this century have room in a float"
        )]
        let milliseconds = at.map_or(0, |at| at.timestamp_millis()) as f64;
        milliseconds / 1_000.0
    };
    metrics::gauge!("growth_chat_backup_last_success_timestamp_seconds").set(seconds(newest.made));
    metrics::gauge!("growth_chat_backup_last_verified_timestamp_seconds")
        .set(seconds(newest.verified));
    #[expect(
        clippy::cast_precision_loss,
        reason = "a backup of 8 PB is out of reach"
    )]
    let bytes = newest.bytes.unwrap_or_default() as f64;
    metrics::gauge!("growth_chat_backup_last_bytes").set(bytes);
    metrics::gauge!("growth_chat_backup_last_duration_seconds")
        .set(newest.seconds.unwrap_or_default());
    for (name, ended) in [
        ("growth_chat_backup_runs_total", newest.backups),
        ("growth_chat_backup_verifies_total", newest.verifies),
    ] {
        for (outcome, runs) in [("succeeded", ended.succeeded), ("failed", ended.failed)] {
            metrics::counter!(name, "outcome" => outcome).absolute(runs.unsigned_abs());
        }
    }
}
