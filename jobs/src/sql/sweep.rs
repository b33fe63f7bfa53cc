//! When the next sweep of the sessions is due.

use sqlx::PgConnection;

use super::{Terms, interval};
use crate::sweep::NextSweep;

/// Adds the sweep of the hour in which the delay of `terms` is over, at that hour's end, unless it waits
/// already. The hour is the database's.
pub(crate) async fn add_sweep(
    conn: &mut PgConnection,
    terms: &Terms<'_>,
) -> sqlx::Result<NextSweep> {
    // Looked for first: most often it is there, and an insert that finds out takes a number and waits for
    // whoever is just adding it.
    sqlx::query_as!(
        NextSweep,
        r#"with sweep as (
               select at, to_char(at at time zone 'UTC', 'YYYY-MM-DD"T"HH24:MI"Z"') as due
               from (select date_trunc('hour', now() + $1::interval, 'UTC') + interval '1 hour' as at) hour
           ), added as (
               insert into queue.jobs (queue, kind, state, priority, run_at, max_attempts, retry_waits, unique_key, payload)
               select $2, $3, 'scheduled', $4, at, $5, $6, due, jsonb_build_object('due', due)
               from sweep
               where not exists (select 1 from queue.jobs where kind = $3 and unique_key = due)
               on conflict (kind, unique_key) where unique_key is not null do nothing
               returning id
           )
           select due as "due!", exists (select 1 from added) as "new!" from sweep"#,
        interval(terms.delay),
        terms.queue,
        terms.kind,
        terms.priority,
        terms.max_attempts(),
        terms.retry_waits,
    )
    .fetch_one(conn)
    .await
}
