//! What an operator is shown of conversations: the views of the schema `ops` for the command line, and
//! the steps and calls of each turn. The words of a conversation only for who asks for them.
//!
//! Times are RFC 3339 in UTC, amounts are decimal US dollars: both as text, for people and for programs.

use serde::Serialize;
use sqlx::PgPool;

use crate::ids::SessionId;

/// Which sessions to list.
#[derive(Debug, Clone, Copy, Default)]
pub struct SessionFilter {
    /// Those only that are open.
    pub open: bool,
    /// Those only that are at this stage.
    pub stage: Option<i16>,
    /// No more than this.
    pub limit: i64,
}

/// A session.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct SessionSummary {
    /// Its id.
    pub session_id: String,
    /// `open` or `closed`.
    pub status: String,
    /// Why it was closed.
    pub termination_type: Option<String>,
    /// The stage of the conversation, 1–4.
    pub stage: i16,
    /// The visitor's language, as BCP 47.
    pub locale: Option<String>,
    /// How many messages were accepted.
    pub turns: i32,
    /// How many of them wait for their answer.
    pub unfinished_turns: i64,
    /// What counts towards `MAX_TOKENS_PER_SESSION`.
    pub tokens_used: i64,
    /// What its turns came to.
    pub cost_usd: String,
    /// The turn in which a person was offered because nothing moved.
    pub stall_offered_turn: Option<i32>,
    /// How far the newest handoff is.
    pub handoff_status: Option<String>,
    /// Why there is one.
    pub handoff_trigger: Option<String>,
    /// When the first message was accepted.
    pub created_at: String,
    /// When something was last said.
    pub last_activity_at: String,
    /// When it was closed.
    pub closed_at: Option<String>,
}

/// The sessions with the newest activity that match, the newest first.
pub async fn list(pool: &PgPool, filter: SessionFilter) -> sqlx::Result<Vec<SessionSummary>> {
    let ids = sqlx::query_scalar!(
        "select session_id from sessions
         where (not $1 or status = 'open') and ($2::smallint is null or stage = $2)
         order by last_activity_at desc
         limit $3",
        filter.open,
        filter.stage,
        filter.limit,
    )
    .fetch_all(pool)
    .await?;
    summaries(pool, &ids).await
}

/// The view looks at the turns of each session: it is asked for those only that are shown.
async fn summaries(pool: &PgPool, ids: &[String]) -> sqlx::Result<Vec<SessionSummary>> {
    sqlx::query_as!(
        SessionSummary,
        r#"select session_id as "session_id!", status as "status!", termination_type, stage as "stage!", locale,
                  turns as "turns!", unfinished_turns as "unfinished_turns!", tokens_used as "tokens_used!",
                  cost_usd::text as "cost_usd!", stall_offered_turn, handoff_status as "handoff_status?",
                  handoff_trigger as "handoff_trigger?",
                  to_char(created_at at time zone 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS"Z"') as "created_at!",
                  to_char(last_activity_at at time zone 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS"Z"') as "last_activity_at!",
                  to_char(closed_at at time zone 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS"Z"') as closed_at
           from ops.sessions o
           where session_id = any($1)
           order by o.last_activity_at desc, session_id"#,
        ids,
    )
    .fetch_all(pool)
    .await
}

/// A turn with everything that was recorded of it.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct TurnReport {
    /// Its number.
    pub turn: i32,
    /// `queued`, `running`, `answered`, `cancelled` or `failed`.
    pub status: String,
    /// The limit that was reached, else the finish reason, else the status.
    pub outcome: String,
    /// Attempts that began.
    pub attempts: i32,
    /// The answer that this turn replaces.
    pub regenerates: Option<String>,
    /// Where the conversation was after it.
    pub stage: Option<i16>,
    /// The model that answered.
    pub model: Option<String>,
    /// Input that was neither read from nor written to the cache.
    pub input_tokens: i64,
    /// The answer.
    pub output_tokens: i64,
    /// Input that was written to the prompt cache.
    pub cache_write_tokens: i64,
    /// Input that was read from it.
    pub cache_read_tokens: i64,
    /// What it came to.
    pub cost_usd: String,
    /// From the accepted message to the first text.
    pub seconds_to_first_token: Option<f64>,
    /// From the accepted message to the end.
    pub seconds_total: Option<f64>,
    /// When the message was accepted.
    pub created_at: String,
    /// When the first attempt began.
    pub started_at: Option<String>,
    /// When the first text came.
    pub first_token_at: Option<String>,
    /// When it ended.
    pub finished_at: Option<String>,
    /// The job that answers it.
    pub job_id: Option<i64>,
    /// The steps that were finished, in their order.
    pub steps: Vec<StepReport>,
    /// The calls of the model, in their order.
    pub calls: Vec<CallReport>,
    /// The visitor's message; only for who asked for the words.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub question: Option<String>,
    /// The answer; only for who asked for the words.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub answer: Option<String>,
}

/// A step of a turn that was finished: whoever takes the turn over does not repeat it.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct StepReport {
    #[serde(skip)]
    turn: i32,
    /// Its name.
    pub step: String,
    /// The attempt that finished it.
    pub attempt: i32,
    /// When.
    pub at: String,
    /// How many passages of the knowledge base it found.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub passages: Option<i32>,
    /// The tools that the model called in it.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub tools: Vec<String>,
}

/// A call of the model.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct CallReport {
    #[serde(skip)]
    turn: i32,
    /// The attempt that made it; 0: a replay.
    pub attempt: i32,
    /// Its number in the attempt.
    pub call: i16,
    /// `answer`, `summary` or `replay`.
    pub purpose: String,
    /// The model that answered.
    pub model: String,
    /// `ok`, or what became of it instead.
    pub outcome: String,
    /// All input, however it was served.
    pub input_tokens: i64,
    /// The answer.
    pub output_tokens: i64,
    /// What it cost.
    pub cost_usd: String,
    /// When it was recorded.
    pub at: String,
}

/// A session with its turns.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct SessionReport {
    /// The session.
    pub session: SessionSummary,
    /// Its turns, the oldest first.
    pub turns: Vec<TurnReport>,
}

/// Everything about one session, with the words of it only `with_text`; none: there is no such session.
pub async fn show(
    pool: &PgPool,
    session_id: &SessionId,
    with_text: bool,
) -> sqlx::Result<Option<SessionReport>> {
    let found = summaries(pool, &[session_id.to_string()]).await?;
    let Some(session) = found.into_iter().next() else {
        return Ok(None);
    };
    // Steps and calls are read before the turns: one that is seen belongs to a turn that is.
    let steps = steps(pool, session_id).await?;
    let calls = calls(pool, session_id).await?;
    let mut turns = turns(pool, session_id, with_text).await?;
    for turn in &mut turns {
        let of = |number: i32| number == turn.turn;
        turn.steps = steps.iter().filter(|step| of(step.turn)).cloned().collect();
        turn.calls = calls.iter().filter(|call| of(call.turn)).cloned().collect();
    }
    Ok(Some(SessionReport { session, turns }))
}

async fn turns(
    pool: &PgPool,
    session_id: &SessionId,
    with_text: bool,
) -> sqlx::Result<Vec<TurnReport>> {
    let rows = sqlx::query!(
        r#"select turn as "turn!", status as "status!", outcome as "outcome!", attempt as "attempts!", regenerates,
                  stage, model, input_tokens as "input_tokens!", output_tokens as "output_tokens!",
                  cache_write_tokens as "cache_write_tokens!", cache_read_tokens as "cache_read_tokens!",
                  cost_usd::text as "cost_usd!", seconds_to_first_token, seconds_total, job_id,
                  to_char(created_at at time zone 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.MS"Z"') as "created_at!",
                  to_char(started_at at time zone 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.MS"Z"') as started_at,
                  to_char(first_token_at at time zone 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.MS"Z"') as first_token_at,
                  to_char(finished_at at time zone 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.MS"Z"') as finished_at,
                  (select body from messages m
                   where $2 and m.session_id = $1 and m.message_id = t.message_id) as question,
                  (select body from messages m
                   where $2 and m.session_id = $1 and m.message_id = t.answer_id) as answer
           from ops.turns t
           where session_id = $1
           order by turn"#,
        session_id.as_str(),
        with_text,
    )
    .fetch_all(pool)
    .await?;
    let turns = rows.into_iter().map(|row| TurnReport {
        turn: row.turn,
        status: row.status,
        outcome: row.outcome,
        attempts: row.attempts,
        regenerates: row.regenerates,
        stage: row.stage,
        model: row.model,
        input_tokens: row.input_tokens,
        output_tokens: row.output_tokens,
        cache_write_tokens: row.cache_write_tokens,
        cache_read_tokens: row.cache_read_tokens,
        cost_usd: row.cost_usd,
        seconds_to_first_token: row.seconds_to_first_token,
        seconds_total: row.seconds_total,
        created_at: row.created_at,
        started_at: row.started_at,
        first_token_at: row.first_token_at,
        finished_at: row.finished_at,
        job_id: row.job_id,
        steps: Vec::new(),
        calls: Vec::new(),
        question: row.question,
        answer: row.answer,
    });
    Ok(turns.collect())
}

/// Of each step's output only what says nothing of the conversation: counts, and names of tools.
async fn steps(pool: &PgPool, session_id: &SessionId) -> sqlx::Result<Vec<StepReport>> {
    sqlx::query_as!(
        StepReport,
        r#"select turn, step, attempt,
                  to_char(created_at at time zone 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.MS"Z"') as "at!",
                  case when jsonb_typeof(output) = 'array' then jsonb_array_length(output)
                       when jsonb_typeof(output -> 'passages') = 'array' then jsonb_array_length(output -> 'passages')
                  end as passages,
                  array(select tool #>> '{}'
                        from jsonb_path_query(output, 'strict $.** ? (@.type == "call").name', '{}', true) tool)
                      as "tools!"
           from checkpoint_writes
           where session_id = $1
           order by turn, created_at, step"#,
        session_id.as_str(),
    )
    .fetch_all(pool)
    .await
}

async fn calls(pool: &PgPool, session_id: &SessionId) -> sqlx::Result<Vec<CallReport>> {
    sqlx::query_as!(
        CallReport,
        r#"select turn, attempt, call, purpose, model, outcome,
                  input_tokens + cache_write_tokens + cache_read_tokens as "input_tokens!", output_tokens,
                  cost_usd::text as "cost_usd!",
                  to_char(created_at at time zone 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.MS"Z"') as "at!"
           from model_calls
           where session_id = $1
           order by turn, created_at, attempt, call"#,
        session_id.as_str(),
    )
    .fetch_all(pool)
    .await
}
