//! Records what became of every attempt.
//!
//! Verdicts that pile up while a statement is under way are recorded together. A database that is
//! away delays them and loses none: their jobs stay in flight, so the process's slots bound how many
//! can wait here.

use std::{collections::BTreeSet, sync::Arc, time::Duration};

use futures::{FutureExt, future::BoxFuture};
use sqlx::PgPool;
use store::bus::{Bus, Wake, reconnect_waits};
use tokio::sync::mpsc;

use crate::{
    end::{Ended, end_with},
    flight::InFlight,
    outcome::{Fence, JobContext, JobError, Outcome, Retry},
    sql::{self, RunAgain},
};

/// At most this many verdicts are recorded at once.
const BATCH: usize = 512;

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
    pub(crate) queue_of: Arc<dyn Fn(&str) -> Option<&'static str> + Send + Sync>,
}

impl Settler {
    /// Records verdicts until no handler is left that could give one.
    pub(crate) async fn run(self, mut settlements: mpsc::UnboundedReceiver<Settlement>) {
        let mut batch = Vec::with_capacity(BATCH);
        while settlements.recv_many(&mut batch, BATCH).await > 0 {
            let (simple, others): (Vec<_>, Vec<_>) = batch.drain(..).partition(|settlement| {
                matches!(settlement.verdict, Verdict::Ended(Outcome::Done))
                    && !settlement.follows_up
                    && settlement.context.serial_key.is_none()
            });
            if !simple.is_empty() {
                self.record_done(&simple).await;
            }
            futures::future::join_all(others.iter().map(|settlement| self.record(settlement)))
                .await;
        }
    }

    async fn record_done(&self, settlements: &[Settlement]) {
        let fences: Vec<Fence> = settlements
            .iter()
            .map(|settlement| settlement.context.fence)
            .collect();
        self.until_recorded(|| sql::finish_many(&self.pool, &fences).boxed())
            .await;
        for settlement in settlements {
            self.settled(settlement, "done");
        }
    }

    async fn record(&self, settlement: &Settlement) {
        let fence = settlement.context.fence;
        let outcome = match &settlement.verdict {
            Verdict::Ended(Outcome::Committed) => "done",
            Verdict::Lost => "lost",
            Verdict::Ended(Outcome::Done) => self.end(settlement, Ended::Done, None).await,
            Verdict::Ended(Outcome::Cancelled) => {
                self.end(settlement, Ended::Cancelled, None).await
            }
            Verdict::Ended(Outcome::Snooze(after)) => {
                self.put_back(settlement, RunAgain::Uncounted { after: *after }, None)
                    .await;
                "snoozed"
            }
            Verdict::HandBack => {
                self.put_back(
                    settlement,
                    RunAgain::Uncounted {
                        after: Duration::ZERO,
                    },
                    None,
                )
                .await;
                "handed_back"
            }
            Verdict::Failed(error) => {
                let last = settlement.context.attempt >= settlement.context.max_attempts;
                tracing::warn!(job = fence.id.0, kind = settlement.kind, attempt = settlement.context.attempt,
                    error = %error, "an attempt failed");
                match error.retry {
                    Retry::Never => self.end(settlement, Ended::Dead, Some(error)).await,
                    _ if last => self.end(settlement, Ended::Dead, Some(error)).await,
                    Retry::AsPlanned => {
                        self.put_back(
                            settlement,
                            RunAgain::AsPlanned {
                                not_before: Duration::ZERO,
                            },
                            Some(error),
                        )
                        .await;
                        "failed"
                    }
                    Retry::NotBefore(not_before) => {
                        self.put_back(settlement, RunAgain::AsPlanned { not_before }, Some(error))
                            .await;
                        "failed"
                    }
                }
            }
        };
        self.settled(settlement, outcome);
    }

    async fn end(
        &self,
        settlement: &Settlement,
        ended: Ended,
        error: Option<&JobError>,
    ) -> &'static str {
        let error = error.map(ToString::to_string);
        let after = self
            .until_recorded(|| {
                self.try_end(&settlement.context, ended, error.as_deref())
                    .boxed()
            })
            .await;
        self.bus.publish(&after);
        ended.as_str()
    }

    async fn try_end(
        &self,
        context: &JobContext,
        ended: Ended,
        error: Option<&str>,
    ) -> sqlx::Result<Wake> {
        let mut after = Wake::default();
        let mut tx = self.pool.begin().await?;
        if let Some(key) = &context.serial_key {
            sql::lock_key(&mut tx, key).await?;
        }
        let Fence { id, lease } = context.fence;
        if end_with(&mut tx, id.0, Some(lease), ended, error, &mut after).await? {
            tx.commit().await?;
        }
        Ok(after)
    }

    async fn put_back(&self, settlement: &Settlement, again: RunAgain, error: Option<&JobError>) {
        let error = error.map(ToString::to_string);
        let wait = self
            .until_recorded(|| {
                let error = error.as_deref();
                async move {
                    let mut conn = self.pool.acquire().await?;
                    sql::put_back(&mut conn, settlement.context.fence, again, error).await
                }
                .boxed()
            })
            .await;
        if let (Some(_), Some(queue)) = (wait, (self.queue_of)(settlement.kind)) {
            // Every claimer of the queue learns the new due time, this process's own too.
            self.bus.publish(&Wake {
                queues: BTreeSet::from([queue.to_owned()]),
                ..Wake::default()
            });
        }
    }

    /// Repeats a write until the database has taken it. Each one is fenced: a repetition of one that
    /// did reach the database changes nothing.
    async fn until_recorded<'w, T>(&self, write: impl Fn() -> BoxFuture<'w, sqlx::Result<T>>) -> T {
        let mut waits = reconnect_waits();
        let mut failed = false;
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
                    return value;
                }
                Err(error) => {
                    failed = true;
                    tracing::warn!(error = %error, "a job's outcome was not recorded yet");
                    tokio::time::sleep(waits.next().unwrap_or(Duration::from_secs(5))).await;
                }
            }
        }
    }

    fn settled(&self, settlement: &Settlement, outcome: &'static str) {
        self.in_flight.remove(settlement.context.fence);
        metrics::counter!("growth_chat_jobs_total", "kind" => settlement.kind, "outcome" => outcome).increment(1);
        metrics::histogram!("growth_chat_job_duration_seconds", "kind" => settlement.kind)
            .record(settlement.context.started.elapsed().as_secs_f64());
    }
}
