//! Our own drivers: what each measure does, for any queue that this program can link.
//!
//! The peers' drivers do the same in their own languages; `benches/src/measure.rs` says what.

mod baseline;
mod ours;

use std::{
    sync::{
        Arc, OnceLock,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use anyhow::Context;
use serde::Serialize;
use sqlx::PgPool;
use tokio::{
    io::AsyncReadExt,
    time::{MissedTickBehavior, interval, sleep, timeout},
};
use tracing_subscriber::EnvFilter;

use self::{baseline::Baseline, ours::Ours};
use crate::measure::{APART, Drained, GRACE, Latencies, Measure, Steady};

/// Between two looks at something that has no other way to tell.
const LOOK: Duration = Duration::from_millis(2);
/// A worker that listens is idle after this long.
const SETTLE: Duration = Duration::from_millis(500);
/// Jobs one by one until a worker is warm: after five executions Postgres keeps a statement's plan.
const WARMING: u32 = 50;
/// How long the last jobs of [`Measure::Latency`] may take.
const PATIENCE: Duration = Duration::from_secs(30);

/// A system that this program links.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum System {
    /// Our queue; whoever enqueues reaches the worker by NOTIFY, as `api` and `worker` do
    Ours,
    /// Our queue; whoever enqueues is in the worker's process, as in `serve`
    OursServe,
    /// A hand-written queue with leases, which keeps no history
    Baseline,
    /// The same with a row of history for each job
    BaselineHistory,
}

/// A queue with one worker process, to be measured.
trait Queue: Sized + Sync {
    /// A worker that runs until it is dropped.
    type Worker: Send;

    /// Installs the schema.
    async fn install(&self) -> anyhow::Result<()>;
    /// Adds the jobs `0..jobs` with no worker running.
    async fn enqueue_bulk(&self, jobs: u32) -> anyhow::Result<()>;
    /// Wakes the worker after that.
    async fn wake(&self) -> anyhow::Result<()>;
    /// The connections of the worker's process.
    fn pool(&self) -> &PgPool;
    /// Starts a worker whose handler tells [`Seen`] the job's number.
    async fn start(&self, seen: Arc<Seen>) -> anyhow::Result<Self::Worker>;
    /// Waits until the worker hears of new jobs.
    async fn ready(&self) -> anyhow::Result<()>;
    /// What enqueues on `connections` connections.
    async fn producer(&self, connections: u32) -> anyhow::Result<impl Producer + 'static>;
    /// How many jobs were completed, and how many are left, by the tables.
    async fn counts(&self) -> anyhow::Result<(u64, u64)>;
}

/// Enqueues one job a transaction.
trait Producer: Send + Sync {
    /// Returns when the job is committed; the wake-up may still be under way.
    fn enqueue(&self, number: u32) -> impl Future<Output = anyhow::Result<()>> + Send;
}

/// What the handlers saw.
struct Seen {
    count: AtomicU64,
    /// When each job began; empty where nobody asks.
    begun: Vec<OnceLock<Instant>>,
}

impl Seen {
    fn new(timed: u32) -> Arc<Self> {
        Arc::new(Self {
            count: AtomicU64::new(0),
            begun: (0..timed).map(|_| OnceLock::new()).collect(),
        })
    }

    /// The first line of the handler.
    fn note(&self, number: u32) {
        let begun = usize::try_from(number)
            .ok()
            .and_then(|number| self.begun.get(number));
        if let Some(begun) = begun {
            // Only the first attempt of a job counts.
            let _ = begun.set(Instant::now());
        }
        self.count.fetch_add(1, Ordering::Relaxed);
    }

    async fn reaches(&self, count: u64) {
        while self.count.load(Ordering::Relaxed) < count {
            sleep(LOOK).await;
        }
    }
}

/// Runs a driver on the database that the environment names, and prints what it measured.
pub(crate) async fn main(system: System, measure: Measure) -> anyhow::Result<()> {
    tracing_subscriber::fmt()
        .with_writer(std::io::stderr)
        .with_env_filter(EnvFilter::from_default_env())
        .init();
    #[expect(
        clippy::disallowed_methods,
        reason = "the drivers' protocol, the same for every system"
    )]
    let url = &std::env::var("DATABASE_URL").context("DATABASE_URL")?;
    match system {
        System::Ours => drive(Ours::open(url, false)?, measure).await,
        System::OursServe => drive(Ours::open(url, true)?, measure).await,
        System::Baseline => drive(Baseline::open(url, false).await?, measure).await,
        System::BaselineHistory => drive(Baseline::open(url, true).await?, measure).await,
    }
}

async fn drive(queue: impl Queue, measure: Measure) -> anyhow::Result<()> {
    queue.install().await.context("installing the schema")?;
    match measure {
        Measure::Drain { jobs, analyze } => print(&drain(&queue, jobs, analyze).await?),
        Measure::Warm { jobs } => print(&warm(&queue, jobs).await?),
        Measure::Latency { jobs } => print(&latency(&queue, jobs).await?),
        Measure::Steady {
            seconds,
            connections,
        } => print(&steady(&queue, seconds, connections).await?),
        Measure::Idle => idle(&queue).await,
    }
}

#[expect(clippy::print_stdout, reason = "the program's output")]
fn print(figures: &impl Serialize) -> anyhow::Result<()> {
    println!("{}", serde_json::to_string(figures)?);
    Ok(())
}

async fn drain(queue: &impl Queue, jobs: u32, analyze: bool) -> anyhow::Result<Drained> {
    let (before, _) = queue.counts().await?;
    queue.enqueue_bulk(jobs).await.context("enqueueing")?;
    if analyze {
        sqlx::query("analyze").execute(queue.pool()).await?;
    }
    let seen = Seen::new(0);
    let begun = Instant::now();
    let worker = queue.start(Arc::clone(&seen)).await?;
    // Asked only near the end: counting must not be what is measured.
    seen.reaches(jobs.into()).await;
    until_recorded(queue, before + u64::from(jobs)).await?;
    let seconds = begun.elapsed().as_secs_f64();
    drop(worker);
    Ok(Drained { jobs, seconds })
}

/// Waits until the tables say that so many jobs are completed and none is left.
async fn until_recorded(queue: &impl Queue, jobs: u64) -> anyhow::Result<()> {
    loop {
        let (done, left) = queue.counts().await?;
        if left == 0 && done >= jobs {
            return Ok(());
        }
        sleep(LOOK).await;
    }
}

async fn warm(queue: &impl Queue, jobs: u32) -> anyhow::Result<Drained> {
    let seen = Seen::new(0);
    let producer = queue.producer(1).await?;
    let worker = queue.start(Arc::clone(&seen)).await?;
    queue.ready().await?;
    sqlx::query("vacuum (analyze)")
        .execute(queue.pool())
        .await?;
    for number in 0..WARMING {
        producer.enqueue(number).await?;
        until_recorded(queue, u64::from(number) + 1).await?;
    }
    queue.enqueue_bulk(jobs).await.context("enqueueing")?;
    let begun = Instant::now();
    queue.wake().await?;
    let all = u64::from(WARMING + jobs);
    seen.reaches(all).await;
    until_recorded(queue, all).await?;
    let seconds = begun.elapsed().as_secs_f64();
    drop(worker);
    Ok(Drained { jobs, seconds })
}

/// Lets an idle worker handle one job, and become idle again.
async fn first(queue: &impl Queue, producer: &impl Producer) -> anyhow::Result<()> {
    let (done, _) = queue.counts().await?;
    producer.enqueue(u32::MAX).await?;
    timeout(PATIENCE, until_recorded(queue, done + 1))
        .await
        .context("the first job was not done")??;
    sleep(SETTLE).await;
    Ok(())
}

async fn latency(queue: &impl Queue, jobs: u32) -> anyhow::Result<Latencies> {
    let seen = Seen::new(jobs);
    let producer = queue.producer(1).await?;
    let worker = queue.start(Arc::clone(&seen)).await?;
    queue.ready().await?;
    first(queue, &producer).await?;
    let mut enqueued = Vec::new();
    let mut ticks = interval(APART);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    for number in 0..jobs {
        ticks.tick().await;
        enqueued.push(Instant::now());
        producer.enqueue(number).await?;
    }
    timeout(PATIENCE, seen.reaches(u64::from(jobs) + 1))
        .await
        .context("a job did not start")?;
    drop(worker);
    let latencies_ms = enqueued
        .iter()
        .zip(&seen.begun)
        .map(|(enqueued, begun)| {
            let begun = begun.get().context("a job did not start")?;
            Ok(begun.duration_since(*enqueued).as_secs_f64() * 1_000.0)
        })
        .collect::<anyhow::Result<_>>()?;
    Ok(Latencies { latencies_ms })
}

async fn steady(queue: &impl Queue, seconds: u64, connections: u32) -> anyhow::Result<Steady> {
    let seen = Seen::new(0);
    let producer = Arc::new(queue.producer(connections).await?);
    let worker = queue.start(Arc::clone(&seen)).await?;
    queue.ready().await?;
    let begun = Instant::now();
    let end = begun + Duration::from_secs(seconds);
    let mut tasks = Vec::new();
    for _ in 0..connections {
        let producer = Arc::clone(&producer);
        tasks.push(tokio::spawn(async move {
            let mut inserted = 0_u64;
            while Instant::now() < end {
                producer.enqueue(0).await?;
                inserted += 1;
            }
            anyhow::Ok(inserted)
        }));
    }
    let mut inserted = 0;
    for task in tasks {
        inserted += task.await??;
    }
    let seconds = begun.elapsed().as_secs_f64();
    // The handlers have seen a job before it is recorded.
    let _ = timeout(GRACE, seen.reaches(inserted)).await;
    let left = (end + GRACE).saturating_duration_since(Instant::now());
    let mut consumed = queue.counts().await?.0;
    let _ = timeout(left, async {
        while consumed < inserted {
            sleep(LOOK).await;
            match queue.counts().await {
                Ok((done, _)) => consumed = done,
                Err(_) => return,
            }
        }
    })
    .await;
    drop(worker);
    Ok(Steady {
        produced: inserted,
        consumed,
        seconds,
    })
}

#[expect(clippy::print_stdout, reason = "the program's output")]
async fn idle(queue: &impl Queue) -> anyhow::Result<()> {
    let worker = queue.start(Seen::new(0)).await?;
    queue.ready().await?;
    let producer = queue.producer(1).await?;
    first(queue, &producer).await?;
    drop(producer);
    println!("ready");
    let mut rest = Vec::new();
    tokio::io::stdin().read_to_end(&mut rest).await?;
    drop(worker);
    Ok(())
}
