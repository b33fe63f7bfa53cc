//! Stopping turns from outside: what a visitor may do to a turn that is queued or running.
//!
//! Every function that writes runs in the transaction that holds the lock of the session's serial
//! key, so that no worker begins or ends a turn of the session meanwhile.

use sqlx::PgConnection;

use crate::{
    events,
    ids::{MessageId, SessionId, TurnKey},
    protocol::{Chunk, ResetData, True},
};

/// A turn as somebody who wants to stop it finds it.
#[derive(Debug)]
pub struct TurnState {
    /// The turn's number.
    pub turn: i32,
    /// `queued`, `running`, `answered`, `cancelled` or `failed`.
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

/// How a turn ends that no worker has in hand.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Unattended<'a> {
    /// Somebody stopped it.
    Cancelled,
    /// Its job is dead; the text is what the visitor reads, without internals.
    Failed(&'a str),
}

/// Ends a turn that no worker has in hand: its stream begins and stops under an attempt of its own,
/// so that frames of a worker that lost the turn are fenced off. A finished turn stays as it is.
///
/// Returns whether the turn was ended by this call; then its clients are to be told after the commit.
pub async fn end_unattended(
    conn: &mut PgConnection,
    key: &TurnKey,
    how: Unattended<'_>,
) -> sqlx::Result<bool> {
    let status = match how {
        Unattended::Cancelled => "cancelled",
        Unattended::Failed(_) => "failed",
    };
    let Some(turn) = sqlx::query!(
        r#"update turns set status = $3, attempt = attempt + 1, finished_at = now()
         where session_id = $1 and turn = $2 and finished_at is null
         returning attempt, answer_id,
                   exists (select 1 from turn_events where session_id = $1 and turn = $2)
                       as "earlier_frames!""#,
        key.session_id.as_str(),
        key.turn,
        status,
    )
    .fetch_optional(&mut *conn)
    .await?
    else {
        return Ok(false);
    };
    let message_id: MessageId = turn
        .answer_id
        .parse()
        .map_err(|bad| sqlx::Error::Decode(Box::new(bad)))?;
    let mut chunks = vec![Chunk::Start { message_id }];
    if turn.earlier_frames {
        chunks.push(Chunk::DataReset {
            data: ResetData {
                attempt: turn.attempt,
            },
            transient: True,
        });
    }
    chunks.push(match how {
        Unattended::Cancelled => Chunk::Abort {
            reason: CANCELLED.to_owned(),
        },
        Unattended::Failed(text) => Chunk::Error {
            error_text: text.to_owned(),
        },
    });
    events::append(conn, &events::number(key, turn.attempt, 1, &chunks)).await?;
    Ok(true)
}
