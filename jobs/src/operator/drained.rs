//! Whether a queue is drained, for a program that ends when it is.

use std::time::Duration;

use chrono::{DateTime, Utc};
use sqlx::PgPool;

/// Whether nothing runs, nothing is ready in a queue that may run, and no attempt is to be made again
/// within `patience`. Empty `queues` are all.
pub async fn is_drained(
    pool: &PgPool,
    queues: &[String],
    patience: Duration,
) -> sqlx::Result<bool> {
    sqlx::query_scalar!(
        r#"select not exists (
               select from queue.jobs j
               where (cardinality($1::text[]) = 0 or j.queue = any ($1))
                 and (j.state = 'running'
                      or j.queue not in (select queue from queue.paused)
                         and (j.state = 'ready'
                              or j.state = 'scheduled' and j.run_at < now() + $2::float8 * interval '1 s'
                                 and jsonb_array_length(coalesce(j.errors, '[]')) > 0)
                      or j.state = 'scheduled' and j.run_at <= now()
                         and j.queue not in (select queue from queue.paused))) as "drained!""#,
        queues,
        patience.as_secs_f64(),
    )
    .fetch_one(pool)
    .await
}

/// The database's time.
pub async fn now(pool: &PgPool) -> sqlx::Result<DateTime<Utc>> {
    sqlx::query_scalar!(r#"select clock_timestamp() as "now!""#)
        .fetch_one(pool)
        .await
}

/// Jobs that died since then, and those that failed since and wait for another attempt.
pub async fn failed_since(pool: &PgPool, begun: DateTime<Utc>) -> sqlx::Result<i64> {
    sqlx::query_scalar!(
        r#"select (select count(*) from queue.history where outcome = 'dead' and finished_at >= $1)
                + (select count(*) from queue.jobs
                   where jsonb_path_exists(errors, '$[*]')
                     and (errors -> -1 ->> 'at')::timestamptz >= $1) as "failed!""#,
        begun
    )
    .fetch_one(pool)
    .await
}
