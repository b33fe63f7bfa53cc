//! `handoff.crm`: makes the lead's record in the CRM.

use jobs::{Runtime, catalog::HandoffCrm};

use crate::handoff::{HandoffDeps, crm::Crm, deliver};

/// Has `runtime` run the jobs of this kind.
pub fn register(runtime: Runtime, deps: &HandoffDeps) -> Runtime {
    let crm = Crm::new(&deps.config, deps.http.clone());
    let deps = deps.clone();
    runtime.register(move |job: HandoffCrm, context| {
        let (deps, crm) = (deps.clone(), crm.clone());
        async move { deliver(&deps, &crm, &job.session_id, &job.handoff_id, context).await }
    })
}
