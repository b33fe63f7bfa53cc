//! `privacy.erase`: sees to a wish to be forgotten, to its receipt (docs/decisions/0023).
//!
//! Each step is marked when it is done, so that whoever takes the job over goes on with the next one.
//! What refuses for good stays in the receipt as what remains, and does not hold up the rest.

use std::time::Duration;

use chrono::{DateTime, SecondsFormat, Utc};
use jobs::{
    Ended, Fence, HandlerResult, JobContext, JobError, Outcome, Runtime, catalog::PrivacyErase,
};
use serde::Deserialize;
use serde_json::Value;
use sqlx::PgPool;
use store::{
    bus::{Bus, Wake},
    ids::{HandoffId, SessionId},
    privacy::{self, LedgerEntry, Outside, OutsideState, OutsideSystem, Request, Scope},
};

use crate::{
    backup::told,
    clients::bucket::Bucket,
    handoff::{
        SendError,
        crm::Crm,
        slack::{Place, SlackClient},
    },
    privacy::{
        here::{EraseError, erase_here},
        ledger::{self, KeepError},
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
    /// When the newest attempt ended; none, of a request of before: with the first one.
    until: Option<DateTime<Utc>>,
    /// `bot` or `webhook`, if Slack took it.
    via: Option<String>,
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
        async move { deps.see_to(&job.request_id, &context).await }
    })
}

impl EraseDeps {
    async fn see_to(&self, request_id: &str, context: &JobContext) -> HandlerResult {
        match erase_here(&self.pool, request_id, self.secret.as_ref()).await {
            Ok(after) => self.bus.publish(&after),
            // An operator's approval enqueues another job.
            Err(EraseError::Waits | EraseError::Unknown) => return Ok(Outcome::Cancelled),
            Err(EraseError::Database(error)) => return Err(error.into()),
            // It is tried again when a worker starts that can do it.
            Err(error @ (EraseError::NoSecret | EraseError::NoAddress)) => {
                let mut conn = self.pool.acquire().await?;
                privacy::block(&mut conn, request_id, &error.to_string()).await?;
                return Err(JobError::fatal(error.to_string()));
            }
        }
        let last = context.attempt >= context.max_attempts;
        // First of all: Slack and the CRM may be away for a day, and the database may be lost in it.
        let kept = self.keep(request_id).await;
        if let Some(wait) = self.wait(request_id).await? {
            return Ok(Outcome::Snooze(wait));
        }
        let Some(request) = self.read(request_id).await? else {
            return Ok(Outcome::Cancelled);
        };
        self.forget_outside(&request, last).await?;
        match kept {
            Err(error) if last => tracing::error!(
                request_id,
                error = told(&error),
                "the record of an erasure is in the database only, until the next backup puts it into the bucket: a backup from before would not forget"
            ),
            kept => kept.map_err(|error| JobError::retry(told(&error)))?,
        }
        let held_address = request.email.is_some() || !request.addresses.is_empty();
        let Some(scope) = self.finish(request_id, context.fence).await? else {
            return Err(JobError::retry("somebody else sees to the request as well"));
        };
        if held_address && let Err(error) = self.keep(request_id).await {
            // It has what matters already; the next backup puts this one, too.
            tracing::warn!(
                request_id,
                error = told(&error),
                "the ledger's entry was not renewed"
            );
        }
        metrics::counter!("growth_chat_erasures_total", "scope" => scope.as_str()).increment(1);
        tracing::info!(request_id, "a wish to be forgotten is seen to");
        Ok(Outcome::Committed)
    }

    /// Puts the record of it into the bucket. Where there is none that is said, and a backup does it later.
    async fn keep(&self, request_id: &str) -> Result<(), KeepError> {
        let Some(bucket) = &self.bucket else {
            tracing::error!(
                request_id,
                "no bucket is configured: the record of an erasure is in the database only, until the next backup puts it into the bucket"
            );
            return Ok(());
        };
        ledger::keep(&self.pool, bucket, request_id).await
    }

    /// Ends the request with its receipt, and the job with it. None, and nothing is changed: something outside
    /// is still to be asked, or another worker has the job.
    async fn finish(&self, request_id: &str, fence: Fence) -> Result<Option<Scope>, JobError> {
        let mut after = Wake::default();
        let mut transaction = self.pool.begin().await?;
        let conn = &mut *transaction;
        if !privacy::lock(conn, request_id).await? {
            return Ok(None);
        }
        let request = privacy::by_id(conn, request_id).await?;
        let entry = privacy::entry(conn, request_id).await?;
        let (Some(request), Some(entry)) = (request, entry) else {
            return Err(JobError::fatal("the erasure has no entry in the ledger"));
        };
        let others = privacy::asked_about(conn, request_id).await?;
        let receipt = self.receipt(&request, &entry, others);
        if request.email.is_some() || !request.addresses.is_empty() {
            privacy::mark_done(conn, request_id).await?;
        }
        if !privacy::finish(conn, request_id, &receipt).await?
            || !jobs::end(conn, fence, Ended::Done, &mut after).await?
        {
            return Ok(None);
        }
        transaction.commit().await?;
        self.bus.publish(&after);
        Ok(Some(request.scope))
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

    /// Has Slack and the CRM forget, one reference after the other.
    async fn forget_outside(&self, request: &Request, last: bool) -> Result<(), JobError> {
        let mut later = None;
        for (place, outside) in request.outside.iter().enumerate() {
            if outside.state != OutsideState::Pending {
                continue;
            }
            let (state, error) = match self.forget(outside, request).await {
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
            let outside = Outside {
                state,
                error,
                ..outside.clone()
            };
            let mut conn = self.pool.acquire().await?;
            // Whoever was faster has marked it.
            privacy::mark_outside(&mut conn, &request.request_id, place, &outside).await?;
        }
        later.map_or(Ok(()), Err)
    }

    async fn forget(&self, outside: &Outside, request: &Request) -> Result<(), SendError> {
        match outside.system {
            OutsideSystem::Slack => self.forget_in_slack(&outside.reference).await,
            OutsideSystem::Crm => {
                let reference = &outside.reference;
                let handoff = reference["handoff_id"].as_str().unwrap_or_default();
                let attempt = format!("{handoff}/{}", reference["attempt"]);
                let address = request.addresses.get(&attempt).map(String::as_str);
                self.crm.forget(reference, address).await
            }
            OutsideSystem::Email | OutsideSystem::Endpoint => {
                Err(SendError::fatal("what was told can't be taken back"))
            }
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
                (about.since, about.until.unwrap_or(about.since)),
            )
            .await?;
        if !erased.left.is_empty() {
            return Err(SendError::fatal("Slack does not let the app delete it"));
        }
        match erased.not_looked {
            Some(error) => Err(SendError::fatal(format!("not looked for: {error}"))),
            // Slack has taken it, and no app sees where it is.
            None if erased.found == 0 && about.via.as_deref() == Some("webhook") => Err(
                SendError::fatal("it was posted by the webhook, and was not found"),
            ),
            None => Ok(()),
        }
    }

    fn receipt(&self, request: &Request, entry: &LedgerEntry, others: i64) -> Value {
        let backups = match &self.bucket {
            Some(_) if entry.kept => format!(
                "Backups from before may hold it for {} days more; whoever restores one has it forgotten again.",
                self.backup_days
            ),
            _ => "The record of this erasure is in the database only, until the next backup puts it into the \
                  bucket. Backups from before may hold what was erased until they expire; whoever restores one \
                  after that next backup has it forgotten again."
                .to_owned(),
        };
        let statement = Statement {
            format: Statement::FORMAT.to_owned(),
            request_id: request.request_id.clone(),
            scope: request.scope,
            session_ids: entry.session_ids.clone(),
            email_hash: entry.email_hash.clone(),
            requested_by: request.requested_by,
            requested_at: shown(request.created_at),
            erased_at: shown(entry.erased_at),
            erased: entry.erased.clone(),
            outside: request.outside.clone(),
            of_others: others,
            backups,
        };
        let signed = self
            .secret
            .as_ref()
            .and_then(|secret| receipt::sign(&statement, secret));
        signed.unwrap_or_else(|| receipt::unsigned(&statement))
    }
}

/// A time as a receipt shows it.
fn shown(time: DateTime<Utc>) -> String {
    time.to_rfc3339_opts(SecondsFormat::Secs, true)
}
