//! Deletes what nobody needs any more, a bounded number of rows a statement, in the order of an index
//! and from the place where the last statement ended. Locked rows are passed over.

use chrono::{DateTime, Utc};
use futures::{FutureExt, future::BoxFuture};
use sqlx::PgPool;

/// What one statement deleted.
#[derive(Debug)]
pub(crate) struct Batch<P> {
    pub(crate) deleted: i64,
    /// Where the next one goes on.
    pub(crate) last: Option<P>,
}

/// A statement under way.
pub(crate) type Deleting<'p, P> = BoxFuture<'p, sqlx::Result<Batch<P>>>;

/// Jobs that ended as done or cancelled more than `days` ago.
pub(crate) fn ended_jobs(
    pool: &PgPool,
    days: i32,
    last: Option<DateTime<Utc>>,
    limit: i64,
) -> Deleting<'_, DateTime<Utc>> {
    history(pool, false, days, last, limit)
}

/// Jobs that died more than `days` ago.
pub(crate) fn dead_jobs(
    pool: &PgPool,
    days: i32,
    last: Option<DateTime<Utc>>,
    limit: i64,
) -> Deleting<'_, DateTime<Utc>> {
    history(pool, true, days, last, limit)
}

fn history(
    pool: &PgPool,
    dead: bool,
    days: i32,
    last: Option<DateTime<Utc>>,
    limit: i64,
) -> Deleting<'_, DateTime<Utc>> {
    async move {
        sqlx::query_as!(
            Batch,
            r#"with old as materialized (
               select id, finished_at from queue.history
               where (outcome = 'dead') = $1 and finished_at < now() - make_interval(days => $2)
                 and finished_at >= coalesce($3::timestamptz, '-infinity')
               order by finished_at limit $4
               for update skip locked
           ), gone as (
               delete from queue.history where id = any(array(select id from old))
           )
           select count(*) as "deleted!", max(finished_at) as last from old"#,
            dead,
            days,
            last,
            limit,
        )
        .fetch_one(pool)
        .await
    }
    .boxed()
}

/// Unique keys whose period is over. One that is asked for at this moment is locked.
pub(crate) fn unique_keys(
    pool: &PgPool,
    _: i32,
    last: Option<DateTime<Utc>>,
    limit: i64,
) -> Deleting<'_, DateTime<Utc>> {
    async move {
        sqlx::query_as!(
            Batch,
            r#"with old as materialized (
               select kind, key, expires_at from queue.unique_keys
               where expires_at < now() and expires_at >= coalesce($1::timestamptz, '-infinity')
               order by expires_at limit $2
               for update skip locked
           ), gone as (
               delete from queue.unique_keys k using old where (k.kind, k.key) = (old.kind, old.key)
           )
           select count(*) as "deleted!", max(expires_at) as last from old"#,
            last,
            limit,
        )
        .fetch_one(pool)
        .await
    }
    .boxed()
}

/// Token buckets that are full: their rows say the same as none.
pub(crate) fn buckets(
    pool: &PgPool,
    _: i32,
    last: Option<String>,
    limit: i64,
) -> Deleting<'_, String> {
    async move {
        sqlx::query_as!(
            Batch,
            r#"with old as materialized (
               select key from queue.buckets
               where greatest(full_at, deferred_until) < now() and key > coalesce($1, '')
               order by key limit $2
               for update skip locked
           ), gone as (
               delete from queue.buckets where key = any(array(select key from old))
           )
           select count(*) as "deleted!", max(key) as last from old"#,
            last,
            limit,
        )
        .fetch_one(pool)
        .await
    }
    .boxed()
}

/// Schedules that should have fired `days` ago, and that no process has any more.
pub(crate) fn schedules(pool: &PgPool, days: i32, _: Option<()>, limit: i64) -> Deleting<'_, ()> {
    async move {
        let deleted = sqlx::query!(
            "delete from queue.schedules where name = any(array(
             select name from queue.schedules
             where coalesce(next_fire_at, settled) < now() - make_interval(days => $1)
             limit $2
             for update skip locked))",
            days,
            limit,
        )
        .execute(pool)
        .await?;
        Ok(Batch {
            deleted: i64::try_from(deleted.rows_affected()).unwrap_or(i64::MAX),
            last: None,
        })
    }
    .boxed()
}

/// Embeddings that were kept for a document `days` ago and that it never came for.
pub(crate) fn embeddings(
    pool: &PgPool,
    days: i32,
    last: Option<DateTime<Utc>>,
    limit: i64,
) -> Deleting<'_, DateTime<Utc>> {
    async move {
        sqlx::query_as!(
            Batch,
            r#"with old as materialized (
               select content_hash, model, dimensions, created_at from knowledge_embeddings
               where created_at < now() - make_interval(days => $1)
                 and created_at >= coalesce($2::timestamptz, '-infinity')
               order by created_at limit $3
               for update skip locked
           ), gone as (
               delete from knowledge_embeddings e using old
               where (e.content_hash, e.model, e.dimensions) = (old.content_hash, old.model, old.dimensions)
           )
           select count(*) as "deleted!", max(created_at) as last from old"#,
            days,
            last,
            limit,
        )
        .fetch_one(pool)
        .await
    }
    .boxed()
}

/// Attempts of webhooks that began more than `days` ago.
pub(crate) fn webhook_attempts(
    pool: &PgPool,
    days: i32,
    last: Option<DateTime<Utc>>,
    limit: i64,
) -> Deleting<'_, DateTime<Utc>> {
    async move {
        sqlx::query_as!(
            Batch,
            r#"with old as materialized (
               select attempt_id, started_at from webhook_attempts
               where started_at < now() - make_interval(days => $1)
                 and started_at >= coalesce($2::timestamptz, '-infinity')
               order by started_at limit $3
               for update skip locked
           ), gone as (
               delete from webhook_attempts where attempt_id = any(array(select attempt_id from old))
           )
           select count(*) as "deleted!", max(started_at) as last from old"#,
            days,
            last,
            limit,
        )
        .fetch_one(pool)
        .await
    }
    .boxed()
}

/// Secrets that sign nothing any more. There are never more than three of an endpoint.
pub(crate) fn webhook_secrets(pool: &PgPool, _: i32, _: Option<()>, _: i64) -> Deleting<'_, ()> {
    async move {
        sqlx::query!("delete from webhook_secrets where expires_at <= now()")
            .execute(pool)
            .await?;
        // All of them went at once.
        Ok(Batch {
            deleted: 0,
            last: None,
        })
    }
    .boxed()
}
