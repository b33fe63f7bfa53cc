//! Our queue, as the product uses it: `jobs` on `store`, with all its guarantees.

use std::{
    sync::{Arc, OnceLock},
    time::Duration,
};

use anyhow::Context;
use jobs::{
    Concurrency, EnqueueOptions, HandlerResult, JobContext, JobKind, Outcome, QueueConfig, Runtime,
};
use serde::{Deserialize, Serialize};
use sqlx::PgPool;
use store::{
    bus::Bus,
    db::{Database, DatabaseConfig},
};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use super::{LOOK, Producer, Queue, SETTLE, Seen};

/// Jobs that run at once, as many as the baseline has in flight. The handler does nothing, so more
/// slots only mean larger batches.
const CONCURRENCY: usize = 2_000;
/// As many as a process has by default.
const CONNECTIONS: u32 = 10;

/// A job that does nothing.
#[derive(Debug, Clone, Serialize, Deserialize)]
struct NoOp {
    number: u32,
}

impl JobKind for NoOp {
    const KIND: &'static str = "bench.no_op";
    const QUEUE: &'static str = "bench";
    const RETRY_WAITS: &'static [i32] = &[1, 3, 9];
    const TIMEOUT: Duration = Duration::from_mins(1);
}

pub(super) struct Ours {
    url: String,
    database: Database,
    /// Whether producer and worker are one process.
    together: bool,
    bus: Bus,
    /// The newest job of before this run: a grown history is not counted through.
    newest: OnceLock<i64>,
}

/// The tasks of a process, which end with this.
pub(super) struct Worker {
    _tasks: JoinSet<()>,
}

impl Ours {
    pub(super) fn open(url: &str, together: bool) -> anyhow::Result<Self> {
        Ok(Self {
            url: url.to_owned(),
            database: open(url, CONNECTIONS)?,
            together,
            bus: Bus::new("worker"),
            newest: OnceLock::new(),
        })
    }
}

fn open(url: &str, connections: u32) -> anyhow::Result<Database> {
    let config = DatabaseConfig::new(url.to_owned(), connections);
    config.open().context("the database's URL")
}

impl Queue for Ours {
    type Worker = Worker;

    async fn install(&self) -> anyhow::Result<()> {
        self.database.migrate().await?;
        let newest = sqlx::query_scalar("select coalesce(max(id), 0) from queue.history")
            .fetch_one(self.database.pool())
            .await?;
        self.newest.get_or_init(|| newest);
        Ok(())
    }

    async fn enqueue_bulk(&self, jobs: u32) -> anyhow::Result<()> {
        let no_ops: Vec<NoOp> = (0..jobs).map(|number| NoOp { number }).collect();
        let mut tx = self.database.pool().begin().await?;
        jobs::enqueue_all(&mut tx, &no_ops, &EnqueueOptions::default()).await?;
        tx.commit().await?;
        Ok(())
    }

    async fn wake(&self) -> anyhow::Result<()> {
        self.bus.jobs_ready(NoOp::QUEUE);
        Ok(())
    }

    fn pool(&self) -> &PgPool {
        self.database.pool()
    }

    async fn start(&self, seen: Arc<Seen>) -> anyhow::Result<Worker> {
        let config = QueueConfig {
            concurrency: Concurrency::of_every_queue(CONCURRENCY),
            ..QueueConfig::default()
        };
        let handler = move |job: NoOp, _: JobContext| {
            seen.note(job.number);
            std::future::ready::<HandlerResult>(Ok(Outcome::Done))
        };
        let runtime = Runtime::new(self.database.clone(), self.bus.clone(), config)
            .register::<NoOp, _, _>(handler);
        let mut tasks = JoinSet::new();
        let (bus, database) = (self.bus.clone(), self.database.clone());
        tasks.spawn(async move { bus.run(&database, CancellationToken::new()).await });
        tasks.spawn(async move {
            let ended = runtime.run(CancellationToken::new(), Duration::ZERO).await;
            if let Err(error) = ended {
                tracing::error!(error = %error, "the worker ended");
            }
        });
        Ok(Worker { _tasks: tasks })
    }

    async fn ready(&self) -> anyhow::Result<()> {
        while !self.bus.is_listening() {
            tokio::time::sleep(LOOK).await;
        }
        // It rescans after LISTEN, which nobody is told of.
        tokio::time::sleep(SETTLE).await;
        Ok(())
    }

    async fn producer(&self, connections: u32) -> anyhow::Result<impl Producer + 'static> {
        // One more, on which the NOTIFYs go.
        let database = open(&self.url, connections + 1)?;
        let mut tasks = JoinSet::new();
        let bus = if self.together {
            self.bus.clone()
        } else {
            let (bus, database) = (Bus::new("producer"), database.clone());
            let running = bus.clone();
            tasks.spawn(async move { running.run(&database, CancellationToken::new()).await });
            while !bus.is_listening() {
                tokio::time::sleep(LOOK).await;
            }
            bus
        };
        Ok(Api {
            pool: database.pool().clone(),
            bus,
            _tasks: tasks,
        })
    }

    async fn counts(&self) -> anyhow::Result<(u64, u64)> {
        let (done, left): (i64, i64) = sqlx::query_as(
            "select (select count(*) from queue.history where id > $1), (select count(*) from queue.jobs)",
        )
        .bind(self.newest.get().copied().unwrap_or(0))
        .fetch_one(self.database.pool())
        .await?;
        Ok((u64::try_from(done)?, u64::try_from(left)?))
    }
}

/// What an `api` process does with a job.
struct Api {
    pool: PgPool,
    bus: Bus,
    _tasks: JoinSet<()>,
}

impl Producer for Api {
    async fn enqueue(&self, number: u32) -> anyhow::Result<()> {
        // The job alone is the transaction, as it is for the peers.
        let mut connection = self.pool.acquire().await?;
        jobs::enqueue(&mut connection, &NoOp { number }).await?;
        drop(connection);
        self.bus.jobs_ready(NoOp::QUEUE);
        Ok(())
    }
}
