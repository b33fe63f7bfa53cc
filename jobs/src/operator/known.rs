//! Names that an operator gives: a wrong one is answered with the right ones, and never with
//! "nothing found".

use sqlx::PgPool;

use super::OperatorError;
use crate::catalog;

/// Jobs of which the names are read for the answer: so many live ones, and so many dead ones.
const SAMPLE: i64 = 10_000;

/// Whether a queue exists: one of the catalogue, or one that has live jobs or is paused.
pub(super) async fn check_queue(pool: &PgPool, queue: &str) -> Result<(), OperatorError> {
    let known = catalog::QUEUES.contains(&queue)
        || sqlx::query_scalar!(
            r#"select exists (select 1 from queue.jobs where queue = $1)
                   or exists (select 1 from queue.paused where queue = $1)
                   or exists (select 1 from queue.history where outcome = 'dead' and queue = $1) as "known!""#,
            queue
        )
        .fetch_one(pool)
        .await?;
    if known {
        return Ok(());
    }
    let present = sqlx::query_scalar!(
        r#"select distinct queue as "queue!" from (select queue from queue.jobs limit $1) sample
           union select queue from (select queue from queue.history where outcome = 'dead' limit $1) sample
           union select queue from queue.paused"#,
        SAMPLE
    )
    .fetch_all(pool)
    .await?;
    let names = listed(catalog::QUEUES, present);
    Err(OperatorError::Refused(format!(
        "there is no queue {queue:?}: the queues are {names}"
    )))
}

/// Whether a kind exists: one of the catalogue, or one that live or dead jobs have (an earlier
/// version's, say).
pub(super) async fn check_kind(pool: &PgPool, kind: &str) -> Result<(), OperatorError> {
    let known = catalog::KINDS.contains(&kind)
        || sqlx::query_scalar!(
            r#"select exists (select 1 from queue.jobs where kind = $1)
                   or exists (select 1 from queue.history where outcome = 'dead' and kind = $1) as "known!""#,
            kind
        )
        .fetch_one(pool)
        .await?;
    if known {
        return Ok(());
    }
    let present = sqlx::query_scalar!(
        r#"select distinct kind as "kind!" from (select kind from queue.jobs limit $1) sample
           union select kind from (select kind from queue.history where outcome = 'dead' limit $1) sample"#,
        SAMPLE
    )
    .fetch_all(pool)
    .await?;
    let names = listed(catalog::KINDS, present);
    Err(OperatorError::Refused(format!(
        "there is no kind of job {kind:?}: the kinds are {names}"
    )))
}

fn listed(catalogue: &[&str], present: Vec<String>) -> String {
    let mut names = present;
    names.extend(catalogue.iter().map(|&name| name.to_owned()));
    names.sort_unstable();
    names.dedup();
    names.join(", ")
}
