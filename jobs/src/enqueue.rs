//! Enqueue and cancel, in the caller's transaction.
//!
//! The serial key's advisory lock is the outermost lock of every transaction that takes one: enqueue,
//! cancel, and every transition that ends a job of a key take it before any row. So they can't
//! deadlock, and whoever holds it sees the key's jobs as they are.

use sqlx::PgConnection;
use store::bus::Wake;

use crate::{end::end_with, fence::JobId, kind::JobKind, outcome::Ended, sql};

/// A job could not be enqueued or cancelled.
#[derive(Debug, thiserror::Error)]
pub enum QueueError {
    /// The payload can't be written as JSON.
    #[error("the payload of a {kind} job does not serialize")]
    Payload {
        /// The kind of the job.
        kind: &'static str,
        /// Why.
        source: serde_json::Error,
    },
    /// The database did not do it.
    #[error("the queue's database failed")]
    Database(#[from] sqlx::Error),
}

/// What became of an enqueue.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Enqueued {
    /// The job: the new one, or the live one with the same unique key.
    pub id: JobId,
    /// Whether it is new.
    pub new: bool,
}

/// Takes the lock of a serial key until the end of the transaction.
pub async fn lock_serial_key(conn: &mut PgConnection, key: &str) -> sqlx::Result<()> {
    sql::lock_key(conn, key).await
}

/// Adds a job in the caller's transaction. After the commit, wake the workers with
/// [`store::bus::Bus::jobs_ready`].
pub async fn enqueue<J: JobKind>(conn: &mut PgConnection, job: &J) -> Result<Enqueued, QueueError> {
    if let Some(key) = job.serial_key() {
        sql::lock_key(conn, &key).await?;
    }
    enqueue_locked(conn, job).await
}

/// Adds a job as [`enqueue`] does, in a transaction that has taken the lock of the job's serial key,
/// if it has one, with [`lock_serial_key`].
pub async fn enqueue_locked<J: JobKind>(
    conn: &mut PgConnection,
    job: &J,
) -> Result<Enqueued, QueueError> {
    let payload = serde_json::to_value(job).map_err(|source| QueueError::Payload {
        kind: J::KIND,
        source,
    })?;
    let (serial_key, unique_key) = (job.serial_key(), job.unique_key());
    let new = sql::NewJob {
        queue: J::QUEUE,
        kind: J::KIND,
        priority: J::PRIORITY,
        retry_waits: J::RETRY_WAITS,
        serial_key: serial_key.as_deref(),
        unique_key: unique_key.as_deref(),
        payload,
    };
    loop {
        if let Some(id) = sql::insert(conn, &new).await? {
            return Ok(Enqueued {
                id: JobId(id),
                new: true,
            });
        }
        // The live job may end between the two statements: then the insert finds its place free.
        let key = unique_key.as_deref().unwrap_or_default();
        if let Some(id) = sql::find_unique(conn, J::KIND, key).await? {
            return Ok(Enqueued {
                id: JobId(id),
                new: false,
            });
        }
    }
}

/// What became of a cancellation.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Cancelled {
    /// The job had not begun: it is in the history now, and its key's next job may run.
    Ended,
    /// The job is running: its worker is told by `after`, once that is published.
    Asked,
    /// No live job has this id.
    NotLive,
}

/// Cancels a live job in the caller's transaction, which holds the lock of the job's serial key if
/// it has one. After the commit, publish `after`.
pub async fn cancel(
    conn: &mut PgConnection,
    id: JobId,
    after: &mut Wake,
) -> Result<Cancelled, QueueError> {
    match sql::request_cancel(conn, id.0).await?.as_deref() {
        None => Ok(Cancelled::NotLive),
        Some("running") => {
            after.cancelled_jobs.insert(id.0);
            Ok(Cancelled::Asked)
        }
        Some(_) => {
            end_with(conn, id.0, None, Ended::Cancelled, None, after).await?;
            Ok(Cancelled::Ended)
        }
    }
}
