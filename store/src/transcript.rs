//! A session's transcript: what a reload of the page needs.

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};
use sqlx::{PgConnection, types::Json};

use crate::{ids::SessionId, protocol::ReplyPromise};

/// A passage that an answer used, as it is kept with the message.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Source {
    /// Its id, unique in the message.
    pub source_id: String,
    /// Where it can be read.
    pub url: String,
    /// Title of the document and heading.
    pub title: Option<String>,
}

/// A message of the transcript.
#[derive(Debug, Clone)]
pub struct TranscriptMessage {
    /// The message's id.
    pub message_id: String,
    /// The turn that it belongs to.
    pub turn: i32,
    /// `user` or `assistant`.
    pub role: String,
    /// The person who wrote it, if it was one of the company's.
    pub author: Option<String>,
    /// The text.
    pub body: String,
    /// What it cites.
    pub sources: Vec<Source>,
    /// `complete` or `cancelled`.
    pub status: String,
    /// What the visitor thinks of it.
    pub rating: Option<String>,
    /// When it was accepted or finished.
    pub created_at: DateTime<Utc>,
}

/// A session with its messages.
#[derive(Debug)]
pub struct Transcript {
    /// The stage of the conversation, 1–4.
    pub stage: i16,
    /// `open` or `closed`.
    pub status: String,
    /// Why it was closed.
    pub termination_type: Option<String>,
    /// How far the newest handoff is; `None`: there is none.
    pub handoff: Option<String>,
    /// The oldest turn that is not finished.
    pub active_turn: Option<i32>,
    /// What the newest handoff promises.
    pub promise: Option<ReplyPromise>,
    /// The messages in order, without the answers that were replaced.
    pub messages: Vec<TranscriptMessage>,
}

/// A handoff as the visitor may know it.
#[derive(Debug, Deserialize)]
struct NewestHandoff {
    status: String,
    text: Option<String>,
    by: Option<DateTime<Utc>>,
}

impl NewestHandoff {
    fn promise(&self) -> Option<ReplyPromise> {
        let (text, by) = self.text.as_ref().zip(self.by)?;
        Some(ReplyPromise::new(text, by))
    }
}

/// Reads a session as it is at one instant; `None`: there is no such session.
pub async fn read(
    conn: &mut PgConnection,
    session_id: &SessionId,
) -> sqlx::Result<Option<Transcript>> {
    // One statement, so that an answer and the turn that it finishes are seen together.
    let rows = sqlx::query!(
        r#"select s.stage, s.status, s.termination_type,
                  (select min(turn) from turns where session_id = $1 and finished_at is null)
                      as active_turn,
                  (select jsonb_build_object('status', status, 'text', promise_text, 'by', promise_by)
                   from handoff_records where session_id = $1
                   order by created_at desc, handoff_id limit 1) as "handoff: Json<NewestHandoff>",
                  m.message_id as "message_id?", m.turn as "turn?", m.role as "role?", m.author,
                  m.body as "body?", m.sources as "sources?: Json<Vec<Source>>",
                  m.status as "message_status?", m.created_at as "created_at?",
                  f.rating as "rating?"
           from sessions s
           left join messages m on m.session_id = s.session_id and m.status <> 'superseded'
           left join feedback f on f.session_id = m.session_id and f.turn = m.turn
             and m.role = 'assistant'
           where s.session_id = $1
           order by m.turn, m.role desc, m.created_at, m.message_id"#,
        session_id.as_str(),
    )
    .fetch_all(conn)
    .await?;
    let mut transcript = None;
    for row in rows {
        let transcript = transcript.get_or_insert_with(|| Transcript {
            stage: row.stage,
            status: row.status,
            termination_type: row.termination_type,
            promise: row.handoff.as_ref().and_then(|handoff| handoff.promise()),
            handoff: row.handoff.map(|handoff| handoff.0.status),
            active_turn: row.active_turn,
            messages: Vec::new(),
        });
        if let (
            Some(message_id),
            Some(turn),
            Some(role),
            Some(body),
            Some(status),
            Some(created_at),
        ) = (
            row.message_id,
            row.turn,
            row.role,
            row.body,
            row.message_status,
            row.created_at,
        ) {
            transcript.messages.push(TranscriptMessage {
                message_id,
                turn,
                role,
                author: row.author,
                body,
                sources: row.sources.map(|sources| sources.0).unwrap_or_default(),
                status,
                rating: row.rating,
                created_at,
            });
        }
    }
    Ok(transcript)
}
