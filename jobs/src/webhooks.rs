//! Tells of what happens: a job for each endpoint that wants to know, in the transaction in which it
//! happens (docs/decisions/0022).
//!
//! Whoever announces has rows locked, and the lock of a serial key comes before all rows (decision 0006).
//! So the deliveries are added as blocked, which needs no lock, together with a job that takes the locks
//! of their keys and lets the oldest of each run:
//!
//! ```text
//! announce ─┬─▶ webhook.deliver (blocked) ─────────────────┐ promoted: by the release,
//!           └─▶ webhook.release ── locks each key ─────────┴ or by the end of the one before
//! ```
//! A release that comes late finds nothing left to do; none can be lost, because it is committed with
//! what it releases.

use std::collections::BTreeSet;

use sqlx::PgConnection;
use store::{
    bus::Wake,
    ids::TurnKey,
    turn_control::EndedTurn,
    webhooks::{self, Event, EventType},
};

use crate::{
    catalog::{WebhookDeliver, WebhookRelease},
    enqueue::{EnqueueOptions, QueueError, add_blocked, enqueue_with},
    kind::JobKind,
    sql,
};

/// Tells those who want to know of what has just happened in the caller's transaction; publish `after` when
/// it is committed. A caller whose statement has said that nobody does (`wanted`, by the SQL function
/// `webhooks_wanted`) need not call.
pub async fn announce(
    conn: &mut PgConnection,
    events: &[Event],
    after: &mut Wake,
) -> Result<(), QueueError> {
    let types: BTreeSet<EventType> = events.iter().filter_map(Event::event_type).collect();
    let types: Vec<EventType> = types.into_iter().collect();
    if types.is_empty() {
        return Ok(());
    }
    let (subscribers, at) = webhooks::subscribers(conn, &types).await?;
    if subscribers.is_empty() {
        return Ok(());
    }
    let described = webhooks::describe(conn, events).await?;
    let mut deliveries = Vec::new();
    for (event, data) in events.iter().zip(described) {
        let Some(event_type) = event.event_type() else {
            continue;
        };
        let told = subscribers
            .iter()
            .filter(|it| it.events.iter().any(|name| name == event_type.as_str()));
        deliveries.extend(told.map(|subscriber| WebhookDeliver {
            endpoint_id: subscriber.endpoint_id.clone(),
            event_id: event.id(),
            event: event_type,
            at: at.clone(),
            session_id: event.session_id().clone(),
            handoff_id: event.handoff_id().cloned(),
            data: data.clone(),
        }));
    }
    let options = EnqueueOptions::default();
    add_blocked(conn, &deliveries, &options).await?;
    let endpoints: BTreeSet<String> = deliveries.into_iter().map(|it| it.endpoint_id).collect();
    let release = WebhookRelease {
        endpoint_ids: endpoints.into_iter().collect(),
    };
    enqueue_with(conn, &release, &options).await?;
    after.queues.insert(WebhookRelease::QUEUE.to_owned());
    Ok(())
}

/// Tells of a turn that was ended just now, if it was and somebody wants to know. Returns whether it was.
pub async fn turn_ended(
    conn: &mut PgConnection,
    key: &TurnKey,
    ended: Option<EndedTurn>,
    after: &mut Wake,
) -> Result<bool, QueueError> {
    if ended.is_some_and(|ended| ended.wanted) {
        announce(conn, &[Event::TurnCompleted(key.clone())], after).await?;
    }
    Ok(ended.is_some())
}

/// Lets the oldest delivery of an endpoint run, if none does. In a transaction of its own: it takes the
/// lock of the endpoint's key.
pub async fn release(
    conn: &mut PgConnection,
    endpoint_id: &str,
    after: &mut Wake,
) -> sqlx::Result<()> {
    let key = WebhookDeliver::serial_key_of(endpoint_id);
    sql::lock_key(conn, &key).await?;
    after.queues.extend(sql::promote(conn, &key).await?);
    Ok(())
}

/// What can be wrong with what we enqueue ourselves is only what the database says.
pub(crate) fn database_error(error: QueueError) -> sqlx::Error {
    match error {
        QueueError::Database(error) => error,
        other => sqlx::Error::Encode(Box::new(other)),
    }
}
