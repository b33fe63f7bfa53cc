//! The end of a turn in its worker's hands.

use std::time::Duration;

use serde_json::Value;
use sqlx::{PgConnection, types::Json};

use super::TurnUsage;
use crate::{
    checkpoints::{ConversationState, JobLease},
    events::{self, NewEvent},
    ids::{MessageId, TurnKey},
    protocol::FinishReason,
    spend::{ModelCall, Usd},
    transcript::Source,
};

/// How a turn ended in its worker's hands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ending {
    /// There is an answer.
    Answered(FinishReason),
    /// The visitor stopped it; what was said stands.
    Cancelled,
}

/// The limit that a turn was answered by, instead of the model.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LimitReached {
    /// The session's tokens are used up; the session is closed.
    SessionTokens,
    /// The budget is spent.
    CostCap,
}

impl LimitReached {
    /// The name in the database.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::SessionTokens => "session_tokens",
            Self::CostCap => "cost_cap",
        }
    }
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
    /// The calls of this attempt that [`crate::spend::record`] has not been given yet: whoever finishes
    /// the turn gives them to it in the same transaction, afterwards.
    pub calls: Vec<ModelCall>,
    /// The calls of tools that came with the model's last words, as the step `answered` keeps them; those
    /// before are in steps of their own. An array, or none.
    pub tools: Option<Value>,
    /// The limit that was reached.
    pub limit: Option<LimitReached>,
    /// How long ago the first text came.
    pub since_first_token: Option<Duration>,
    /// The conversation's state from now on.
    pub state: ConversationState,
    /// The last frames of the turn's stream.
    pub tail: Vec<NewEvent>,
}

impl Finish {
    /// What [`Finish::calls`] are billed for, their numbers, and what they cost. The numbers: a call that was
    /// recorded in the moment in which its attempt was dropped is counted once.
    fn unsettled(&self) -> (TurnUsage, Vec<i16>, Usd) {
        let mut usage = TurnUsage::default();
        for call in &self.calls {
            usage += call.usage;
        }
        let numbers = self.calls.iter().map(|call| call.call).collect();
        let cost = self.calls.iter().map(|call| call.cost).sum();
        (usage, numbers, cost)
    }
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

/// A turn that was finished just now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Finished {
    /// Whether the session was closed with it.
    pub closed: bool,
    /// Whether an endpoint is to be told of either ([`crate::webhooks`]).
    pub wanted: bool,
}

/// Finishes a turn in the transaction that ends its job, before the job: one that ends while its turn
/// is unfinished ends the turn as well. What the turn is billed for is what was recorded of all its
/// attempts, and [`Finish::calls`]. What was reserved for its calls is free.
///
/// None when the lease was lost, the turn is not this attempt's any more, or a person speaks: then the
/// caller rolls back.
pub async fn finish(
    conn: &mut PgConnection,
    lease: JobLease,
    key: &TurnKey,
    finish: &Finish,
) -> sqlx::Result<Option<Finished>> {
    let (status, reason, message_status) = match finish.ending {
        Ending::Answered(reason) => ("answered", Some(reason.as_str()), "complete"),
        Ending::Cancelled => ("cancelled", None, "cancelled"),
    };
    let (usage, numbers, cost) = finish.unsettled();
    let closes = finish.limit == Some(LimitReached::SessionTokens);
    // The first token's time is told as an age, so that all times are the database's. The contact form
    // may have moved the session to the last stage meanwhile, which nothing takes back.
    let row = sqlx::query!(
        r#"with fence as (
               select 1 from queue.jobs
               where id = $16 and lease = $17 and state = 'running'
               for update
           ), billed as (
               select $7 + coalesce(sum(input_tokens), 0)::bigint as input,
                      $8 + coalesce(sum(output_tokens), 0)::bigint as output,
                      $9 + coalesce(sum(cache_write_tokens), 0)::bigint as cache_write,
                      $10 + coalesce(sum(cache_read_tokens), 0)::bigint as cache_read,
                      $18::bigint / 100000000.0 + coalesce(sum(cost_usd), 0) as cost
               from model_calls
               where session_id = $1 and turn = $2 and not (attempt = $3 and call = any($24))
           ), finished as (
               update turns
               set status = $4, finish_reason = $5, model = $6, input_tokens = b.input,
                   output_tokens = b.output, cache_write_tokens = b.cache_write,
                   cache_read_tokens = b.cache_read, cost_usd = b.cost, stage = $19,
                   limit_reached = $20,
                   first_token_at = now() - make_interval(secs => $11), finished_at = now()
               from fence, billed b
               where session_id = $1 and turn = $2 and attempt = $3 and finished_at is null
                 and not exists (select 1 from sessions where session_id = $1 and agent is not null)
               returning answer_id, b.input + b.output + b.cache_write + b.cache_read as tokens
           ), message as (
               insert into messages (session_id, message_id, turn, role, body, sources, status)
               select $1, answer_id, $2, 'assistant', $12, $13, $14 from finished where $12 <> ''
           ), session as (
               update sessions
               set tokens_used = tokens_used + (select tokens from finished),
                   last_activity_at = now(),
                   stage = case when stage = 4 then 4 else $19 end,
                   stall_offered_turn = coalesce($21, stall_offered_turn),
                   closed_at = case when $22 then coalesce(closed_at, now()) else closed_at end,
                   termination_type = case when $22 then coalesce(termination_type, 'token_limit')
                                           else termination_type end,
                   status = case when $22 then 'closed' else status end
               where session_id = $1 and exists (select 1 from finished)
           ), checkpoint as (
               insert into checkpoints (session_id, turn, state)
               select $1, $2, $15 from finished
               on conflict on constraint checkpoints_pkey do update
               set turn = excluded.turn, state = excluded.state, updated_at = now()
               where checkpoints.turn < excluded.turn
           ), step as (
               insert into checkpoint_writes (session_id, turn, attempt, step, output)
               select $1, $2, $3, 'answered',
                      jsonb_build_object('status', $4::text, 'tools', coalesce($23::jsonb, '[]'))
               from finished
               on conflict on constraint checkpoint_writes_pkey do nothing
           ), freed as (
               delete from spend_reservations
               where session_id = $1 and turn = $2 and exists (select 1 from finished)
           )
           select exists (select 1 from finished) as "is!",
                  $22 and (select status = 'open' from sessions where session_id = $1) as "closed!",
                  webhooks_wanted('turn.completed', 'session.closed') as "wanted!""#,
        key.session_id.as_str(),
        key.turn,
        finish.attempt,
        status,
        reason,
        finish.model,
        usage.input,
        usage.output,
        usage.cache_write,
        usage.cache_read,
        finish.since_first_token.map(|since| since.as_secs_f64()),
        finish.text,
        Json(&finish.sources) as _,
        message_status,
        Json(&finish.state) as _,
        lease.job_id,
        lease.lease,
        cost.units(),
        finish.state.stage,
        finish.limit.map(LimitReached::as_str),
        finish.state.stall_offered_turn,
        closes,
        finish.tools,
        &numbers,
    )
    .fetch_one(&mut *conn)
    .await?;
    if !row.is {
        return Ok(None);
    }
    events::append(conn, &finish.tail).await?;
    Ok(Some(Finished {
        closed: row.closed,
        wanted: row.wanted,
    }))
}
