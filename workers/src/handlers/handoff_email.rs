//! `handoff.email`: sends the e-mail, when both Slack and the CRM have failed for good.

use std::sync::Arc;

use jobs::{Runtime, catalog::HandoffEmail};

use crate::handoff::{Email, HandoffDeps, deliver};

/// Has `runtime` run the jobs of this kind.
pub fn register(runtime: Runtime, deps: &HandoffDeps) -> Runtime {
    let email = Arc::new(Email::new(&deps.config.smtp));
    let deps = deps.clone();
    runtime.register(move |job: HandoffEmail, context| {
        let (deps, email) = (deps.clone(), Arc::clone(&email));
        async move { deliver(&deps, &*email, &job.session_id, &job.handoff_id, context).await }
    })
}
