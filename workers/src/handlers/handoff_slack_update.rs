//! `handoff.slack_update`: adds the CRM's record, and what was learned since, to the message in Slack.

use jobs::{Runtime, catalog::HandoffSlackUpdate};

use crate::handoff::{HandoffDeps, deliver, slack::SlackUpdate};

/// Has `runtime` run the jobs of this kind.
pub fn register(runtime: Runtime, deps: &HandoffDeps) -> Runtime {
    let channel = SlackUpdate::new(&deps.config, deps.http.clone());
    let deps = deps.clone();
    runtime.register(move |job: HandoffSlackUpdate, context| {
        let (deps, channel) = (deps.clone(), channel.clone());
        async move { deliver(&deps, &channel, &job.session_id, &job.handoff_id, context).await }
    })
}
