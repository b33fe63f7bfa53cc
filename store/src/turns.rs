//! A turn in a worker's hands: how an attempt to answer it begins, and how the turn is finished.
//!
//! ```text
//! queued ──begin──▶ running ──finish──▶ answered | cancelled
//!                    │   ▲
//!                    └───┘ begin: the next attempt, after a failure or a takeover
//! ```
//! Turns that no worker has in hand end in [`crate::turn_control::end_unattended`].

mod finish;

use std::{collections::HashMap, fmt, ops::AddAssign, time::Duration};

use serde::Deserialize;
use serde_json::Value;
use sqlx::{PgConnection, types::Json};

pub use self::finish::{Ending, Finish, Finished, LimitReached, finish};
use crate::{
    checkpoints::{ConversationState, JobLease, Steps},
    ids::{MessageId, TurnKey},
};

/// Who said something.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Speaker {
    /// The visitor.
    User,
    /// The assistant, or a person of the company.
    Assistant,
}

/// A message of the conversation so far.
#[derive(Clone, PartialEq, Eq, Deserialize)]
pub struct PastMessage {
    /// Its id.
    pub id: String,
    /// The turn that it belongs to. An answer that was asked for again belongs to a later one than its
    /// question.
    pub turn: i32,
    /// Who said it.
    pub role: Speaker,
    /// The person of the company who wrote it; none: the visitor or the assistant.
    #[serde(default)]
    pub author: Option<String>,
    /// What.
    pub body: String,
}

impl fmt::Debug for PastMessage {
    /// Without the words: they don't belong in a log.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PastMessage")
            .field("id", &self.id)
            .field("turn", &self.turn)
            .field("role", &self.role)
            .finish_non_exhaustive()
    }
}

/// An attempt to answer that has begun, with everything that it needs to know. It has no `Debug`,
/// because it holds messages.
pub struct Begun {
    /// The attempt's number, from 1.
    pub attempt: i32,
    /// The id that the answer has.
    pub answer_id: MessageId,
    /// The visitor's message.
    pub message: String,
    /// The newest exchanges before it, the oldest first. Answers that were replaced are left out;
    /// what was said of an answer that the visitor stopped is in.
    pub window: Vec<PastMessage>,
    /// The conversation's state. Its stage is the session's, which the contact form moves as well.
    pub state: ConversationState,
    /// What the session was billed for, in tokens: its finished turns, and earlier attempts of this one.
    pub tokens_used: i64,
    /// The visitor's language, as BCP 47.
    pub locale: Option<String>,
    /// The page that the visitor is on.
    pub page_url: Option<String>,
    /// Whether clients may have seen frames of an earlier attempt.
    pub earlier_frames: bool,
    /// Whether the visitor does not want the answer any more.
    pub cancel_requested: bool,
    /// The finished steps of the turn.
    pub steps: Steps,
    /// Since the turn was accepted.
    pub age: Duration,
}

/// What became of the wish to begin an attempt.
pub enum Beginning {
    /// It has begun.
    Begun(Box<Begun>),
    /// The turn is finished, or gone with its session: there is nothing to do.
    NothingToDo,
    /// Another worker has the job.
    LeaseLost,
}

/// Begins an attempt under the job's lease. From the commit on, frames of earlier attempts are
/// refused. `window` is the number of exchanges of the conversation that are wanted. While a person speaks
/// nothing begins.
pub async fn begin_attempt(
    conn: &mut PgConnection,
    lease: JobLease,
    key: &TurnKey,
    window: u16,
) -> sqlx::Result<Beginning> {
    // One statement, because the visitor waits for it. The row lock on the job makes the fence hold
    // until the commit. A message that is answered again belongs to an earlier turn than the
    // answer; the window is what was said before the message. A state that can't be read is the
    // beginning's.
    let row = sqlx::query!(
        r#"with fence as (
               select cancel_requested from queue.jobs
               where id = $1 and lease = $2 and state = 'running'
               for share
           ), begun as (
               update turns t
               set attempt = t.attempt + 1, status = 'running',
                   started_at = coalesce(t.started_at, now())
               from fence
               where t.session_id = $3 and t.turn = $4 and t.finished_at is null
                 and not exists (select 1 from sessions where session_id = $3 and agent is not null)
               returning t.attempt, t.answer_id, t.message_id, t.created_at, fence.cancel_requested
           )
           select b.attempt, b.answer_id, b.cancel_requested, m.body, s.stage, s.locale, s.page_url,
                  (select state from checkpoints where session_id = $3) as "state: Json<Value>",
                  s.tokens_used + (select coalesce(sum(input_tokens + output_tokens
                                                       + cache_write_tokens + cache_read_tokens), 0)
                                   from model_calls where session_id = $3 and turn = $4)::bigint
                      as "tokens_used!",
                  exists (select 1 from turn_events where session_id = $3 and turn = $4)
                      as "earlier_frames!",
                  extract(epoch from clock_timestamp() - b.created_at)::float8 as "age!",
                  (select coalesce(jsonb_object_agg(step, output), '{}')
                   from checkpoint_writes where session_id = $3 and turn = $4)
                      as "steps!: Json<HashMap<String, Value>>",
                  (select coalesce(json_agg(json_build_object('id', w.message_id, 'turn', w.turn,
                                                              'role', w.role, 'author', w.author,
                                                              'body', w.body)
                                            order by w.turn, w.role desc, w.created_at), '[]')
                   from messages w
                   where w.session_id = $3 and w.turn < m.turn and w.status <> 'superseded'
                     and w.turn >= (select min(u.turn)
                                    from (select turn from messages
                                          where session_id = $3 and turn < m.turn and role = 'user'
                                          order by turn desc limit $5) u))
                      as "window!: Json<Vec<PastMessage>>"
           from begun b
           join sessions s on s.session_id = $3
           join messages m on m.session_id = $3 and m.message_id = b.message_id"#,
        lease.job_id,
        lease.lease,
        key.session_id.as_str(),
        key.turn,
        i64::from(window),
    )
    .fetch_optional(&mut *conn)
    .await?;
    let Some(row) = row else {
        return not_begun(conn, key).await;
    };
    let answer_id = row
        .answer_id
        .parse()
        .map_err(|bad| sqlx::Error::Decode(Box::new(bad)))?;
    let state = row
        .state
        .and_then(|state| ConversationState::deserialize(state.0).ok())
        .unwrap_or_default();
    Ok(Beginning::Begun(Box::new(Begun {
        attempt: row.attempt,
        answer_id,
        message: row.body,
        window: row.window.0,
        state: ConversationState {
            stage: row.stage,
            ..state
        },
        tokens_used: row.tokens_used,
        locale: row.locale,
        page_url: row.page_url,
        earlier_frames: row.earlier_frames,
        cancel_requested: row.cancel_requested,
        steps: Steps::new(row.steps.0),
        age: Duration::try_from_secs_f64(row.age).unwrap_or_default(),
    })))
}

async fn not_begun(conn: &mut PgConnection, key: &TurnKey) -> sqlx::Result<Beginning> {
    let unfinished = sqlx::query_scalar!(
        r#"select exists (select 1 from turns
                          where session_id = $1 and turn = $2 and finished_at is null) as "is!""#,
        key.session_id.as_str(),
        key.turn,
    )
    .fetch_one(conn)
    .await?;
    Ok(if unfinished {
        Beginning::LeaseLost
    } else {
        Beginning::NothingToDo
    })
}

/// What was said behind turn `after` and before turn `before`, the oldest first, at most `limit`
/// messages. Answers that were replaced are left out.
pub async fn said_between(
    conn: &mut PgConnection,
    key: &TurnKey,
    after: i32,
    before: i32,
    limit: i64,
) -> sqlx::Result<Vec<PastMessage>> {
    let rows = sqlx::query!(
        r#"select message_id, turn, role = 'user' as "by_visitor!", author, body
           from messages
           where session_id = $1 and turn > $2 and turn < $3 and status <> 'superseded'
           order by turn, role desc, created_at limit $4"#,
        key.session_id.as_str(),
        after,
        before,
        limit,
    )
    .fetch_all(conn)
    .await?;
    let said = rows.into_iter().map(|row| PastMessage {
        id: row.message_id,
        turn: row.turn,
        role: if row.by_visitor {
            Speaker::User
        } else {
            Speaker::Assistant
        },
        author: row.author,
        body: row.body,
    });
    Ok(said.collect())
}

/// What a turn is billed for, in tokens.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct TurnUsage {
    /// Input that was neither read from nor written to the cache.
    pub input: i64,
    /// The answer.
    pub output: i64,
    /// Input that was written to the prompt cache.
    pub cache_write: i64,
    /// Input that was read from it.
    pub cache_read: i64,
}

impl TurnUsage {
    /// Everything that is billed.
    pub fn total(&self) -> i64 {
        self.input + self.output + self.cache_write + self.cache_read
    }
}

impl AddAssign for TurnUsage {
    fn add_assign(&mut self, other: Self) {
        self.input += other.input;
        self.output += other.output;
        self.cache_write += other.cache_write;
        self.cache_read += other.cache_read;
    }
}
