//! Takes a job away from whoever has it, in the caller's transaction.

use sqlx::PgConnection;
use store::bus::Wake;

use crate::{end::end_with, fence::JobId, outcome::Ended, sql};

/// Ends a live job as cancelled, in whatever state it is. Unlike [`crate::cancel`] it asks nobody: a worker
/// that runs the job has lost its lease when this commits, so nothing that it writes afterwards counts.
/// The job's own serial key is locked here; a session's is locked by the caller before.
///
/// Returns false when no live job has this id. After the commit, publish `after`.
pub async fn withdraw(conn: &mut PgConnection, id: JobId, after: &mut Wake) -> sqlx::Result<bool> {
    if let Some(key) = sql::serial_key_of(conn, id.0).await? {
        sql::lock_key(conn, &key).await?;
    }
    // Its handler stops at once instead of finding out.
    after.cancelled_jobs.insert(id.0);
    end_with(conn, id.0, None, Ended::Cancelled, None, after).await
}
