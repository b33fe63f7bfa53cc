//! `graphile_worker` 0.14 (Rust), tuned as "Throughput-oriented worker" of its documentation says
//! (`docs/src/configuration/worker-options.md` in the crate): a local queue, and completions and
//! failures batched with a delay. The numbers are those of the project's own performance test: a
//! concurrency of 500, a local queue of 5,000 jobs, 5 ms. Its poll interval of 5 ms is not taken over:
//! new jobs arrive by NOTIFY, and polling stays at the default of 1 s.
//!
//! The refetch delay is the 100 ms of its guide to the local queue, ended by the first NOTIFY: without
//! one, an idle local queue of this version asks the database for jobs without a pause.

use std::fmt;
use std::time::Duration;

use anyhow::Result;
use graphile_worker::{
    IntoTaskHandlerResult, JobSpec, LocalQueueConfig, RawJobSpec, RefetchDelayConfig, TaskHandler,
    WorkerContext, WorkerOptions, WorkerUtils,
};
use peer_harness::{OnJob, Peer, Producer};
use serde::{Deserialize, Serialize};
use sqlx::PgPool;
use sqlx::postgres::PgPoolOptions;
use tokio::task::JoinHandle;

const SCHEMA: &str = "graphile_worker";
const CONCURRENCY: usize = 500;
const LOCAL_QUEUE: usize = 5000;
const REFETCH_DELAY: Duration = Duration::from_millis(100);
const COMPLETE_DELAY: Duration = Duration::from_millis(5);

fn main() {
    peer_harness::main::<GraphileWorker>();
}

#[derive(Clone, Deserialize, Serialize)]
struct Noop {
    n: u64,
}

#[derive(Clone)]
struct Handler(OnJob);

impl fmt::Debug for Handler {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Handler")
    }
}

impl TaskHandler for Noop {
    const IDENTIFIER: &'static str = "noop";

    async fn run(self, context: WorkerContext) -> impl IntoTaskHandlerResult {
        if let Some(Handler(on_job)) = context.get_ext::<Handler>() {
            on_job(self.n);
        }
        Ok::<(), String>(())
    }
}

struct GraphileWorker {
    url: String,
    utils: WorkerUtils,
}

impl GraphileWorker {
    async fn pool(url: &str, connections: u32) -> Result<PgPool> {
        let options = PgPoolOptions::new()
            .min_connections(connections)
            .max_connections(connections);
        Ok(options.connect(url).await?)
    }
}

impl Peer for GraphileWorker {
    const UNFINISHED: &str = "SELECT count(*) FROM graphile_worker._private_jobs";

    type Producer = Enqueue;
    type Worker = JoinHandle<()>;

    async fn install(url: &str) -> Result<Self> {
        let utils = WorkerUtils::new(Self::pool(url, 1).await?, SCHEMA);
        utils.migrate().await?;
        Ok(Self {
            url: url.to_owned(),
            utils,
        })
    }

    async fn enqueue_all(&self, count: u64) -> Result<()> {
        let jobs: Vec<RawJobSpec> = (0..count)
            .map(|n| RawJobSpec {
                identifier: Noop::IDENTIFIER.to_owned(),
                payload: serde_json::json!({ "n": n }),
                spec: JobSpec::default(),
            })
            .collect();
        self.utils.add_raw_jobs(&jobs).await?;
        Ok(())
    }

    async fn producer(&self, connections: u32) -> Result<Enqueue> {
        Ok(Enqueue(WorkerUtils::new(
            Self::pool(&self.url, connections).await?,
            SCHEMA,
        )))
    }

    async fn work(&self, on_job: OnJob) -> Result<JoinHandle<()>> {
        let worker = WorkerOptions::default()
            .schema(SCHEMA)
            .pg_pool(Self::pool(&self.url, 20).await?)
            .concurrency(CONCURRENCY)
            .complete_job_batch_delay(COMPLETE_DELAY)
            .fail_job_batch_delay(COMPLETE_DELAY)
            .local_queue(
                LocalQueueConfig::default()
                    .with_size(LOCAL_QUEUE)
                    .with_refetch_delay(
                        RefetchDelayConfig::default()
                            .with_duration(REFETCH_DELAY)
                            .with_max_abort_threshold(1),
                    ),
            )
            .add_extension(Handler(on_job))
            .define_job::<Noop>()
            .init()
            .await?;
        Ok(tokio::spawn(async move {
            if let Err(error) = worker.run().await {
                eprintln!("{error}");
            }
        }))
    }
}

#[derive(Clone)]
struct Enqueue(WorkerUtils);

impl Producer for Enqueue {
    async fn enqueue(&mut self, n: u64) -> Result<()> {
        self.0.add_job(Noop { n }, JobSpec::default()).await?;
        Ok(())
    }
}
