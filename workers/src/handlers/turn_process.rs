//! `turn.process`: answers one message of a visitor. The turn itself is [`mod@crate::turn`].

use jobs::{HandlerResult, JobContext, catalog::TurnProcess};

use crate::turn::{self, TurnDeps};

/// Answers the turn that the job names.
pub async fn turn_process(deps: TurnDeps, job: TurnProcess, context: JobContext) -> HandlerResult {
    // On the heap: it is large, and is moved about before it runs.
    Box::pin(turn::process(
        &deps,
        job.key(),
        context.fence,
        context.cancelled(),
    ))
    .await
}
