//! `webhook.deliver`: tells one endpoint of one event, see [`crate::webhooks`].

use jobs::{Runtime, catalog::WebhookDeliver};

use crate::webhooks::WebhookDeps;

/// Has `runtime` run the jobs of this kind.
pub fn register(runtime: Runtime, deps: &WebhookDeps) -> Runtime {
    let deps = deps.clone();
    runtime.register(move |job: WebhookDeliver, context| {
        let deps = deps.clone();
        async move { deps.deliver(job, context).await }
    })
}
