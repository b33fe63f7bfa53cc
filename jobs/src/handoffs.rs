//! Opens a handoff together with the jobs that bring it to people, and follows what becomes of them.
//!
//! ```text
//! open ─▶ handoff.slack ─┐ however it ended    ┌▶ handoff.crm, again: it told older facts
//!      └▶ handoff.crm ───┴▶ handoff.settle ────┼▶ handoff.email: both failed
//!                              ▲               ├▶ handoff.slack_update: there is more to show
//!                              └───────────────┴── their ends, too
//!      ┄▶ handoff.remind, shortly before what was promised
//! ```

use sqlx::PgConnection;
use store::{
    bus::Wake,
    business_hours::Promise,
    handoffs::{self, Asked, Channel, DeliveryStatus, HandoffKey, HandoffStatus, NewHandoff},
    ids::{HandoffId, SessionId},
    webhooks::Event,
};

use crate::{
    catalog::{
        HandoffCrm, HandoffEmail, HandoffRemind, HandoffSettle, HandoffSlack, HandoffSlackUpdate,
    },
    enqueue::{EnqueueOptions, Enqueued, MAX_DELAY, QueueError, enqueue, enqueue_with},
    kind::JobKind,
    outcome::Ended,
    webhooks::announce,
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
    let opened = handoffs::open_or_update(conn, new).await?;
    let handoff_id = opened.handoff_id;
    let key = HandoffKey {
        session_id: new.session_id.clone(),
        handoff_id,
    };
    // One that was made by a version without channels gets its deliveries with its next facts.
    if key.handoff_id == new.handoff_id || !handoffs::has_deliveries(conn, &key).await? {
        for channel in [Channel::Slack, Channel::Crm] {
            deliver(conn, &key, channel, waits, None, after).await?;
        }
    }
    if let Some(promise) = new.promise {
        remind_of(conn, &key, promise, after).await?;
    }
    if key.handoff_id == new.handoff_id && opened.wanted {
        let created = Event::HandoffCreated(key.session_id, key.handoff_id.clone());
        announce(conn, &[created], after).await?;
    }
    Ok((key.handoff_id, opened.status))
}

/// Has people be reminded of a promise that is about to be broken: once for ever.
async fn remind_of(
    conn: &mut PgConnection,
    key: &HandoffKey,
    promise: &Promise,
    after: &mut Wake,
) -> Result<(), QueueError> {
    let remind = HandoffRemind {
        session_id: key.session_id.clone(),
        handoff_id: key.handoff_id.clone(),
    };
    let options = EnqueueOptions {
        // A promise of more than a year is reminded of too early, rather than not made.
        delay: promise.remind_after().min(MAX_DELAY),
        ..EnqueueOptions::default()
    };
    if enqueue_with(conn, &remind, &options).await?.new {
        after.queues.insert(HandoffRemind::QUEUE.to_owned());
    }
    Ok(())
}

/// Has a channel deliver a handoff, with a job of its own, unless one is live that does so. `asks`: what
/// an update of the message in Slack is to cover. Returns whether the job is new.
pub async fn deliver(
    conn: &mut PgConnection,
    key: &HandoffKey,
    channel: Channel,
    waits: &[i32],
    asks: Option<Asked>,
    after: &mut Wake,
) -> Result<bool, QueueError> {
    let (session_id, handoff_id) = (key.session_id.clone(), key.handoff_id.clone());
    let with_waits = EnqueueOptions {
        retry_waits: Some(waits.to_vec()),
        ..EnqueueOptions::default()
    };
    let Enqueued { id, new } = match channel {
        Channel::Slack => {
            let job = HandoffSlack {
                session_id,
                handoff_id,
            };
            enqueue_with(conn, &job, &with_waits).await?
        }
        Channel::Crm => {
            let job = HandoffCrm {
                session_id,
                handoff_id,
            };
            enqueue_with(conn, &job, &with_waits).await?
        }
        Channel::SlackUpdate => {
            let job = HandoffSlackUpdate {
                session_id,
                handoff_id,
            };
            enqueue_with(conn, &job, &with_waits).await?
        }
        // It has waits of its own: nothing comes after it.
        Channel::Email => {
            let job = HandoffEmail {
                session_id,
                handoff_id,
            };
            enqueue(conn, &job).await?
        }
    };
    if new {
        handoffs::set_pending(conn, key, channel, id.0, asks).await?;
        after.queues.insert(HandoffSlack::QUEUE.to_owned());
    }
    Ok(new)
}

/// The job of a delivery has ended, by whichever path: the handoff is settled anew.
pub(crate) async fn delivery_ended(
    conn: &mut PgConnection,
    session_id: &SessionId,
    handoff_id: &HandoffId,
    channel: Channel,
    ended: Ended,
    after: &mut Wake,
) -> sqlx::Result<()> {
    let key = HandoffKey {
        session_id: session_id.clone(),
        handoff_id: handoff_id.clone(),
    };
    match ended {
        // The handler said what became of it, in this very transaction or before.
        Ended::Done => {}
        Ended::Dead => handoffs::give_up(conn, &key, channel, DeliveryStatus::Dead).await?,
        Ended::Cancelled => {
            handoffs::give_up(conn, &key, channel, DeliveryStatus::Cancelled).await?;
        }
    }
    settle(conn, key, after).await
}

/// A job has ended whose payload can't be read: if it was a delivery's, that is known by its number.
/// Settling finds that the job is gone.
pub(crate) async fn unreadable_ended(
    conn: &mut PgConnection,
    job_id: i64,
    after: &mut Wake,
) -> sqlx::Result<()> {
    match handoffs::of_job(conn, job_id).await? {
        Some(key) => settle(conn, key, after).await,
        None => Ok(()),
    }
}

async fn settle(conn: &mut PgConnection, key: HandoffKey, after: &mut Wake) -> sqlx::Result<()> {
    let settle = HandoffSettle {
        session_id: key.session_id,
        handoff_id: key.handoff_id,
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
