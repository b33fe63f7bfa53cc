//! All the SQL of the queue.
//!
//! Statements that touch several rows lock them in the order of their ids and pass over what
//! somebody else has locked, so that no two of them can wait for each other.

mod claim;
mod depth;
mod enqueue;
mod erasure;
mod finish;
mod lease;
pub(crate) mod prune;
pub(crate) mod schedule;
mod sweep;

use std::time::Duration;

use sqlx::postgres::types::PgInterval;

pub(crate) use self::{
    claim::{Asked, Claim, Claimed, FleetRules, claim, claim_limited, outlook, release_due},
    depth::{Depth, depths},
    enqueue::{
        NewJob, Terms, Unique, find_unique, insert, insert_many, lock_key, lock_keys, promote,
        promote_many, take_unique, try_lock_key, try_lock_keys,
    },
    erasure::{live_of_handoffs, live_of_keys},
    finish::{RunAgain, finish, finish_many, put_back, request_cancel},
    lease::{Abandoned, Renewed, abandoned, lock_abandoned, renew},
    sweep::add_sweep,
};

/// No wait is longer, whatever a server's `Retry-After` or a row says: beyond the range of its types
/// neither Postgres nor a timer takes it.
pub(crate) const MAX_WAIT: Duration = Duration::from_hours(24 * 366);

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
