//! sqlxmq 0.6. Its one knob for throughput is the concurrency: docs.rs/sqlxmq says of
//! `JobRunnerOptions::set_concurrency` that the distance from the minimum to the maximum is the
//! largest batch, and that larger batches are more efficient. New jobs arrive by NOTIFY; it has no
//! poll interval. The crate has no bulk call, so many jobs go to its SQL function `mq_insert`, which
//! takes an array.

use std::error::Error;

use anyhow::{Context, Result};
use peer_harness::{OnJob, Peer, Producer};
use sqlx::PgPool;
use sqlx::migrate::Migrator;
use sqlx::postgres::PgPoolOptions;
use sqlxmq::{CurrentJob, JobRegistry, JobRunnerHandle, job};

const MIN_CONCURRENCY: usize = 900;
const MAX_CONCURRENCY: usize = 1000;
const CONNECTIONS: u32 = 20;

fn main() {
    peer_harness::main::<Sqlxmq>();
}

#[job]
async fn noop(
    mut job: CurrentJob,
    on_job: OnJob,
) -> Result<(), Box<dyn Error + Send + Sync + 'static>> {
    on_job(job.json()?.unwrap_or_default());
    job.complete().await?;
    Ok(())
}

struct Sqlxmq {
    url: String,
}

impl Sqlxmq {
    async fn pool(&self, connections: u32) -> Result<PgPool> {
        let options = PgPoolOptions::new()
            .min_connections(connections)
            .max_connections(connections);
        Ok(options.connect(&self.url).await?)
    }
}

impl Peer for Sqlxmq {
    // The table has one row that is no job: the nil message that others refer to.
    const UNFINISHED: &str = "SELECT count(*) - 1 FROM mq_msgs";

    type Producer = Enqueue;
    type Worker = JobRunnerHandle;

    #[expect(
        clippy::disallowed_methods,
        reason = "the product's settings know nothing of a peer"
    )]
    async fn install(url: &str) -> Result<Self> {
        let sqlxmq = Self {
            url: url.to_owned(),
        };
        // The crate leaves its schema to the user's migrations; `prepare` takes it from there.
        let migrations =
            std::env::var_os("SQLXMQ_MIGRATIONS").context("SQLXMQ_MIGRATIONS is not set")?;
        let pool = sqlxmq.pool(1).await?;
        let migrator = Migrator::new(std::path::Path::new(&migrations)).await?;
        migrator.run(&pool).await?;
        Ok(sqlxmq)
    }

    async fn enqueue_all(&self, count: u64) -> Result<()> {
        sqlx::query(
            "SELECT mq_insert(array_agg((gen_random_uuid(), interval '0', 4, interval '1 second', \
             '', '', NULL, false, $1, n::text, NULL)::mq_new_t)) FROM generate_series(0, $2) AS n",
        )
        .bind(noop.name())
        .bind(i64::try_from(count)? - 1)
        .execute(&self.pool(1).await?)
        .await?;
        Ok(())
    }

    async fn producer(&self, connections: u32) -> Result<Enqueue> {
        Ok(Enqueue(self.pool(connections).await?))
    }

    async fn work(&self, on_job: OnJob) -> Result<JobRunnerHandle> {
        let mut registry = JobRegistry::new(&[noop]);
        registry.set_context(on_job);
        let runner = registry
            .runner(&self.pool(CONNECTIONS).await?)
            .set_concurrency(MIN_CONCURRENCY, MAX_CONCURRENCY)
            .run()
            .await?;
        Ok(runner)
    }
}

#[derive(Clone)]
struct Enqueue(PgPool);

impl Producer for Enqueue {
    async fn enqueue(&mut self, n: u64) -> Result<()> {
        noop.builder().set_json(&n)?.spawn(&self.0).await?;
        Ok(())
    }
}
