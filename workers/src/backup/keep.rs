//! Keeps a run's lease for as long as it runs.

use std::time::Duration;

use sqlx::PgPool;
use store::backups::{self, LEASE, Run};
use tokio::time::{Instant, sleep, timeout};

/// Between two renewals.
const RENEWAL: Duration = Duration::from_secs(LEASE.as_secs() / 3);

/// Returns when the lease is lost: somebody else has taken it, or the database was away for all of it.
pub(super) async fn until_lost(pool: &PgPool, run: &Run) {
    let mut renewed = Instant::now();
    loop {
        sleep(RENEWAL).await;
        let begun = Instant::now();
        match timeout(RENEWAL, backups::renew(pool, run.token)).await {
            Ok(Ok(true)) => renewed = begun,
            Ok(Ok(false)) => return,
            Ok(Err(_)) | Err(_) if renewed.elapsed() >= LEASE => return,
            Ok(Err(error)) => {
                tracing::warn!(run = run.run_id, %error, "the lease could not be renewed");
            }
            Err(_) => tracing::warn!(run = run.run_id, "the lease could not be renewed in time"),
        }
    }
}
