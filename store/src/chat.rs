//! Accepting a visitor's message: the session, the message and the turn that answers it.
//!
//! Every function here runs in the transaction that holds the lock of the session's serial key, so
//! that what [`state`] saw is still true when [`add_turn`] writes. The job is the queue's business:
//! the caller enqueues it in the same transaction and passes its number in.

use sqlx::PgConnection;

use crate::{
    ids::{MessageId, SessionId, TurnKey},
    sessions::SecretHash,
};

/// A turn that a client can be joined to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct JoinableTurn {
    /// The turn's number.
    pub turn: i32,
    /// Its current attempt; 0: none has begun.
    pub attempt: i32,
    /// Whether nothing will be added to its stream.
    pub finished: bool,
}

/// A session as a message finds it.
#[derive(Debug)]
pub struct SessionState {
    /// The hash of the secret that the session is bound to.
    pub secret_hash: Option<Vec<u8>>,
    /// Whether it takes no more messages.
    pub closed: bool,
    /// The person who speaks; `None`: the assistant.
    pub agent: Option<String>,
    /// The newest turn's number.
    pub last_turn: i32,
    /// How many turns are queued or running.
    pub unfinished_turns: i64,
    /// What the id of the message that came is already the name of.
    pub id_taken_by: Option<TakenBy>,
}

/// What a message id that came is already the name of.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum TakenBy {
    /// A message of the visitor.
    VisitorMessage {
        /// Its text.
        body: String,
        /// The turn that it began.
        turn: JoinableTurn,
    },
    /// An answer, finished or to come.
    Answer,
}

/// The session as the message finds it; `None`: there is no such session.
pub async fn state(
    conn: &mut PgConnection,
    session_id: &SessionId,
    message_id: &MessageId,
) -> sqlx::Result<Option<SessionState>> {
    let row = sqlx::query!(
        r#"select s.secret_hash, s.status = 'closed' as "closed!", s.agent, s.last_turn,
                  (select count(*) from turns where session_id = $1 and finished_at is null)
                      as "unfinished_turns!",
                  m.body as "body?", t.turn as "turn?", t.attempt as "attempt?",
                  t.finished_at is not null as "finished!",
                  exists (select 1 from turns where session_id = $1 and answer_id = $2)
                      or m.role = 'assistant' as "answer_has_id"
           from sessions s
           left join messages m on m.session_id = s.session_id and m.message_id = $2
           left join turns t on t.session_id = m.session_id and t.turn = m.turn
           where s.session_id = $1"#,
        session_id.as_str(),
        message_id.as_str(),
    )
    .fetch_optional(conn)
    .await?;
    Ok(row.map(|row| {
        let id_taken_by = match (row.answer_has_id, row.body, row.turn, row.attempt) {
            (Some(true), ..) => Some(TakenBy::Answer),
            (_, Some(body), Some(turn), Some(attempt)) => Some(TakenBy::VisitorMessage {
                body,
                turn: JoinableTurn {
                    turn,
                    attempt,
                    finished: row.finished,
                },
            }),
            _ => None,
        };
        SessionState {
            secret_hash: row.secret_hash,
            closed: row.closed,
            agent: row.agent,
            last_turn: row.last_turn,
            unfinished_turns: row.unfinished_turns,
            id_taken_by,
        }
    }))
}

/// A message and the turn that will answer it.
#[derive(Debug, Clone, Copy)]
pub struct NewTurn<'a> {
    /// The session and the turn's number: the session's `last_turn` + 1.
    pub key: &'a TurnKey,
    /// What a new session is bound to; ignored when the session exists.
    pub secret_hash: Option<&'a SecretHash>,
    /// The page that the visitor is on.
    pub page_url: Option<&'a str>,
    /// The visitor's language, as BCP 47.
    pub locale: Option<&'a str>,
    /// The message's id.
    pub message_id: &'a MessageId,
    /// The message's text.
    pub body: &'a str,
    /// The id that the answer will have.
    pub answer_id: &'a MessageId,
    /// The job that will answer.
    pub job_id: i64,
}

/// Adds the message and its turn, in a session that is made if it does not exist. Returns whether an
/// endpoint is to be told of a session that begins ([`crate::webhooks`]).
pub async fn add_turn(conn: &mut PgConnection, new: &NewTurn<'_>) -> sqlx::Result<bool> {
    sqlx::query_scalar!(
        r#"with session as (
             insert into sessions (session_id, secret_hash, page_url, locale, last_turn)
             values ($1, $2, $3, $4, $5)
             on conflict on constraint sessions_pkey do update
             set last_turn = excluded.last_turn, last_activity_at = now(),
                 page_url = coalesce(excluded.page_url, sessions.page_url),
                 locale = coalesce(excluded.locale, sessions.locale)
         ), message as (
             insert into messages (session_id, message_id, turn, role, body)
             values ($1, $6, $5, 'user', $7)
         )
         insert into turns (session_id, turn, message_id, answer_id, job_id)
         values ($1, $5, $6, $8, $9)
         returning $5 = 1 and webhooks_wanted('session.started') as "wanted!""#,
        new.key.session_id.as_str(),
        new.secret_hash.map(SecretHash::as_bytes),
        new.page_url,
        new.locale,
        new.key.turn,
        new.message_id.as_str(),
        new.body,
        new.answer_id.as_str(),
        new.job_id,
    )
    .fetch_one(conn)
    .await
}

/// What a wish to have the last message answered again finds.
#[derive(Debug, Default)]
pub struct Regenerable {
    /// The turn that already replaces the answer that was named.
    pub replaced_by: Option<JoinableTurn>,
    /// The session's newest turn, its message and its answer.
    pub newest: Option<(JoinableTurn, String, String)>,
}

/// Looks for what is to be answered again: `answer_id` is the answer that the client named.
pub async fn regenerable(
    conn: &mut PgConnection,
    session_id: &SessionId,
    answer_id: Option<&MessageId>,
) -> sqlx::Result<Regenerable> {
    let rows = sqlx::query!(
        r#"select turn, attempt, finished_at is not null as "finished!", message_id, answer_id,
                  coalesce(regenerates = $2, false) as "replaces!",
                  turn = max(turn) over () as "newest!"
           from turns
           where session_id = $1
             and (regenerates = $2
                  or turn = (select last_turn from sessions where session_id = $1))"#,
        session_id.as_str(),
        answer_id.map(MessageId::as_str),
    )
    .fetch_all(conn)
    .await?;
    let mut found = Regenerable::default();
    for row in rows {
        let turn = JoinableTurn {
            turn: row.turn,
            attempt: row.attempt,
            finished: row.finished,
        };
        if row.replaces {
            found.replaced_by = Some(turn);
        }
        if row.newest {
            found.newest = Some((turn, row.message_id, row.answer_id));
        }
    }
    Ok(found)
}

/// Adds a turn that answers a message again; the answer that it replaces is superseded.
pub async fn add_regeneration(
    conn: &mut PgConnection,
    new: &NewTurn<'_>,
    replaced_answer_id: &str,
) -> sqlx::Result<()> {
    sqlx::query!(
        "with session as (
             update sessions set last_turn = $2, last_activity_at = now() where session_id = $1
         ), replaced as (
             update messages set status = 'superseded'
             where session_id = $1 and message_id = $6 and role = 'assistant'
         )
         insert into turns (session_id, turn, message_id, answer_id, job_id, regenerates)
         values ($1, $2, $3, $4, $5, $6)",
        new.key.session_id.as_str(),
        new.key.turn,
        new.message_id.as_str(),
        new.answer_id.as_str(),
        new.job_id,
        replaced_answer_id,
    )
    .execute(conn)
    .await?;
    Ok(())
}
