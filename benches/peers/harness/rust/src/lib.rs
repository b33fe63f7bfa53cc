//! The measures of `benches/peers/README.md` for peers written in Rust.
//!
//! A driver implements [`Peer`] around its library and hands it to [`main`]; what is timed, and how,
//! is written here once so that the peers can't differ.

use std::collections::HashMap;
use std::process::Stdio;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use clap::{Parser, Subcommand};
use serde_json::{Value, json};
use tokio::io::{AsyncBufReadExt, AsyncReadExt, BufReader};
use tokio::process::Command;
use tokio::task::JoinSet;
use tokio::time::{sleep, sleep_until};
use tokio_postgres::{Client, NoTls};

/// What a drain that stalls is given.
const GIVE_UP: Duration = Duration::from_mins(2);

/// What a handler calls first, with the number that the job carries.
pub type OnJob = Arc<dyn Fn(u64) + Send + Sync>;

/// One job queue, as its users would set it up.
#[expect(
    async_fn_in_trait,
    reason = "drivers are called from one place, on one runtime"
)]
pub trait Peer: Sized {
    /// SQL that gives the number of jobs that are not completed, as a `bigint`.
    const UNFINISHED: &str;

    /// What `producer` gives.
    type Producer: Producer;

    /// Kept while the worker should run.
    type Worker;

    /// Connects and installs the schema; run twice does no harm.
    async fn install(url: &str) -> Result<Self>;

    /// Enqueues jobs that carry `0..count`, by the library's bulk call.
    async fn enqueue_all(&self, count: u64) -> Result<()>;

    /// Gives a producer that may use this many connections.
    async fn producer(&self, connections: u32) -> Result<Self::Producer>;

    /// Starts one worker.
    async fn work(&self, on_job: OnJob) -> Result<Self::Worker>;
}

/// Enqueues single jobs.
pub trait Producer: Clone + Send + 'static {
    /// Enqueues one job that carries `n`, in a transaction of its own.
    fn enqueue(&mut self, n: u64) -> impl Future<Output = Result<()>> + Send;
}

#[derive(Parser)]
struct Cli {
    /// An empty database.
    #[arg(long, env = "DATABASE_URL")]
    database_url: String,
    #[command(subcommand)]
    measure: Measure,
}

#[derive(Subcommand)]
enum Measure {
    Drain {
        #[arg(long)]
        jobs: u64,
        #[arg(long)]
        analyze: bool,
    },
    Latency {
        #[arg(long)]
        jobs: u64,
    },
    Steady {
        #[arg(long)]
        seconds: f64,
        #[arg(long)]
        connections: u32,
    },
    Idle,
}

/// Runs the measure that the command line names and ends the process.
pub fn main<P: Peer>() -> ! {
    let runtime = tokio::runtime::Runtime::new().expect("a runtime can be started");
    let code = match runtime.block_on(run::<P>(Cli::parse())) {
        Ok(result) => {
            if let Some(result) = result {
                println!("{result}");
            }
            0
        }
        Err(error) => {
            eprintln!("{error:#}");
            1
        }
    };
    // A worker that takes its time to stop must not hold up the next measure.
    std::process::exit(code)
}

async fn run<P: Peer>(cli: Cli) -> Result<Option<Value>> {
    let peer = P::install(&cli.database_url).await?;
    let check = Check::<P>::connect(&cli.database_url).await?;
    match cli.measure {
        Measure::Drain { jobs, analyze } => drain(&peer, &check, jobs, analyze).await.map(Some),
        Measure::Latency { jobs } => latency(&peer, jobs).await.map(Some),
        Measure::Steady {
            seconds,
            connections,
        } => {
            let seconds = Duration::try_from_secs_f64(seconds)?;
            steady(&peer, &check, seconds, connections).await.map(Some)
        }
        Measure::Idle => idle(&peer, check).await.map(|()| None),
    }
}

async fn drain<P: Peer>(peer: &P, check: &Check<P>, jobs: u64, analyze: bool) -> Result<Value> {
    peer.enqueue_all(jobs).await?;
    if analyze {
        check.client.batch_execute("ANALYZE").await?;
    }
    let queued = check.unfinished().await?;
    ensure!(queued == jobs, "{queued} of {jobs} jobs were enqueued");

    let handled = Arc::new(AtomicU64::new(0));
    let counter = Arc::clone(&handled);
    let started = Instant::now();
    let _worker = peer
        .work(Arc::new(move |_| {
            counter.fetch_add(1, Ordering::Relaxed);
        }))
        .await?;
    // Before every handler has run there is nothing to find in the database: asking sooner would
    // only slow down what is measured.
    let mut left = jobs;
    while left > 0 && started.elapsed() < GIVE_UP {
        if handled.load(Ordering::Relaxed) >= jobs {
            left = check.unfinished().await?;
        }
        if left > 0 {
            sleep(Duration::from_millis(5)).await;
        }
    }
    let seconds = started.elapsed().min(GIVE_UP).as_secs_f64();
    if left > 0 {
        left = check.unfinished().await?;
    }
    Ok(json!({ "jobs": jobs - left, "seconds": seconds }))
}

async fn latency<P: Peer>(peer: &P, jobs: u64) -> Result<Value> {
    let handled_at = Arc::new(Mutex::new(HashMap::new()));
    let record = Arc::clone(&handled_at);
    let _worker = peer
        .work(Arc::new(move |n| {
            let now = Instant::now();
            record
                .lock()
                .unwrap_or_else(PoisonError::into_inner)
                .entry(n)
                .or_insert(now);
        }))
        .await?;
    let handled = || handled_at.lock().unwrap_or_else(PoisonError::into_inner);
    let mut producer = peer.producer(1).await?;
    producer.enqueue(jobs).await?;
    until(
        || handled().contains_key(&jobs),
        "the warm-up job was not handled",
    )
    .await?;

    let mut enqueued_at = Vec::new();
    let started = Instant::now();
    for n in 0..jobs {
        sleep_until((started + Duration::from_millis(20 * n)).into()).await;
        enqueued_at.push(Instant::now());
        producer.enqueue(n).await?;
    }
    until(
        || handled().len() as u64 > jobs,
        "not every job was handled",
    )
    .await?;
    let handled = handled();
    let latencies: Vec<f64> = (0..jobs)
        .zip(enqueued_at)
        .map(|(n, at)| handled[&n].duration_since(at).as_secs_f64() * 1000.0)
        .collect();
    Ok(json!({ "latencies_ms": latencies }))
}

async fn steady<P: Peer>(
    peer: &P,
    check: &Check<P>,
    seconds: Duration,
    connections: u32,
) -> Result<Value> {
    // The worker is a process of its own, as with the peers that have one event loop a process.
    let mut worker = Command::new(std::env::current_exe()?)
        .arg("idle")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .kill_on_drop(true)
        .spawn()?;
    let mut ready = String::new();
    let stdout = worker
        .stdout
        .take()
        .context("the worker's output is piped")?;
    BufReader::new(stdout).read_line(&mut ready).await?;
    ensure!(ready == "ready\n", "the worker ended");

    let producer = peer.producer(connections).await?;
    let produced = Arc::new(AtomicU64::new(0));
    let end = Instant::now() + seconds;
    let mut producers = JoinSet::new();
    for _ in 0..connections {
        let mut producer = producer.clone();
        let produced = Arc::clone(&produced);
        producers.spawn(async move {
            while Instant::now() < end {
                producer
                    .enqueue(produced.fetch_add(1, Ordering::Relaxed))
                    .await?;
            }
            anyhow::Ok(())
        });
    }
    while let Some(ended) = producers.join_next().await {
        ended??;
    }
    sleep_until((end + Duration::from_secs(1)).into()).await;
    let produced = produced.load(Ordering::Relaxed);
    let consumed = produced - check.unfinished().await?;
    Ok(json!({ "produced": produced, "consumed": consumed, "seconds": seconds.as_secs_f64() }))
}

async fn idle<P: Peer>(peer: &P, check: Check<P>) -> Result<()> {
    let handled = Arc::new(AtomicU64::new(0));
    let counter = Arc::clone(&handled);
    let _worker = peer
        .work(Arc::new(move |_| {
            counter.fetch_add(1, Ordering::Relaxed);
        }))
        .await?;
    let mut producer = peer.producer(1).await?;
    producer.enqueue(0).await?;
    until(
        || handled.load(Ordering::Relaxed) > 0,
        "the warm-up job was not handled",
    )
    .await?;
    while check.unfinished().await? > 0 {
        sleep(Duration::from_millis(20)).await;
    }
    drop((producer, check));

    println!("ready");
    tokio::io::stdin().read_to_end(&mut Vec::new()).await?;
    Ok(())
}

/// The connection that looks at the result, apart from the peer's.
struct Check<P> {
    client: Client,
    peer: std::marker::PhantomData<P>,
}

impl<P: Peer> Check<P> {
    async fn connect(url: &str) -> Result<Self> {
        let (client, connection) = tokio_postgres::connect(url, NoTls).await?;
        tokio::spawn(connection);
        Ok(Self {
            client,
            peer: std::marker::PhantomData,
        })
    }

    async fn unfinished(&self) -> Result<u64> {
        let row = self.client.query_one(P::UNFINISHED, &[]).await?;
        Ok(u64::try_from(row.get::<_, i64>(0))?)
    }
}

async fn until(holds: impl Fn() -> bool, otherwise: &'static str) -> Result<()> {
    let started = Instant::now();
    while !holds() {
        if started.elapsed() > GIVE_UP {
            bail!(otherwise);
        }
        sleep(Duration::from_millis(5)).await;
    }
    Ok(())
}
