//! What a person may ask of the queue: the same as the functions and views of the schema `ops`, for
//! the command line.

mod add;
mod drained;
mod failures;
mod known;
mod tail;

use std::time::Duration;

use serde::Serialize;
use serde_json::Value;
use sqlx::{PgPool, error::DatabaseError};
use store::bus::Wake;

use self::known::{check_kind, check_queue};
pub use self::{
    add::{Added, add},
    drained::{failed_since, is_drained, now},
    failures::{JobFailure, failures},
    tail::{Look, Tail, TailFilter, Transition},
};
use crate::{
    cancel::{Cancelled, cancel},
    enqueue::{QueueError, lock_serial_key},
    fence::JobId,
    sql::interval,
};

/// An operator's wish was not fulfilled.
#[derive(Debug, thiserror::Error)]
pub enum OperatorError {
    /// It can't be, for a reason that is meant for the operator.
    #[error("{0}")]
    Refused(String),
    /// The queue failed.
    #[error(transparent)]
    Queue(#[from] QueueError),
}

impl From<sqlx::Error> for OperatorError {
    /// What the functions of `ops` raise themselves is a sentence for the operator.
    fn from(error: sqlx::Error) -> Self {
        let code = error.as_database_error().and_then(DatabaseError::code);
        match (code.as_deref(), error.as_database_error()) {
            (Some("P0002" | "55000" | "23505" | "22023"), Some(refusal)) => {
                Self::Refused(refusal.message().to_owned())
            }
            _ => Self::Queue(error.into()),
        }
    }
}

/// Which jobs to list.
#[derive(Debug, Clone, Default)]
pub struct JobFilter {
    /// Of this queue only.
    pub queue: Option<String>,
    /// In this state only: `scheduled`, `ready`, `blocked`, `running` or `dead`. None: the live ones.
    pub state: Option<String>,
    /// Of this kind only.
    pub kind: Option<String>,
    /// Those of which an attempt failed, the dead ones included.
    pub failed: bool,
    /// No more than this.
    pub limit: i64,
}

/// A job in a list. Times are RFC 3339, in UTC.
#[derive(Debug, Clone, Serialize)]
pub struct JobSummary {
    /// Its id.
    pub id: i64,
    /// The queue.
    pub queue: String,
    /// The kind.
    pub kind: String,
    /// `scheduled`, `ready`, `blocked`, `running` or `dead`.
    pub state: String,
    /// Attempts that were started and count.
    pub attempt: i16,
    /// How many it has.
    pub max_attempts: i16,
    /// When it may run; none: it is dead.
    pub run_at: Option<String>,
    /// Why the newest failed attempt failed.
    pub last_error: Option<String>,
}

/// Everything about one job but its payload. Times are RFC 3339, in UTC.
#[derive(Debug, Clone, Serialize)]
pub struct JobDetail {
    /// Its id.
    pub id: i64,
    /// The queue.
    pub queue: String,
    /// The kind.
    pub kind: String,
    /// `scheduled`, `ready`, `blocked` or `running`; `done`, `dead` or `cancelled`.
    pub state: String,
    /// Attempts that were started and count.
    pub attempt: i16,
    /// How many it has.
    pub max_attempts: i16,
    /// Smaller is served first.
    pub priority: i16,
    /// At most one job with this key runs at a time.
    pub serial_key: Option<String>,
    /// No other live job of the kind has this key.
    pub unique_key: Option<String>,
    /// Jobs with this key share a token bucket.
    pub rate_key: Option<String>,
    /// The W3C `traceparent` of what it belongs to.
    pub trace: Option<String>,
    /// When it was enqueued.
    pub created_at: String,
    /// When its newest attempt began.
    pub started_at: Option<String>,
    /// When it may run, of a live job.
    pub run_at: Option<String>,
    /// When it ended.
    pub finished_at: Option<String>,
    /// `[{attempt, at, error}]` of every failed attempt, the newest last.
    pub errors: Value,
}

/// Refuses a filter with a queue or a kind that nobody knows.
async fn check_names(
    pool: &PgPool,
    queue: Option<&str>,
    kind: Option<&str>,
) -> Result<(), OperatorError> {
    if let Some(queue) = queue {
        check_queue(pool, queue).await?;
    }
    if let Some(kind) = kind {
        check_kind(pool, kind).await?;
    }
    Ok(())
}

/// The newest jobs that match.
pub async fn list(pool: &PgPool, filter: &JobFilter) -> Result<Vec<JobSummary>, OperatorError> {
    check_names(pool, filter.queue.as_deref(), filter.kind.as_deref()).await?;
    let jobs = sqlx::query_as!(
        JobSummary,
        r#"select id as "id!", queue as "queue!", kind as "kind!", state as "state!", attempt as "attempt!",
                  max_attempts as "max_attempts!", last_error,
                  to_char(run_at at time zone 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS"Z"') as run_at
           from (select id, queue, kind, state, attempt, max_attempts, run_at, last_error from ops.jobs
                 union all
                 select id, queue, kind, state, attempt, max_attempts, null, last_error
                 from ops.failed_jobs where state = 'dead') job
           where ($1::text is null or queue = $1)
             and case when $2::text is null then $4 or state <> 'dead' else state = $2 end
             and ($3::text is null or kind = $3)
             and (not $4 or state = 'dead' or last_error is not null)
           order by id desc
           limit $5"#,
        filter.queue,
        filter.state,
        filter.kind,
        filter.failed,
        filter.limit,
    )
    .fetch_all(pool)
    .await?;
    Ok(jobs)
}

/// One job, live or ended.
pub async fn show(pool: &PgPool, id: JobId) -> Result<JobDetail, OperatorError> {
    sqlx::query_as!(
        JobDetail,
        r#"select id as "id!", queue as "queue!", kind as "kind!", state as "state!", attempt as "attempt!",
                  max_attempts as "max_attempts!", priority as "priority!", serial_key, unique_key, rate_key, trace,
                  errors as "errors!",
                  to_char(created_at at time zone 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS"Z"') as "created_at!",
                  to_char(started_at at time zone 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS"Z"') as started_at,
                  to_char(run_at at time zone 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS"Z"') as run_at,
                  to_char(finished_at at time zone 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS"Z"') as finished_at
           from (select id, queue, kind, state, attempt, max_attempts, priority, serial_key, unique_key,
                        rate_key, trace, errors, created_at, started_at, run_at, null::timestamptz as finished_at
                 from queue.jobs where id = $1
                 union all
                 select id, queue, kind, outcome, attempt, max_attempts, priority, serial_key, unique_key,
                        rate_key, trace, errors, created_at, started_at, null, finished_at
                 from queue.history where id = $1) job"#,
        id.0
    )
    .fetch_optional(pool)
    .await?
    .ok_or_else(|| {
        OperatorError::Refused(format!(
            "job {id} is not known: it never was, or its history has been pruned"
        ))
    })
}

/// A schedule. Instants are RFC 3339, in UTC.
#[derive(Debug, Clone, Serialize)]
pub struct ScheduleSummary {
    /// Its stable name.
    pub name: String,
    /// When it fires, by the clock on the wall.
    pub cron: String,
    /// Of this time zone.
    pub time_zone: String,
    /// The newest fire, in that zone.
    pub last_fire_local: Option<String>,
    /// The job that it made.
    pub last_job_id: Option<i64>,
    /// The next fire; none: there is none any more.
    pub next_fire_at: Option<String>,
}

/// What is enqueued by the clock.
pub async fn schedules(pool: &PgPool) -> Result<Vec<ScheduleSummary>, OperatorError> {
    let schedules = sqlx::query_as!(
        ScheduleSummary,
        r#"select name as "name!", cron as "cron!", time_zone as "time_zone!", last_job_id,
                  to_char(last_fire_local, 'YYYY-MM-DD"T"HH24:MI') as last_fire_local,
                  to_char(next_fire_at at time zone 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS"Z"') as next_fire_at
           from ops.schedules order by name"#,
    )
    .fetch_all(pool)
    .await?;
    Ok(schedules)
}

/// Runs a dead job again, or a waiting one at once. Returns its state. Workers are told.
pub async fn retry(pool: &PgPool, id: JobId) -> Result<String, OperatorError> {
    let state = sqlx::query_scalar!(r#"select ops.retry_job($1) as "state!""#, id.0)
        .fetch_one(pool)
        .await?;
    Ok(state)
}

/// Runs the dead jobs of a kind again that died this recently, the oldest 1,000. Workers are told.
pub async fn retry_failed(
    pool: &PgPool,
    kind: &str,
    since: Duration,
) -> Result<Vec<JobId>, OperatorError> {
    check_kind(pool, kind).await?;
    let ids = sqlx::query_scalar!(
        r#"select ops.retry_failed($1, now() - $2::interval) as "id!""#,
        kind,
        interval(since),
    )
    .fetch_all(pool)
    .await?;
    Ok(ids.into_iter().map(JobId).collect())
}

/// Cancels a live job with all that follows from it. Publish `after` when it returns.
pub async fn cancel_one(
    pool: &PgPool,
    id: JobId,
    after: &mut Wake,
) -> Result<Cancelled, OperatorError> {
    let mut tx = pool.begin().await?;
    let key = sqlx::query_scalar!("select serial_key from queue.jobs where id = $1", id.0)
        .fetch_optional(&mut *tx)
        .await?;
    if let Some(Some(key)) = key {
        lock_serial_key(&mut tx, &key).await?;
    }
    let cancelled = cancel(&mut tx, id, after).await?;
    tx.commit().await?;
    if cancelled == Cancelled::NotLive {
        let reason = format!("job {id} is not live: it has ended, or never was");
        return Err(OperatorError::Refused(reason));
    }
    Ok(cancelled)
}

/// Pauses a queue; false: it was paused already.
pub async fn pause(pool: &PgPool, queue: &str) -> Result<bool, OperatorError> {
    check_queue(pool, queue).await?;
    let paused = sqlx::query_scalar!(r#"select ops.pause_queue($1) as "paused!""#, queue)
        .fetch_one(pool)
        .await?;
    Ok(paused)
}

/// Resumes a queue; false: it was not paused. Workers are told.
pub async fn resume(pool: &PgPool, queue: &str) -> Result<bool, OperatorError> {
    check_queue(pool, queue).await?;
    let resumed = sqlx::query_scalar!(r#"select ops.resume_queue($1) as "resumed!""#, queue)
        .fetch_one(pool)
        .await?;
    Ok(resumed)
}
