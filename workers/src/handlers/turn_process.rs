//! `turn.process`: answers one message of a visitor. The turn itself is [`mod@crate::turn`].

use jobs::{HandlerResult, JobContext, catalog::TurnProcess};
use store::trace::{Span, attribute};

use crate::turn::{self, TurnDeps};

/// Who answers, as a collector of traces knows it.
const AGENT: &str = "growth-chat";

/// Answers the turn that the job names.
pub async fn turn_process(deps: TurnDeps, job: TurnProcess, context: JobContext) -> HandlerResult {
    let mut span = Span::of_work("invoke_agent", AGENT);
    if span.is_recorded() {
        span.set(attribute::GEN_AI_OPERATION_NAME, "invoke_agent");
        span.set(attribute::GEN_AI_AGENT_NAME, AGENT);
        let session = job.session_id.as_str();
        span.set(attribute::GEN_AI_CONVERSATION_ID, session.to_owned());
        span.set(attribute::SESSION_ID, session.to_owned());
        span.set(attribute::TURN, i64::from(job.turn));
    }
    // On the heap: it is large, and is moved about before it runs.
    let turn = Box::pin(turn::process(
        &deps,
        job.key(),
        context.fence,
        context.cancelled(),
    ));
    let ended = span.scope(turn).await;
    if ended.is_err() {
        span.fail("turn_failed");
    }
    ended
}
