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
use jobs::{HandlerResult, JobContext, JobError, Outcome};
use sqlx::PgConnection;
use store::{
    agents,
    checkpoints::JobLease,
    handoffs::{
        self, Asked, AttemptOutcome, Channel as Way, Delivery, DeliveryStatus, HandoffKey,
        HandoffStatus, PATIENCE_WITH_CIRCUITS, Record, Told,
    },
    ids::{Entropy, HandoffId, SessionId},
};
use tokio::time::{Instant, timeout};

use super::{
    Channel, Dossier, HandoffDeps, Occasion, Receipt, SendError,
    circuit::{self, Admission},
    ending::{Ending, Made},
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
pub(super) struct Job {
    pub(super) key: HandoffKey,
    pub(super) lease: JobLease,
    pub(super) way: Way,
    pub(super) provider: &'static str,
    pub(super) is_last: bool,
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
    let made = Made {
        number: attempt.dossier.attempt,
        revision: attempt.dossier.revision,
        is_probe: attempt.is_probe,
        is_free: attempt.is_probe && !attempt.is_out_of_patience,
        took: started.elapsed(),
    };
    let ending = Ending::of(job, made, talked);
    ending.commit(deps, context).await
}

/// Up to [`circuit::SPREAD`].
pub(super) fn spread(entropy: &dyn Entropy) -> Duration {
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
    // With what the CRM is asked is noted in the record, which comes before its deliveries.
    let locks = seals || job.way == Way::Crm;
    let Some(record) = handoffs::read(conn, &job.key, locks).await? else {
        return Ok(Begin::Gone);
    };
    let deliveries = handoffs::deliveries(conn, &job.key).await?;
    if !is_owed(job.way, &record, &deliveries) {
        skip_pending(conn, job, &record, &deliveries).await?;
        return Ok(Begin::NothingOwed);
    }
    let admission = admit(conn, job.provider).await?;
    match admission {
        Admission::Wait(wait) if !record.is_out_of_patience => return Ok(Begin::PutOff(wait)),
        // The e-mail waits for it.
        Admission::Wait(_) if record.status == HandoffStatus::Pending && job.way != Way::Email => {
            return Ok(Begin::OutOfPatience);
        }
        // Nothing comes after the others that should wait: they take their chances.
        Admission::Go | Admission::Probe | Admission::Wait(_) => {}
    }
    if seals {
        handoffs::seal(conn, &job.key).await?;
    }
    let asks = (job.way == Way::SlackUpdate).then(|| Asked {
        facts: record.revision,
        crm: find(&deliveries, Way::Crm).map_or(0, |crm| crm.revision),
    });
    let address = record.lead.email.as_deref();
    let address = address.filter(|_| job.way == Way::Crm);
    let begun = handoffs::begin_attempt(conn, job.lease, &job.key, job.way, address, asks);
    let attempt = begun.await?;
    let (speaks, was_spoken_to) = match job.way {
        Way::Slack | Way::SlackUpdate => presence(conn, &job.key.session_id).await?,
        Way::Crm | Way::Email => (None, false),
    };
    let occasion = Occasion {
        first_attempt_at: attempt.first_at,
        attempt: attempt.number,
        last_attempt: job.is_last,
        speaks,
        was_spoken_to,
    };
    let is_out_of_patience = record.is_out_of_patience;
    let dossier = Dossier::new(&job.key, record, deliveries, occasion);
    Ok(Begin::Attempt(Box::new(Attempt {
        dossier,
        look_first: attempt.look_first,
        is_probe: admission == Admission::Probe,
        is_out_of_patience,
    })))
}

/// Who speaks with the visitor, and whether a person has.
pub(crate) async fn presence(
    conn: &mut PgConnection,
    session_id: &SessionId,
) -> sqlx::Result<(Option<String>, bool)> {
    let found = agents::find(conn, session_id).await?;
    let speaks = found.and_then(|found| found.agent).map(|agent| agent.name);
    Ok((speaks, agents::has_spoken(conn, session_id).await?))
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
