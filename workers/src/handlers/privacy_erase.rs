//! `privacy.erase`: sees to a wish to be forgotten, to its receipt (docs/decisions/0023).
//!
//! Each step is marked when it is done, so that whoever takes the job over goes on with the next one.
//! What refuses for good stays in the receipt as what remains, and does not hold up the rest.

use std::time::Duration;

use bytes::Bytes;
use chrono::{DateTime, Utc};
use jobs::{HandlerResult, JobContext, JobError, Outcome, Runtime, catalog::PrivacyErase};
use serde::Deserialize;
use serde_json::Value;
use sha2::{Digest, Sha256};
use sqlx::PgPool;
use store::{
    bus::Bus,
    ids::{HandoffId, SessionId},
    privacy::{self, LedgerEntry, Outside, OutsideState, OutsideSystem, Request, Scope},
};

use crate::{
    clients::bucket::Bucket,
    handoff::{
        SendError,
        crm::Crm,
        slack::{Place, SlackClient},
    },
    hex::hex,
    privacy::{
        here::{EraseError, erase_here},
        receipt::{self, Statement},
        secret::PrivacySecret,
    },
};

/// What Slack is asked by.
#[derive(Deserialize)]
struct AboutHandoff {
    session_id: SessionId,
    handoff_id: HandoffId,
    since: DateTime<Utc>,
}

/// What erasure works with.
#[derive(Debug, Clone)]
pub struct EraseDeps {
    /// The database.
    pub pool: PgPool,
    /// Tells workers and clients.
    pub bus: Bus,
    /// `PRIVACY_SECRET`.
    pub secret: Option<PrivacySecret>,
    /// Slack.
    pub slack: SlackClient,
    /// The CRM.
    pub crm: Crm,
    /// Where the ledger outlives the database.
    pub bucket: Option<Bucket>,
    /// `BACKUP_RETENTION_DAYS`: so long a dump may hold what is forgotten here.
    pub backup_days: u16,
}

/// Has `runtime` run the jobs of this kind.
pub fn register(runtime: Runtime, deps: &EraseDeps) -> Runtime {
    let deps = deps.clone();
    // From the start on, so that a rate can be taken of the first one.
    for scope in [Scope::Conversation, Scope::Person] {
        metrics::counter!("growth_chat_erasures_total", "scope" => scope.as_str()).increment(0);
    }
    runtime.register(move |job: PrivacyErase, context: JobContext| {
        let deps = deps.clone();
        async move {
            let last = context.attempt >= context.max_attempts;
            deps.see_to(&job.request_id, last).await
        }
    })
}

impl EraseDeps {
    async fn see_to(&self, request_id: &str, last: bool) -> HandlerResult {
        match erase_here(&self.pool, request_id, self.secret.as_ref()).await {
            Ok(after) => self.bus.publish(&after),
            // An operator's approval enqueues another job.
            Err(EraseError::Waits | EraseError::Unknown) => return Ok(Outcome::Cancelled),
            Err(EraseError::Database(error)) => return Err(error.into()),
            Err(error @ EraseError::NoSecret) => return Err(JobError::fatal(error.to_string())),
        }
        if let Some(wait) = self.wait(request_id).await? {
            return Ok(Outcome::Snooze(wait));
        }
        let Some(request) = self.read(request_id).await? else {
            return Ok(Outcome::Cancelled);
        };
        if request.status == "done" {
            return Ok(Outcome::Done);
        }
        let outside = self.forget_outside(&request, last).await?;
        let entry = self.entry(request_id).await?;
        if !self.keep(&entry).await? && last {
            tracing::error!(
                request_id,
                "the ledger's entry could not be put into the bucket: a restored backup from before this erasure would not forget"
            );
        }
        let receipt = self.receipt(&request, &entry, outside);
        let mut conn = self.pool.acquire().await?;
        privacy::finish(&mut conn, request_id, &receipt).await?;
        metrics::counter!("growth_chat_erasures_total", "scope" => request.scope.as_str())
            .increment(1);
        tracing::info!(request_id, "a wish to be forgotten is seen to");
        Ok(Outcome::Done)
    }

    async fn read(&self, request_id: &str) -> sqlx::Result<Option<Request>> {
        let mut conn = self.pool.acquire().await?;
        privacy::by_id(&mut conn, request_id).await
    }

    /// What was on its way when its handoff was erased is looked for when it is there.
    async fn wait(&self, request_id: &str) -> sqlx::Result<Option<Duration>> {
        let mut conn = self.pool.acquire().await?;
        privacy::wait(&mut conn, request_id).await
    }

    async fn entry(&self, request_id: &str) -> Result<LedgerEntry, JobError> {
        let mut conn = self.pool.acquire().await?;
        let entries = privacy::entries(&mut conn, Some(request_id)).await?;
        let entry = entries.into_iter().next();
        entry.ok_or_else(|| JobError::fatal("the erasure has no entry in the ledger"))
    }

    /// Has Slack and the CRM forget, one reference after the other.
    async fn forget_outside(
        &self,
        request: &Request,
        last: bool,
    ) -> Result<Vec<Outside>, JobError> {
        let mut outside = request.outside.clone();
        let mut later = None;
        for place in 0..outside.len() {
            if outside[place].state != OutsideState::Pending {
                continue;
            }
            let (state, error) = match self.forget(&outside[place], request).await {
                Ok(()) => (OutsideState::Done, None),
                Err(error @ (SendError::Final { .. } | SendError::NothingToSend { .. })) => {
                    (OutsideState::Remains, Some(error.to_string()))
                }
                Err(error) if last => (OutsideState::Remains, Some(error.to_string())),
                Err(error) => {
                    later = Some(JobError::retry(error.to_string()));
                    continue;
                }
            };
            outside[place].state = state;
            outside[place].error = error;
            let mut conn = self.pool.acquire().await?;
            privacy::save_outside(&mut conn, &request.request_id, &outside).await?;
        }
        later.map_or(Ok(outside), Err)
    }

    async fn forget(&self, outside: &Outside, request: &Request) -> Result<(), SendError> {
        match outside.system {
            OutsideSystem::Slack => self.forget_in_slack(&outside.reference).await,
            OutsideSystem::Crm => {
                let handoff = outside.reference["handoff_id"].as_str();
                let address = handoff.and_then(|handoff| request.addresses.get(handoff));
                self.crm
                    .forget(&outside.reference, address.map(String::as_str))
                    .await
            }
            OutsideSystem::Email => Err(SendError::fatal("mail that was sent can't be taken back")),
        }
    }

    async fn forget_in_slack(&self, reference: &Value) -> Result<(), SendError> {
        let about: AboutHandoff = serde_json::from_value(reference.clone())
            .map_err(|_| SendError::fatal("the handoff's reference can't be read"))?;
        let first: Option<Place> = serde_json::from_value(reference.clone()).ok();
        let erased = self
            .slack
            .erase(
                &about.session_id,
                &about.handoff_id,
                first.as_slice(),
                about.since,
            )
            .await?;
        if !erased.left.is_empty() {
            return Err(SendError::fatal("Slack does not let the app delete it"));
        }
        match erased.not_looked {
            Some(error) => Err(SendError::fatal(format!("not looked for: {error}"))),
            None => Ok(()),
        }
    }

    /// Puts the entry into the bucket, outside the backups and their lifecycle. False: there is none.
    async fn keep(&self, entry: &LedgerEntry) -> Result<bool, JobError> {
        let Some(bucket) = &self.bucket else {
            return Ok(false);
        };
        let body = serde_json::to_vec(entry)
            .map_err(|_| JobError::fatal("the ledger's entry can't be written"))?;
        // An entry that grew is another object; the same again is the same object.
        let hash = hex(&Sha256::digest(&body)[..8]);
        let key = format!("{LEDGER}{}-{hash}.json", entry.entry_id);
        bucket
            .put_new(&key, Bytes::from(body), "application/json")
            .await
            .map_err(|error| JobError::retry(error.to_string()))?;
        let mut conn = self.pool.acquire().await?;
        privacy::keep_entry(&mut conn, &entry.entry_id).await?;
        Ok(true)
    }

    fn receipt(&self, request: &Request, entry: &LedgerEntry, outside: Vec<Outside>) -> Value {
        let statement = Statement {
            format: Statement::FORMAT.to_owned(),
            request_id: request.request_id.clone(),
            scope: request.scope,
            session_ids: entry.session_ids.clone(),
            email_hash: entry.email_hash.clone(),
            requested_by: request.requested_by,
            requested_at: request.created_at.clone(),
            erased_at: entry.erased_at.clone(),
            erased: entry.erased.clone(),
            outside,
            backups: format!(
                "Backups from before may hold it for {} days more; whoever restores one has it forgotten again.",
                self.backup_days
            ),
        };
        let signed = self
            .secret
            .as_ref()
            .and_then(|secret| receipt::sign(&statement, secret));
        signed.unwrap_or_else(|| receipt::unsigned(&statement))
    }
}

/// Where the entries are in the bucket.
pub const LEDGER: &str = "erasures/";
