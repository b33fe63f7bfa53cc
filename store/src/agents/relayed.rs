//! Turns that no model answers: what a visitor wrote to a person, and what a person said. They are born
//! finished, with all their frames, so that streams, cursors and transcript treat them as any other.

use chrono::{DateTime, Utc};
use sqlx::PgConnection;

use super::Agent;
use crate::{
    chat::NewTurn,
    events,
    ids::{MessageId, SessionId, TurnKey},
    protocol::{AgentData, AgentStatus, Chunk, FinishReason, SessionData, True},
    turn_control::{self, EndedTurn, Unattended},
};

/// The attempt of a turn that is born finished.
const BORN: i32 = 1;
/// The only text part of what a person says.
const PART: &str = "t1";
/// People have taken over: the stage of every session in which somebody speaks.
const HANDED_OFF: i16 = 4;

/// That a person takes part.
fn joined(name: &str) -> Chunk {
    Chunk::DataAgent {
        data: AgentData {
            name: name.to_owned(),
            status: AgentStatus::Joined,
        },
        transient: True,
    }
}

fn session(key: &TurnKey) -> Chunk {
    Chunk::DataSession {
        data: SessionData {
            session_id: key.session_id.clone(),
            turn: key.turn,
            stage: HANDED_OFF,
        },
        transient: True,
    }
}

const STOP: Chunk = Chunk::Finish {
    finish_reason: FinishReason::Stop,
};

/// Adds a visitor's message to the person who speaks, and its turn. [`NewTurn::job_id`] is the job that
/// takes it to them.
pub async fn relay(conn: &mut PgConnection, new: &NewTurn<'_>, agent: &str) -> sqlx::Result<()> {
    sqlx::query!(
        "with session as (
             update sessions
             set last_turn = $2, last_activity_at = now(),
                 page_url = coalesce($3, page_url), locale = coalesce($4, locale)
             where session_id = $1
         ), message as (
             insert into messages (session_id, message_id, turn, role, body)
             values ($1, $5, $2, 'user', $6)
         )
         insert into turns (session_id, turn, message_id, answer_id, job_id, status, attempt, stage, finished_at)
         values ($1, $2, $5, $7, $8, 'relayed', $9, $10, now())",
        new.key.session_id.as_str(),
        new.key.turn,
        new.page_url,
        new.locale,
        new.message_id.as_str(),
        new.body,
        new.answer_id.as_str(),
        new.job_id,
        BORN,
        HANDED_OFF,
    )
    .execute(&mut *conn)
    .await?;
    // No `start`: a client would show an answer that never comes.
    let chunks = [session(new.key), joined(agent), STOP];
    events::append(conn, &events::number(new.key, BORN, 1, &chunks)).await?;
    Ok(())
}

/// What somebody says to the visitor. It has no `Debug`, because it holds what is said.
pub struct Words<'a> {
    /// The session, and the turn that it becomes: the session's `last_turn` + 1.
    pub key: &'a TurnKey,
    /// The id of the message.
    pub message_id: &'a MessageId,
    /// Whose words they are; `None`: the assistant's, in a fixed phrase.
    pub author: Option<&'a str>,
    /// The words.
    pub body: &'a str,
    /// What is told besides, in front of the words.
    pub before: Vec<Chunk>,
}

/// Says something to the visitor that no model said: a turn of its own, with a message.
pub async fn say(conn: &mut PgConnection, words: &Words<'_>) -> sqlx::Result<()> {
    sqlx::query!(
        "with session as (
             update sessions set last_turn = $2, last_activity_at = now() where session_id = $1
         ), message as (
             insert into messages (session_id, message_id, turn, role, author, body)
             values ($1, $3, $2, 'assistant', $4, $5)
         )
         insert into turns (session_id, turn, message_id, answer_id, status, attempt, stage, finished_at)
         values ($1, $2, $3, $3, 'relayed', $6, $7, now())",
        words.key.session_id.as_str(),
        words.key.turn,
        words.message_id.as_str(),
        words.author,
        words.body,
        BORN,
        HANDED_OFF,
    )
    .execute(&mut *conn)
    .await?;
    let id = || PART.to_owned();
    let mut chunks = vec![
        Chunk::Start {
            message_id: words.message_id.clone(),
        },
        session(words.key),
    ];
    chunks.extend(words.author.map(joined));
    chunks.extend(words.before.iter().cloned());
    chunks.extend([
        Chunk::TextStart { id: id() },
        Chunk::TextDelta {
            id: id(),
            delta: words.body.to_owned(),
        },
        Chunk::TextEnd { id: id() },
        STOP,
    ]);
    events::append(conn, &events::number(words.key, BORN, 1, &chunks)).await?;
    Ok(())
}

/// A turn that a person took from the assistant.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Relayed {
    /// The turn.
    pub key: TurnKey,
    /// Its job, which is to be withdrawn.
    pub job_id: Option<i64>,
}

/// The session's turns that the assistant has not finished, the newest first: in this order nobody ends
/// one of them and makes another one the next to run.
pub async fn unfinished(
    conn: &mut PgConnection,
    session_id: &SessionId,
) -> sqlx::Result<Vec<Relayed>> {
    let unfinished = turn_control::unfinished(conn, session_id).await?;
    let relayed = unfinished.into_iter().map(|turn| Relayed {
        key: TurnKey {
            session_id: session_id.clone(),
            turn: turn.turn,
        },
        job_id: turn.job_id,
    });
    Ok(relayed.collect())
}

/// Ends a turn that the assistant has not finished: what was shown of it is withdrawn, and a person will
/// answer. What its attempts were billed for is the session's.
pub async fn withdraw(
    conn: &mut PgConnection,
    key: &TurnKey,
    agent: &Agent,
) -> sqlx::Result<Option<EndedTurn>> {
    let how = Unattended::TakenOver(agent.name.clone());
    turn_control::end_unattended(conn, key, how).await
}

/// What a visitor asked in a turn. It has no `Debug`, because it holds their words.
pub struct Question {
    /// The words.
    pub body: String,
    /// When they came.
    pub asked_at: DateTime<Utc>,
}

/// What the visitor asked in a turn; `None`: the turn is gone.
pub async fn question(conn: &mut PgConnection, key: &TurnKey) -> sqlx::Result<Option<Question>> {
    sqlx::query_as!(
        Question,
        "select m.body, t.created_at as asked_at
         from turns t
         join messages m on m.session_id = t.session_id and m.message_id = t.message_id
         where t.session_id = $1 and t.turn = $2 and m.role = 'user'",
        key.session_id.as_str(),
        key.turn,
    )
    .fetch_optional(conn)
    .await
}

/// What a person said in a turn; `None`: the turn is gone, or was no person's.
pub async fn said(conn: &mut PgConnection, key: &TurnKey) -> sqlx::Result<Option<String>> {
    sqlx::query_scalar!(
        "select body from messages
         where session_id = $1 and turn = $2 and role = 'assistant' and author is not null",
        key.session_id.as_str(),
        key.turn,
    )
    .fetch_optional(conn)
    .await
}

/// Whether the person who speaks now is the one to whom the visitor's turn was relayed.
pub async fn was_sent_to_agent(conn: &mut PgConnection, key: &TurnKey) -> sqlx::Result<bool> {
    sqlx::query_scalar!(
        r#"select exists (
               select 1 from sessions s
               join turns t on t.session_id = s.session_id and t.turn = $2
               where s.session_id = $1 and s.agent_since <= t.finished_at) as "is!""#,
        key.session_id.as_str(),
        key.turn,
    )
    .fetch_one(conn)
    .await
}

/// Whether a person has said anything in a session.
pub async fn has_spoken(conn: &mut PgConnection, session_id: &SessionId) -> sqlx::Result<bool> {
    sqlx::query_scalar!(
        r#"select exists (select 1 from messages where session_id = $1 and author is not null) as "has!""#,
        session_id.as_str(),
    )
    .fetch_one(conn)
    .await
}
