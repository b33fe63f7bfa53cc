//! apalis-postgres 1.0, tuned by what its README and examples offer: LISTEN/NOTIFY (`with_pubsub`),
//! batches, `lock_tasks(false)` and `parallelize` as in its basic example, and four workers in the
//! process, because one worker fetches its next batch only when the one before is done.
//!
//! The fallback poll is 100 ms where the README has 5 s: a worker that is busy when the last NOTIFY
//! arrives sleeps through it, and with 5 s some drains and steady runs stood still that long.

use std::time::Duration;

use anyhow::Result;
use apalis::prelude::*;
use apalis_postgres::{Config, PgPool, PostgresStorage};
use peer_harness::{OnJob, Peer, Producer};
use sqlx::postgres::PgPoolOptions;
use tokio::task::JoinHandle;

const QUEUE: &str = "noop";
const WORKERS: usize = 4;
/// Three a worker: one to listen, others to fetch and to acknowledge.
const CONNECTIONS: u32 = 12;
const BATCH: usize = 1000;
const FALLBACK_POLL: Duration = Duration::from_millis(100);

fn main() {
    peer_harness::main::<Apalis>();
}

struct Apalis {
    url: String,
}

impl Apalis {
    async fn pool(&self, connections: u32) -> Result<PgPool> {
        let options = PgPoolOptions::new()
            .min_connections(connections)
            .max_connections(connections);
        Ok(options.connect(&self.url).await?)
    }

    fn storage(pool: &PgPool) -> PostgresStorage<u64> {
        let config = Config::default()
            .queue(QUEUE)
            .batch_size(BATCH)
            .lock_tasks(false);
        PostgresStorage::new(pool).with_config(config)
    }
}

impl Peer for Apalis {
    const UNFINISHED: &str = "SELECT count(*) FROM apalis.jobs WHERE status <> 'Done'";

    type Producer = Enqueue;
    type Worker = JoinHandle<()>;

    async fn install(url: &str) -> Result<Self> {
        let apalis = Self {
            url: url.to_owned(),
        };
        PostgresStorage::setup(&apalis.pool(1).await?).await?;
        Ok(apalis)
    }

    async fn enqueue_all(&self, count: u64) -> Result<()> {
        let mut storage = Self::storage(&self.pool(1).await?);
        storage.push_bulk((0..count).collect()).await?;
        Ok(())
    }

    async fn producer(&self, connections: u32) -> Result<Enqueue> {
        Ok(Enqueue(Self::storage(&self.pool(connections).await?)))
    }

    async fn work(&self, on_job: OnJob) -> Result<JoinHandle<()>> {
        let pool = self.pool(CONNECTIONS).await?;
        let monitor = Monitor::new().register_n(WORKERS, move |index, _| {
            WorkerBuilder::new(format!("worker-{index}"))
                .backend(
                    Self::storage(&pool)
                        .with_pubsub()
                        .poll_with_interval(FALLBACK_POLL),
                )
                .data(Handler(on_job.clone()))
                .parallelize(tokio::spawn)
                .build(noop)
        });
        Ok(tokio::spawn(async move {
            if let Err(error) = monitor.run().await {
                eprintln!("{error}");
            }
        }))
    }
}

#[derive(Clone)]
struct Handler(OnJob);

async fn noop(n: u64, handler: Data<Handler>) -> Result<(), BoxDynError> {
    let Handler(on_job) = &*handler;
    on_job(n);
    Ok(())
}

#[derive(Clone)]
struct Enqueue(PostgresStorage<u64>);

impl Producer for Enqueue {
    async fn enqueue(&mut self, n: u64) -> Result<()> {
        self.0.push(n).await?;
        Ok(())
    }
}
