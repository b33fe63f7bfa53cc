//! The end of a turn: the answer, the usage, the checkpoint, the last frames and the job's end, in
//! one transaction.

use std::{sync::Arc, time::Duration};

use jobs::{Ended, Fence, JobError, catalog::session_serial_key};
use sqlx::{PgPool, error::DatabaseError};
use store::{
    bus::{Bus, Wake},
    db::is_temporary,
    db::reconnect_waits,
    ids::TurnKey,
    turns::{self, Finish},
};
use tokio::time::Instant;
use tracing::Instrument;

use super::{lease, lease_lost};

/// What is to be committed.
pub(super) struct End {
    pub(super) key: TurnKey,
    pub(super) fence: Fence,
    pub(super) ended: Ended,
    pub(super) finish: Finish,
    pub(super) first_token: Option<Instant>,
}

/// Commits the end, and tells everybody. A database that is away is waited for, because the answer was
/// paid for; the dispatcher drops the handler when the job is not this worker's any more.
pub(super) async fn commit(pool: &PgPool, bus: &Bus, end: End) -> Result<(), JobError> {
    let end = Arc::new(end);
    let mut waits = reconnect_waits();
    loop {
        // A task of its own: a transaction must not be abandoned half-way with its handler.
        let once = once(pool.clone(), Arc::clone(&end)).in_current_span();
        let committed = match tokio::spawn(once).await {
            Ok(committed) => committed,
            Err(stopped) => match stopped.try_into_panic() {
                Ok(panic) => std::panic::resume_unwind(panic),
                Err(_) => return Err(JobError::retry("the process ends")),
            },
        };
        match committed {
            Ok(Some(after)) => {
                bus.publish(&after);
                return Ok(());
            }
            Ok(None) => return Err(lease_lost()),
            Err(error) if is_transient(&error) => {
                let failure = JobError::from(error);
                tracing::warn!(error = %failure, "a turn's end could not be committed yet");
                let wait = waits.next().unwrap_or(Duration::from_secs(5));
                tokio::time::sleep(wait).await;
            }
            Err(error) => return Err(error.into()),
        }
    }
}

/// One try; `None`: the lease was lost and nothing was written.
async fn once(pool: PgPool, end: Arc<End>) -> sqlx::Result<Option<Wake>> {
    let mut after = Wake::default();
    let mut finish = end.finish.clone();
    finish.since_first_token = end.first_token.map(|first| first.elapsed());
    let mut transaction = pool.begin().await?;
    jobs::lock_serial_key(&mut transaction, &session_serial_key(&end.key.session_id)).await?;
    let written = turns::finish(&mut transaction, lease(end.fence), &end.key, &finish).await?
        && jobs::end(&mut transaction, end.fence, end.ended, &mut after).await?;
    if !written {
        transaction.rollback().await?;
        return Ok(None);
    }
    transaction.commit().await?;
    after.turns.insert(end.key.clone());
    Ok(Some(after))
}

/// Whether the database may take the same later: it is away, or it undid a conflict.
fn is_transient(error: &sqlx::Error) -> bool {
    let code = error.as_database_error().and_then(DatabaseError::code);
    is_temporary(error) || code.is_some_and(|code| code.starts_with("40"))
}
