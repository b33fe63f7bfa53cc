//! The figures of the queue that live in the database, for whoever scrapes the metrics.
//!
//! They are read on a scrape, and only when they may be others than at the last read: a Prometheus
//! that asks every few seconds must not keep a serverless database awake. What can change them
//! without a wake-up is known: jobs that are due or run end, and scheduled jobs become due.

mod freshness;

use std::{
    collections::BTreeMap,
    sync::{Arc, OnceLock},
    time::Duration,
};

use futures::FutureExt;
use parking_lot::Mutex;
use sqlx::PgPool;
use store::bus::{Bus, Subscription};
use tokio::{
    sync::Notify,
    time::{Instant, timeout},
};

use self::freshness::{Freshness, Last, Next};
use crate::{
    catalog::QUEUES,
    flight::InFlight,
    runtime::Runtime,
    sql::{self, Depth},
};

/// How long a scrape waits for a read. The read goes on, for the next scrape.
const ANSWER_LIMIT: Duration = Duration::from_millis(900);
/// How long a read may take.
const READ_LIMIT: Duration = Duration::from_secs(30);
/// Queues whose figures are kept, for as long as the process runs: the catalogue's and what older
/// and newer versions have left. More are no labels any more.
const MAX_QUEUES: usize = 200;

/// Exports `growth_chat_queue_depth{queue,state}`, `growth_chat_queue_oldest_seconds{queue}`,
/// `growth_chat_queue_paused{queue}`, `growth_chat_queue_figures_stale`, and of a process that runs
/// jobs `growth_chat_jobs_in_flight{queue}`. Clones share what was read.
#[derive(Debug, Clone)]
pub struct QueueFigures {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    pool: PgPool,
    bus: Bus,
    in_flight: OnceLock<Arc<InFlight>>,
    state: Mutex<State>,
    read_ended: Notify,
}

#[derive(Debug)]
struct State {
    wakes: Subscription,
    freshness: Freshness,
    /// When these were read, and the queues that were ever seen.
    read_at: Instant,
    queues: BTreeMap<String, Option<Depth>>,
}

impl QueueFigures {
    /// The figures of the queues of a database; nothing is read before the first scrape.
    pub fn new(pool: PgPool, bus: &Bus) -> Self {
        let state = State {
            wakes: bus.subscribe(),
            freshness: Freshness::default(),
            read_at: Instant::now(),
            queues: QUEUES
                .iter()
                .map(|name| ((*name).to_owned(), None))
                .collect(),
        };
        Self {
            inner: Arc::new(Inner {
                pool,
                bus: bus.clone(),
                in_flight: OnceLock::new(),
                state: Mutex::new(state),
                read_ended: Notify::new(),
            }),
        }
    }

    /// Counts the jobs in flight of this process too.
    pub fn include(&self, runtime: &Runtime) {
        // A process has one runtime; of a second the jobs are not counted.
        let _ = self.inner.in_flight.set(runtime.in_flight());
    }

    /// Brings the gauges up to date. Takes no longer than a second, whatever the database does: then the
    /// last known figures stay, and `growth_chat_queue_figures_stale` is 1.
    pub async fn refresh(&self) {
        let inner = &self.inner;
        let ended = inner.read_ended.notified();
        tokio::pin!(ended);
        // From here on the end of a read is noticed, that of one which is under way too.
        ended.as_mut().enable();
        let in_flight = inner.in_flight.get().is_some_and(|jobs| jobs.len() > 0);
        let asleep = !inner.bus.is_listening() && !inner.bus.is_awake();
        let next = inner.state.lock().next(in_flight, asleep);
        if next == Next::Read {
            // It outlives a scrape that was given up.
            tokio::spawn(Reading(Arc::clone(inner)).run());
        }
        let in_time = next == Next::Nothing || timeout(ANSWER_LIMIT, ended).await.is_ok();
        inner.export(in_time);
    }
}

impl State {
    /// What to do, with jobs of this process in flight, in a process that lets the database sleep.
    fn next(&mut self, in_flight: bool, asleep: bool) -> Next {
        let told = self.wakes.wait().now_or_never().is_some();
        self.freshness.changed |= told || in_flight;
        if asleep && self.freshness.last == Last::Resting {
            // A scrape is no reason to wake it; what has changed is read when it is awake.
            return Next::Nothing;
        }
        self.freshness.next(Instant::now())
    }

    fn keep(&mut self, depths: Vec<Depth>) {
        self.queues.values_mut().for_each(|depth| *depth = None);
        for depth in depths {
            if self.queues.len() < MAX_QUEUES || self.queues.contains_key(&depth.queue) {
                self.queues.insert(depth.queue.clone(), Some(depth));
            }
        }
    }
}

/// A read that is under way.
struct Reading(Arc<Inner>);

impl Reading {
    async fn run(self) {
        let inner = &self.0;
        let begun = Instant::now();
        let read = timeout(READ_LIMIT, sql::depths(&inner.pool)).await;
        let mut state = inner.state.lock();
        match read.unwrap_or(Err(sqlx::Error::PoolTimedOut)) {
            Ok(depths) => {
                state.freshness.succeeded(begun, &depths);
                state.read_at = Instant::now();
                state.keep(depths);
            }
            Err(error) => {
                if state.freshness.last != Last::Failed {
                    tracing::warn!(error = %error, "the figures of the queue could not be read");
                }
                state.freshness.failed();
            }
        }
    }
}

impl Drop for Reading {
    fn drop(&mut self) {
        self.0.state.lock().freshness.under_way = false;
        self.0.read_ended.notify_waiters();
    }
}

impl Inner {
    fn export(&self, in_time: bool) {
        let state = self.state.lock();
        let elapsed = state.read_at.elapsed();
        for (queue, depth) in &state.queues {
            let depth = depth.as_ref();
            let set = |state, count: f64| {
                metrics::gauge!("growth_chat_queue_depth", "queue" => queue.clone(), "state" => state).set(count);
            };
            set("ready", depth.map_or(0.0, |depth| depth.ready));
            set("scheduled", depth.map_or(0.0, |depth| depth.scheduled));
            set("blocked", depth.map_or(0.0, |depth| depth.blocked));
            set("running", depth.map_or(0.0, |depth| depth.running));
            // It grows by itself, without another look.
            let oldest = depth
                .filter(|depth| depth.has_due())
                .map_or(Duration::ZERO, |depth| depth.oldest + elapsed);
            metrics::gauge!("growth_chat_queue_oldest_seconds", "queue" => queue.clone())
                .set(oldest.as_secs_f64());
            let paused = depth.is_some_and(|depth| depth.paused);
            metrics::gauge!("growth_chat_queue_paused", "queue" => queue.clone())
                .set(f64::from(u8::from(paused)));
        }
        let outdated = !in_time || state.freshness.last == Last::Failed;
        metrics::gauge!("growth_chat_queue_figures_stale").set(f64::from(u8::from(outdated)));
        drop(state);
        for (queue, count) in self
            .in_flight
            .get()
            .into_iter()
            .flat_map(|jobs| jobs.counts())
        {
            let count = u32::try_from(count).unwrap_or(u32::MAX);
            metrics::gauge!("growth_chat_jobs_in_flight", "queue" => queue).set(f64::from(count));
        }
    }
}

impl Depth {
    fn has_due(&self) -> bool {
        self.ready > 0.0 || self.oldest > Duration::ZERO
    }

    /// Whether its figures change without a wake-up: nobody takes jobs of a paused queue, but what
    /// runs goes on.
    fn is_moving(&self) -> bool {
        self.running > 0.0 || (self.has_due() && !self.paused)
    }
}
