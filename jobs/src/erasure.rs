//! Erases a session together with the jobs that could still write something of it.
//!
//! The order of locks is that of everybody else (docs/decisions/0006): serial keys, jobs, the session, its
//! handoffs, the rest.

use sqlx::PgConnection;
use store::{
    bus::Wake,
    ids::SessionId,
    privacy::{self, Erased, Scope},
};

use crate::{
    JobId,
    cancel::withdraw,
    catalog::{HandoffRelay, session_serial_key},
    enqueue::lock_serial_key,
    sql,
};

/// Ends the session's live jobs and deletes what it holds, in the caller's transaction. A worker that is
/// just answering has lost its lease: whatever it still wants to write is refused. Publish `after` when
/// it is committed.
pub async fn erase_session(
    conn: &mut PgConnection,
    session_id: &SessionId,
    scope: Scope,
    after: &mut Wake,
) -> sqlx::Result<Erased> {
    hold_session(conn, session_id, scope, after).await?;
    erase_held(conn, session_id, scope, after).await
}

/// The second half of it, behind [`hold_session`] in the same transaction.
pub async fn erase_held(
    conn: &mut PgConnection,
    session_id: &SessionId,
    scope: Scope,
    after: &mut Wake,
) -> sqlx::Result<Erased> {
    // Whoever follows learns that nobody is expected any more.
    after.sessions.insert(session_id.clone());
    privacy::erase_session(conn, session_id, scope).await
}

/// Ends the session's live jobs and locks what is to be erased: from here on nobody adds to it.
pub async fn hold_session(
    conn: &mut PgConnection,
    session_id: &SessionId,
    scope: Scope,
    after: &mut Wake,
) -> sqlx::Result<()> {
    lock_session(conn, session_id).await?;
    let turns = session_serial_key(session_id);
    let relays = HandoffRelay::serial_key_of(session_id);
    // What ends a job may add another one, or let the next of its key run.
    loop {
        let mut live = sql::live_of_keys(conn, &turns, &relays).await?;
        if scope == Scope::Person {
            live.extend(sql::live_of_handoffs(conn, session_id).await?);
        }
        if live.is_empty() {
            break;
        }
        for id in live {
            withdraw(conn, JobId(id), async |_| Ok(()), after).await?;
        }
    }
    privacy::lock_session(conn, session_id).await
}

/// Takes the locks of all serial keys of a session. They come before every row.
pub async fn lock_session(conn: &mut PgConnection, session_id: &SessionId) -> sqlx::Result<()> {
    lock_serial_key(conn, &session_serial_key(session_id)).await?;
    lock_serial_key(conn, &HandoffRelay::serial_key_of(session_id)).await
}
