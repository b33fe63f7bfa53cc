//! What has become of jobs, for a caller that waits for some of its own.

use sqlx::PgConnection;

use crate::fence::JobId;

/// What has become of a job.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum JobStatus {
    /// It waits or runs.
    Live {
        /// Attempts that were started.
        attempt: i16,
    },
    /// It succeeded.
    Done,
    /// It failed for good.
    Dead {
        /// The error of its last attempt.
        error: Option<String>,
    },
    /// It was cancelled.
    Cancelled,
}

/// The status of each of these jobs that the database still knows.
pub async fn statuses(
    conn: &mut PgConnection,
    ids: &[JobId],
) -> sqlx::Result<Vec<(JobId, JobStatus)>> {
    let ids: Vec<i64> = ids.iter().map(|id| id.0).collect();
    let rows = sqlx::query!(
        r#"select id as "id!", attempt as "attempt!", null as outcome, null as error
           from queue.jobs where id = any($1)
           union all
           select id, attempt, outcome, errors -> -1 ->> 'error'
           from queue.history where id = any($1)"#,
        &ids
    )
    .fetch_all(conn)
    .await?;
    let status = |outcome: Option<&str>, attempt, error| match outcome {
        None => JobStatus::Live { attempt },
        Some("done") => JobStatus::Done,
        Some("cancelled") => JobStatus::Cancelled,
        Some(_) => JobStatus::Dead { error },
    };
    Ok(rows
        .into_iter()
        .map(|row| {
            let status = status(row.outcome.as_deref(), row.attempt, row.error);
            (JobId(row.id), status)
        })
        .collect())
}
