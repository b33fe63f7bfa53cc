//! Claims jobs for the free slots of this process, and rescues jobs whose lease has ended.
//!
//! It sleeps until something happens: a wake-up, a slot that becomes free, the earliest due time or
//! lease end that it knows of, the fallback poll. Asleep it issues no SQL.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
    time::Duration,
};

use sqlx::PgPool;
use store::bus::{Bus, Subscription, Wake, reconnect_waits};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use crate::{
    backend::{Intake, Undelivered},
    end::{Ended, end_with},
    flight::InFlight,
    kind::JobId,
    outcome::{Fence, JobContext, JobError, Stop},
    settler::{Settlement, Verdict},
    sql::{self, Abandoned, Claimed, RunAgain},
};

/// Beyond this one statement gets long and its jobs start late; the next claim follows at once.
const MAX_CLAIM: usize = 200;
/// A rescuer looks this long after the lease has ended: its holder's renewal may be on its way.
const RESCUE_MARGIN: Duration = Duration::from_millis(150);
/// Peers are told at most this often that leases are held here.
const ANNOUNCE_EVERY: Duration = Duration::from_secs(1);

pub(crate) struct Claimer {
    pub(crate) pool: PgPool,
    pub(crate) bus: Bus,
    pub(crate) in_flight: Arc<InFlight>,
    /// Slots of each queue.
    pub(crate) slots: BTreeMap<String, usize>,
    pub(crate) intakes: BTreeMap<&'static str, (&'static str, Intake)>,
    pub(crate) settlements: tokio::sync::mpsc::UnboundedSender<Settlement>,
    pub(crate) worker: Uuid,
    pub(crate) lease: Duration,
    pub(crate) idle_poll: Option<Duration>,
}

/// What the claimer means to do next.
#[derive(Debug, Default)]
struct Plan {
    /// Queues that may have due jobs.
    queues: BTreeSet<String>,
    /// The outlook may have changed since it was last asked for.
    look: bool,
    /// When to look again without being woken.
    next: Option<Instant>,
    /// Nobody is rescued before this.
    no_rescue_before: Option<Instant>,
    announced: Option<Instant>,
}

impl Claimer {
    /// Claims until `shutdown`.
    pub(crate) async fn run(self, mut subscription: Subscription, shutdown: CancellationToken) {
        let mut plan = Plan {
            look: true,
            ..Plan::default()
        };
        let mut waits = reconnect_waits();
        loop {
            match self.step(&mut plan, &shutdown).await {
                Ok(()) => waits = reconnect_waits(),
                Err(error) => {
                    tracing::warn!(error = %error, "claiming failed");
                    // Everybody's leases may have ended meanwhile: their holders renew them first.
                    plan.no_rescue_before = Some(Instant::now() + self.lease);
                    plan.look = true;
                    plan.next =
                        Some(Instant::now() + waits.next().unwrap_or(Duration::from_secs(5)));
                }
            }
            if !self.wait(&mut plan, &mut subscription, &shutdown).await {
                return;
            }
        }
    }

    /// Sleeps until there may be something to do; false at shutdown.
    async fn wait(
        &self,
        plan: &mut Plan,
        subscription: &mut Subscription,
        shutdown: &CancellationToken,
    ) -> bool {
        let slot_freed = self.in_flight.changed.notified();
        tokio::pin!(slot_freed);
        slot_freed.as_mut().enable();
        if plan.queues.iter().any(|queue| self.free_slots(queue) > 0) {
            return !shutdown.is_cancelled();
        }
        let timer = async {
            match plan.next {
                Some(next) => tokio::time::sleep_until(next).await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            () = shutdown.cancelled() => return false,
            wake = subscription.wait() => self.note(plan, wake),
            () = slot_freed, if !plan.queues.is_empty() => {}
            () = timer => plan.look = true,
        }
        true
    }

    fn note(&self, plan: &mut Plan, wake: Wake) {
        for id in wake.cancelled_jobs {
            self.in_flight.cancel(id);
        }
        if wake.rescan || wake.leases {
            plan.look = true;
        }
        plan.queues.extend(
            wake.queues
                .into_iter()
                .filter(|queue| self.slots.contains_key(queue)),
        );
    }

    fn free_slots(&self, queue: &str) -> usize {
        let slots = self.slots.get(queue).copied().unwrap_or(0);
        slots.saturating_sub(self.in_flight.of_queue(queue))
    }

    async fn step(&self, plan: &mut Plan, shutdown: &CancellationToken) -> sqlx::Result<()> {
        let queues: Vec<String> = plan.queues.iter().cloned().collect();
        for queue in queues {
            if shutdown.is_cancelled() {
                return Ok(());
            }
            self.claim(plan, &queue).await?;
        }
        if plan.look {
            self.look(plan).await?;
        }
        Ok(())
    }

    /// Claims for the free slots of a queue; it leaves the plan when nothing due is left in it.
    async fn claim(&self, plan: &mut Plan, queue: &str) -> sqlx::Result<()> {
        let free = self.free_slots(queue).min(MAX_CLAIM);
        if free == 0 {
            return Ok(());
        }
        let limit = i64::try_from(free).unwrap_or(1);
        let claimed = sql::claim(&self.pool, queue, limit, self.worker, self.lease).await?;
        if claimed.len() < free {
            plan.queues.remove(queue);
            // What is not due yet is known only by looking; so is what a peer holds.
            plan.look = true;
        }
        let any = !claimed.is_empty();
        for job in claimed {
            self.start(queue, job);
        }
        if any
            && plan
                .announced
                .is_none_or(|at| at.elapsed() > ANNOUNCE_EVERY)
        {
            plan.announced = Some(Instant::now());
            self.bus.announce_leases();
        }
        Ok(())
    }

    /// Hands a claimed job to the worker of its kind.
    fn start(&self, queue: &str, job: Claimed) {
        let fence = Fence {
            id: JobId(job.id),
            lease: job.lease,
        };
        let stop = self.in_flight.add(fence, queue);
        if job.cancel_requested {
            self.in_flight.stop(fence, Stop::Cancelled);
        }
        metrics::histogram!("growth_chat_job_wait_seconds", "queue" => queue.to_owned())
            .record(job.waited.max(0.0));
        let context = JobContext {
            fence,
            attempt: job.attempt,
            max_attempts: job.max_attempts,
            serial_key: job.serial_key,
            started: std::time::Instant::now(),
            stop,
        };
        let (kind, error) = match self.intakes.get(job.kind.as_str()) {
            Some((kind, intake)) => match (intake.deliver)(&job.payload, context.clone()) {
                Ok(()) => return,
                Err(Undelivered::Undecodable) => {
                    (*kind, JobError::fatal(Undelivered::Undecodable.to_string()))
                }
                Err(Undelivered::NoRoom) => {
                    (*kind, JobError::retry(Undelivered::NoRoom.to_string()))
                }
            },
            // A newer version may know it: its waits give a rolling deployment time.
            None => (
                "unknown",
                JobError::retry("no handler of this version knows the job's kind"),
            ),
        };
        let verdict = Verdict::Failed(error);
        // The settler outlives the claimer.
        let _ = self.settlements.send(Settlement {
            kind,
            follows_up: true,
            context,
            verdict,
        });
    }

    /// Finds out what is due and when to look again, and rescues what was abandoned.
    async fn look(&self, plan: &mut Plan) -> sqlx::Result<()> {
        let queues: Vec<String> = self.slots.keys().cloned().collect();
        let outlook = sql::outlook(&self.pool, &queues).await?;
        plan.look = false;
        plan.queues.extend(outlook.due);
        let now = Instant::now();
        let mut next: Vec<Duration> = self.idle_poll.into_iter().collect();
        next.extend(outlook.next_due);
        if let Some(lease_end) = outlook.next_lease_end {
            let held_off = plan
                .no_rescue_before
                .map_or(Duration::ZERO, |until| until.saturating_duration_since(now));
            if lease_end.is_zero() && held_off.is_zero() {
                self.rescue().await?;
                // Whatever is left is looked at again soon.
                next.push(Duration::from_millis(500));
            } else {
                next.push(lease_end.max(held_off) + RESCUE_MARGIN);
            }
        }
        plan.next = next.into_iter().min().map(|wait| now + wait);
        Ok(())
    }

    async fn rescue(&self) -> sqlx::Result<()> {
        for job in sql::abandoned(&self.pool, self.lease).await? {
            let mut after = Wake::default();
            let mut tx = self.pool.begin().await?;
            if let Some(key) = &job.serial_key {
                sql::lock_key(&mut tx, key).await?;
            }
            if !sql::lock_abandoned(&mut tx, &job).await? {
                continue;
            }
            let outcome = self.take_over(&mut tx, &job, &mut after).await?;
            tx.commit().await?;
            tracing::warn!(
                job = job.id,
                kind = job.kind,
                outcome,
                "a job's lease ended without its worker"
            );
            metrics::counter!("growth_chat_jobs_total", "kind" => job.kind, "outcome" => outcome)
                .increment(1);
            self.bus.publish(&after);
        }
        Ok(())
    }

    async fn take_over(
        &self,
        conn: &mut sqlx::PgConnection,
        job: &Abandoned,
        after: &mut Wake,
    ) -> sqlx::Result<&'static str> {
        const LOST: &str = "the lease ended: its worker was lost";
        let lease = Some(job.lease);
        if job.cancel_requested {
            end_with(conn, job.id, lease, Ended::Cancelled, Some(LOST), after).await?;
            Ok("cancelled")
        } else if job.no_attempt_left {
            end_with(conn, job.id, lease, Ended::Dead, Some(LOST), after).await?;
            Ok("dead")
        } else {
            let fence = Fence {
                id: JobId(job.id),
                lease: job.lease,
            };
            sql::put_back(conn, fence, RunAgain::AtOnce, Some(LOST)).await?;
            after.queues.insert(job.queue.clone());
            Ok("rescued")
        }
    }
}
