//! Outgoing webhooks: who is told of what happens, what of, and how it went (docs/decisions/0022).

mod attempts;
mod endpoints;
mod event;

use std::collections::HashMap;

use serde_json::{Value, json};
use sqlx::PgConnection;

pub use self::{
    attempts::{AttemptEnd, Begun, FAILING_FOR_DAYS, NewAttempt, begin_attempt, end_attempt},
    endpoints::{
        AddedEndpoint, Attempt, Endpoint, TestTarget, add, attempts, disable, enable, list, remove,
        rotate, show, test_target,
    },
    event::{Event, EventType},
};

/// An endpoint that is to be told.
#[derive(Debug, Clone)]
pub struct Subscriber {
    /// The endpoint.
    pub endpoint_id: String,
    /// What of.
    pub events: Vec<String>,
}

/// The active endpoints that are to be told of one of these, and the time that the events have, as
/// RFC 3339. Those that were there first come first.
pub async fn subscribers(
    conn: &mut PgConnection,
    event_types: &[EventType],
) -> sqlx::Result<(Vec<Subscriber>, String)> {
    let names: Vec<String> = event_types
        .iter()
        .map(|it| it.as_str().to_owned())
        .collect();
    let rows = sqlx::query!(
        r#"select endpoint_id, events,
                  to_char(now() at time zone 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.MS"Z"') as "now!"
           from webhook_endpoints
           where status = 'active' and events && $1
           order by created_at, endpoint_id"#,
        &names,
    )
    .fetch_all(conn)
    .await?;
    let now = rows.first().map(|row| row.now.clone()).unwrap_or_default();
    let subscribers = rows.into_iter().map(|row| Subscriber {
        endpoint_id: row.endpoint_id,
        events: row.events,
    });
    Ok((subscribers.collect(), now))
}

/// What is told of each event, in their order: ids, a status, a stage, counts. Nothing about a person:
/// it is kept with the jobs. In the transaction in which it happened, after it did.
pub async fn describe(conn: &mut PgConnection, events: &[Event]) -> sqlx::Result<Vec<Value>> {
    let mut turns = Vec::new();
    let mut handoffs = Vec::new();
    let mut sessions = Vec::new();
    for event in events {
        match event {
            Event::TurnCompleted(key) => turns.push((key.session_id.to_string(), key.turn)),
            Event::HandoffCreated(session_id, handoff_id)
            | Event::HandoffSettled(session_id, handoff_id, _) => {
                handoffs.push((session_id.to_string(), handoff_id.to_string()));
            }
            Event::SessionStarted(session_id) | Event::SessionClosed(session_id) => {
                sessions.push(session_id.to_string());
            }
        }
    }
    let turns = describe_turns(conn, &turns).await?;
    let handoffs = describe_handoffs(conn, &handoffs).await?;
    let sessions = describe_sessions(conn, &sessions).await?;
    let described = events.iter().map(|event| {
        let session_id = event.session_id().as_str();
        let told = match event {
            Event::TurnCompleted(key) => turns.get(&(session_id.to_owned(), key.turn)),
            Event::HandoffCreated(_, handoff_id) | Event::HandoffSettled(_, handoff_id, _) => {
                handoffs.get(&(session_id.to_owned(), handoff_id.to_string()))
            }
            Event::SessionStarted(_) | Event::SessionClosed(_) => sessions.get(session_id),
        };
        told.cloned()
            .unwrap_or_else(|| json!({ "session_id": session_id }))
    });
    Ok(described.collect())
}

async fn describe_turns(
    conn: &mut PgConnection,
    keys: &[(String, i32)],
) -> sqlx::Result<HashMap<(String, i32), Value>> {
    if keys.is_empty() {
        return Ok(HashMap::new());
    }
    let (sessions, numbers): (Vec<String>, Vec<i32>) = keys.iter().cloned().unzip();
    let rows = sqlx::query!(
        r#"select t.session_id, t.turn, t.status, t.finish_reason, t.limit_reached, t.stage, t.attempt,
                  t.input_tokens, t.output_tokens
           from unnest($1::text[], $2::int[]) as k (session_id, turn)
           join turns t on t.session_id = k.session_id and t.turn = k.turn"#,
        &sessions,
        &numbers,
    )
    .fetch_all(conn)
    .await?;
    let described = rows.into_iter().map(|row| {
        let data = json!({
            "session_id": row.session_id, "turn": row.turn, "status": row.status,
            "finish_reason": row.finish_reason, "limit_reached": row.limit_reached, "stage": row.stage,
            "attempts": row.attempt, "input_tokens": row.input_tokens, "output_tokens": row.output_tokens,
        });
        ((row.session_id, row.turn), data)
    });
    Ok(described.collect())
}

async fn describe_handoffs(
    conn: &mut PgConnection,
    keys: &[(String, String)],
) -> sqlx::Result<HashMap<(String, String), Value>> {
    if keys.is_empty() {
        return Ok(HashMap::new());
    }
    let (sessions, handoffs): (Vec<String>, Vec<String>) = keys.iter().cloned().unzip();
    let rows = sqlx::query!(
        r#"select h.session_id, h.handoff_id, h.turn, h.trigger, h.status, h.revision
           from unnest($1::text[], $2::text[]) as k (session_id, handoff_id)
           join handoff_records h on h.session_id = k.session_id and h.handoff_id = k.handoff_id"#,
        &sessions,
        &handoffs,
    )
    .fetch_all(conn)
    .await?;
    let described = rows.into_iter().map(|row| {
        let data = json!({
            "session_id": row.session_id, "handoff_id": row.handoff_id, "turn": row.turn,
            "trigger": row.trigger, "status": row.status, "revision": row.revision,
        });
        ((row.session_id, row.handoff_id), data)
    });
    Ok(described.collect())
}

async fn describe_sessions(
    conn: &mut PgConnection,
    ids: &[String],
) -> sqlx::Result<HashMap<String, Value>> {
    if ids.is_empty() {
        return Ok(HashMap::new());
    }
    let rows = sqlx::query!(
        "select session_id, status, termination_type, stage, last_turn, tokens_used
         from sessions where session_id = any($1)",
        ids,
    )
    .fetch_all(conn)
    .await?;
    let described = rows.into_iter().map(|row| {
        let data = json!({
            "session_id": row.session_id, "status": row.status,
            "termination_type": row.termination_type, "stage": row.stage, "turns": row.last_turn,
            "tokens_used": row.tokens_used,
        });
        (row.session_id, data)
    });
    Ok(described.collect())
}
