//! Claims, and what a claimer wants to know before it sleeps.

use std::{collections::BTreeMap, time::Duration};

use chrono::{DateTime, Utc};
use serde_json::value::RawValue;
use sqlx::{PgConnection, PgPool, types::Json};
use uuid::Uuid;

use super::{interval, seconds};
use crate::rate::{Bucket, Decision, Rate};

/// A job as a claim returns it.
#[derive(Debug, Clone)]
pub(crate) struct Claimed {
    pub(crate) id: i64,
    pub(crate) kind: String,
    pub(crate) lease: i32,
    pub(crate) attempt: i16,
    pub(crate) max_attempts: i16,
    pub(crate) serial_key: Option<String>,
    pub(crate) trace: Option<String>,
    pub(crate) payload: Json<Box<RawValue>>,
    pub(crate) cancel_requested: bool,
    /// From when it could have run until now, in seconds.
    pub(crate) waited: f64,
    /// Since it was enqueued, in seconds.
    pub(crate) age: f64,
}

/// Who claims, from where, and how much.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Claim<'a> {
    pub(crate) queue: &'a str,
    pub(crate) limit: i64,
    pub(crate) worker: Uuid,
    pub(crate) lease: Duration,
    /// No job that was due before is looked for.
    pub(crate) floor: Option<DateTime<Utc>>,
}

/// What a claim brought.
#[derive(Debug)]
pub(crate) struct Claims {
    pub(crate) jobs: Vec<Claimed>,
    /// Whether the queue may have more for another claim now.
    pub(crate) more: bool,
}

/// Claims due jobs of a queue.
pub(crate) async fn claim(pool: &PgPool, claim: Claim<'_>) -> sqlx::Result<Claims> {
    let jobs = sqlx::query_as!(
        Claimed,
        r#"update queue.jobs
           set state = 'running', attempt = attempt + 1, lease = lease + 1, worker = $3,
               lease_until = clock_timestamp() + $4, started_at = clock_timestamp()
           where id = any(array(
               select id from queue.jobs
               where queue = $1 and state = 'ready' and run_at <= now() and run_at >= coalesce($5, '-infinity'::timestamptz)
                 and not exists (select 1 from queue.paused where paused.queue = $1)
               order by priority, run_at, id
               limit $2
               for update skip locked))
           returning id, kind, lease, attempt, max_attempts, serial_key, trace, payload as "payload: _", cancel_requested,
                     extract(epoch from clock_timestamp() - run_at)::float8 as "waited!",
                     extract(epoch from clock_timestamp() - created_at)::float8 as "age!""#,
        claim.queue,
        claim.limit,
        claim.worker,
        interval(claim.lease),
        claim.floor,
    )
    .fetch_all(pool)
    .await?;
    let more = i64::try_from(jobs.len()).is_ok_and(|count| count >= claim.limit);
    Ok(Claims { jobs, more })
}

/// What holds for a queue in the whole fleet.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct FleetRules<'a> {
    /// Jobs of the queue that may run at once, wherever.
    pub(crate) running: Option<u32>,
    /// How often jobs of a kind may start that share a rate key.
    pub(crate) rates: Option<&'a BTreeMap<&'static str, Rate>>,
}

/// Claims due jobs of a queue that has a limit in the whole fleet.
///
/// Claims of such a queue happen one after the other, so that each sees what the others took: the
/// number of running jobs only grows under the lock. A job whose bucket is empty is put back to
/// when its turn comes, which costs it no attempt.
pub(crate) async fn claim_limited(
    pool: &PgPool,
    claim: Claim<'_>,
    rules: FleetRules<'_>,
) -> sqlx::Result<Claims> {
    let mut tx = pool.begin().await?;
    lock_queue(&mut tx, claim.queue).await?;
    let limit = match rules.running {
        None => claim.limit,
        Some(most) => claim
            .limit
            .min(i64::from(most) - running(&mut tx, claim.queue).await?),
    };
    if limit <= 0 {
        return Ok(Claims {
            jobs: Vec::new(),
            more: false,
        });
    }
    let candidates = candidates(&mut tx, claim, limit).await?;
    let more =
        i64::try_from(candidates.len()).is_ok_and(|count| count >= limit) && limit == claim.limit;
    let ids = match rules.rates {
        None => candidates.iter().map(|candidate| candidate.id).collect(),
        Some(rates) => admit(&mut tx, &candidates, rates).await?,
    };
    let jobs = take(&mut tx, &ids, claim).await?;
    tx.commit().await?;
    Ok(Claims { jobs, more })
}

/// Another number space than that of the serial keys.
async fn lock_queue(conn: &mut PgConnection, queue: &str) -> sqlx::Result<()> {
    sqlx::query!(
        "select pg_advisory_xact_lock(hashtextextended($1, 1))",
        queue
    )
    .execute(conn)
    .await?;
    Ok(())
}

async fn running(conn: &mut PgConnection, queue: &str) -> sqlx::Result<i64> {
    sqlx::query_scalar!(
        r#"select count(*) as "count!" from queue.jobs where queue = $1 and state = 'running'"#,
        queue
    )
    .fetch_one(conn)
    .await
}

/// A job that could be claimed; its row is locked.
struct Candidate {
    id: i64,
    kind: String,
    rate_key: Option<String>,
    cancel_requested: bool,
}

async fn candidates(
    conn: &mut PgConnection,
    claim: Claim<'_>,
    limit: i64,
) -> sqlx::Result<Vec<Candidate>> {
    sqlx::query_as!(
        Candidate,
        "select id, kind, rate_key, cancel_requested from queue.jobs
         where queue = $1 and state = 'ready' and run_at <= now() and run_at >= coalesce($3, '-infinity'::timestamptz)
           and not exists (select 1 from queue.paused where paused.queue = $1)
         order by priority, run_at, id
         limit $2
         for update skip locked",
        claim.queue,
        limit,
        claim.floor,
    )
    .fetch_all(conn)
    .await
}

/// Takes a token for each candidate that has a rate; returns those that got theirs or need none, and
/// sends the others away until theirs.
async fn admit(
    conn: &mut PgConnection,
    candidates: &[Candidate],
    rates: &BTreeMap<&'static str, Rate>,
) -> sqlx::Result<Vec<i64>> {
    let mut keys: Vec<&str> = candidates
        .iter()
        .filter_map(|job| job.rate_key.as_deref())
        .collect();
    keys.sort_unstable();
    keys.dedup();
    let (now, mut buckets) = buckets(conn, &keys).await?;
    let mut admitted = Vec::new();
    let (mut deferred, mut until) = (Vec::new(), Vec::new());
    for job in candidates {
        let decision = match (rates.get(job.kind.as_str()), &job.rate_key) {
            // One that was cancelled is only ended.
            (Some(rate), Some(key)) if !job.cancel_requested => {
                rate.take(buckets.entry(key.clone()).or_insert(Bucket::full(now)), now)
            }
            _ => Decision::Run,
        };
        match decision {
            Decision::Run => admitted.push(job.id),
            Decision::Wait(at) => {
                deferred.push(job.id);
                until.push(at);
            }
        }
    }
    if !deferred.is_empty() {
        sqlx::query!(
            "update queue.jobs set state = 'scheduled', run_at = d.at
             from unnest($1::bigint[], $2::timestamptz[]) as d (id, at)
             where jobs.id = d.id",
            &deferred,
            &until,
        )
        .execute(&mut *conn)
        .await?;
    }
    keep_buckets(conn, &buckets).await?;
    Ok(admitted)
}

/// The database's time, and what is known of these keys' buckets.
async fn buckets(
    conn: &mut PgConnection,
    keys: &[&str],
) -> sqlx::Result<(DateTime<Utc>, BTreeMap<String, Bucket>)> {
    let rows = sqlx::query!(
        r#"select clock_timestamp() as "now!", key as "key?", full_at as "full_at?", deferred_until as "deferred_until?"
           from (select) as always left join queue.buckets on key = any($1)"#,
        keys as _,
    )
    .fetch_all(conn)
    .await?;
    let now = rows.first().map(|row| row.now).unwrap_or_default();
    let buckets = rows.into_iter().filter_map(|row| {
        let bucket = Bucket {
            full_at: row.full_at?,
            deferred_until: row.deferred_until?,
        };
        Some((row.key?, bucket))
    });
    Ok((now, buckets.collect()))
}

async fn keep_buckets(
    conn: &mut PgConnection,
    buckets: &BTreeMap<String, Bucket>,
) -> sqlx::Result<()> {
    if buckets.is_empty() {
        return Ok(());
    }
    let keys: Vec<&str> = buckets.keys().map(String::as_str).collect();
    let full_at: Vec<_> = buckets.values().map(|bucket| bucket.full_at).collect();
    let deferred_until: Vec<_> = buckets
        .values()
        .map(|bucket| bucket.deferred_until)
        .collect();
    sqlx::query!(
        "insert into queue.buckets (key, full_at, deferred_until)
         select * from unnest($1::text[], $2::timestamptz[], $3::timestamptz[])
         on conflict on constraint buckets_pkey do update
         set full_at = excluded.full_at, deferred_until = excluded.deferred_until",
        &keys as _,
        &full_at,
        &deferred_until,
    )
    .execute(conn)
    .await?;
    Ok(())
}

async fn take(
    conn: &mut PgConnection,
    ids: &[i64],
    claim: Claim<'_>,
) -> sqlx::Result<Vec<Claimed>> {
    if ids.is_empty() {
        return Ok(Vec::new());
    }
    sqlx::query_as!(
        Claimed,
        r#"update queue.jobs
           set state = 'running', attempt = attempt + 1, lease = lease + 1, worker = $2,
               lease_until = clock_timestamp() + $3, started_at = clock_timestamp()
           where id = any($1)
           returning id, kind, lease, attempt, max_attempts, serial_key, trace, payload as "payload: _", cancel_requested,
                     extract(epoch from clock_timestamp() - run_at)::float8 as "waited!",
                     extract(epoch from clock_timestamp() - created_at)::float8 as "age!""#,
        ids,
        claim.worker,
        interval(claim.lease),
    )
    .fetch_all(conn)
    .await
}

/// What the queue looks like from here: when there is something to do next.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Outlook {
    /// When this was so, by the database's clock.
    pub(crate) at: DateTime<Utc>,
    /// Of each queue that was asked for: when the oldest job was due that is ready, and whether the queue
    /// is paused.
    pub(crate) oldest: Vec<Option<DateTime<Utc>>>,
    pub(crate) paused: Vec<bool>,
    /// Queues that may be claimed from: with jobs that are ready, not paused, not at their limit.
    pub(crate) due: Vec<String>,
    /// Until the earliest scheduled job is due.
    pub(crate) next_due: Option<Duration>,
    /// Until the earliest lease of anybody ends.
    pub(crate) next_lease_end: Option<Duration>,
}

/// What is asked about queues: each with its limit of running jobs in the whole fleet, 0 for none, and
/// from where on to look.
#[derive(Debug, Default)]
pub(crate) struct Asked {
    pub(crate) queues: Vec<String>,
    pub(crate) most: Vec<i32>,
    pub(crate) floors: Vec<Option<DateTime<Utc>>>,
    /// From where on to look for the ends of leases.
    pub(crate) leases: Option<DateTime<Utc>>,
}

/// One statement that tells an idle process all it needs to know.
pub(crate) async fn outlook(pool: &PgPool, asked: &Asked) -> sqlx::Result<Outlook> {
    let row = sqlx::query!(
        r#"with asked as materialized (
               select name, most, floor,
                      -- The first of each priority: a step of the recursion is one descent of the index.
                      (with recursive first as (
                           (select priority, run_at from queue.jobs
                            where queue = name and state = 'ready' and run_at <= now() and run_at >= floor
                            order by priority, run_at limit 1)
                           union all
                           select next.priority, next.run_at
                           from first, lateral (
                               select priority, run_at from queue.jobs
                               where queue = name and state = 'ready' and run_at <= now() and run_at >= floor
                                 and priority > first.priority
                               order by priority, run_at limit 1) as next
                       ) select min(run_at) from first) as oldest,
                      exists (select 1 from queue.paused where paused.queue = name) as paused
               from (select name, most, coalesce(floor, '-infinity'::timestamptz) as floor
                     from unnest($1::text[], $2::int[], $3::timestamptz[]) as q (name, most, floor)) as q
           )
           select now() as "at!",
                  array(select oldest from asked) as "oldest!: Vec<Option<DateTime<Utc>>>",
                  array(select paused from asked) as "paused!: Vec<bool>",
                  array(select name from asked
                        where oldest is not null and not paused
                          and (most = 0 or most > (select count(*) from queue.jobs where queue = name and state = 'running'))
                  ) as "due!",
                  (select extract(epoch from min(first.run_at) - now())::float8
                   from asked, lateral (select run_at from queue.jobs
                                        where queue = name and state = 'scheduled' and run_at >= floor
                                        order by run_at limit 1) as first
                   where not paused) as next_due,
                  (select extract(epoch from min(lease_until) - now())::float8 from queue.jobs
                   where state = 'running' and lease_until >= coalesce($4, '-infinity'::timestamptz)) as next_lease_end"#,
        &asked.queues,
        &asked.most,
        &asked.floors as _,
        asked.leases,
    )
    .fetch_one(pool)
    .await?;
    Ok(Outlook {
        at: row.at,
        oldest: row.oldest,
        paused: row.paused,
        due: row.due,
        next_due: seconds(row.next_due),
        next_lease_end: seconds(row.next_lease_end),
    })
}

/// Jobs that one statement makes ready.
const MAX_RELEASE: i64 = 1_000;

/// Makes scheduled jobs ready whose time has come. Returns their queues, once for each job.
pub(crate) async fn release_due(pool: &PgPool, queues: &[String]) -> sqlx::Result<Vec<String>> {
    sqlx::query_scalar!(
        "update queue.jobs set state = 'ready'
         where id = any(array(
             select id from queue.jobs
             where queue = any($1) and state = 'scheduled' and run_at <= now()
             limit $2
             for update skip locked))
         returning queue",
        queues,
        MAX_RELEASE,
    )
    .fetch_all(pool)
    .await
}
