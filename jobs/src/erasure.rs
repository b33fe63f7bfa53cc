//! Erases a session together with the jobs that could still write something of it.

use sqlx::PgConnection;
use store::{
    bus::Wake,
    ids::SessionId,
    privacy::{self, Erased, Scope},
};

use crate::{JobId, cancel::withdraw, catalog::session_serial_key, enqueue::lock_serial_key, sql};

/// Ends the session's live jobs and deletes what it holds, in the caller's transaction. A worker that is
/// just answering has lost its lease: whatever it still wants to write is refused. Publish `after` when
/// it is committed.
pub async fn erase_session(
    conn: &mut PgConnection,
    session_id: &SessionId,
    scope: Scope,
    after: &mut Wake,
) -> sqlx::Result<Erased> {
    lock_serial_key(conn, &session_serial_key(session_id)).await?;
    privacy::lock_session(conn, session_id).await?;
    // What ends a job may add another one: of a delivery, its settling.
    loop {
        let live = privacy::live_jobs(conn, session_id, scope).await?;
        if live.is_empty() {
            break;
        }
        for id in live {
            // The session's lock is held: whoever takes one of these, too, has taken it first.
            if let Some(key) = sql::serial_key_of(conn, id).await? {
                lock_serial_key(conn, &key).await?;
            }
            withdraw(conn, JobId(id), async |_| Ok(()), after).await?;
        }
    }
    privacy::erase_session(conn, session_id, scope, after).await
}
