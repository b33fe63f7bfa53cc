//! `handoff.slack_delete`: takes everything that we wrote about a session's handoffs out of Slack, when
//! the person is to be forgotten. Repeated, it deletes what is left.
//!
//! What Slack does not let an app delete makes the job dead, and its reason names the messages for whoever
//! has to do it: replies of people are theirs, and they are not counted.

use jobs::{HandlerResult, JobError, Outcome, Runtime, catalog::HandoffSlackDelete};

use crate::handoff::{
    HandoffDeps,
    slack::{Place, SlackClient, SlackError, place},
};

/// Messages that a reason names at most.
const NAMED: usize = 20;

/// Has `runtime` run the jobs of this kind.
pub fn register(runtime: Runtime, deps: &HandoffDeps) -> Runtime {
    let slack = SlackClient::new(&deps.config.slack, deps.http.clone());
    runtime.register(move |job: HandoffSlackDelete, _| {
        let slack = slack.clone();
        async move { delete(&slack, &job).await }
    })
}

/// Deletes what is there.
pub async fn delete(slack: &SlackClient, job: &HandoffSlackDelete) -> HandlerResult {
    let (mut deleted, mut left, mut not_looked) = (0, Vec::new(), None);
    for handoff in &job.handoffs {
        let known: Vec<Place> = handoff.references.iter().filter_map(place).collect();
        let erased = slack
            .erase(
                &job.session_id,
                &handoff.handoff_id,
                &known,
                handoff.created_at,
            )
            .await?;
        deleted += erased.deleted;
        left.extend(erased.left);
        not_looked = not_looked.or(erased.not_looked);
    }
    tracing::info!(deleted, left = left.len(), "messages in Slack were deleted");
    match remaining(&left, not_looked.as_ref()) {
        Some(reason) => Err(JobError::fatal(reason)),
        None => Ok(Outcome::Done),
    }
}

/// What a person has to do.
fn remaining(left: &[Place], not_looked: Option<&SlackError>) -> Option<String> {
    if let Some(error) = not_looked {
        return Some(format!(
            "the messages in Slack could not be looked for ({error}): delete them by hand"
        ));
    }
    if left.is_empty() {
        return None;
    }
    let names = left.iter().take(NAMED);
    let names: Vec<String> = names
        .map(|place| format!("{}/{}", place.channel, place.ts))
        .collect();
    Some(format!(
        "{} messages in Slack are to be deleted by hand: {}",
        left.len(),
        names.join(", ")
    ))
}
