//! When idle sessions are looked at: by a job in the hour in which one could expire, and never otherwise.
//!
//! There is no timer for a session, and none that runs for its own sake: it would keep an idle database
//! awake. Instead one promise is kept: **while a session is open, a sweep waits that is due within the
//! hour in which it expires, or before.**
//!
//! ```text
//! first message at 09:20, TTL 24 h ──▶ the sweep of tomorrow, 10:00 (unique by its hour)
//! that sweep ──▶ closes what is idle ──▶ the sweep of the hour in which the next open session expires
//! no open session ──▶ no sweep
//! ```
//!
//! A message moves the end of its session and no job; the sweep finds the session active and comes again.
//! A session that begins while a sweep runs has the sweep of an hour that lies ahead, which the one that
//! runs can't take away: there is no moment at which both miss it. A sweep looks at all open sessions,
//! so that one that was lost (cancelled by hand, dead) is made up for by the next; and a worker that
//! starts adds the next one too, for sessions of a version that knew of none of this.

use std::time::Duration;

use sqlx::PgConnection;

use crate::{
    catalog::SessionSweep,
    kind::JobKind,
    sql::{self, Terms},
};

/// The sweep that will look after some sessions.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NextSweep {
    /// Its name, as in [`SessionSweep::due`].
    pub due: String,
    /// Whether it was added just now: then wake the workers after the commit.
    pub new: bool,
}

/// Has the sessions be looked at that expire `delay` from now: adds the [`SessionSweep`] of the hour that
/// it falls into, unless that one waits already. One statement, because a visitor's first message waits
/// for it.
pub async fn sweep_after(conn: &mut PgConnection, delay: Duration) -> sqlx::Result<NextSweep> {
    let terms = Terms {
        queue: SessionSweep::QUEUE,
        kind: SessionSweep::KIND,
        priority: SessionSweep::PRIORITY,
        retry_waits: SessionSweep::RETRY_WAITS,
        delay,
        // It is the sweep of a whole hour's sessions.
        trace: None,
    };
    sql::add_sweep(conn, &terms).await
}
