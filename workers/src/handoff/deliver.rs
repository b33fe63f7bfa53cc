//! One attempt of a delivery, by whichever channel (docs/decisions/0018).
//!
//! ```text
//! begin ── one transaction: is it owed, does the circuit admit it, what is to be told; the attempt's row
//!   │
//! send ─── no connection of the database is held. If nobody knows what became of an earlier attempt, the
//!   │      provider is asked first whether it has the message
//! end ──── one transaction: the outcome, where the provider has put it, the circuit, the job's end
//! ```
//! Every transaction begins with the job's lease, so that whoever lost it writes nothing.

use std::time::Duration;

use futures::FutureExt;
use jobs::{Ended, HandlerResult, JobContext, JobError, Outcome, Retry};
use sqlx::PgConnection;
use store::{
    bus::Wake,
    checkpoints::JobLease,
    handoffs::{
        self, Asked, AttemptEnd, AttemptOutcome, Channel as Way, Delivery, DeliveryStatus,
        HandoffKey, HandoffStatus, PATIENCE_WITH_CIRCUITS, Record, Told,
    },
    ids::{Entropy, HandoffId, SessionId},
    phrases::Language,
};
use tokio::time::{Instant, timeout};

use super::{
    Channel, Dossier, HandoffDeps, Line, Promise, Receipt, Reference, SendError, Speaker,
    circuit::{self, Admission, Finding},
    join::find,
};
use crate::{commit::until_committed, turn::lease};

/// How long a provider may take in all: less than the job may, so that what happened is written down.
const PATIENCE: Duration = Duration::from_secs(43);

/// What a begin came to.
enum Begin {
    /// An attempt was begun.
    Attempt(Box<Attempt>),
    /// The provider is left alone for so long.
    PutOff(Duration),
    /// The provider was left alone for longer than anybody waits.
    OutOfPatience,
    /// Nothing is owed any more.
    NothingOwed,
    /// There is no such handoff: it was erased.
    Gone,
    /// Another worker has the job.
    LeaseLost,
}

/// An attempt that has begun.
struct Attempt {
    dossier: Dossier,
    look_first: bool,
    is_probe: bool,
    is_out_of_patience: bool,
}

/// Everything that a transaction of a delivery needs. Owned: it runs in a task of its own.
#[derive(Clone)]
struct Job {
    key: HandoffKey,
    lease: JobLease,
    way: Way,
    provider: &'static str,
    is_last: bool,
}

/// Makes one attempt to deliver a handoff by a channel.
pub async fn deliver<C: Channel>(
    deps: &HandoffDeps,
    channel: &C,
    session_id: &SessionId,
    handoff_id: &HandoffId,
    context: JobContext,
) -> HandlerResult {
    let job = Job {
        key: HandoffKey {
            session_id: session_id.clone(),
            handoff_id: handoff_id.clone(),
        },
        lease: lease(context.fence),
        way: C::CHANNEL,
        provider: channel.provider(),
        is_last: context.attempt >= context.max_attempts,
    };
    // Once it is sent it is too late: what became of it is written down.
    if context.cancelled().now_or_never().is_some() {
        return Ok(Outcome::Cancelled);
    }
    let begun = until_committed("the begin of a delivery", || {
        let (pool, job) = (deps.pool.clone(), job.clone());
        async move {
            let mut transaction = pool.begin().await?;
            let begun = begin(&mut transaction, &job).await?;
            transaction.commit().await?;
            Ok(begun)
        }
    })
    .await?;
    let attempt = match begun {
        Begin::Attempt(attempt) => attempt,
        Begin::PutOff(wait) => {
            let wait = wait.min(circuit::LOOK_AGAIN) + spread(&*deps.entropy);
            return Ok(Outcome::Snooze(wait));
        }
        Begin::OutOfPatience => {
            let reason = format!(
                "{} was left alone, because it fails, for longer than {} minutes",
                job.provider,
                PATIENCE_WITH_CIRCUITS.as_secs() / 60
            );
            return Err(JobError::fatal(reason));
        }
        Begin::NothingOwed => return Ok(Outcome::Done),
        Begin::Gone => return Ok(Outcome::Cancelled),
        Begin::LeaseLost => return Err(lease_lost()),
    };
    let started = Instant::now();
    let talk = talk(channel, &attempt.dossier, attempt.look_first);
    let talked = timeout(PATIENCE, talk).await.unwrap_or_else(|_| {
        let reason = format!("no answer within {} s", PATIENCE.as_secs());
        Err(SendError::unknown(reason))
    });
    let ending = Ending::of(job, &attempt, talked, started.elapsed());
    ending.commit(deps, context).await
}

/// Up to [`circuit::SPREAD`].
fn spread(entropy: &dyn Entropy) -> Duration {
    let [first, second, ..] = entropy.bytes();
    let share = f64::from(u16::from_be_bytes([first, second])) / f64::from(u16::MAX);
    circuit::SPREAD.mul_f64(share)
}

/// Another worker has the job. Whatever becomes of this failure is refused by the fence as well.
pub(super) fn lease_lost() -> JobError {
    JobError::retry("the lease was lost")
}

async fn begin(conn: &mut PgConnection, job: &Job) -> sqlx::Result<Begin> {
    if !handoffs::hold_lease(conn, job.lease).await? {
        return Ok(Begin::LeaseLost);
    }
    // The e-mail is written once, with all that is known then: nothing is added from here on.
    let seals = job.way == Way::Email;
    let Some(record) = handoffs::read(conn, &job.key, seals).await? else {
        return Ok(Begin::Gone);
    };
    let deliveries = handoffs::deliveries(conn, &job.key).await?;
    if !is_owed(job.way, &record, &deliveries) {
        skip_pending(conn, job, &record, &deliveries).await?;
        return Ok(Begin::NothingOwed);
    }
    let is_probe = match admit(conn, job.provider).await? {
        Admission::Go => false,
        Admission::Probe => true,
        Admission::Wait(wait) if !record.is_out_of_patience => return Ok(Begin::PutOff(wait)),
        // The e-mail waits for it.
        Admission::Wait(_) if record.status == HandoffStatus::Pending && job.way != Way::Email => {
            return Ok(Begin::OutOfPatience);
        }
        // Nothing comes after this one: it takes its chances.
        Admission::Wait(_) => false,
    };
    if seals {
        handoffs::seal(conn, &job.key).await?;
    }
    let asks = (job.way == Way::SlackUpdate).then(|| Asked {
        facts: record.revision,
        crm: find(&deliveries, Way::Crm).map_or(0, |crm| crm.revision),
    });
    let attempt = handoffs::begin_attempt(conn, job.lease, &job.key, job.way, asks).await?;
    let dossier = Dossier {
        session_id: job.key.session_id.clone(),
        handoff_id: job.key.handoff_id.clone(),
        revision: record.revision,
        trigger: record.trigger,
        stage: record.stage,
        lead: record.lead,
        consent: record.consent,
        summary: record.summary,
        transcript: record.transcript.into_iter().map(Line::from).collect(),
        page_url: record.page_url,
        language: Language::of(record.locale.as_deref()),
        locale: record.locale,
        promise: record.promise.map(|(text, by)| Promise { text, by }),
        created_at: record.created_at,
        first_attempt_at: attempt.first_at,
        attempt: attempt.number,
        last_attempt: job.is_last,
        taken_by: record.taken_by,
        references: deliveries.into_iter().filter_map(reference).collect(),
        earlier_thread: record.earlier_thread,
    };
    Ok(Begin::Attempt(Box::new(Attempt {
        dossier,
        look_first: attempt.look_first,
        is_probe,
        is_out_of_patience: record.is_out_of_patience,
    })))
}

/// Whether a channel still owes the handoff something.
fn is_owed(way: Way, record: &Record, deliveries: &[Delivery]) -> bool {
    let status = |way| find(deliveries, way).map(|delivery| delivery.status);
    match way {
        // What came after it is told by its update.
        Way::Slack => status(way) != Some(DeliveryStatus::Delivered),
        Way::Crm => !find(deliveries, way).is_some_and(|crm| {
            matches!(
                crm.status,
                DeliveryStatus::Delivered | DeliveryStatus::Skipped
            ) && crm.revision >= record.revision
        }),
        Way::SlackUpdate => status(Way::Slack) == Some(DeliveryStatus::Delivered),
        Way::Email => {
            status(way) != Some(DeliveryStatus::Delivered)
                && !matches!(
                    record.status,
                    HandoffStatus::Delivered | HandoffStatus::Degraded
                )
        }
    }
}

/// Nothing waits for a delivery that is not owed any more.
async fn skip_pending(
    conn: &mut PgConnection,
    job: &Job,
    record: &Record,
    deliveries: &[Delivery],
) -> sqlx::Result<()> {
    let is_pending = |delivery: &Delivery| delivery.status == DeliveryStatus::Pending;
    if find(deliveries, job.way).is_some_and(is_pending) {
        let skipped = Told {
            status: DeliveryStatus::Skipped,
            revision: record.revision,
            reference: serde_json::Value::Null,
            url: None,
        };
        handoffs::told(conn, &job.key, job.way, &skipped).await?;
    }
    Ok(())
}

async fn admit(conn: &mut PgConnection, provider: &str) -> sqlx::Result<Admission> {
    // Most often it is closed, and nobody waits for anybody.
    let (known, _) = handoffs::circuit(conn, provider, false).await?;
    if known.open_until.is_none() {
        return Ok(Admission::Go);
    }
    let (mut known, now) = handoffs::circuit(conn, provider, true).await?;
    let admission = circuit::admit(&mut known, now);
    if admission == Admission::Probe {
        handoffs::keep_circuit(conn, provider, &known).await?;
    }
    Ok(admission)
}

impl From<handoffs::Said> for Line {
    fn from(said: handoffs::Said) -> Self {
        let speaker = match (said.author, said.role.as_str()) {
            (Some(name), _) => Speaker::Person(name),
            (None, "user") => Speaker::Visitor,
            (None, _) => Speaker::Assistant,
        };
        Self {
            speaker,
            text: said.text,
            at: said.at,
        }
    }
}

fn reference(delivery: Delivery) -> Option<Reference> {
    delivery.was_delivered.then_some(Reference {
        channel: delivery.channel,
        reference: delivery.reference,
        url: delivery.url,
    })
}

/// Asks the provider whether it has the message, if that may be, and sends it otherwise.
async fn talk<C: Channel>(
    channel: &C,
    dossier: &Dossier,
    look_first: bool,
) -> Result<(AttemptOutcome, Receipt), SendError> {
    if look_first && let Some(receipt) = channel.reconcile(dossier).await? {
        return Ok((AttemptOutcome::Found, receipt));
    }
    let receipt = channel.send(dossier).await?;
    Ok((AttemptOutcome::Sent, receipt))
}

/// What an attempt came to, ready to be committed.
#[derive(Clone)]
struct Ending {
    job: Job,
    number: i32,
    is_probe: bool,
    end: AttemptEnd,
    /// What the channel has told; none: it failed.
    told: Option<Told>,
    finding: Option<Finding>,
    /// What the queue is told of a failure.
    failure: Option<(Retry, String)>,
    /// Whether a failure that may heal costs the job no attempt: it was made for all the others.
    is_free: bool,
}

impl Ending {
    fn of(
        job: Job,
        attempt: &Attempt,
        talked: Result<(AttemptOutcome, Receipt), SendError>,
        took: Duration,
    ) -> Self {
        let (outcome, finding) = judge(&talked);
        let revision = attempt.dossier.revision;
        let mut end = AttemptEnd {
            outcome,
            latency_ms: i32::try_from(took.as_millis()).unwrap_or(i32::MAX),
            provider_id: None,
            error: None,
        };
        let (mut told, mut failure) = (None, None);
        match talked {
            Ok((outcome, receipt)) => {
                // Slack is asked for the message alone: one of which nobody heard may tell older facts than
                // are known now. A CRM is asked for this very revision.
                let is_older =
                    outcome == AttemptOutcome::Found && job.way == Way::Slack && revision > 1;
                end.provider_id = receipt.provider_id;
                told = Some(Told {
                    status: DeliveryStatus::Delivered,
                    revision: if is_older { 1 } else { revision },
                    reference: receipt.reference,
                    url: receipt.url,
                });
            }
            Err(SendError::NothingToSend { reason }) => {
                end.error = Some(reason.to_owned());
                told = Some(Told {
                    status: DeliveryStatus::Skipped,
                    revision,
                    reference: serde_json::Value::Null,
                    url: None,
                });
            }
            Err(error) => {
                let retry = match &error {
                    SendError::Final { .. } => Retry::Never,
                    SendError::Healable {
                        retry_after: Some(wait),
                        ..
                    } => Retry::NotBefore((*wait).min(PATIENCE_WITH_CIRCUITS)),
                    _ => Retry::AsPlanned,
                };
                end.error = Some(error.to_string());
                failure = Some((retry, error.to_string()));
            }
        }
        Self {
            job,
            number: attempt.dossier.attempt,
            is_probe: attempt.is_probe,
            end,
            told,
            finding,
            failure,
            is_free: attempt.is_probe && !attempt.is_out_of_patience,
        }
    }

    /// Commits it, however long the database is away, and says what the queue is to do.
    async fn commit(self, deps: &HandoffDeps, context: JobContext) -> HandlerResult {
        let committed = until_committed("the end of a delivery", || {
            let (pool, ending, fence) = (deps.pool.clone(), self.clone(), context.fence);
            async move {
                let mut transaction = pool.begin().await?;
                let mut after = Wake::default();
                let written = ending.write(&mut transaction).await?
                    && (ending.told.is_none()
                        || jobs::end(&mut transaction, fence, Ended::Done, &mut after).await?);
                if !written {
                    transaction.rollback().await?;
                    return Ok(None);
                }
                transaction.commit().await?;
                Ok(Some(after))
            }
        });
        let Some(after) = committed.await? else {
            return Err(lease_lost());
        };
        deps.bus.publish(&after);
        let (channel, outcome) = (self.job.way.as_str(), self.end.outcome.as_str());
        metrics::counter!("growth_chat_handoff_deliveries_total", "channel" => channel, "outcome" => outcome)
            .increment(1);
        tracing::info!(handoff_id = %self.job.key.handoff_id, channel, attempt = self.number, outcome,
            "an attempt to deliver a handoff ended");
        match self.failure {
            None => Ok(Outcome::Committed),
            // It finds the circuit as it left it.
            Some((Retry::AsPlanned | Retry::NotBefore(_), _)) if self.is_free => {
                Ok(Outcome::Snooze(spread(&*deps.entropy)))
            }
            Some((retry, reason)) => Err(JobError { retry, reason }),
        }
    }

    /// Writes it in the transaction; false: the lease was lost.
    async fn write(&self, conn: &mut PgConnection) -> sqlx::Result<bool> {
        let Job {
            key,
            lease,
            way,
            provider,
            ..
        } = &self.job;
        if !handoffs::hold_lease(conn, *lease).await? {
            return Ok(false);
        }
        handoffs::end_attempt(conn, key, *way, self.number, &self.end).await?;
        if let Some(told) = &self.told {
            handoffs::told(conn, key, *way, told).await?;
        }
        if let Some(finding) = self.finding {
            // The last row of all, because all deliveries share it; and not at all in good times.
            let (known, _) = handoffs::circuit(conn, provider, false).await?;
            if finding != Finding::Answers || known != handoffs::Circuit::default() {
                let (mut known, now) = handoffs::circuit(conn, provider, true).await?;
                let id = key.handoff_id.as_str();
                if circuit::add(&mut known, id, self.is_probe, finding, now) {
                    handoffs::keep_circuit(conn, provider, &known).await?;
                }
            }
        }
        Ok(true)
    }
}

/// What came of an attempt, and what that says of the provider.
fn judge(
    talked: &Result<(AttemptOutcome, Receipt), SendError>,
) -> (AttemptOutcome, Option<Finding>) {
    match talked {
        Ok((outcome, _)) => (*outcome, Some(Finding::Answers)),
        Err(SendError::NothingToSend { .. }) => (AttemptOutcome::Skipped, None),
        Err(SendError::Final { .. }) => (AttemptOutcome::Refused, Some(Finding::Answers)),
        Err(SendError::Unknown { .. }) => (AttemptOutcome::Unknown, Some(Finding::Fails)),
        Err(SendError::Healable { retry_after, .. }) => {
            let finding = retry_after.map_or(Finding::Fails, Finding::PutsOff);
            (AttemptOutcome::Failed, Some(finding))
        }
    }
}
