//! `slack.open_reply`: opens the form in which a person writes to the visitor, within the three seconds in
//! which Slack allows it. When it fails the visitor is not left waiting for somebody who seems to type.

use std::time::Duration;

use jobs::{HandlerResult, Outcome, Runtime, catalog::SlackOpenReply};
use store::{agents, bus::Wake};

use crate::handoff::{
    HandoffDeps,
    slack::{SlackClient, reply_form},
};

/// It came too late: whoever pressed the button presses it again.
const TOO_LATE: &[&str] = &[
    "expired_trigger_id",
    "trigger_expired",
    "exchanged_trigger_id",
];

/// Has `runtime` run the jobs of this kind.
pub fn register(runtime: Runtime, deps: &HandoffDeps) -> Runtime {
    let slack = SlackClient::new(&deps.config.slack, deps.http.clone());
    let deps = deps.clone();
    runtime.register(move |job: SlackOpenReply, _context| {
        let (deps, slack) = (deps.clone(), slack.clone());
        async move { open(&deps, &slack, job).await }
    })
}

async fn open(deps: &HandoffDeps, slack: &SlackClient, job: SlackOpenReply) -> HandlerResult {
    let form = reply_form(&job.session_id, &job.handoff_id);
    let Err(failed) = slack.open_view(&job.trigger_id, &form).await else {
        return Ok(Outcome::Done);
    };
    let mut conn = deps.pool.acquire().await?;
    if agents::types(&mut conn, &job.session_id, &job.by, Duration::ZERO).await? {
        deps.bus.publish(&Wake {
            sessions: [job.session_id].into(),
            ..Wake::default()
        });
    }
    if failed.is_one_of(TOO_LATE) {
        tracing::info!("a form could not be opened in time");
        return Ok(Outcome::Done);
    }
    Err(failed.into())
}
