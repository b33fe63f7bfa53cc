//! Opens a handoff together with the jobs that bring it to people, and follows what becomes of them.

use sqlx::PgConnection;
use store::{
    bus::Wake,
    handoffs::{self, Channel, HandoffStatus, NewHandoff},
    ids::{HandoffId, SessionId},
};

use crate::{
    catalog::{HandoffCrm, HandoffSettle, HandoffSlack},
    enqueue::{EnqueueOptions, QueueError, enqueue, enqueue_with},
    kind::JobKind,
    outcome::Ended,
};

/// Opens a handoff with its deliveries and their jobs, or adds to the one that still takes facts. In the
/// transaction that holds the lock of the session's serial key; publish `after` when it is committed.
///
/// `waits`: `HANDOFF_RETRY_BACKOFF_SECONDS`, stored with the jobs.
pub async fn open(
    conn: &mut PgConnection,
    new: &NewHandoff<'_>,
    waits: &[i32],
    after: &mut Wake,
) -> Result<(HandoffId, HandoffStatus), QueueError> {
    let (handoff_id, status) = handoffs::open_or_update(conn, new).await?;
    if handoff_id == new.handoff_id {
        let options = EnqueueOptions {
            retry_waits: Some(waits.to_vec()),
            ..EnqueueOptions::default()
        };
        let session_id = new.session_id.clone();
        let slack = HandoffSlack {
            session_id: session_id.clone(),
            handoff_id: handoff_id.clone(),
        };
        let crm = HandoffCrm {
            session_id,
            handoff_id: handoff_id.clone(),
        };
        enqueue_with(conn, &slack, &options).await?;
        enqueue_with(conn, &crm, &options).await?;
        after.queues.insert(HandoffSlack::QUEUE.to_owned());
    }
    Ok((handoff_id, status))
}

/// The job of a delivery has ended, by whichever path: the handoff is settled anew.
pub(crate) async fn delivery_ended(
    conn: &mut PgConnection,
    session_id: &SessionId,
    handoff_id: &HandoffId,
    _channel: Channel,
    _ended: Ended,
    after: &mut Wake,
) -> sqlx::Result<()> {
    let settle = HandoffSettle {
        session_id: session_id.clone(),
        handoff_id: handoff_id.clone(),
    };
    match enqueue(conn, &settle).await {
        Ok(_) => {
            after.queues.insert(HandoffSettle::QUEUE.to_owned());
            Ok(())
        }
        Err(QueueError::Database(error)) => Err(error),
        Err(other) => Err(sqlx::Error::Encode(Box::new(other))),
    }
}
