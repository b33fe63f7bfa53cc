//! Leases: kept by their holders, and found when they have ended.

use std::time::Duration;

use sqlx::{PgConnection, PgPool};

use super::interval;
use crate::fence::{Fence, JobId};

/// What a renewal found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Renewed {
    /// The lease holds; whether somebody wants the job cancelled.
    Held { cancel: bool },
    /// Somebody else has the job, or it waits again.
    TakenOver,
    /// No live job has this id: it ended, most often by its own handler just now.
    Gone,
}

/// Renews leases that nobody took over, even if they had ended.
///
/// A row that is locked is being ended by its own worker or taken over by another: it is reported
/// as held, and the next renewal finds out which.
pub(crate) async fn renew(
    pool: &PgPool,
    fences: &[Fence],
    lease: Duration,
) -> sqlx::Result<Vec<(Fence, Renewed)>> {
    let ids: Vec<i64> = fences.iter().map(|fence| fence.id.0).collect();
    let leases: Vec<i32> = fences.iter().map(|fence| fence.lease).collect();
    let rows = sqlx::query!(
        r#"with asked as (
               select f.id, f.lease, j.id is not null as live, j.cancel_requested,
                      coalesce(j.lease = f.lease and j.state = 'running', false) as held
               from unnest($1::bigint[], $2::int[]) as f (id, lease)
               left join queue.jobs j on j.id = f.id
           ), mine as (
               select j.id from queue.jobs j
               where j.id = any(array(select id from asked where held))
               order by j.id for update skip locked
           ), renewed as (
               update queue.jobs j set lease_until = clock_timestamp() + $3
               from asked a
               where j.id = any(array(select id from mine))
                 and a.id = j.id and a.held and j.lease = a.lease and j.worker is not null
           )
           select id as "id!", lease as "lease!", live as "live!", held as "held!",
                  coalesce(cancel_requested, false) as "cancel!"
           from asked"#,
        &ids,
        &leases,
        interval(lease),
    )
    .fetch_all(pool)
    .await?;
    Ok(rows
        .into_iter()
        .map(|row| {
            let fence = Fence {
                id: JobId(row.id),
                lease: row.lease,
            };
            let found = match (row.live, row.held) {
                (_, true) => Renewed::Held { cancel: row.cancel },
                (true, false) => Renewed::TakenOver,
                (false, false) => Renewed::Gone,
            };
            (fence, found)
        })
        .collect())
}

/// A running job whose lease has ended.
#[derive(Debug)]
pub(crate) struct Abandoned {
    pub(crate) id: i64,
    pub(crate) lease: i32,
    pub(crate) queue: String,
    pub(crate) kind: String,
    pub(crate) serial_key: Option<String>,
    pub(crate) attempt: i16,
    pub(crate) no_attempt_left: bool,
    pub(crate) cancel_requested: bool,
}

/// Jobs whose lease has ended, the longest ago first. None while the server itself has not been up for a
/// whole lease: after an outage every lease has ended, and its holder gets the time to renew it.
pub(crate) async fn abandoned(pool: &PgPool, lease: Duration) -> sqlx::Result<Vec<Abandoned>> {
    sqlx::query_as!(
        Abandoned,
        r#"select id, lease, queue, kind, serial_key, attempt, attempt >= max_attempts as "no_attempt_left!", cancel_requested
           from queue.jobs
           where state = 'running' and lease_until < now() and pg_postmaster_start_time() < now() - $1::interval
           order by lease_until limit 100"#,
        interval(lease),
    )
    .fetch_all(pool)
    .await
}

/// Takes the row of an abandoned job if it still is one.
pub(crate) async fn lock_abandoned(conn: &mut PgConnection, job: &Abandoned) -> sqlx::Result<bool> {
    let row = sqlx::query!(
        "select id from queue.jobs
         where id = $1 and lease = $2 and worker is not null and lease_until < now() for update skip locked",
        job.id,
        job.lease,
    )
    .fetch_optional(conn)
    .await?;
    Ok(row.is_some())
}
