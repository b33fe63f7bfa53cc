//! Replays: a finished turn as it was recorded, for an operator who asks another model the same, and the
//! bill of it.

use std::collections::HashMap;

use serde_json::Value;
use sqlx::{PgConnection, types::Json};

use crate::{
    checkpoints::Steps,
    ids::{SessionId, TurnKey},
    transcript::Source,
    turns::{PastMessage, TurnUsage},
};

/// The attempt under which the calls of replays are counted: a turn's own begin at 1.
pub const REPLAY_ATTEMPT: i32 = 0;

/// A turn with everything that was recorded of it. It has no `Debug`, because it holds messages.
pub struct RecordedTurn {
    /// Whether nothing will change any more.
    pub finished: bool,
    /// The visitor's message.
    pub message: String,
    /// The answer; none: nothing was said.
    pub answer: Option<String>,
    /// What the answer cites.
    pub sources: Vec<Source>,
    /// The model that answered.
    pub model: Option<String>,
    /// What the turn was billed for.
    pub usage: TurnUsage,
    /// What that came to, as a decimal number of US dollars.
    pub cost_usd: String,
    /// From the beginning of the first attempt to the first text.
    pub seconds_to_first_token: Option<f64>,
    /// From the beginning of the first attempt to the end.
    pub seconds_total: Option<f64>,
    /// The finished steps.
    pub steps: Steps,
}

/// Reads a turn; none: there is no such turn, or its message is gone.
pub async fn recorded(
    conn: &mut PgConnection,
    key: &TurnKey,
) -> sqlx::Result<Option<RecordedTurn>> {
    let row = sqlx::query!(
        r#"select t.finished_at is not null as "finished!", asked.body as message, said.body as "answer?",
                  said.sources as "sources?: Json<Vec<Source>>", t.model, t.input_tokens, t.output_tokens,
                  t.cache_write_tokens, t.cache_read_tokens, t.cost_usd::text as "cost_usd!",
                  extract(epoch from t.first_token_at - t.started_at)::float8 as seconds_to_first_token,
                  extract(epoch from t.finished_at - t.started_at)::float8 as seconds_total,
                  (select coalesce(jsonb_object_agg(step, output), '{}')
                   from checkpoint_writes where session_id = $1 and turn = $2)
                      as "steps!: Json<HashMap<String, Value>>"
           from turns t
           join messages asked on asked.session_id = $1 and asked.message_id = t.message_id
           left join messages said on said.session_id = $1 and said.message_id = t.answer_id
           where t.session_id = $1 and t.turn = $2"#,
        key.session_id.as_str(),
        key.turn,
    )
    .fetch_optional(conn)
    .await?;
    Ok(row.map(|row| RecordedTurn {
        finished: row.finished,
        message: row.message,
        answer: row.answer,
        sources: row.sources.map(|sources| sources.0).unwrap_or_default(),
        model: row.model,
        usage: TurnUsage {
            input: row.input_tokens,
            output: row.output_tokens,
            cache_write: row.cache_write_tokens,
            cache_read: row.cache_read_tokens,
        },
        cost_usd: row.cost_usd,
        seconds_to_first_token: row.seconds_to_first_token,
        seconds_total: row.seconds_total,
        steps: Steps::new(row.steps.0),
    }))
}

/// The messages with these ids, in this order; those that are gone are left out.
pub async fn messages(
    conn: &mut PgConnection,
    session_id: &SessionId,
    ids: &[String],
) -> sqlx::Result<Vec<PastMessage>> {
    let found = sqlx::query_scalar!(
        r#"select coalesce(json_agg(json_build_object('id', m.message_id, 'turn', m.turn, 'role', m.role,
                                                      'author', m.author, 'body', m.body) order by asked.n), '[]')
                      as "messages!: Json<Vec<PastMessage>>"
           from unnest($2::text[]) with ordinality as asked (id, n)
           join messages m on m.session_id = $1 and m.message_id = asked.id"#,
        session_id.as_str(),
        ids,
    )
    .fetch_one(conn)
    .await?;
    Ok(found.0)
}

/// The number of the next call of a replay of this turn. The caller holds the lock of the session's serial
/// key until the call is recorded.
pub async fn next_call(conn: &mut PgConnection, key: &TurnKey) -> sqlx::Result<i16> {
    sqlx::query_scalar!(
        r#"select (coalesce(max(call), 0) + 1)::smallint as "next!"
           from model_calls where session_id = $1 and turn = $2 and attempt = $3"#,
        key.session_id.as_str(),
        key.turn,
        REPLAY_ATTEMPT,
    )
    .fetch_one(conn)
    .await
}
