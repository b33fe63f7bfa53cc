//! Ends jobs: the one place for every terminal transition, by whichever path.

use sqlx::PgConnection;
use store::{bus::Wake, trace};

use crate::{catalog, fence::Fence, handoffs, outcome::Ended, sql};

/// Ends a running job in the caller's transaction, which already holds the lock of its serial key
/// ([`crate::lock_serial_key`], taken before any row). Returns false when the lease was lost: then the
/// caller rolls back, nothing may be written. After the commit, publish `after`.
pub async fn end(
    conn: &mut PgConnection,
    fence: Fence,
    ended: Ended,
    after: &mut Wake,
) -> sqlx::Result<bool> {
    end_with(conn, fence.id.0, Some(fence.lease), ended, None, after).await
}

/// Ends a job; without a lease, in whatever state it is. The caller holds the key's lock.
pub(crate) async fn end_with(
    conn: &mut PgConnection,
    id: i64,
    lease: Option<i32>,
    ended: Ended,
    error: Option<&str>,
    after: &mut Wake,
) -> sqlx::Result<bool> {
    let Some(job) = sql::finish(conn, id, lease, ended, error).await? else {
        return Ok(false);
    };
    if let Some(key) = &job.serial_key {
        after.queues.extend(sql::promote(conn, key).await?);
    }
    let consequences = async {
        if !catalog::ended(&job.kind, &job.payload, ended, conn, after).await? {
            handoffs::unreadable_ended(conn, id, after).await?;
        }
        Ok(true)
    };
    trace::following(job.trace.as_deref(), consequences).await
}
