//! `slack.person`: learns what a user of Slack is called, and gives them the name wherever they speak.

use jobs::{
    HandlerResult, JobError, JobKind, Outcome, QueueError, Runtime,
    catalog::{SlackFace, SlackPerson},
};
use store::{
    agents::{self, Agent},
    bus::Wake,
};

use crate::handoff::{HandoffDeps, slack::SlackClient};

/// Has `runtime` run the jobs of this kind.
pub fn register(runtime: Runtime, deps: &HandoffDeps) -> Runtime {
    let slack = SlackClient::new(&deps.config.slack, deps.http.clone());
    let deps = deps.clone();
    runtime.register(move |job: SlackPerson, _context| {
        let (deps, slack) = (deps.clone(), slack.clone());
        async move { learn(&deps, &slack, job).await }
    })
}

async fn learn(deps: &HandoffDeps, slack: &SlackClient, job: SlackPerson) -> HandlerResult {
    let name = slack.user_name(&job.user_id).await?;
    let person = Agent::new(job.user_id, &name);
    if person.name.is_empty() {
        return Err(JobError::fatal("Slack knows no name that could be shown"));
    }
    let mut after = Wake::default();
    let mut transaction = deps.pool.begin().await?;
    agents::remember_name(&mut transaction, &person.id, &person.name).await?;
    for session_id in agents::rename(&mut transaction, &person.id, &person.name).await? {
        if let Some(thread) = agents::thread_of(&mut transaction, &session_id).await? {
            let face = SlackFace {
                session_id: session_id.clone(),
                handoff_id: thread.handoff_id,
            };
            jobs::enqueue(&mut transaction, &face)
                .await
                .map_err(|error| match error {
                    QueueError::Database(error) => error.into(),
                    other => JobError::fatal(other.to_string()),
                })?;
            after.queues.insert(SlackFace::QUEUE.to_owned());
        }
        after.sessions.insert(session_id);
    }
    transaction.commit().await?;
    deps.bus.publish(&after);
    Ok(Outcome::Done)
}
