//! `webhook.release`: lets what was added for endpoints run, see [`jobs::webhooks`].

use jobs::{HandlerResult, Outcome, Runtime, catalog::WebhookRelease, webhooks};
use sqlx::PgPool;
use store::bus::{Bus, Wake};

/// Has `runtime` run the jobs of this kind.
pub fn register(runtime: Runtime, pool: PgPool, bus: Bus) -> Runtime {
    runtime.register(move |job: WebhookRelease, _| release(pool.clone(), bus.clone(), job))
}

/// A transaction for each endpoint: nobody waits for the lock of one while another is held.
async fn release(pool: PgPool, bus: Bus, job: WebhookRelease) -> HandlerResult {
    let mut after = Wake::default();
    for endpoint_id in &job.endpoint_ids {
        let mut transaction = pool.begin().await?;
        webhooks::release(&mut transaction, endpoint_id, &mut after).await?;
        transaction.commit().await?;
    }
    bus.publish(&after);
    Ok(Outcome::Done)
}
