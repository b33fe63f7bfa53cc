//! `handoff.settle`: see [`crate::handoff::settle`].

use jobs::{Runtime, catalog::HandoffSettle};

use crate::handoff::{HandoffDeps, settle::settle};

/// Has `runtime` run the jobs of this kind.
pub fn register(runtime: Runtime, deps: &HandoffDeps) -> Runtime {
    let deps = deps.clone();
    runtime.register(move |job: HandoffSettle, context| {
        let deps = deps.clone();
        async move { settle(&deps, job, context).await }
    })
}
