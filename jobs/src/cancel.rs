//! Cancel, in the caller's transaction.

use sqlx::PgConnection;
use store::bus::Wake;

use crate::{end::end_with, enqueue::QueueError, fence::JobId, outcome::Ended, sql};

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

/// Ends a live job as cancelled in the caller's transaction, which holds the lock of the job's serial key
/// if it has one – also when a worker runs it: whatever that worker still wants to write for the job is
/// refused, since its lease is gone. `first` is done while the job's row is locked and before the job
/// ends, so that what [`crate::JobKind::ended`] would do finds it done. After the commit, publish `after`,
/// which stops the worker.
///
/// Returns whether there was such a job.
pub async fn withdraw(
    conn: &mut PgConnection,
    id: JobId,
    first: impl AsyncFnOnce(&mut PgConnection) -> sqlx::Result<()>,
    after: &mut Wake,
) -> sqlx::Result<bool> {
    // Whoever writes for a job locks its row before those of its turn.
    let state = sql::request_cancel(conn, id.0).await?;
    first(conn).await?;
    if state.is_none() {
        return Ok(false);
    }
    after.cancelled_jobs.insert(id.0);
    end_with(conn, id.0, None, Ended::Cancelled, None, after).await
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
