//! Assembles a process's workers and runs them.

use std::{
    collections::{BTreeMap, BTreeSet},
    str::FromStr,
    sync::Arc,
    time::Duration,
};

use apalis::prelude::WorkerContext;
use futures::future::BoxFuture;
use store::{
    bus::Bus,
    clock::{SharedClock, SystemClock},
    db::Database,
    ids::{SharedEntropy, SystemEntropy},
    settings::Settings,
};
use tokio::{
    sync::{mpsc, oneshot},
    task::JoinSet,
};
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use crate::{
    backend::{self, Intake},
    catalog::{QUEUE_RULES, QUEUES, RETIRED},
    claimer::{Claimer, WorkedQueue},
    enqueue::QueueError,
    flight::InFlight,
    kind::JobKind,
    outcome::{HandlerResult, JobContext, Stop},
    rate::Rate,
    renewer,
    schedule::{Fire, Schedule, Ticker},
    settler::{Settlement, Settler},
};

/// Jobs of one queue that run at once in a process, where neither the catalogue nor
/// `WORKER_CONCURRENCY` says otherwise.
const DEFAULT_SLOTS: usize = 64;
/// How long the last verdicts may take after the drain: the rest is left to the lease's end.
const SETTLE_TIME: Duration = Duration::from_secs(3);

/// How this process works on the queue.
#[derive(Debug, Clone)]
pub struct QueueConfig {
    /// The queues it works on; empty: every queue that has a handler.
    pub queues: Vec<String>,
    /// Jobs of one queue that run at once in this process.
    pub concurrency: Concurrency,
    /// Jobs of a queue that run at once in the whole fleet; the same in every process.
    pub fleet: BTreeMap<String, u32>,
    /// How long a claimed job is this process's without a renewal.
    pub lease: Duration,
    /// How often an idle process looks for work that no wake-up told of; `None`: never.
    pub idle_poll: Option<Duration>,
    /// For how many days jobs are kept that are done or were cancelled.
    pub history_days: i32,
}

impl Default for QueueConfig {
    fn default() -> Self {
        Self {
            queues: Vec::new(),
            concurrency: Concurrency::default(),
            fleet: QUEUE_RULES
                .iter()
                .filter_map(|rules| Some((rules.queue.to_owned(), rules.fleet?)))
                .collect(),
            lease: Duration::from_secs(4),
            idle_poll: Some(Duration::from_secs(30)),
            history_days: 7,
        }
    }
}

impl QueueConfig {
    /// Reads `WORKER_QUEUES`, `WORKER_CONCURRENCY`, `QUEUE_LEASE_SECONDS`, `QUEUE_IDLE_POLL_SECONDS` and
    /// `JOB_HISTORY_DAYS`.
    pub fn read(settings: &mut Settings) -> Option<Self> {
        let known: BTreeSet<&str> = QUEUES.iter().copied().collect();
        let known: Vec<&str> = known.into_iter().collect();
        let rule = format!("all, or some of {}, comma-separated", known.join(", "));
        let queues: Option<String> = settings.optional("WORKER_QUEUES", &rule);
        let named_none = |names: &str| names.split(',').all(|name| name.trim().is_empty());
        if queues.as_deref().is_some_and(named_none) {
            settings.problem("WORKER_QUEUES", format!("names no queue: {rule}"));
        }
        let queues = match queues.as_deref() {
            None | Some("all") => Vec::new(),
            Some(names) => names
                .split(',')
                .map(|name| name.trim().to_owned())
                .filter(|name| !name.is_empty())
                .collect(),
        };
        if queues.iter().any(|queue| !QUEUES.contains(&queue.as_str())) {
            settings.problem(
                "WORKER_QUEUES",
                format!("names a queue that does not exist: {rule}"),
            );
        }
        let concurrency: Option<Concurrency> =
            settings.optional("WORKER_CONCURRENCY", Concurrency::RULE);
        let lease = settings.with_default("QUEUE_LEASE_SECONDS", 4_u64, "2 to 300", |s| {
            (2..=300).contains(s)
        });
        let poll = settings.with_default(
            "QUEUE_IDLE_POLL_SECONDS",
            30_u64,
            "0 (never) to 3600",
            |s| *s <= 3600,
        );
        let history_days = settings.with_default("JOB_HISTORY_DAYS", 7, "1 to 3650", |days| {
            (1..=3650).contains(days)
        });
        Some(Self {
            queues,
            concurrency: concurrency.unwrap_or_default(),
            fleet: Self::default().fleet,
            lease: Duration::from_secs(lease),
            idle_poll: (poll > 0).then(|| Duration::from_secs(poll)),
            history_days,
        })
    }

    fn slots(&self, queue: &str) -> usize {
        let of_catalogue = || QUEUE_RULES.iter().find(|rules| rules.queue == queue);
        let Concurrency { every, of } = &self.concurrency;
        of.get(queue)
            .copied()
            .or(*every)
            .or_else(|| of_catalogue().map(|rules| rules.slots))
            .unwrap_or(DEFAULT_SLOTS)
    }
}

/// Jobs of one queue that run at once in a process. Written as one number for every queue, as
/// `turns=100,knowledge=4`, or as both: `32,knowledge=4`.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Concurrency {
    /// Of each queue that is not named; none: its default.
    pub every: Option<usize>,
    /// Of the named queues.
    pub of: BTreeMap<String, usize>,
}

impl Concurrency {
    const RULE: &str = "1 to 10000 for every queue, or as in turns=100,knowledge=4";

    /// The same for every queue.
    pub fn of_every_queue(slots: usize) -> Self {
        Self {
            every: Some(slots),
            of: BTreeMap::new(),
        }
    }
}

impl FromStr for Concurrency {
    type Err = ();

    fn from_str(text: &str) -> Result<Self, ()> {
        let slots = |text: &str| {
            let slots = text.trim().parse().map_err(|_| ())?;
            (1..=10_000).contains(&slots).then_some(slots).ok_or(())
        };
        let mut parsed = Self::default();
        for part in text.split(',') {
            let again = match part.split_once('=') {
                None => parsed.every.replace(slots(part)?).is_some(),
                Some((queue, count)) => {
                    let queue = queue.trim();
                    if !QUEUES.contains(&queue) {
                        return Err(());
                    }
                    parsed.of.insert(queue.to_owned(), slots(count)?).is_some()
                }
            };
            if again {
                return Err(());
            }
        }
        Ok(parsed)
    }
}

/// A core task ended while it should not: the process has to end too.
#[derive(Debug, thiserror::Error)]
#[error("the queue's {0} ended")]
pub struct CoreTaskEnded(pub &'static str);

/// The workers of a process, being assembled.
pub struct Runtime {
    pub(crate) database: Database,
    bus: Bus,
    pub(crate) config: QueueConfig,
    entropy: SharedEntropy,
    in_flight: Arc<InFlight>,
    settlements: mpsc::UnboundedSender<Settlement>,
    settled: mpsc::UnboundedReceiver<Settlement>,
    intakes: BTreeMap<&'static str, (&'static str, Intake)>,
    queues: BTreeSet<&'static str>,
    rates: BTreeMap<&'static str, BTreeMap<&'static str, Rate>>,
    retired: BTreeSet<&'static str>,
    workers: Vec<(WorkerContext, BoxFuture<'static, ()>)>,
    schedules: Vec<Ticker>,
    clock: SharedClock,
}

impl Runtime {
    /// A runtime without handlers.
    pub fn new(database: Database, bus: Bus, config: QueueConfig) -> Self {
        let (settlements, settled) = mpsc::unbounded_channel();
        Self {
            database,
            bus,
            config,
            entropy: Arc::new(SystemEntropy),
            in_flight: Arc::default(),
            settlements,
            settled,
            intakes: BTreeMap::new(),
            queues: BTreeSet::new(),
            rates: BTreeMap::new(),
            retired: RETIRED.iter().copied().collect(),
            workers: Vec::new(),
            schedules: Vec::new(),
            clock: Arc::new(SystemClock),
        }
    }

    /// Has each fire of `schedule` enqueue what `job` makes of it: once in the fleet, although every
    /// process has the schedule. The job runs wherever its queue is worked on.
    #[must_use]
    pub fn schedule<J: JobKind>(
        mut self,
        schedule: Schedule,
        job: impl Fn(Fire) -> J + Send + Sync + 'static,
    ) -> Self {
        self.schedules.push(Ticker::new(schedule, job));
        self
    }

    /// Sets the clock that the schedules' timers ask how late it is; whether a fire is due is the
    /// database's to say.
    #[must_use]
    pub fn with_clock(mut self, clock: SharedClock) -> Self {
        self.clock = clock;
        self
    }

    pub(crate) fn in_flight(&self) -> Arc<InFlight> {
        Arc::clone(&self.in_flight)
    }

    /// Runs jobs of kind `J` by `handler`. A kind whose queue this process does not work on is left out.
    #[must_use]
    pub fn register<J, H, F>(mut self, handler: H) -> Self
    where
        J: JobKind + Clone,
        H: Fn(J, JobContext) -> F + Clone + Send + Sync + 'static,
        F: Future<Output = HandlerResult> + Send + 'static,
    {
        if !self.config.queues.is_empty()
            && !self.config.queues.iter().any(|queue| queue == J::QUEUE)
        {
            return self;
        }
        let capacity = self.config.slots(J::QUEUE);
        for name in std::iter::once(&J::KIND).chain(J::ALIASES) {
            let (intake, context, running) = backend::worker::<J, _, _>(
                capacity,
                self.settlements.clone(),
                Arc::clone(&self.entropy),
                handler.clone(),
            );
            self.intakes.insert(name, (J::KIND, intake));
            self.workers.push((context, running));
            if let Some(rate) = J::RATE {
                self.rates.entry(J::QUEUE).or_default().insert(name, rate);
            }
        }
        self.queues.insert(J::QUEUE);
        self
    }

    /// Lets jobs of a kind die that is no more, in the queues that this process works on.
    #[must_use]
    pub fn retire(mut self, kind: &'static str) -> Self {
        self.retired.insert(kind);
        self
    }

    /// Makes jobs of what the schedules have due, for a process that does not live until the next fire.
    /// Returns how many.
    pub async fn fire_due(&mut self) -> Result<usize, QueueError> {
        let mut fired = 0;
        for ticker in &mut self.schedules {
            let tick = ticker.tick(self.database.pool(), &self.bus, None).await?;
            fired += usize::from(tick.fired.is_some());
        }
        Ok(fired)
    }

    /// Claims and runs jobs until `shutdown`; then claims no more, lets what runs end for at most `drain`,
    /// hands the rest back without burning an attempt, and returns.
    pub async fn run(
        mut self,
        shutdown: CancellationToken,
        drain: Duration,
    ) -> Result<(), CoreTaskEnded> {
        let pool = self.database.hot().clone();
        let settler = Settler {
            pool: pool.clone(),
            bus: self.bus.clone(),
            in_flight: Arc::clone(&self.in_flight),
            limited: self.config.fleet.keys().cloned().collect(),
        };
        let claimer = Claimer {
            pool,
            bus: self.bus.clone(),
            in_flight: Arc::clone(&self.in_flight),
            queues: self
                .queues
                .iter()
                .map(|queue| {
                    let rules = WorkedQueue {
                        slots: self.config.slots(queue),
                        fleet: self.config.fleet.get(*queue).copied(),
                        rates: self.rates.remove(queue),
                    };
                    (Arc::from(*queue), rules)
                })
                .collect(),
            retired: self.retired,
            intakes: self.intakes,
            settlements: self.settlements.clone(),
            worker: new_worker_id(),
            lease: self.config.lease,
            idle_poll: self.config.idle_poll,
        };
        let subscription = self.bus.subscribe();
        let in_flight = Arc::clone(&self.in_flight);
        let (contexts, workers): (Vec<_>, Vec<_>) = self.workers.into_iter().unzip();

        let mut tasks: JoinSet<&'static str> = JoinSet::new();
        let claiming = shutdown.clone();
        let (claims_end, claims_ended) = oneshot::channel::<()>();
        tasks.spawn(async move {
            claimer.run(subscription, claiming).await;
            // It returns at the shutdown only, which waits for it.
            drop(claims_end);
            std::future::pending().await
        });
        for worker in workers {
            tasks.spawn(async move {
                worker.await;
                "worker"
            });
        }
        for ticker in self.schedules {
            let (pool, bus) = (self.database.pool().clone(), self.bus.clone());
            let (clock, firing) = (Arc::clone(&self.clock), shutdown.clone());
            tasks.spawn(async move {
                let running = ticker.run(pool, bus, &*clock);
                firing.run_until_cancelled(running).await;
                // It returns at the shutdown only, which waits for other things.
                std::future::pending().await
            });
        }
        let renewing = renewer::run(
            self.database.clone(),
            self.bus.clone(),
            Arc::clone(&in_flight),
            self.config.lease,
        );
        tasks.spawn(async move {
            renewing.await;
            "renewer"
        });
        let settled = self.settled;
        tasks.spawn(async move {
            settler.run(settled).await;
            "settler"
        });

        tokio::select! {
            ended = tasks.join_next() => {
                let name = ended.and_then(Result::ok).unwrap_or("task (by a panic)");
                return Err(CoreTaskEnded(name));
            }
            () = shutdown.cancelled() => {}
        }
        let drained = async {
            // A claim that is under way still brings jobs.
            let _ = claims_ended.await;
            in_flight.empty().await;
        };
        tokio::pin!(drained);
        if tokio::time::timeout(drain, &mut drained).await.is_err() {
            in_flight.stop_all(Stop::Shutdown);
            // What can't be recorded now is rescued when its lease ends.
            let _ = tokio::time::timeout(SETTLE_TIME, drained).await;
        }
        for context in contexts {
            // An apalis worker that has ended already can't be stopped again.
            let _ = context.stop();
        }
        tasks.shutdown().await;
        Ok(())
    }
}

/// New at every start: a worker that comes back is another one.
#[expect(
    clippy::disallowed_methods,
    reason = "a name, not a decision: nothing depends on its value"
)]
fn new_worker_id() -> Uuid {
    Uuid::new_v4()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn problems(variables: &[(&str, &str)]) -> Vec<String> {
        let variables = variables
            .iter()
            .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()));
        let mut settings = Settings::new(variables);
        let config = QueueConfig::read(&mut settings);
        match settings.finish(config) {
            Ok(_) => Vec::new(),
            Err(error) => error.problems.into_iter().map(|(name, _)| name).collect(),
        }
    }

    #[test]
    fn a_queue_that_does_not_exist_is_refused_by_name() {
        assert_eq!(
            problems(&[("WORKER_QUEUES", "turns,knowlege")]),
            ["WORKER_QUEUES"]
        );
        assert_eq!(problems(&[("WORKER_QUEUES", ",")]), ["WORKER_QUEUES"]);
        assert_eq!(problems(&[("WORKER_QUEUES", "turns, knowledge")]), [""; 0]);
        assert_eq!(problems(&[("WORKER_QUEUES", "all")]), [""; 0]);
    }

    #[test]
    fn slots_are_given_to_every_queue_or_to_each_by_name() {
        let slots = |text: &str, queue| {
            let concurrency = text.parse().unwrap();
            QueueConfig {
                concurrency,
                ..QueueConfig::default()
            }
            .slots(queue)
        };
        assert_eq!(slots("32", "turns"), 32);
        assert_eq!(slots("32, knowledge=4", "knowledge"), 4);
        assert_eq!(slots("knowledge=4", "turns"), 64);
        for wrong in [
            "0",
            "10001",
            "turn=4",
            "turns=",
            "1,2",
            "turns=1,turns=2",
            "-1",
        ] {
            assert_eq!(
                problems(&[("WORKER_CONCURRENCY", wrong)]),
                ["WORKER_CONCURRENCY"],
                "{wrong}"
            );
        }
    }

    #[test]
    fn every_figure_out_of_range_is_named_at_once() {
        let found = problems(&[
            ("WORKER_CONCURRENCY", "turns=0"),
            ("QUEUE_LEASE_SECONDS", "1"),
            ("QUEUE_IDLE_POLL_SECONDS", "forever"),
            ("JOB_HISTORY_DAYS", "0"),
        ]);
        assert_eq!(
            found,
            [
                "WORKER_CONCURRENCY",
                "QUEUE_LEASE_SECONDS",
                "QUEUE_IDLE_POLL_SECONDS",
                "JOB_HISTORY_DAYS"
            ]
        );
    }
}
