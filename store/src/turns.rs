//! A turn in a worker's hands: how an attempt to answer it begins, and how the turn is finished.
//!
//! ```text
//! queued ──begin──▶ running ──finish──▶ answered | cancelled
//!                    │   ▲
//!                    └───┘ begin: the next attempt, after a failure or a takeover
//! ```
//! Turns that no worker has in hand end in [`crate::turn_control::end_unattended`].

use std::{collections::HashMap, fmt, time::Duration};

use serde::Deserialize;
use serde_json::Value;
use sqlx::{PgConnection, types::Json};

use crate::{
    checkpoints::{ConversationState, JobLease, Steps},
    events::{self, NewEvent},
    ids::{MessageId, TurnKey},
    protocol::FinishReason,
    transcript::Source,
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
    /// Who said it.
    pub role: Speaker,
    /// What.
    pub body: String,
}

impl fmt::Debug for PastMessage {
    /// Without the words: they don't belong in a log.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PastMessage")
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
    /// The stage of the conversation, 1–4.
    pub stage: i16,
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
/// refused. `window` is the number of exchanges of the conversation that are wanted.
pub async fn begin_attempt(
    conn: &mut PgConnection,
    lease: JobLease,
    key: &TurnKey,
    window: u16,
) -> sqlx::Result<Beginning> {
    // One statement, because the visitor waits for it. The row lock on the job makes the fence hold
    // until the commit. A message that is answered again belongs to an earlier turn than the
    // answer; the window is what was said before the message.
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
               returning t.attempt, t.answer_id, t.message_id, t.created_at, fence.cancel_requested
           )
           select b.attempt, b.answer_id, b.cancel_requested, m.body, s.stage, s.locale, s.page_url,
                  exists (select 1 from turn_events where session_id = $3 and turn = $4)
                      as "earlier_frames!",
                  extract(epoch from clock_timestamp() - b.created_at)::float8 as "age!",
                  (select coalesce(jsonb_object_agg(step, output), '{}')
                   from checkpoint_writes where session_id = $3 and turn = $4)
                      as "steps!: Json<HashMap<String, Value>>",
                  (select coalesce(json_agg(json_build_object('role', w.role, 'body', w.body)
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
    Ok(Beginning::Begun(Box::new(Begun {
        attempt: row.attempt,
        answer_id,
        message: row.body,
        window: row.window.0,
        stage: row.stage,
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

/// How a turn ended in its worker's hands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ending {
    /// There is an answer.
    Answered(FinishReason),
    /// The visitor stopped it; what was said stands.
    Cancelled,
}

/// The end of a turn. It has no `Debug`, because it holds the answer.
#[derive(Clone)]
pub struct Finish {
    /// The attempt that ends the turn.
    pub attempt: i32,
    /// How it ended.
    pub ending: Ending,
    /// The answer's id.
    pub answer_id: MessageId,
    /// The answer; empty: nothing was said, and no message is kept.
    pub text: String,
    /// What it cites.
    pub sources: Vec<Source>,
    /// The model that answered, as the provider names it.
    pub model: Option<String>,
    /// What all attempts together are billed for.
    pub usage: TurnUsage,
    /// How long ago the first text came.
    pub since_first_token: Option<Duration>,
    /// The conversation's state from now on.
    pub state: ConversationState,
    /// The last frames of the turn's stream.
    pub tail: Vec<NewEvent>,
}

impl FinishReason {
    fn as_str(self) -> &'static str {
        match self {
            Self::Stop => "stop",
            Self::Length => "length",
            Self::ContentFilter => "content-filter",
            Self::Error => "error",
            Self::Other => "other",
        }
    }
}

/// Finishes a turn in the transaction that ends its job, before the job: one that ends while its turn
/// is unfinished ends the turn as well. Returns false when the lease was lost or the turn is not this
/// attempt's any more: then the caller rolls back.
pub async fn finish(
    conn: &mut PgConnection,
    lease: JobLease,
    key: &TurnKey,
    finish: &Finish,
) -> sqlx::Result<bool> {
    let (status, reason, message_status) = match finish.ending {
        Ending::Answered(reason) => ("answered", Some(reason.as_str()), "complete"),
        Ending::Cancelled => ("cancelled", None, "cancelled"),
    };
    // The first token's time is told as an age, so that all times are the database's.
    let finished = sqlx::query_scalar!(
        r#"with fence as (
               select 1 from queue.jobs
               where id = $16 and lease = $17 and state = 'running'
               for update
           ), finished as (
               update turns
               set status = $4, finish_reason = $5, model = $6, input_tokens = $7,
                   output_tokens = $8, cache_write_tokens = $9, cache_read_tokens = $10,
                   first_token_at = now() - make_interval(secs => $11), finished_at = now()
               from fence
               where session_id = $1 and turn = $2 and attempt = $3 and finished_at is null
               returning answer_id
           ), message as (
               insert into messages (session_id, message_id, turn, role, body, sources, status)
               select $1, answer_id, $2, 'assistant', $12, $13, $14 from finished where $12 <> ''
           ), session as (
               update sessions
               set tokens_used = tokens_used + $7 + $8 + $9 + $10, last_activity_at = now()
               where session_id = $1 and exists (select 1 from finished)
           ), checkpoint as (
               insert into checkpoints (session_id, turn, state)
               select $1, $2, $15 from finished
               on conflict on constraint checkpoints_pkey do update
               set turn = excluded.turn, state = excluded.state, updated_at = now()
               where checkpoints.turn < excluded.turn
           ), step as (
               insert into checkpoint_writes (session_id, turn, attempt, step, output)
               select $1, $2, $3, 'answered', jsonb_build_object('status', $4::text) from finished
               on conflict on constraint checkpoint_writes_pkey do nothing
           )
           select exists (select 1 from finished) as "is!""#,
        key.session_id.as_str(),
        key.turn,
        finish.attempt,
        status,
        reason,
        finish.model,
        finish.usage.input,
        finish.usage.output,
        finish.usage.cache_write,
        finish.usage.cache_read,
        finish.since_first_token.map(|since| since.as_secs_f64()),
        finish.text,
        Json(&finish.sources) as _,
        message_status,
        Json(&finish.state) as _,
        lease.job_id,
        lease.lease,
    )
    .fetch_one(&mut *conn)
    .await?;
    if finished {
        events::append(conn, &finish.tail).await?;
    }
    Ok(finished)
}
