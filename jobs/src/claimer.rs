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
use store::{
    bus::{Bus, Interest, Subscription, Wake},
    db::reconnect_waits,
};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use crate::{
    backend::Intake,
    flight::InFlight,
    horizon::Horizon,
    rate::Rate,
    settler::Settlement,
    sql::{self, Asked, Claim, FleetRules},
};

/// Beyond this one statement gets long and its jobs start late; the next claim follows at once.
const MAX_CLAIM: usize = 500;
/// A rescuer looks this long after the lease has ended: its holder's renewal may be on its way.
const RESCUE_MARGIN: Duration = Duration::from_millis(150);
/// Claims that come one after the other share a look behind them.
const LOOK_EVERY: Duration = Duration::from_millis(20);
/// Peers are told at most this often that leases are held here; a lease that began in between has
/// begun this long after an announcement at the latest.
const ANNOUNCE_EVERY: Duration = Duration::from_secs(1);
/// When to look again at due jobs that somebody has locked and that could not be made ready.
const RELEASE_AGAIN: Duration = Duration::from_millis(50);

pub(crate) struct Claimer {
    pub(crate) pool: PgPool,
    pub(crate) bus: Bus,
    pub(crate) in_flight: Arc<InFlight>,
    /// The queues that this process works on.
    pub(crate) queues: BTreeMap<Arc<str>, WorkedQueue>,
    pub(crate) retired: BTreeSet<&'static str>,
    pub(crate) intakes: BTreeMap<&'static str, (&'static str, Intake)>,
    pub(crate) settlements: tokio::sync::mpsc::UnboundedSender<Settlement>,
    pub(crate) worker: Uuid,
    pub(crate) lease: Duration,
    pub(crate) idle_poll: Option<Duration>,
}

/// How this process works on a queue.
#[derive(Debug)]
pub(crate) struct WorkedQueue {
    /// Jobs that run at once in this process.
    pub(crate) slots: usize,
    /// Jobs that run at once in the whole fleet.
    pub(crate) fleet: Option<u32>,
    /// The rates of its kinds.
    pub(crate) rates: Option<BTreeMap<&'static str, Rate>>,
}

/// What the claimer means to do next.
#[derive(Debug, Default)]
struct Plan {
    /// Queues that may have due jobs.
    queues: BTreeSet<Arc<str>>,
    /// The outlook may have changed since it was last asked for.
    look: bool,
    /// When to look again without being woken.
    next: Option<Instant>,
    /// The database failed: nothing is asked before this.
    hold_until: Option<Instant>,
    /// Claims in a row that found nothing although something was due.
    empty_claims: u32,
    /// Queues whose due jobs somebody else has locked, and when to try them again.
    locked: Option<(Instant, BTreeSet<Arc<str>>)>,
    /// Peers may hold leases that end by then.
    leases_until: Option<Instant>,
    /// Nobody is rescued before this.
    no_rescue_before: Option<Instant>,
    announced: Option<Instant>,
    /// Held while something is to be done within a lease; beyond that a process that hears nothing
    /// finds it by its timer all the same.
    alert: Option<Interest>,
    horizon: Horizon,
    /// When it was last asked what is due.
    looked: Option<Instant>,
}

impl Plan {
    /// Has a look follow, at once if the last was some time ago.
    fn look_soon(&mut self) {
        let now = Instant::now();
        match self.looked.map(|looked| looked + LOOK_EVERY) {
            Some(at) if at > now => self.next = self.next.into_iter().chain([at]).min(),
            _ => self.look = true,
        }
    }
}

impl Claimer {
    /// Claims until `shutdown`.
    pub(crate) async fn run(self, mut subscription: Subscription, shutdown: CancellationToken) {
        let mut plan = Plan {
            look: true,
            ..Plan::default()
        };
        if self.idle_poll.is_some() {
            self.bus.stay_awake();
        }
        let mut waits = reconnect_waits();
        loop {
            // Whoever asks the database hears of others as well.
            self.bus.rouse();
            match self.step(&mut plan, &shutdown).await {
                Ok(()) => waits = reconnect_waits(),
                Err(error) => {
                    tracing::warn!(error = %error, "claiming failed");
                    // Nobody knows what is due: that is not being idle.
                    self.bus.touch();
                    if sql::is_passing(&error) {
                        // Everybody's leases may have ended meanwhile: their holders renew them first.
                        plan.no_rescue_before = Some(Instant::now() + self.lease);
                    }
                    // A claim whose answer was lost has left jobs under leases that nobody renews.
                    plan.look = true;
                    plan.hold_until =
                        Some(Instant::now() + waits.next().unwrap_or(Duration::from_secs(5)));
                }
            }
            if !self.wait(&mut plan, &mut subscription, &shutdown).await {
                return;
            }
        }
    }

    /// Sleeps until there is something to ask the database; false at shutdown.
    async fn wait(
        &self,
        plan: &mut Plan,
        subscription: &mut Subscription,
        shutdown: &CancellationToken,
    ) -> bool {
        loop {
            let slot_freed = self.in_flight.changed.notified();
            tokio::pin!(slot_freed);
            slot_freed.as_mut().enable();
            let held = plan.hold_until.is_some_and(|until| until > Instant::now());
            if !held && (plan.look || plan.queues.iter().any(|queue| self.free_slots(queue) > 0)) {
                return !shutdown.is_cancelled();
            }
            let retry = plan.locked.as_ref().map(|(at, _)| *at);
            let timer = if held {
                plan.hold_until
            } else {
                plan.next.into_iter().chain(retry).min()
            };
            let soon = Instant::now() + self.lease + ANNOUNCE_EVERY + RESCUE_MARGIN;
            plan.alert = timer
                .is_some_and(|at| at <= soon)
                .then(|| self.bus.interest());
            let timer = async {
                match timer {
                    Some(at) => tokio::time::sleep_until(at).await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                () = shutdown.cancelled() => return false,
                wake = subscription.wait() => self.note(plan, wake),
                () = slot_freed, if !plan.queues.is_empty() => {}
                () = timer => if !held {
                    match plan.locked.take_if(|(at, _)| *at <= Instant::now()) {
                        Some((_, queues)) => plan.queues.extend(queues),
                        None => plan.look = true,
                    }
                },
            }
        }
    }

    fn note(&self, plan: &mut Plan, wake: Wake) {
        for id in wake.cancelled_jobs {
            self.in_flight.cancel(id);
        }
        let now = Instant::now();
        if wake.outage {
            let until = now + self.lease;
            plan.no_rescue_before = plan.no_rescue_before.max(Some(until));
        }
        if wake.rescan {
            plan.look = true;
            plan.horizon.forget();
            // Most often the bus has just reached the database again.
            plan.hold_until = None;
        }
        if wake.leases {
            // If the peer dies, whatever it held is abandoned and seen then; until then there is
            // nothing to ask.
            let ended = now + self.lease.max(ANNOUNCE_EVERY) + RESCUE_MARGIN;
            plan.leases_until = Some(ended);
            plan.next = Some(plan.next.map_or(ended, |next| next.min(ended)));
            self.bus.expect(plan.next);
        }
        let ours = |queue: &String| self.queues.get_key_value(queue.as_str());
        let ours = wake.queues.iter().filter_map(ours);
        plan.queues.extend(ours.map(|(queue, _)| Arc::clone(queue)));
    }

    fn free_slots(&self, queue: &str) -> usize {
        let slots = self.queues.get(queue).map_or(0, |queue| queue.slots);
        slots.saturating_sub(self.in_flight.of_queue(queue))
    }

    async fn step(&self, plan: &mut Plan, shutdown: &CancellationToken) -> sqlx::Result<()> {
        let queues: Vec<Arc<str>> = plan.queues.iter().cloned().collect();
        let mut refused = None;
        for queue in queues {
            if shutdown.is_cancelled() {
                return Ok(());
            }
            match self.claim(plan, &queue, shutdown).await {
                // What is wrong with one queue must not stop the others.
                Err(error) if !sql::is_passing(&error) => refused = Some(error),
                outcome => outcome?,
            }
        }
        if plan.look {
            self.look(plan).await?;
        }
        refused.map_or(Ok(()), Err)
    }

    /// Claims for the free slots of a queue; it leaves the plan when nothing due is left in it.
    async fn claim(
        &self,
        plan: &mut Plan,
        queue: &Arc<str>,
        shutdown: &CancellationToken,
    ) -> sqlx::Result<()> {
        let free = self.free_slots(queue).min(MAX_CLAIM);
        if free == 0 {
            return Ok(());
        }
        let claim = Claim {
            queue,
            limit: i64::try_from(free).unwrap_or(1),
            worker: self.worker,
            lease: self.lease,
            floor: plan.horizon.floor(queue),
        };
        let rules = self.queues.get(queue).map(|queue| FleetRules {
            running: queue.fleet,
            rates: queue.rates.as_ref(),
        });
        let claims = match rules {
            Some(rules) if rules.running.is_some() || rules.rates.is_some() => {
                sql::claim_limited(&self.pool, claim, rules).await?
            }
            _ => sql::claim(&self.pool, claim).await?,
        };
        if !claims.more {
            plan.queues.remove(queue);
            // What is not due yet is known only by looking; so is what a peer holds.
            plan.look_soon();
        }
        if claims.jobs.is_empty() {
            if !claims.more {
                plan.empty_claims = plan.empty_claims.saturating_add(1);
            }
            return Ok(());
        }
        plan.empty_claims = 0;
        for job in claims.jobs {
            self.start(queue, job, shutdown);
        }
        if plan
            .announced
            .is_none_or(|at| at.elapsed() >= ANNOUNCE_EVERY)
        {
            plan.announced = Some(Instant::now());
            self.bus.announce_leases();
        }
        Ok(())
    }

    /// Finds out what is due and when to look again, and rescues what was abandoned.
    async fn look(&self, plan: &mut Plan) -> sqlx::Result<()> {
        let now = Instant::now();
        let everything = plan.horizon.is_due(now);
        if everything {
            plan.horizon.forget();
        }
        let asked = self.ask_behind(&plan.horizon);
        let mut outlook = sql::outlook(&self.pool, &asked).await?;
        let overdue = outlook.next_due.is_some_and(|wait| wait.is_zero());
        // What is overdue or paused is still to be looked at, however old it is.
        let known = self
            .queues
            .keys()
            .zip(outlook.oldest.iter().zip(&outlook.paused));
        let known = known.filter(|(_, (_, paused))| !overdue && !**paused);
        let known =
            known.map(|(queue, (oldest, _))| (Arc::clone(queue), oldest.unwrap_or(outlook.at)));
        if everything {
            plan.horizon
                .looked_at_everything(outlook.at, now.elapsed(), known);
        } else {
            plan.horizon.looked_behind(outlook.at, known);
        }
        if overdue {
            let released = sql::release_due(&self.pool, &asked.queues).await?;
            // More may be due, or due next; those that were passed over are locked for a moment.
            let again = if released.is_empty() {
                RELEASE_AGAIN
            } else {
                Duration::ZERO
            };
            outlook.next_due = Some(again);
            outlook.due.extend(released);
        }
        plan.look = false;
        plan.looked = Some(now);
        plan.hold_until = None;
        let now = Instant::now();
        self.plan_claims(plan, &outlook.due, now);
        let mut next: Vec<Duration> = outlook.next_due.into_iter().collect();
        plan.leases_until = plan.leases_until.filter(|until| *until > now);
        next.extend(plan.leases_until.map(|until| until - now));
        if let Some(lease_end) = outlook.next_lease_end {
            let held_off = plan
                .no_rescue_before
                .map_or(Duration::ZERO, |until| until.saturating_duration_since(now));
            next.push(if lease_end.is_zero() && held_off.is_zero() {
                self.rescue().await?
            } else {
                lease_end.max(held_off) + RESCUE_MARGIN
            });
        }
        plan.next = next.into_iter().min().map(|wait| now + wait);
        self.bus.expect(plan.next);
        let poll = self.idle_poll.map(|wait| now + wait);
        plan.next = plan.next.into_iter().chain(poll).min();
        plan.next = plan.next.into_iter().chain(plan.horizon.due_at()).min();
        Ok(())
    }

    /// Everything that this process wants to know, as far back as it has to look.
    fn ask_behind(&self, horizon: &Horizon) -> Asked {
        let mut asked = Asked {
            leases: horizon.leases(),
            ..Asked::default()
        };
        for (name, queue) in &self.queues {
            let most = i32::try_from(queue.fleet.unwrap_or(0)).unwrap_or(i32::MAX);
            asked.queues.push(name.to_string());
            asked.most.push(most);
            asked.floors.push(horizon.floor(name));
        }
        asked
    }

    /// Due jobs that a claim does not get are locked, most often by a peer that is just claiming
    /// them; but a transaction may also hold them for long.
    fn plan_claims(&self, plan: &mut Plan, due: &[String], now: Instant) {
        if due.is_empty() {
            plan.empty_claims = 0;
        }
        let due = due.iter().filter_map(|queue| {
            let (queue, _) = self.queues.get_key_value(queue.as_str())?;
            Some(Arc::clone(queue))
        });
        if plan.empty_claims < 2 {
            plan.locked = None;
            plan.queues.extend(due);
        } else {
            let due: BTreeSet<_> = due.filter(|queue| !plan.queues.contains(queue)).collect();
            let pause = Duration::from_millis(4 << plan.empty_claims.min(8));
            plan.locked = (!due.is_empty()).then_some((now + pause, due));
        }
    }
}
