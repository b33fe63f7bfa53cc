//! `handoff.relay`: brings what a visitor wrote to the person who speaks, in the thread in Slack.
//!
//! One after the other in each session. An attempt whose fate nobody knows is followed by one that looks
//! first. When the bot's token fails for good the webhook brings the words to the channel. A message that
//! can't be brought at all is followed by `agent.unreachable`.

use jobs::{HandlerResult, JobContext, JobError, Outcome, Runtime, catalog::HandoffRelay};
use sqlx::PgPool;
use store::{agents, ids::TurnKey};

use super::handoff_remind::failed;
use crate::handoff::{
    HandoffDeps,
    slack::{Destination, Mark, Place, SlackClient, relayed},
};

/// Has `runtime` run the jobs of this kind.
pub fn register(runtime: Runtime, deps: &HandoffDeps) -> Runtime {
    let slack = SlackClient::new(&deps.config.slack, deps.http.clone());
    let pool = deps.pool.clone();
    runtime.register(move |job: HandoffRelay, context| {
        let (pool, slack) = (pool.clone(), slack.clone());
        async move { relay(&pool, &slack, job, context).await }
    })
}

async fn relay(
    pool: &PgPool,
    slack: &SlackClient,
    job: HandoffRelay,
    context: JobContext,
) -> HandlerResult {
    let key = TurnKey {
        session_id: job.session_id,
        turn: job.turn,
    };
    let (question, thread) = {
        let mut conn = pool.acquire().await?;
        let Some(question) = agents::question(&mut conn, &key).await? else {
            // It was erased.
            return Ok(Outcome::Done);
        };
        (
            question,
            agents::thread_of(&mut conn, &key.session_id).await?,
        )
    };
    let Some(thread) = thread else {
        return Err(JobError::fatal("Slack has no thread of the session"));
    };
    let place = Place {
        channel: thread.channel,
        ts: thread.ts,
    };
    let mark = Mark::new(
        &key.session_id,
        &thread.handoff_id,
        format!("relay-{}", key.turn),
    );
    let message = relayed(mark, &question.body);
    if context.attempt > 1 {
        let found = slack.find(message.mark(), Some(&place), question.asked_at);
        if found.await?.is_some() {
            return Ok(Outcome::Done);
        }
    }
    let last_attempt = context.attempt >= context.max_attempts;
    let to = Destination::Thread(place);
    slack
        .bring(&to, &message, question.asked_at, last_attempt)
        .await
        .map_err(|error| failed(&error))?;
    Ok(Outcome::Done)
}
