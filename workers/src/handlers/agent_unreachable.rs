//! `agent.unreachable`: hands a conversation back to the assistant whose person can't be reached, so that
//! the visitor does not talk to nobody.

use jobs::{
    HandlerResult, JobError, Outcome, QueueError, Runtime,
    agents::{self as people, Cause},
    catalog::{AgentUnreachable, session_serial_key},
};
use store::{
    agents,
    bus::Wake,
    ids::{TurnKey, new_message_id},
    sessions,
};

use crate::handoff::HandoffDeps;

/// Has `runtime` run the jobs of this kind.
pub fn register(runtime: Runtime, deps: &HandoffDeps) -> Runtime {
    let deps = deps.clone();
    runtime.register(move |job: AgentUnreachable, _context| {
        let deps = deps.clone();
        async move { hand_back(&deps, job).await }
    })
}

async fn hand_back(deps: &HandoffDeps, job: AgentUnreachable) -> HandlerResult {
    let key = TurnKey {
        session_id: job.session_id,
        turn: job.turn,
    };
    let mut after = Wake::default();
    let mut transaction = deps.pool.begin().await?;
    let conn = &mut *transaction;
    jobs::lock_serial_key(conn, &session_serial_key(&key.session_id)).await?;
    // Whoever took over later has not missed this message.
    if !agents::was_sent_to_agent(conn, &key).await? {
        return Ok(Outcome::Done);
    }
    let Some(handoff_id) = agents::newest_handoff(conn, &key.session_id).await? else {
        return Ok(Outcome::Done);
    };
    let request = format!("unreachable:{key}");
    let cause = Cause {
        session_id: &key.session_id,
        handoff_id: &handoff_id,
        request: &request,
    };
    let locale = sessions::locale(conn, &key.session_id).await?;
    let message_id = new_message_id(&*deps.entropy);
    people::unreachable(conn, cause, &message_id, locale.as_deref(), &mut after)
        .await
        .map_err(|error| match error {
            QueueError::Database(error) => error.into(),
            other => JobError::fatal(other.to_string()),
        })?;
    transaction.commit().await?;
    deps.bus.publish(&after);
    tracing::warn!(session_id = %key.session_id, "a conversation was handed back because nobody could be reached");
    Ok(Outcome::Done)
}
