//! Records what became of every attempt.
//!
//! Plain successes that pile up while a statement is under way are recorded together; everything else
//! by itself, so that a key whose lock is held elsewhere delays nobody. A database that is away delays
//! verdicts and loses none: their jobs stay in flight, so the process's slots bound how many wait here.

use std::{collections::BTreeSet, sync::Arc, time::Duration};

use futures::{FutureExt, StreamExt, future::BoxFuture, stream::FuturesUnordered};
use sqlx::PgPool;
use store::{
    bus::{Bus, Wake},
    db::reconnect_waits,
    trace::{Span, attribute},
};
use tokio::sync::mpsc;
use tracing::field::display;

use crate::{
    end::end_with,
    fence::Fence,
    flight::InFlight,
    outcome::Ended,
    outcome::{JobContext, JobError, Outcome, Retry},
    sql::{self, RunAgain},
};

/// At most this many verdicts are recorded by one statement.
const BATCH: usize = 500;
/// As many statements at once, the second only when half a batch waits: under load one can be
/// written while the other is being committed.
const BATCHES: usize = 2;
/// How often a write is tried that the database itself refuses. Then it is left to the end of the
/// lease, which counts the attempt: a slot must not be lost for ever.
const REFUSALS: usize = 5;

/// What became of an attempt.
#[derive(Debug)]
pub(crate) enum Verdict {
    Ended(Outcome),
    Failed(JobError),
    /// The process ends before the handler did.
    HandBack,
    /// Another worker has the job.
    Lost,
}

impl Verdict {
    /// Says it of the attempt's span.
    pub(crate) fn tell(&self, span: &mut Span) {
        let outcome = match self {
            Self::Ended(Outcome::Done | Outcome::Committed) => "done",
            Self::Ended(Outcome::Cancelled) => "cancelled",
            Self::Ended(Outcome::Snooze(_)) => "snoozed",
            Self::Failed(_) => "failed",
            Self::HandBack => "handed_back",
            Self::Lost => "lost",
        };
        span.set(attribute::JOB_OUTCOME, outcome);
        if let Self::Failed(error) = self
            && span.is_recorded()
        {
            span.fail("job_failed");
            span.set(attribute::JOB_ERROR, error.stored());
        }
    }
}

/// A verdict and the attempt that it is about.
#[derive(Debug)]
pub(crate) struct Settlement {
    pub(crate) kind: &'static str,
    pub(crate) follows_up: bool,
    pub(crate) context: JobContext,
    pub(crate) verdict: Verdict,
}

/// Records verdicts.
pub(crate) struct Settler {
    pub(crate) pool: PgPool,
    pub(crate) bus: Bus,
    pub(crate) in_flight: Arc<InFlight>,
    /// Queues with a limit of the fleet: a job that ends there makes room elsewhere.
    pub(crate) limited: BTreeSet<String>,
}

/// What is to be written for a verdict, and the word for it in the metrics.
#[derive(Debug, PartialEq, Eq)]
enum Write {
    /// Nothing any more.
    Nothing(&'static str),
    End(Ended, Option<String>),
    PutBack(RunAgain, Option<String>, &'static str),
}

impl Settlement {
    fn write(&self) -> Write {
        let context = &self.context;
        match &self.verdict {
            Verdict::Ended(Outcome::Committed) => Write::Nothing("done"),
            Verdict::Lost => Write::Nothing("lost"),
            Verdict::Ended(Outcome::Done) => Write::End(Ended::Done, None),
            Verdict::Ended(Outcome::Cancelled) => Write::End(Ended::Cancelled, None),
            Verdict::Ended(Outcome::Snooze(after)) => {
                Write::PutBack(RunAgain::Uncounted { after: *after }, None, "snoozed")
            }
            Verdict::HandBack => {
                let at_once = RunAgain::Uncounted {
                    after: Duration::ZERO,
                };
                Write::PutBack(at_once, None, "handed_back")
            }
            Verdict::Failed(error) => {
                let last = context.attempt >= context.max_attempts;
                let not_before = match error.retry {
                    Retry::Never => None,
                    _ if last => None,
                    Retry::AsPlanned => Some(Duration::ZERO),
                    Retry::NotBefore(wait) => Some(wait),
                };
                match not_before {
                    None => Write::End(Ended::Dead, Some(error.stored())),
                    Some(not_before) => {
                        let planned = RunAgain::AsPlanned { not_before };
                        Write::PutBack(planned, Some(error.stored()), "failed")
                    }
                }
            }
        }
    }

    /// Whether one statement may record it together with others.
    fn is_plain(&self) -> bool {
        matches!(self.verdict, Verdict::Ended(Outcome::Done))
            && !self.follows_up
            && self.context.serial_key.is_none()
    }
}

impl Settler {
    /// Records verdicts until no handler is left that could give one.
    pub(crate) async fn run(self, mut settlements: mpsc::UnboundedReceiver<Settlement>) {
        let settler = &self;
        let mut arrived = Vec::with_capacity(BATCH);
        let mut open = true;
        let mut plain = Vec::new();
        let mut batches = 0;
        let mut under_way = FuturesUnordered::new();
        loop {
            if batches == 0 && !plain.is_empty() || batches < BATCHES && plain.len() >= BATCH / 2 {
                batches += 1;
                let batch: Vec<Settlement> = plain.drain(..plain.len().min(BATCH)).collect();
                let record = async move {
                    settler.record_done(&batch).await;
                    true
                };
                under_way.push(record.boxed());
            }
            tokio::select! {
                count = settlements.recv_many(&mut arrived, BATCH), if open => {
                    open = count > 0;
                    for settlement in arrived.drain(..) {
                        if settlement.is_plain() {
                            plain.push(settlement);
                        } else {
                            let record = async move {
                                settler.record(&settlement).await;
                                false
                            };
                            under_way.push(record.boxed());
                        }
                    }
                }
                Some(was_batch) = under_way.next() => batches -= usize::from(was_batch),
                else => return,
            }
        }
    }

    async fn record_done(&self, settlements: &[Settlement]) {
        let fences: Vec<Fence> = settlements
            .iter()
            .map(|settlement| settlement.context.fence)
            .collect();
        let written = self
            .until_written(|| sql::finish_many(&self.pool, &fences).boxed())
            .await;
        let outcome = if written.is_some() { "done" } else { "refused" };
        self.settled(settlements, outcome);
    }

    async fn record(&self, settlement: &Settlement) {
        let fence = settlement.context.fence;
        if let Verdict::Failed(error) = &settlement.verdict {
            let trace_id = settlement
                .context
                .trace()
                .map(|trace| display(trace.trace_id()));
            tracing::warn!(trace_id, job_id = fence.id.0, kind = settlement.kind, attempt = settlement.context.attempt,
                error = %error, "an attempt failed");
        }
        let outcome = match settlement.write() {
            Write::Nothing(outcome) => {
                if outcome == "lost" {
                    // Its handler may have been dropped between a commit and the wake-up after it.
                    self.wake_queue(settlement);
                }
                outcome
            }
            Write::End(ended, error) => {
                let end = || {
                    self.try_end(&settlement.context, ended, error.as_deref())
                        .boxed()
                };
                match self.until_written(end).await {
                    None => "refused",
                    Some(Some(after)) => {
                        self.bus.publish(&after);
                        ended.as_str()
                    }
                    Some(None) => {
                        self.wake_queue(settlement);
                        "lost"
                    }
                }
            }
            Write::PutBack(again, error, outcome) => {
                let put_back = || {
                    let error = error.as_deref();
                    async move {
                        let mut conn = self.pool.acquire().await?;
                        sql::put_back(&mut conn, fence, again, error).await
                    }
                    .boxed()
                };
                let written = self.until_written(put_back).await;
                // Every claimer of the queue learns the new due time, this process's own too.
                self.wake_queue(settlement);
                match written {
                    None => "refused",
                    Some(None) => "lost",
                    Some(Some(_)) => outcome,
                }
            }
        };
        self.settled(std::slice::from_ref(settlement), outcome);
    }

    /// None: the fence did not hold.
    async fn try_end(
        &self,
        context: &JobContext,
        ended: Ended,
        error: Option<&str>,
    ) -> sqlx::Result<Option<Wake>> {
        let mut after = Wake::default();
        let mut tx = self.pool.begin().await?;
        if let Some(key) = &context.serial_key {
            sql::lock_key(&mut tx, key).await?;
        }
        let Fence { id, lease } = context.fence;
        if !end_with(&mut tx, id.0, Some(lease), ended, error, &mut after).await? {
            return Ok(None);
        }
        tx.commit().await?;
        Ok(Some(after))
    }

    fn wake_queue(&self, settlement: &Settlement) {
        self.bus.jobs_ready(&settlement.context.queue);
    }

    /// Repeats a write until the database has taken it; None: it refuses to. Each write is fenced: a
    /// repetition of one that did reach the database changes nothing.
    async fn until_written<'w, T>(
        &self,
        write: impl Fn() -> BoxFuture<'w, sqlx::Result<T>>,
    ) -> Option<T> {
        let mut waits = reconnect_waits();
        let mut failed = false;
        let mut refusals = 0;
        loop {
            match write().await {
                Ok(value) => {
                    if failed {
                        // An earlier try may have been committed and its wake-ups lost with the answer.
                        self.bus.publish(&Wake {
                            rescan: true,
                            ..Wake::default()
                        });
                    }
                    return Some(value);
                }
                Err(error) => {
                    failed = true;
                    if !sql::is_passing(&error) {
                        refusals += 1;
                        if refusals == REFUSALS {
                            tracing::error!(error = %error, "a job's outcome can't be recorded: its lease will end");
                            return None;
                        }
                    }
                    tracing::warn!(error = %error, "a job's outcome was not recorded yet");
                    tokio::time::sleep(waits.next().unwrap_or(Duration::from_secs(5))).await;
                }
            }
        }
    }

    fn settled(&self, settlements: &[Settlement], outcome: &'static str) {
        self.in_flight.remove(
            settlements
                .iter()
                .map(|settlement| settlement.context.fence),
        );
        for settlement in settlements {
            if self.limited.contains(&*settlement.context.queue) {
                self.wake_queue(settlement);
            }
            metrics::counter!("growth_chat_jobs_total", "kind" => settlement.kind, "outcome" => outcome).increment(1);
            metrics::histogram!("growth_chat_job_duration_seconds", "kind" => settlement.kind)
                .record(settlement.context.started.elapsed().as_secs_f64());
            if matches!(outcome, "done" | "dead" | "cancelled") {
                metrics::histogram!("growth_chat_job_attempts", "kind" => settlement.kind)
                    .record(settlement.context.attempt);
            }
        }
    }
}
