//! Stops turns: at once those that no worker has in hand, by asking the worker otherwise.
//!
//! The caller's transaction holds the lock of the session's serial key. The worker that is asked
//! keeps and bills the partial text.

use jobs::{Cancelled, JobId, JobKind, catalog::TurnProcess, enqueue::QueueError};
use sqlx::PgConnection;
use store::{
    bus::Bus,
    ids::TurnKey,
    turn_control::{self, Unattended},
};

/// What a transaction stopped, to be announced after its commit.
#[derive(Debug, Default)]
pub(crate) struct Stopping {
    asked: Vec<JobId>,
    ended: Vec<TurnKey>,
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
    /// Stops a turn that is not finished. `reason` is what its stream says.
    pub(crate) async fn stop(
        &mut self,
        conn: &mut PgConnection,
        key: TurnKey,
        job_id: Option<i64>,
        reason: &str,
    ) -> Result<Stopped, QueueError> {
        let cancelled = match job_id {
            Some(id) => jobs::cancel(conn, JobId(id)).await?,
            None => Cancelled::NotLive,
        };
        if let (Cancelled::Asked, Some(id)) = (cancelled, job_id) {
            self.asked.push(JobId(id));
            return Ok(Stopped::Asked);
        }
        // Without a live job nobody else would ever end the turn.
        turn_control::end_unattended(conn, &key, Unattended::Cancelled(reason)).await?;
        self.ended.push(key);
        Ok(Stopped::Ended)
    }

    /// Tells workers and clients. Call it after the commit.
    pub(crate) fn announce(self, bus: &Bus) {
        if !self.ended.is_empty() {
            // The session's next turn may have become ready.
            bus.jobs_ready(TurnProcess::QUEUE);
        }
        for key in self.ended {
            bus.turn_changed(key);
        }
        for id in self.asked {
            bus.cancel_job(id.0);
        }
    }
}
