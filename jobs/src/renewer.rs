//! Renews the leases of everything that is in flight, on a connection of its own: a pool that is
//! busy must not cost a lease.

use std::{collections::HashSet, sync::Arc, time::Duration};

use sqlx::PgPool;
use store::{bus::Bus, db::Database};

use crate::{
    fence::Fence,
    flight::InFlight,
    outcome::Stop,
    sql::{self, Renewed},
};

/// Renews three times a lease, as long as something is in flight; without, no timer runs. Meanwhile
/// the process is to hear of others: a job may be cancelled.
pub(crate) async fn run(database: Database, bus: Bus, in_flight: Arc<InFlight>, lease: Duration) {
    let mut pool = database.own_connection();
    let mut gone = HashSet::new();
    let mut pause = lease / 3;
    let mut busy = None;
    loop {
        let changed = in_flight.changed.notified();
        if in_flight.len() == 0 {
            busy = None;
            changed.await;
            continue;
        }
        busy.get_or_insert_with(|| bus.interest());
        tokio::time::sleep(pause).await;
        // After a failure another try fits into what is left of the lease.
        pause = lease / 12;
        match tokio::time::timeout(lease / 4, renew(&pool, &in_flight, lease, &mut gone)).await {
            Ok(Ok(())) => pause = lease / 3,
            Ok(Err(error)) => tracing::warn!(error = %error, "leases were not renewed"),
            Err(_) => {
                tracing::warn!("leases were not renewed in time");
                // The connection may hang, and with it everything that waits for its return.
                pool = database.own_connection();
            }
        }
    }
}

async fn renew(
    pool: &PgPool,
    in_flight: &InFlight,
    lease: Duration,
    gone: &mut HashSet<Fence>,
) -> sqlx::Result<()> {
    let fences = in_flight.fences();
    if fences.is_empty() {
        return Ok(());
    }
    let mut gone_now = HashSet::new();
    for (fence, found) in sql::renew(pool, &fences, lease).await? {
        match found {
            Renewed::Held { cancel: false } => {}
            Renewed::Held { cancel: true } => in_flight.stop(fence, Stop::Cancelled),
            Renewed::TakenOver => in_flight.stop(fence, Stop::Lost),
            // Its own handler ended it and is about to return: dropped now, it would not publish what
            // it committed. Still there at the next renewal, it works for nobody.
            Renewed::Gone if gone.contains(&fence) => in_flight.stop(fence, Stop::Lost),
            Renewed::Gone => {
                gone_now.insert(fence);
            }
        }
    }
    *gone = gone_now;
    Ok(())
}
