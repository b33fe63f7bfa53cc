//! What went wrong with some jobs.

use serde::Serialize;
use sqlx::PgPool;

/// A failed attempt.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct JobFailure {
    /// The job.
    pub job_id: i64,
    /// The attempt.
    pub attempt: i32,
    /// When it failed, RFC 3339.
    pub at: String,
    /// Why.
    pub error: String,
}

/// The failed attempts of these jobs, live or ended, the oldest first. Jobs whose history was pruned have
/// none.
pub async fn failures(pool: &PgPool, jobs: &[i64]) -> sqlx::Result<Vec<JobFailure>> {
    sqlx::query_as!(
        JobFailure,
        r#"select id as "job_id!", coalesce((failure ->> 'attempt')::int, 0) as "attempt!",
                  to_char((failure ->> 'at')::timestamptz at time zone 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.MS"Z"')
                      as "at!",
                  coalesce(failure ->> 'error', '') as "error!"
           from (select id, errors from queue.jobs where id = any($1)
                 union all
                 select id, errors from queue.history where id = any($1)) job
           cross join lateral jsonb_array_elements(errors) with ordinality as failed (failure, n)
           order by id, n"#,
        jobs,
    )
    .fetch_all(pool)
    .await
}
