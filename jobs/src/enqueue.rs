//! Enqueue, in the caller's transaction.
//!
//! The serial key's advisory lock is the outermost lock of every transaction that takes one: enqueue,
//! cancel, and every transition that ends a job of a key take it before any row. So they can't
//! deadlock, and whoever holds it sees the key's jobs as they are.

use std::{collections::BTreeSet, time::Duration};

use serde_json::Value;
use sqlx::PgConnection;
use store::trace::TraceContext;

use crate::{
    fence::JobId,
    kind::{JobKind, UniqueFor},
    sql::{self, NewJob, Terms, Unique},
};

/// The longest delay of a job: beyond it, it is a plan and not a job.
pub const MAX_DELAY: Duration = sql::MAX_WAIT;
/// The most bytes of a payload as JSON: it names what is to be done and does not carry it.
pub const MAX_PAYLOAD: usize = 64 * 1024;
/// The most bytes of a key.
pub const MAX_KEY: usize = 512;
/// The most serial keys of one [`enqueue_all`]: each takes a lock, and the server's table of them is
/// finite.
pub const MAX_SERIAL_KEYS: usize = 1_000;
/// Jobs that one statement adds.
const BATCH: usize = 5_000;

/// A job could not be enqueued or cancelled.
#[derive(Debug, thiserror::Error)]
pub enum QueueError {
    /// No kind of this version has the name.
    #[error("there is no kind of job {kind:?}: the kinds are {}", known.join(", "))]
    UnknownKind {
        /// The name.
        kind: String,
        /// Those that there are.
        known: &'static [&'static str],
    },
    /// The payload can't be written as JSON, or is not one of the kind.
    #[error("the payload is not one of a {kind} job")]
    Payload {
        /// The kind of the job.
        kind: &'static str,
        /// Why.
        source: serde_json::Error,
    },
    /// The payload has a character that the database can't store, or too many of them.
    #[error(
        "the payload of a {kind} job is too large or has a NUL: {MAX_PAYLOAD} bytes of JSON at most"
    )]
    PayloadContent {
        /// The kind of the job.
        kind: &'static str,
    },
    /// A key is empty, too long or unprintable.
    #[error(
        "the {key} key of a {kind} job has to have 1 to {MAX_KEY} bytes and no control characters"
    )]
    Key {
        /// The kind of the job.
        kind: &'static str,
        /// `serial`, `unique` or `rate`.
        key: &'static str,
    },
    /// The delay is too long.
    #[error("a job can't wait longer than {days} days", days = MAX_DELAY.as_secs() / 86_400)]
    Delay,
    /// Too many serial keys at once.
    #[error("one transaction can enqueue for {MAX_SERIAL_KEYS} serial keys at most")]
    TooManySerialKeys,
    /// The database did not do it.
    #[error("the queue's database failed")]
    Database(#[from] sqlx::Error),
}

/// What became of an enqueue.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Enqueued {
    /// The job: the new one, or the earlier one with the same unique key.
    pub id: JobId,
    /// Whether it is new.
    pub new: bool,
}

/// How one enqueue differs from what its kind says.
#[derive(Debug, Clone, Default)]
pub struct EnqueueOptions {
    /// The job may run after this long, at most [`MAX_DELAY`]. One with a serial key holds its place
    /// from the enqueue on: those behind it wait as well.
    pub delay: Duration,
    /// Instead of [`JobKind::PRIORITY`]; smaller is served first.
    pub priority: Option<i16>,
    /// Instead of [`JobKind::RETRY_WAITS`]: seconds to wait after the first, second, … failed attempt.
    pub retry_waits: Option<Vec<i32>>,
}

impl EnqueueOptions {
    fn terms<J: JobKind>(&self) -> Result<Terms<'_>, QueueError> {
        if self.delay > MAX_DELAY {
            return Err(QueueError::Delay);
        }
        Ok(Terms {
            queue: J::QUEUE,
            kind: J::KIND,
            priority: self.priority.unwrap_or(J::PRIORITY),
            retry_waits: self.retry_waits.as_deref().unwrap_or(J::RETRY_WAITS),
            delay: self.delay,
            trace: TraceContext::current().map(|trace| trace.to_string()),
        })
    }
}

/// Takes the lock of a serial key until the end of the transaction.
pub async fn lock_serial_key(conn: &mut PgConnection, key: &str) -> sqlx::Result<()> {
    sql::lock_key(conn, key).await
}

/// Takes the locks of those of many serial keys that nobody has, until the end of the transaction, and
/// returns these keys. It waits for nobody, so their order does not matter.
///
/// # Errors
///
/// [`QueueError::TooManySerialKeys`] for more than [`MAX_SERIAL_KEYS`].
pub async fn try_lock_serial_keys(
    conn: &mut PgConnection,
    keys: &[String],
) -> Result<Vec<String>, QueueError> {
    if keys.len() > MAX_SERIAL_KEYS {
        return Err(QueueError::TooManySerialKeys);
    }
    Ok(sql::try_lock_keys(conn, keys).await?)
}

/// Adds a job in the caller's transaction. After the commit, wake the workers with
/// [`store::bus::Bus::jobs_ready`].
pub async fn enqueue<J: JobKind>(conn: &mut PgConnection, job: &J) -> Result<Enqueued, QueueError> {
    enqueue_with(conn, job, &EnqueueOptions::default()).await
}

/// Adds a job as [`enqueue`] does, with options.
pub async fn enqueue_with<J: JobKind>(
    conn: &mut PgConnection,
    job: &J,
    options: &EnqueueOptions,
) -> Result<Enqueued, QueueError> {
    let (terms, new) = (options.terms::<J>()?, checked(job)?);
    if let Some(key) = &new.serial_key {
        sql::lock_key(conn, key).await?;
    }
    add::<J>(conn, &terms, &new).await
}

/// Adds a job as [`enqueue_with`] does, in a transaction that has taken the lock of the job's serial
/// key, if it has one, with [`lock_serial_key`].
pub async fn enqueue_locked<J: JobKind>(
    conn: &mut PgConnection,
    job: &J,
    options: &EnqueueOptions,
) -> Result<Enqueued, QueueError> {
    add::<J>(conn, &options.terms::<J>()?, &checked(job)?).await
}

/// Adds many jobs of a kind in the caller's transaction, with a few statements. Returns what became
/// of each, in their order. After the commit, wake the workers.
pub async fn enqueue_all<J: JobKind>(
    conn: &mut PgConnection,
    jobs: &[J],
    options: &EnqueueOptions,
) -> Result<Vec<Enqueued>, QueueError> {
    let terms = options.terms::<J>()?;
    let new = jobs.iter().map(checked).collect::<Result<Vec<_>, _>>()?;
    let serial_keys: BTreeSet<&String> = new
        .iter()
        .filter_map(|job| job.serial_key.as_ref())
        .collect();
    if serial_keys.len() > MAX_SERIAL_KEYS {
        return Err(QueueError::TooManySerialKeys);
    }
    let serial_keys: Vec<String> = serial_keys.into_iter().cloned().collect();
    if !serial_keys.is_empty() {
        sql::lock_keys(conn, &serial_keys).await?;
    }
    let mut enqueued = Vec::with_capacity(new.len());
    if J::UNIQUE == UniqueFor::Live {
        for batch in new.chunks(BATCH) {
            let added = sql::insert_many(conn, &terms, batch).await?;
            for (job, (id, is_new)) in batch.iter().zip(added) {
                enqueued.push(match (&job.unique_key, is_new) {
                    (Some(_), false) => add::<J>(conn, &terms, job).await?,
                    _ => Enqueued {
                        id: JobId(id),
                        new: true,
                    },
                });
            }
        }
    } else {
        for job in &new {
            enqueued.push(add::<J>(conn, &terms, job).await?);
        }
    }
    if !serial_keys.is_empty() {
        sql::promote_many(conn, &serial_keys).await?;
    }
    Ok(enqueued)
}

/// Adds jobs with serial keys as blocked, in the caller's transaction, which need not hold the locks of the
/// keys. Somebody has to promote them after the commit.
pub(crate) async fn add_blocked<J: JobKind>(
    conn: &mut PgConnection,
    jobs: &[J],
    options: &EnqueueOptions,
) -> Result<(), QueueError> {
    let terms = options.terms::<J>()?;
    let new = jobs.iter().map(checked).collect::<Result<Vec<_>, _>>()?;
    debug_assert!(new.iter().all(|job| job.serial_key.is_some()));
    for batch in new.chunks(BATCH) {
        sql::insert_many(conn, &terms, batch).await?;
    }
    Ok(())
}

/// The caller holds the serial key's lock.
async fn add<J: JobKind>(
    conn: &mut PgConnection,
    terms: &Terms<'_>,
    job: &NewJob,
) -> Result<Enqueued, QueueError> {
    let hold = match J::UNIQUE {
        UniqueFor::Live => None,
        UniqueFor::Period(period) => Some(Some(period)),
        UniqueFor::Ever => Some(None),
    };
    let id = match (hold, &job.unique_key) {
        (Some(hold), Some(key)) => match sql::take_unique(conn, J::KIND, key, hold).await? {
            Unique::Taken(id) => Some(id),
            Unique::Held(id) => {
                return Ok(Enqueued {
                    id: JobId(id),
                    new: false,
                });
            }
        },
        _ => None,
    };
    loop {
        if let Some(id) = sql::insert(conn, terms, job, id).await? {
            return Ok(Enqueued {
                id: JobId(id),
                new: true,
            });
        }
        // The live job may end between the two statements: then the insert finds its place free.
        let key = job.unique_key.as_deref().unwrap_or_default();
        if let Some(id) = sql::find_unique(conn, J::KIND, key).await? {
            return Ok(Enqueued {
                id: JobId(id),
                new: false,
            });
        }
    }
}

/// The job as it is stored, if it can be.
fn checked<J: JobKind>(job: &J) -> Result<NewJob, QueueError> {
    let kind = J::KIND;
    let key = |name: &'static str, key: Option<String>| match key {
        Some(key) if key.is_empty() || key.len() > MAX_KEY || key.contains(char::is_control) => {
            Err(QueueError::Key { kind, key: name })
        }
        key => Ok(key),
    };
    let rate_key = J::RATE.map(|_| {
        job.rate_key()
            .unwrap_or_else(|| format!("queue:{}", J::QUEUE))
    });
    let (serial_key, unique_key) = (
        key("serial", job.serial_key())?,
        key("unique", job.unique_key())?,
    );
    let rate_key = key("rate", rate_key)?;
    let payload =
        serde_json::to_value(job).map_err(|source| QueueError::Payload { kind, source })?;
    if has_nul(&payload) || payload.to_string().len() > MAX_PAYLOAD {
        return Err(QueueError::PayloadContent { kind });
    }
    Ok(NewJob {
        serial_key,
        unique_key,
        rate_key,
        payload,
    })
}

/// NUL is the one character of JSON that `jsonb` refuses.
fn has_nul(value: &Value) -> bool {
    match value {
        Value::String(text) => text.contains('\0'),
        Value::Array(values) => values.iter().any(has_nul),
        Value::Object(fields) => fields
            .iter()
            .any(|(name, value)| name.contains('\0') || has_nul(value)),
        Value::Null | Value::Bool(_) | Value::Number(_) => false,
    }
}
