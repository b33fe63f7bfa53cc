//! Stopping turns from outside: what a visitor may do to a turn that is queued or running.
//!
//! Every function that writes runs in the transaction that holds the lock of the session's serial
//! key, so that no worker begins or ends a turn of the session meanwhile.

use sqlx::PgConnection;

use crate::{
    events,
    ids::{MessageId, SessionId, TurnKey},
    phrases::{Language, Phrase},
    protocol::{AgentData, AgentStatus, Chunk, ContactFormData, ContactReason, ResetData, True},
};

/// A turn as somebody who wants to stop it finds it.
#[derive(Debug)]
pub struct TurnState {
    /// The turn's number.
    pub turn: i32,
    /// `queued`, `running`, `answered`, `cancelled`, `failed` or `relayed`.
    pub status: String,
    /// Whether nothing will change any more.
    pub finished: bool,
    /// The job that answers it.
    pub job_id: Option<i64>,
}

/// One turn; `None`: the session has no such turn.
pub async fn turn(conn: &mut PgConnection, key: &TurnKey) -> sqlx::Result<Option<TurnState>> {
    sqlx::query_as!(
        TurnState,
        r#"select turn, status, finished_at is not null as "finished!", job_id
           from turns where session_id = $1 and turn = $2"#,
        key.session_id.as_str(),
        key.turn,
    )
    .fetch_optional(conn)
    .await
}

/// The session's turns that are queued or running, the newest first: whoever stops them in this
/// order never makes one of them the next to run.
pub async fn unfinished(
    conn: &mut PgConnection,
    session_id: &SessionId,
) -> sqlx::Result<Vec<TurnState>> {
    sqlx::query_as!(
        TurnState,
        r#"select turn, status, finished_at is not null as "finished!", job_id
           from turns where session_id = $1 and finished_at is null order by turn desc"#,
        session_id.as_str(),
    )
    .fetch_all(conn)
    .await
}

/// What the stream of a turn that was stopped says, whoever stopped it and wherever it was by then.
pub const CANCELLED: &str = "cancelled";

/// What the stream of a turn says that a person took from the assistant.
pub const TAKEN_OVER: &str = "taken_over";

/// What the stream of a turn says that was erased.
pub const ERASED: &str = "erased";

/// How a turn ends that no worker has in hand.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Unattended {
    /// Somebody stopped it.
    Cancelled,
    /// Its job is dead. The visitor reads so, without internals, and is offered the contact form.
    Failed,
    /// A person of this name answers instead of the assistant.
    TakenOver(String),
}

/// A turn that was ended just now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct EndedTurn {
    /// Whether an endpoint is to be told of it ([`crate::webhooks`]).
    pub wanted: bool,
}

/// Ends a turn that no worker has in hand, or none is to have in hand any more: its stream begins and stops under an attempt of its own,
/// so that frames of a worker that lost the turn are fenced off. What its attempts were billed for is
/// the session's. A finished turn stays as it is.
///
/// None: it was finished before. Otherwise its clients are to be told after the commit.
pub async fn end_unattended(
    conn: &mut PgConnection,
    key: &TurnKey,
    how: Unattended,
) -> sqlx::Result<Option<EndedTurn>> {
    let status = match how {
        Unattended::Cancelled => "cancelled",
        Unattended::Failed => "failed",
        Unattended::TakenOver(_) => "relayed",
    };
    let Some(turn) = sqlx::query!(
        r#"with billed as (
               select coalesce(sum(input_tokens), 0)::bigint as input,
                      coalesce(sum(output_tokens), 0)::bigint as output,
                      coalesce(sum(cache_write_tokens), 0)::bigint as cache_write,
                      coalesce(sum(cache_read_tokens), 0)::bigint as cache_read,
                      coalesce(sum(cost_usd), 0) as cost
               from model_calls where session_id = $1 and turn = $2
           ), ended as (
               update turns
               set status = $3, attempt = attempt + 1, finished_at = now(),
                   input_tokens = b.input, output_tokens = b.output,
                   cache_write_tokens = b.cache_write, cache_read_tokens = b.cache_read,
                   cost_usd = b.cost
               from billed b
               where session_id = $1 and turn = $2 and finished_at is null
               returning attempt, answer_id,
                         input_tokens + output_tokens + cache_write_tokens + cache_read_tokens as tokens
           ), session as (
               update sessions set tokens_used = tokens_used + (select tokens from ended)
               where session_id = $1 and exists (select 1 from ended where tokens > 0)
           ), freed as (
               delete from spend_reservations
               where session_id = $1 and turn = $2 and exists (select 1 from ended)
           )
           select e.attempt, e.answer_id, s.locale, webhooks_wanted('turn.completed') as "wanted!",
                  exists (select 1 from turn_events where session_id = $1 and turn = $2)
                      as "earlier_frames!"
           from ended e
           join sessions s on s.session_id = $1"#,
        key.session_id.as_str(),
        key.turn,
        status,
    )
    .fetch_optional(&mut *conn)
    .await?
    else {
        return Ok(None);
    };
    let message_id: MessageId = turn
        .answer_id
        .parse()
        .map_err(|bad| sqlx::Error::Decode(Box::new(bad)))?;
    // A worker that writes its first frames at this moment commits them unseen by the statement above: what an
    // attempt that is withdrawn has begun may have been shown.
    let may_be_shown =
        turn.earlier_frames || (turn.attempt > 1 && !matches!(how, Unattended::Failed));
    // A turn that was never shown needs no beginning, when nothing of the assistant follows.
    let mut chunks = match how {
        Unattended::TakenOver(_) if !may_be_shown => Vec::new(),
        _ => vec![Chunk::Start { message_id }],
    };
    if may_be_shown {
        chunks.push(Chunk::DataReset {
            data: ResetData {
                attempt: turn.attempt,
            },
            transient: True,
        });
    }
    match how {
        Unattended::TakenOver(name) => chunks.extend([
            Chunk::DataAgent {
                data: AgentData {
                    name,
                    status: AgentStatus::Joined,
                },
                transient: True,
            },
            Chunk::Abort {
                reason: TAKEN_OVER.to_owned(),
            },
        ]),
        Unattended::Cancelled => chunks.push(Chunk::Abort {
            reason: CANCELLED.to_owned(),
        }),
        Unattended::Failed => chunks.extend([
            Chunk::DataContactForm {
                data: ContactFormData {
                    reason: ContactReason::Failure,
                    text: None,
                },
            },
            Chunk::Error {
                error_text: Phrase::Failed
                    .text(Language::of(turn.locale.as_deref()))
                    .to_owned(),
            },
        ]),
    }
    events::append(conn, &events::number(key, turn.attempt, 1, &chunks)).await?;
    Ok(Some(EndedTurn {
        wanted: turn.wanted,
    }))
}
