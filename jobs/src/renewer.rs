//! Renews the leases of everything that is in flight, on a connection of its own: a pool that is
//! busy must not cost a lease.

use std::{collections::HashSet, sync::Arc, time::Duration};

use sqlx::PgPool;

use crate::{flight::InFlight, outcome::Stop, sql};

/// Renews three times a lease, as long as something is in flight; without, no timer runs.
pub(crate) async fn run(pool: PgPool, in_flight: Arc<InFlight>, lease: Duration) {
    loop {
        let changed = in_flight.changed.notified();
        if in_flight.len() == 0 {
            changed.await;
            continue;
        }
        tokio::time::sleep(lease / 3).await;
        let fences = in_flight.fences();
        if fences.is_empty() {
            continue;
        }
        // A statement that hangs is given up in time for another try within the lease.
        match tokio::time::timeout(lease / 2, sql::renew(&pool, &fences, lease)).await {
            Ok(Ok(held)) => {
                let mut lost: HashSet<_> = fences.into_iter().collect();
                for (fence, cancel) in held {
                    lost.remove(&fence);
                    if cancel {
                        in_flight.stop(fence, Stop::Cancelled);
                    }
                }
                for fence in lost {
                    // Most often its own settlement ended it meanwhile, and nobody listens any more.
                    in_flight.stop(fence, Stop::Lost);
                }
            }
            Ok(Err(error)) => tracing::warn!(error = %error, "leases were not renewed"),
            Err(_) => tracing::warn!("leases were not renewed in time"),
        }
    }
}
