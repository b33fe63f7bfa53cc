//! Jobs on their way in.

use std::time::Duration;

use serde_json::Value;
use sqlx::{PgConnection, types::Json};

use super::interval;

/// What all the jobs of one enqueue have in common.
#[derive(Debug, Clone)]
pub(crate) struct Terms<'a> {
    pub(crate) queue: &'a str,
    pub(crate) kind: &'a str,
    pub(crate) priority: i16,
    pub(crate) retry_waits: &'a [i32],
    /// Not before this long from now.
    pub(crate) delay: Duration,
    pub(crate) trace: Option<String>,
}

impl Terms<'_> {
    pub(super) fn max_attempts(&self) -> i16 {
        i16::try_from(self.retry_waits.len() + 1).unwrap_or(i16::MAX)
    }
}

/// What one job has for itself.
#[derive(Debug, Clone)]
pub(crate) struct NewJob {
    pub(crate) serial_key: Option<String>,
    pub(crate) unique_key: Option<String>,
    pub(crate) rate_key: Option<String>,
    pub(crate) payload: Value,
}

/// Adds a job, blocked if its serial key has a live one. None: a live job has the same unique key.
/// The caller holds the lock of the serial key. `id` is one of [`take_unique`], if there is any.
pub(crate) async fn insert(
    conn: &mut PgConnection,
    terms: &Terms<'_>,
    job: &NewJob,
    id: Option<i64>,
) -> sqlx::Result<Option<i64>> {
    sqlx::query_scalar!(
        "insert into queue.jobs (id, queue, kind, priority, run_at, state, max_attempts, retry_waits,
                                 serial_key, unique_key, rate_key, trace, payload)
         overriding system value
         select coalesce($1, nextval('queue.jobs_id_seq')), $2, $3, $4, due.at,
                -- Each half has an index; together they would have none.
                case when exists (select 1 from queue.jobs where serial_key = $7 and state <> 'blocked')
                       or exists (select 1 from queue.jobs where serial_key = $7 and state = 'blocked')
                     then 'blocked'
                     when due.at > now() then 'scheduled'
                     else 'ready' end,
                $5, $6, $7, $8, $9, $10, $11
         from (select now() + $12::interval) as due (at)
         on conflict (kind, unique_key) where unique_key is not null do nothing
         returning id",
        id,
        terms.queue,
        terms.kind,
        terms.priority,
        terms.max_attempts(),
        terms.retry_waits,
        job.serial_key,
        job.unique_key,
        job.rate_key,
        terms.trace.as_deref(),
        job.payload,
        interval(terms.delay),
    )
    .fetch_optional(conn)
    .await
}

/// Adds many jobs with one statement. Returns an id for each, and whether it is new: an id that is
/// not belongs to no job, because a live one, or one before it here, has the same unique key. Jobs
/// with a serial key are blocked: [`promote_many`] follows, under the locks of their keys.
pub(crate) async fn insert_many(
    conn: &mut PgConnection,
    terms: &Terms<'_>,
    jobs: &[NewJob],
) -> sqlx::Result<Vec<(i64, bool)>> {
    let serial_keys: Vec<_> = jobs.iter().map(|job| job.serial_key.as_deref()).collect();
    let unique_keys: Vec<_> = jobs.iter().map(|job| job.unique_key.as_deref()).collect();
    let rate_keys: Vec<_> = jobs.iter().map(|job| job.rate_key.as_deref()).collect();
    let payloads: Vec<_> = jobs.iter().map(|job| Json(&job.payload)).collect();
    let rows = sqlx::query!(
        r#"with asked as materialized (
               select nextval('queue.jobs_id_seq') as id, n, serial_key, unique_key, rate_key, payload
               from unnest($1::text[], $2::text[], $3::text[], $4::jsonb[])
                    with ordinality as a (serial_key, unique_key, rate_key, payload, n)
               order by n
           ), added as (
               insert into queue.jobs (id, queue, kind, priority, run_at, state, max_attempts, retry_waits,
                                       serial_key, unique_key, rate_key, trace, payload)
               overriding system value
               select id, $5, $6, $7, due.at,
                      case when serial_key is not null then 'blocked' when due.at > now() then 'scheduled' else 'ready' end,
                      $8, $9, serial_key, unique_key, rate_key, $10, payload
               from asked, (select now() + $11::interval) as due (at)
               order by n
               on conflict (kind, unique_key) where unique_key is not null do nothing
               returning id
           )
           select asked.id as "id!", added.id is not null as "new!"
           from asked left join added using (id)
           order by n"#,
        &serial_keys as _,
        &unique_keys as _,
        &rate_keys as _,
        &payloads as _,
        terms.queue,
        terms.kind,
        terms.priority,
        terms.max_attempts(),
        terms.retry_waits,
        terms.trace.as_deref(),
        interval(terms.delay),
    )
    .fetch_all(conn)
    .await?;
    Ok(rows.into_iter().map(|row| (row.id, row.new)).collect())
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

/// Whose a unique key is that outlives its job.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Unique {
    /// The job's that is now to be added under this id.
    Taken(i64),
    /// That of an earlier one.
    Held(i64),
}

/// Takes a unique key for as long as `hold` says; none: for ever. Whoever asks for the same key at the
/// same time waits until this transaction ends.
pub(crate) async fn take_unique(
    conn: &mut PgConnection,
    kind: &str,
    key: &str,
    hold: Option<Duration>,
) -> sqlx::Result<Unique> {
    let taken = sqlx::query_scalar!(
        "insert into queue.unique_keys as held (kind, key, job_id, expires_at)
         values ($1, $2, coalesce((select id from queue.jobs where kind = $1 and unique_key = $2),
                                  nextval('queue.jobs_id_seq')), now() + $3::interval)
         on conflict on constraint unique_keys_pkey do update
         set job_id = excluded.job_id, expires_at = excluded.expires_at
         where held.expires_at <= now()
           and not exists (select 1 from queue.jobs where kind = $1 and unique_key = $2)
         returning job_id",
        kind,
        key,
        hold.map(interval),
    )
    .fetch_optional(&mut *conn)
    .await?;
    if let Some(id) = taken {
        return Ok(Unique::Taken(id));
    }
    let holder = sqlx::query_scalar!(
        "select job_id from queue.unique_keys where kind = $1 and key = $2",
        kind,
        key,
    )
    .fetch_one(conn)
    .await?;
    Ok(Unique::Held(holder))
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

/// Takes the locks of many serial keys, in the order in which everybody takes several.
pub(crate) async fn lock_keys(conn: &mut PgConnection, keys: &[String]) -> sqlx::Result<()> {
    sqlx::query!(
        "select pg_advisory_xact_lock(hash)
         from (select distinct hashtextextended(key, 0) as hash from unnest($1::text[]) key order by 1) ordered",
        keys
    )
    .execute(conn)
    .await?;
    Ok(())
}

/// Takes the locks of those of many serial keys that nobody has; returns these keys.
pub(crate) async fn try_lock_keys(
    conn: &mut PgConnection,
    keys: &[String],
) -> sqlx::Result<Vec<String>> {
    sqlx::query_scalar!(
        r#"select key as "key!" from unnest($1::text[]) key
           where pg_try_advisory_xact_lock(hashtextextended(key, 0))"#,
        keys
    )
    .fetch_all(conn)
    .await
}

/// Makes the oldest blocked job of a key ready; returns its queue. The caller holds the key's lock.
/// It could not run before, and now stands behind what other keys have waiting.
pub(crate) async fn promote(conn: &mut PgConnection, key: &str) -> sqlx::Result<Option<String>> {
    sqlx::query_scalar!(
        "update queue.jobs set state = case when run_at > now() then 'scheduled' else 'ready' end,
                               run_at = greatest(run_at, clock_timestamp())
         where id = (select id from queue.jobs where serial_key = $1 and state = 'blocked' order by id limit 1)
           and not exists (select 1 from queue.jobs where serial_key = $1 and state <> 'blocked')
         returning queue",
        key,
    )
    .fetch_optional(conn)
    .await
}

/// The same for many keys. The caller holds their locks.
pub(crate) async fn promote_many(conn: &mut PgConnection, keys: &[String]) -> sqlx::Result<()> {
    sqlx::query!(
        "update queue.jobs set state = case when run_at > now() then 'scheduled' else 'ready' end,
                               run_at = greatest(run_at, clock_timestamp())
         where id = any(array(
             select (select id from queue.jobs where serial_key = key and state = 'blocked' order by id limit 1)
             from unnest($1::text[]) key
             where not exists (select 1 from queue.jobs where serial_key = key and state <> 'blocked')))",
        keys,
    )
    .execute(conn)
    .await?;
    Ok(())
}
