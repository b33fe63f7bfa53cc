//! Deletes what a person said and left: the one place that knows every table that holds it.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use sqlx::PgConnection;

use crate::ids::SessionId;

/// How much is to go.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Scope {
    /// What was said.
    Conversation,
    /// The handoff, and what is outside, as well.
    Person,
}

impl Scope {
    /// The name in the database.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Conversation => "conversation",
            Self::Person => "person",
        }
    }
}

/// Rows that went, by table.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Erased(pub BTreeMap<String, i64>);

impl Erased {
    /// Adds what another one counts.
    pub fn add(&mut self, other: Self) {
        for (table, rows) in other.0 {
            *self.0.entry(table).or_default() += rows;
        }
    }
}

/// Locks a session and its handoffs, before anything of them is deleted and after the jobs that write for
/// them (docs/decisions/0006): retention and settling begin with the same rows.
pub async fn lock_session(conn: &mut PgConnection, session_id: &SessionId) -> sqlx::Result<()> {
    sqlx::query!(
        "select from sessions where session_id = $1 for no key update",
        session_id.as_str(),
    )
    .execute(&mut *conn)
    .await?;
    sqlx::query!(
        "select from handoff_records where session_id = $1 order by handoff_id for update",
        session_id.as_str(),
    )
    .execute(conn)
    .await?;
    Ok(())
}

/// Erases a session in the transaction that holds the lock of its serial key, has ended its jobs and has
/// called [`lock_session`]. What is not there any more is not counted: the second wish finds nothing. Whoever
/// reads along is told by their hub, which finds nothing to read: no frame is kept for them.
pub async fn erase_session(
    conn: &mut PgConnection,
    session_id: &SessionId,
    scope: Scope,
) -> sqlx::Result<Erased> {
    let id = session_id.as_str();
    // A turn that was not finished has lost its job: nobody else would ever end it. Its message's id is
    // what the client called it, in words that no client can use now.
    let row = sqlx::query!(
        r#"with e as (delete from turn_events where session_id = $1 returning 1),
                w as (delete from checkpoint_writes where session_id = $1 returning 1),
                c as (delete from checkpoints where session_id = $1 returning 1),
                m as (delete from messages where session_id = $1 returning 1),
                f as (delete from feedback where session_id = $1 returning 1),
                r as (delete from spend_reservations where session_id = $1 returning 1),
                t as (update turns
                      set status = case when finished_at is null then 'cancelled' else status end,
                          attempt = attempt + case when finished_at is null then 1 else 0 end,
                          finished_at = coalesce(finished_at, now()), message_id = 'erased-' || turn
                      where session_id = $1 and (finished_at is null or message_id <> 'erased-' || turn)
                      returning 1),
                s as (update sessions
                      set status = 'closed', closed_at = coalesce(closed_at, now()),
                          termination_type = 'erased', forgotten_at = now(),
                          secret_hash = null, page_url = null, locale = null,
                          agent = null, agent_id = null, agent_since = null, agent_typing_until = null
                      where session_id = $1 and termination_type is distinct from 'erased'
                      returning 1)
           select (select count(*) from e) as "turn_events!", (select count(*) from w) as "checkpoint_writes!",
                  (select count(*) from c) as "checkpoints!", (select count(*) from m) as "messages!",
                  (select count(*) from f) as "feedback!", (select count(*) from s) as "sessions!",
                  (select count(*) from r) as "reservations!""#,
        id,
    )
    .fetch_one(&mut *conn)
    .await?;
    let mut erased = BTreeMap::from([
        ("turn_events", row.turn_events),
        ("checkpoint_writes", row.checkpoint_writes),
        ("checkpoints", row.checkpoints),
        ("messages", row.messages),
        ("feedback", row.feedback),
        ("sessions", row.sessions),
    ]);
    if scope == Scope::Person {
        let row = sqlx::query!(
            r#"with s as (delete from slack_threads where session_id = $1 returning 1),
                    a as (delete from handoff_attempts where session_id = $1 returning 1),
                    d as (delete from handoff_deliveries where session_id = $1 returning 1),
                    e as (delete from handoff_told where session_id = $1 returning 1),
                    h as (delete from handoff_records where session_id = $1 returning 1)
               select (select count(*) from s) as "slack_threads!", (select count(*) from a) as "handoff_attempts!",
                      (select count(*) from d) as "handoff_deliveries!",
                      (select count(*) from e) as "handoff_told!", (select count(*) from h) as "handoff_records!""#,
            id,
        )
        .fetch_one(conn)
        .await?;
        erased.extend([
            ("slack_threads", row.slack_threads),
            ("handoff_attempts", row.handoff_attempts),
            ("handoff_deliveries", row.handoff_deliveries),
            ("handoff_records", row.handoff_records),
            ("handoff_told", row.handoff_told),
        ]);
    }
    let counted = erased.into_iter().filter(|(_, rows)| *rows > 0);
    Ok(Erased(
        counted
            .map(|(table, rows)| (table.to_owned(), rows))
            .collect(),
    ))
}
