//! What waits in the queues, as the metrics show it.

use std::time::Duration;

use sqlx::PgPool;

use super::seconds;

/// Queues that one read returns at most: their names become labels, which a Prometheus keeps.
const MAX_QUEUES: i64 = 100;

/// What the database says about one queue.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Depth {
    pub(crate) queue: String,
    pub(crate) paused: bool,
    pub(crate) ready: f64,
    pub(crate) scheduled: f64,
    pub(crate) blocked: f64,
    pub(crate) running: f64,
    /// How long the oldest due job has waited; zero: none is due.
    pub(crate) oldest: Duration,
    /// When the next of the scheduled jobs is due.
    pub(crate) due_in: Option<Duration>,
}

/// Every queue that has live jobs or is paused.
pub(crate) async fn depths(pool: &PgPool) -> sqlx::Result<Vec<Depth>> {
    let rows = sqlx::query!(
        r#"select queue as "queue!", paused as "paused!",
                  ready::float8 as "ready!", scheduled::float8 as "scheduled!",
                  blocked::float8 as "blocked!", running::float8 as "running!",
                  oldest_age_seconds,
                  extract(epoch from (
                      select min(run_at) from queue.jobs
                      where jobs.queue = queues.queue and state = 'scheduled' and run_at > now()
                  ) - now())::float8 as due_in
           from ops.queues
           order by queue
           limit $1"#,
        MAX_QUEUES
    )
    .fetch_all(pool)
    .await?;
    Ok(rows
        .into_iter()
        .map(|row| Depth {
            queue: row.queue,
            paused: row.paused,
            ready: row.ready,
            scheduled: row.scheduled,
            blocked: row.blocked,
            running: row.running,
            oldest: seconds(row.oldest_age_seconds).unwrap_or_default(),
            due_in: seconds(row.due_in),
        })
        .collect())
}
