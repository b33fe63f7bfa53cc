//! Jobs on their way out, or back.
//!
//! A job that is running has a worker, and no other job has (a constraint of the table). Statements that
//! have the job's id ask for the worker: asked for the state, Postgres may find the job by the index of
//! the running ones instead, reading all of it and of what vacuum has left in it.

use std::{collections::BTreeMap, time::Duration};

use serde_json::{Value, json};
use sqlx::{PgConnection, PgPool};

use super::{interval, seconds};
use crate::{fence::Fence, outcome::Ended};

/// When a job that is put back may run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum RunAgain {
    /// After the stored wait that belongs to the attempt, and not sooner than the given time.
    AsPlanned { not_before: Duration },
    /// After this long; the attempt does not count.
    Uncounted { after: Duration },
    /// At once; the attempt counts (its worker was lost).
    AtOnce,
}

/// Puts a running job back. Returns until when it waits; None: the fence did not hold.
pub(crate) async fn put_back(
    conn: &mut PgConnection,
    fence: Fence,
    again: RunAgain,
    error: Option<&str>,
) -> sqlx::Result<Option<Duration>> {
    let (planned, least, uncounted) = match again {
        RunAgain::AsPlanned { not_before } => (true, not_before, 0),
        RunAgain::Uncounted { after } => (false, after, 1_i16),
        RunAgain::AtOnce => (false, Duration::ZERO, 0),
    };
    let wait = sqlx::query_scalar!(
        r#"update queue.jobs
           set state = case when greatest($4::interval,
                                case when $3 then make_interval(secs => coalesce(retry_waits[attempt], 0)) end) > interval '0'
                            then 'scheduled' else 'ready' end,
               lease_until = null, worker = null,
               run_at = clock_timestamp() + greatest($4::interval,
                   case when $3 then make_interval(secs => coalesce(retry_waits[attempt], 0)) end),
               errors = case when $5::text is null then errors
                        else errors || jsonb_build_object('attempt', attempt, 'at', clock_timestamp(), 'error', $5::text) end,
               attempt = attempt - $6
           where id = $1 and lease = $2 and worker is not null
           returning extract(epoch from run_at - clock_timestamp())::float8 as "wait!""#,
        fence.id.0,
        fence.lease,
        planned,
        interval(least),
        error,
        uncounted,
    )
    .fetch_optional(conn)
    .await?;
    Ok(seconds(wait))
}

/// What remains of a job that has just ended.
#[derive(Debug)]
pub(crate) struct EndedJob {
    pub(crate) kind: String,
    pub(crate) serial_key: Option<String>,
    pub(crate) trace: Option<String>,
    pub(crate) payload: Value,
}

/// Moves a job into the history; with a lease, only a running job under that lease.
pub(crate) async fn finish(
    conn: &mut PgConnection,
    id: i64,
    lease: Option<i32>,
    ended: Ended,
    error: Option<&str>,
) -> sqlx::Result<Option<EndedJob>> {
    let error = error.map(|error| json!({ "error": error }));
    sqlx::query_as!(
        EndedJob,
        r#"with ended as (
               delete from queue.jobs
               where id = $1 and ($2::int is null or (lease = $2 and state = 'running'))
               returning *
           )
           insert into queue.history (id, queue, kind, outcome, priority, attempt, max_attempts, retry_waits, worker, lease,
                                      serial_key, unique_key, rate_key, trace, payload, errors, created_at, started_at, finished_at)
           select id, queue, kind, $3, priority, attempt, max_attempts, retry_waits, worker, lease, serial_key, unique_key,
                  rate_key, trace, payload,
                  case when $4::jsonb is null then errors
                       else errors || ($4::jsonb || jsonb_build_object('attempt', attempt, 'at', clock_timestamp())) end,
                  created_at, started_at, clock_timestamp()
           from ended
           returning kind, serial_key, trace, payload"#,
        id,
        lease,
        ended.as_str(),
        error,
    )
    .fetch_optional(conn)
    .await
}

/// Moves running jobs without a serial key into the history as done, each under its lease. Nobody
/// else can end them: two of these never wait for each other.
///
/// A statement for each lease number, which is 1 for all but the jobs that failed before: a join with
/// pairs has a plan that goes wrong, and this has none to choose.
pub(crate) async fn finish_many(pool: &PgPool, fences: &[Fence]) -> sqlx::Result<()> {
    let mut ids_by_lease: BTreeMap<i32, Vec<i64>> = BTreeMap::new();
    for fence in fences {
        ids_by_lease
            .entry(fence.lease)
            .or_default()
            .push(fence.id.0);
    }
    for (lease, ids) in ids_by_lease {
        sqlx::query!(
            "with ended as (
                 delete from queue.jobs
                 where id = any($1::bigint[]) and lease = $2 and worker is not null and serial_key is null
                 returning *
             )
             insert into queue.history (id, queue, kind, outcome, priority, attempt, max_attempts, retry_waits, worker,
                                        serial_key, unique_key, rate_key, trace, payload, errors, created_at, started_at, finished_at)
             select id, queue, kind, 'done', priority, attempt, max_attempts, retry_waits, worker, serial_key, unique_key,
                    rate_key, trace, payload, errors, created_at, started_at, clock_timestamp()
             from ended",
            &ids,
            lease,
        )
        .execute(pool)
        .await?;
    }
    Ok(())
}

/// Asks for a live job's cancellation: its state, or None if it is not live. The row stays locked.
pub(crate) async fn request_cancel(
    conn: &mut PgConnection,
    id: i64,
) -> sqlx::Result<Option<String>> {
    sqlx::query_scalar!(
        "update queue.jobs set cancel_requested = true where id = $1 returning state",
        id
    )
    .fetch_optional(conn)
    .await
}
