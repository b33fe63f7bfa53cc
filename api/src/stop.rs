//! Stops turns: at once those that no worker has in hand, by asking the worker otherwise.
//!
//! The caller's transaction holds the lock of the session's serial key. The worker that is asked
//! keeps and bills the partial text.

use jobs::{Cancelled, JobId, QueueError, webhooks};
use sqlx::PgConnection;
use store::{
    bus::{Bus, Wake},
    ids::{SessionId, TurnKey},
    turn_control::{self, Unattended},
    webhooks::Event,
};

/// What a transaction stopped, to be announced after its commit.
#[derive(Debug, Default)]
pub(crate) struct Stopping {
    after: Wake,
}

/// How a turn stops.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Stopped {
    /// It has ended.
    Ended,
    /// Its worker is told after the commit.
    Asked,
}

impl Stopping {
    /// Stops a turn that is not finished.
    pub(crate) async fn stop(
        &mut self,
        conn: &mut PgConnection,
        key: TurnKey,
        job_id: Option<i64>,
    ) -> Result<Stopped, QueueError> {
        let cancelled = match job_id {
            Some(id) => jobs::cancel(conn, JobId(id), &mut self.after).await?,
            None => Cancelled::NotLive,
        };
        if cancelled == Cancelled::Asked {
            return Ok(Stopped::Asked);
        }
        // Without a live job nobody else would ever end the turn.
        let ended = turn_control::end_unattended(conn, &key, Unattended::Cancelled).await?;
        webhooks::turn_ended(conn, &key, ended, &mut self.after).await?;
        self.after.turns.insert(key);
        Ok(Stopped::Ended)
    }

    /// Has those told who want to know that the session was closed.
    pub(crate) async fn closed(
        &mut self,
        conn: &mut PgConnection,
        session_id: &SessionId,
    ) -> Result<(), QueueError> {
        let closed = [Event::SessionClosed(session_id.clone())];
        webhooks::announce(conn, &closed, &mut self.after).await
    }

    /// Whoever follows the session is to look at it.
    pub(crate) fn changed(&mut self, session_id: SessionId) {
        self.after.sessions.insert(session_id);
    }

    /// Tells workers and clients. Call it after the commit.
    pub(crate) fn announce(self, bus: &Bus) {
        bus.publish(&self.after);
    }
}
