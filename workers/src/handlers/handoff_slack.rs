//! `handoff.slack`: posts the message in Slack.

use jobs::{Runtime, catalog::HandoffSlack};

use crate::handoff::{HandoffDeps, deliver, slack::SlackMessage};

/// Has `runtime` run the jobs of this kind.
pub fn register(runtime: Runtime, deps: &HandoffDeps) -> Runtime {
    let channel = SlackMessage::new(&deps.config, deps.http.clone());
    let deps = deps.clone();
    runtime.register(move |job: HandoffSlack, context| {
        let (deps, channel) = (deps.clone(), channel.clone());
        async move { deliver(&deps, &channel, &job.session_id, &job.handoff_id, context).await }
    })
}
