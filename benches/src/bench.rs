//! What every benchmark is given: how much to do, and what it needs, started when it is first asked for.

use std::time::Duration;

use anyhow::Context;
use sandbox::watchdog::Watchdog;
use tokio::sync::OnceCell;

use crate::{
    arena::Arena,
    contender::{self, Absent, Contender},
    system::{self, System},
};

/// How much each benchmark does.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Scale {
    /// Runs of each benchmark; the tables show their median.
    pub(crate) runs: usize,
    pub(crate) drain_jobs: u32,
    pub(crate) latency_jobs: u32,
    pub(crate) steady_seconds: u64,
    /// How long the statements of idle processes are counted in a run.
    pub(crate) idle_window: Duration,
    /// Handoffs that became due during an outage.
    pub(crate) handoffs: usize,
    /// Finished jobs in a grown history.
    pub(crate) history_rows: i64,
    /// Chunks that are searched.
    pub(crate) searched_chunks: u32,
    /// Questions that are asked of them in a run.
    pub(crate) questions: u32,
    /// Documents of a hundred chunks that are indexed in a run.
    pub(crate) indexed_documents: u32,
    /// Sessions of a hundred messages that retention forgets.
    pub(crate) old_sessions: i64,
    /// The loads of benchmarks that know no better are divided by this.
    pub(crate) divisor: usize,
}

impl Scale {
    /// What the tables are made of.
    pub(crate) const FULL: Self = Self {
        runs: 3,
        drain_jobs: 50_000,
        latency_jobs: 300,
        steady_seconds: 10,
        idle_window: Duration::from_mins(1),
        handoffs: 1_000,
        history_rows: 10_000_000,
        searched_chunks: 100_000,
        questions: 500,
        indexed_documents: 200,
        old_sessions: 50_000,
        divisor: 1,
    };
    /// Whether everything works: the figures mean nothing.
    pub(crate) const QUICK: Self = Self {
        runs: 1,
        drain_jobs: 2_000,
        latency_jobs: 20,
        steady_seconds: 1,
        idle_window: Duration::from_secs(3),
        handoffs: 20,
        history_rows: 20_000,
        searched_chunks: 3_000,
        questions: 50,
        indexed_documents: 5,
        old_sessions: 500,
        divisor: 10,
    };
}

/// The surroundings of the benchmarks.
pub(crate) struct Bench {
    pub(crate) scale: Scale,
    pub(crate) watchdog: Watchdog,
    system: OnceCell<System>,
    arena: OnceCell<Arena>,
    contenders: OnceCell<(Vec<Contender>, Vec<Absent>)>,
    /// Peers with other names stay out; empty: everybody takes part.
    peers: Vec<String>,
}

impl Bench {
    pub(crate) fn new(scale: Scale, peers: Vec<String>) -> anyhow::Result<Self> {
        Ok(Self {
            scale,
            watchdog: contender::watchdog()?,
            system: OnceCell::new(),
            arena: OnceCell::new(),
            contenders: OnceCell::new(),
            peers,
        })
    }

    /// The whole system: the release binary with everything around it.
    pub(crate) async fn system(&self) -> anyhow::Result<&System> {
        let start = || async { System::start(system::build_release()?).await };
        let started = self.system.get_or_try_init(start).await;
        started.context("the system did not start")
    }

    /// The same once more, for what must not leave anything behind.
    pub(crate) async fn another_system(&self) -> anyhow::Result<System> {
        let started = System::start(system::build_release()?).await;
        started.context("the system did not start")
    }

    /// Where queues are compared.
    pub(crate) async fn arena(&self) -> anyhow::Result<&Arena> {
        let started = self.arena.get_or_try_init(Arena::start).await;
        started.context("the arena did not start")
    }

    /// The queues that are compared, and those that can't be.
    pub(crate) async fn contenders(&self) -> anyhow::Result<&(Vec<Contender>, Vec<Absent>)> {
        let assemble = || contender::assemble(&self.peers);
        self.contenders.get_or_try_init(assemble).await
    }
}
