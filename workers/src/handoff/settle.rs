//! `handoff.settle`: what becomes of a handoff, after one of its deliveries has ended.
//!
//! The record's row is locked first, so that of two deliveries that end at once the second settling sees
//! both. There is no serial key: settling is enqueued where a job ends, with rows locked, and the lock of a
//! serial key comes before all rows (docs/decisions/0006).

use jobs::{
    Ended, HandlerResult, JobContext, Outcome, QueueError, catalog::HandoffSettle,
    handoffs::deliver,
};
use sqlx::PgPool;
use store::{
    bus::Wake,
    handoffs::{self, Channel, HandoffKey, HandoffStatus},
};

use super::{
    HandoffDeps,
    deliver::lease_lost,
    join::{Decision, decide, update},
};
use crate::{commit::until_committed, turn::lease};

/// What was committed.
struct Settled {
    after: Wake,
    /// What became of the handoff just now.
    status: Option<HandoffStatus>,
}

/// Settles a handoff.
pub async fn settle(deps: &HandoffDeps, job: HandoffSettle, context: JobContext) -> HandlerResult {
    let key = HandoffKey {
        session_id: job.session_id,
        handoff_id: job.handoff_id,
    };
    let settled = until_committed("the settling of a handoff", || {
        once(
            deps.pool.clone(),
            key.clone(),
            deps.config.waits.clone(),
            context.clone(),
        )
    })
    .await?;
    let Some(settled) = settled else {
        return Err(lease_lost());
    };
    deps.bus.publish(&settled.after);
    if let Some(status) = settled.status {
        let outcome = status.as_str();
        metrics::counter!("growth_chat_handoffs_total", "outcome" => outcome).increment(1);
        if status == HandoffStatus::Dead {
            tracing::error!(handoff_id = %key.handoff_id, "a handoff has reached nobody: see ops.handoff_deliveries");
        } else {
            tracing::info!(handoff_id = %key.handoff_id, outcome, "a handoff is settled");
        }
    }
    Ok(Outcome::Committed)
}

/// One transaction; `None`: the lease was lost and nothing was written.
async fn once(
    pool: PgPool,
    key: HandoffKey,
    waits: Vec<i32>,
    context: JobContext,
) -> sqlx::Result<Option<Settled>> {
    let mut transaction = pool.begin().await?;
    let conn = &mut *transaction;
    let mut after = Wake::default();
    if !handoffs::hold_lease(conn, lease(context.fence)).await? {
        return Ok(None);
    }
    let mut status = None;
    // An erased handoff needs no settling.
    if let Some(record) = handoffs::read(conn, &key, true).await? {
        handoffs::give_up_lost(conn, &key).await?;
        let deliveries = handoffs::deliveries(conn, &key).await?;
        match decide(&deliveries, record.revision) {
            Decision::Wait => {}
            Decision::TellCrmAgain => {
                let crm = deliver(conn, &key, Channel::Crm, &waits, None, &mut after);
                crm.await.map_err(failed)?;
            }
            Decision::SendEmail => {
                let email = deliver(conn, &key, Channel::Email, &waits, None, &mut after);
                email.await.map_err(failed)?;
            }
            Decision::Settled(came_to) => {
                let changed = handoffs::settle(conn, &key, came_to).await?;
                status = changed.then_some(came_to);
                if let Some(asks) = update(&deliveries, record.revision) {
                    let channel = Channel::SlackUpdate;
                    let update = deliver(conn, &key, channel, &waits, Some(asks), &mut after);
                    update.await.map_err(failed)?;
                }
            }
        }
    }
    if !jobs::end(conn, context.fence, Ended::Done, &mut after).await? {
        return Ok(None);
    }
    transaction.commit().await?;
    Ok(Some(Settled { after, status }))
}

/// The jobs of the handoff are ours: nothing in them can be wrong but what the database says.
fn failed(error: QueueError) -> sqlx::Error {
    match error {
        QueueError::Database(error) => error,
        other => sqlx::Error::Encode(Box::new(other)),
    }
}
