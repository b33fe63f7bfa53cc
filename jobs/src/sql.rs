//! All the SQL of the queue.
//!
//! Statements that touch several rows lock them in the order of their ids and pass over what
//! somebody else has locked, so that no two of them can wait for each other.

mod lease;
pub(crate) mod schedule;

use std::time::Duration;

use serde_json::{Value, json};
use sqlx::{PgConnection, PgPool, postgres::types::PgInterval};
use uuid::Uuid;

pub(crate) use self::lease::{Abandoned, Renewed, abandoned, lock_abandoned, renew};
use crate::{fence::Fence, outcome::Ended};

/// A job as a claim returns it.
#[derive(Debug, Clone)]
pub(crate) struct Claimed {
    pub(crate) id: i64,
    pub(crate) kind: String,
    pub(crate) lease: i32,
    pub(crate) attempt: i16,
    pub(crate) max_attempts: i16,
    pub(crate) serial_key: Option<String>,
    pub(crate) payload: Value,
    pub(crate) cancel_requested: bool,
    /// From when it could have run until now, in seconds.
    pub(crate) waited: f64,
    /// Since it was enqueued, in seconds.
    pub(crate) age: f64,
}

/// No wait is longer, whatever a server's `Retry-After` or a row says: beyond the range of its types
/// neither Postgres nor a timer takes it.
const MAX_WAIT: Duration = Duration::from_hours(24 * 366);

pub(crate) fn interval(duration: Duration) -> PgInterval {
    let duration = duration.min(MAX_WAIT);
    let microseconds = i64::try_from(duration.as_micros()).unwrap_or(i64::MAX);
    PgInterval {
        months: 0,
        days: 0,
        microseconds,
    }
}

fn seconds(value: Option<f64>) -> Option<Duration> {
    let bounded = |seconds: f64| {
        Duration::try_from_secs_f64(seconds.max(0.0)).map_or(MAX_WAIT, |wait| wait.min(MAX_WAIT))
    };
    value.map(bounded)
}

/// Whether an error passes by itself: the database is away, busy or starting. Any other is its
/// refusal of exactly this statement.
pub(crate) fn is_passing(error: &sqlx::Error) -> bool {
    let Some(error) = error.as_database_error() else {
        return true;
    };
    let code = error.code().unwrap_or_default();
    // Connection, state of the transaction, rollback by a conflict, resources, locks, operator, system.
    ["08", "25", "40", "53", "55", "57", "58"]
        .iter()
        .any(|class| code.starts_with(class))
}

/// What is to be inserted: one job and the rules that it keeps.
pub(crate) struct NewJob<'a> {
    pub(crate) queue: &'a str,
    pub(crate) kind: &'a str,
    pub(crate) priority: i16,
    pub(crate) retry_waits: &'a [i32],
    pub(crate) serial_key: Option<&'a str>,
    pub(crate) unique_key: Option<&'a str>,
    pub(crate) payload: Value,
}

/// Adds a job, blocked if its key has a live one. None: a live job has the same unique key.
/// The caller holds the lock of the serial key.
pub(crate) async fn insert(conn: &mut PgConnection, job: &NewJob<'_>) -> sqlx::Result<Option<i64>> {
    let max_attempts = i16::try_from(job.retry_waits.len() + 1).unwrap_or(i16::MAX);
    sqlx::query_scalar!(
        "insert into queue.jobs (queue, kind, priority, state, max_attempts, retry_waits,
                                 serial_key, unique_key, payload)
         values ($1, $2, $3,
                 -- Each half has an index; together they would have none.
                 case when exists (select 1 from queue.jobs where serial_key = $6 and state <> 'blocked')
                        or exists (select 1 from queue.jobs where serial_key = $6 and state = 'blocked')
                      then 'blocked' else 'ready' end,
                 $4, $5, $6, $7, $8)
         on conflict (kind, unique_key) where unique_key is not null do nothing
         returning id",
        job.queue,
        job.kind,
        job.priority,
        max_attempts,
        job.retry_waits,
        job.serial_key,
        job.unique_key,
        job.payload,
    )
    .fetch_optional(conn)
    .await
}

/// The live job with a unique key.
pub(crate) async fn find_unique(
    conn: &mut PgConnection,
    kind: &str,
    key: &str,
) -> sqlx::Result<Option<i64>> {
    sqlx::query_scalar!(
        "select id from queue.jobs where kind = $1 and unique_key = $2",
        kind,
        key
    )
    .fetch_optional(conn)
    .await
}

/// Takes the lock of a serial key until the end of the transaction.
pub(crate) async fn lock_key(conn: &mut PgConnection, key: &str) -> sqlx::Result<()> {
    sqlx::query!("select pg_advisory_xact_lock(hashtextextended($1, 0))", key)
        .execute(conn)
        .await?;
    Ok(())
}

/// Takes the lock of a serial key if nobody has it.
pub(crate) async fn try_lock_key(conn: &mut PgConnection, key: &str) -> sqlx::Result<bool> {
    sqlx::query_scalar!(
        r#"select pg_try_advisory_xact_lock(hashtextextended($1, 0)) as "locked!""#,
        key
    )
    .fetch_one(conn)
    .await
}

/// Claims up to `limit` due jobs of a queue.
pub(crate) async fn claim(
    pool: &PgPool,
    queue: &str,
    limit: i64,
    worker: Uuid,
    lease: Duration,
) -> sqlx::Result<Vec<Claimed>> {
    sqlx::query_as!(
        Claimed,
        r#"update queue.jobs
           set state = 'running', attempt = attempt + 1, lease = lease + 1, worker = $3,
               lease_until = clock_timestamp() + $4, started_at = clock_timestamp()
           where id = any(array(
               select id from queue.jobs
               where queue = $1 and state = 'ready' and run_at <= now()
                 and not exists (select 1 from queue.paused where paused.queue = $1)
               order by priority, run_at, id
               limit $2
               for update skip locked))
           returning id, kind, lease, attempt, max_attempts, serial_key, payload, cancel_requested,
                     extract(epoch from clock_timestamp() - run_at)::float8 as "waited!",
                     extract(epoch from clock_timestamp() - created_at)::float8 as "age!""#,
        queue,
        limit,
        worker,
        interval(lease),
    )
    .fetch_all(pool)
    .await
}

/// What the queue looks like from here: when there is something to do next.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Outlook {
    /// Queues with jobs that are due.
    pub(crate) due: Vec<String>,
    /// Until the earliest job that is not due yet.
    pub(crate) next_due: Option<Duration>,
    /// Until the earliest lease of anybody ends.
    pub(crate) next_lease_end: Option<Duration>,
}

/// One statement that tells an idle process all it needs to know.
pub(crate) async fn outlook(pool: &PgPool, queues: &[String]) -> sqlx::Result<Outlook> {
    let row = sqlx::query!(
        r#"select array(
                   select q from unnest($1::text[]) q
                   where exists (select 1 from queue.jobs where queue = q and state = 'ready' and run_at <= now())
                     and not exists (select 1 from queue.paused where paused.queue = q)
               ) as "due!",
               (select extract(epoch from min(run_at) - now())::float8 from queue.jobs
                where state = 'ready' and run_at > now() and queue = any($1)
                  and not exists (select 1 from queue.paused where paused.queue = jobs.queue)) as next_due,
               (select extract(epoch from min(lease_until) - now())::float8 from queue.jobs
                where state = 'running') as next_lease_end"#,
        queues,
    )
    .fetch_one(pool)
    .await?;
    Ok(Outlook {
        due: row.due,
        next_due: seconds(row.next_due),
        next_lease_end: seconds(row.next_lease_end),
    })
}

/// When a job that goes back to `ready` may run.
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
           set state = 'ready', lease_until = null, worker = null,
               run_at = clock_timestamp() + greatest($4::interval,
                   case when $3 then make_interval(secs => coalesce(retry_waits[attempt], 0)) end),
               errors = case when $5::text is null then errors
                        else errors || jsonb_build_object('attempt', attempt, 'at', clock_timestamp(), 'error', $5::text) end,
               attempt = attempt - $6
           where id = $1 and lease = $2 and state = 'running'
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
                                      serial_key, unique_key, payload, errors, created_at, started_at, finished_at)
           select id, queue, kind, $3, priority, attempt, max_attempts, retry_waits, worker, lease, serial_key, unique_key,
                  payload,
                  case when $4::jsonb is null then errors
                       else errors || ($4::jsonb || jsonb_build_object('attempt', attempt, 'at', clock_timestamp())) end,
                  created_at, started_at, clock_timestamp()
           from ended
           returning kind, serial_key, payload"#,
        id,
        lease,
        ended.as_str(),
        error,
    )
    .fetch_optional(conn)
    .await
}

/// Moves running jobs without a serial key into the history as done, each under its lease.
pub(crate) async fn finish_many(pool: &PgPool, fences: &[Fence]) -> sqlx::Result<u64> {
    let ids: Vec<i64> = fences.iter().map(|fence| fence.id.0).collect();
    let leases: Vec<i32> = fences.iter().map(|fence| fence.lease).collect();
    let done = sqlx::query!(
        "with mine as (
             select j.id from queue.jobs j
             join unnest($1::bigint[], $2::int[]) as f (id, lease) on j.id = f.id and j.lease = f.lease
             where j.state = 'running' and j.serial_key is null
             order by j.id for update of j
         ), ended as (
             delete from queue.jobs where id = any(array(select id from mine)) returning *
         )
         insert into queue.history (id, queue, kind, outcome, priority, attempt, max_attempts, retry_waits, worker,
                                    serial_key, unique_key, payload, errors, created_at, started_at, finished_at)
         select id, queue, kind, 'done', priority, attempt, max_attempts, retry_waits, worker, serial_key, unique_key,
                payload, errors, created_at, started_at, clock_timestamp()
         from ended",
        &ids,
        &leases,
    )
    .execute(pool)
    .await?;
    Ok(done.rows_affected())
}

/// Makes the oldest blocked job of a key ready; returns its queue. The caller holds the key's lock.
pub(crate) async fn promote(conn: &mut PgConnection, key: &str) -> sqlx::Result<Option<String>> {
    sqlx::query_scalar!(
        "update queue.jobs set state = 'ready'
         where id = (select id from queue.jobs where serial_key = $1 and state = 'blocked' order by id limit 1)
           and not exists (select 1 from queue.jobs where serial_key = $1 and state <> 'blocked')
         returning queue",
        key,
    )
    .fetch_optional(conn)
    .await
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
