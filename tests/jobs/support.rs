//! A queue on a database of its own, kinds of jobs that exist for tests only, and processes.

use std::{collections::BTreeMap, future::Future, sync::Arc, time::Duration};

use jobs::{
    Concurrency, CoreTaskEnded, Enqueued, HandlerResult, JobContext, JobId, JobKind, Outcome,
    QueueConfig, Runtime, enqueue,
};
use parking_lot::Mutex;
use sandbox::postgres::TestDatabase;
use serde_json::Value;
use sqlx::PgPool;
use store::{
    bus::Bus,
    db::{Database, DatabaseConfig},
};
use tokio::{task::JoinHandle, time::Instant};
use tokio_util::sync::CancellationToken;

/// Far more than anything takes, on a machine under load too.
pub(super) const PATIENCE: Duration = Duration::from_secs(30);
/// Short, so that a lost worker is found soon; far longer than a renewal takes under load.
pub(super) const LEASE: Duration = Duration::from_secs(2);

macro_rules! kind {
    ($(#[$doc:meta])* $name:ident, $waits:expr, $timeout:expr) => {
        $(#[$doc])*
        #[derive(Debug, Clone, Default, serde::Serialize, serde::Deserialize)]
        pub(super) struct $name {
            pub(super) n: i64,
            pub(super) serial: Option<String>,
            pub(super) unique: Option<String>,
        }

        impl JobKind for $name {
            const KIND: &'static str = concat!("test.", stringify!($name));
            const QUEUE: &'static str = concat!("queue.", stringify!($name));
            const RETRY_WAITS: &'static [i32] = $waits;
            const TIMEOUT: Duration = $timeout;

            fn serial_key(&self) -> Option<String> {
                self.serial.clone()
            }

            fn unique_key(&self) -> Option<String> {
                self.unique.clone()
            }
        }
    };
}

kind!(/// With the usual waits.
    Work, &[1, 3, 9], Duration::from_mins(1));
kind!(/// Tries again at once.
    Eager, &[0, 0, 0, 0, 0, 0, 0, 0, 0], Duration::from_mins(1));
kind!(/// May not take long.
    Hasty, &[1], Duration::from_millis(50));

pub(super) fn work(n: i64) -> Work {
    Work {
        n,
        ..Work::default()
    }
}

pub(super) fn eager(n: i64) -> Eager {
    Eager {
        n,
        ..Eager::default()
    }
}

/// What handlers note down.
pub(super) type Notes<T> = Arc<Mutex<Vec<T>>>;

/// A queue on a database of its own.
pub(super) struct Queue {
    pub(super) pool: PgPool,
    pub(super) bus: Bus,
    url: String,
    // Last: it is dropped when nobody uses it any more.
    _database: Option<TestDatabase>,
}

/// A live job, as its row says.
#[derive(Debug, sqlx::FromRow)]
pub(super) struct Live {
    pub(super) state: String,
    pub(super) attempt: i16,
    pub(super) lease: i32,
    /// Seconds from the last error until it may run.
    pub(super) wait: Option<f64>,
    pub(super) errors: Value,
}

/// A job that ended.
#[derive(Debug, sqlx::FromRow)]
pub(super) struct Past {
    pub(super) outcome: String,
    pub(super) attempt: i16,
    pub(super) errors: Value,
}

impl Past {
    pub(super) fn reasons(&self) -> Vec<(i64, &str)> {
        reasons(&self.errors)
    }
}

/// The attempts that failed and why; each with its time.
pub(super) fn reasons(errors: &Value) -> Vec<(i64, &str)> {
    let errors = errors.as_array().unwrap();
    assert!(errors.iter().all(|error| error["at"].is_string()));
    errors
        .iter()
        .map(|error| {
            (
                error["attempt"].as_i64().unwrap(),
                error["error"].as_str().unwrap(),
            )
        })
        .collect()
}

impl Queue {
    pub(super) async fn new() -> Self {
        let database = TestDatabase::create().await.unwrap();
        let url = database.url().to_owned();
        Self {
            _database: Some(database),
            ..Self::at(&url)
        }
    }

    /// On a database that somebody else keeps.
    pub(super) fn at(url: &str) -> Self {
        Self {
            pool: open(url).pool().clone(),
            // Not run: it is the short cut within a process, if a process is started with it.
            bus: Bus::new("test"),
            url: url.to_owned(),
            _database: None,
        }
    }

    pub(super) async fn enqueue<J: JobKind>(&self, job: &J) -> JobId {
        self.enqueue_all(std::slice::from_ref(job)).await[0]
    }

    /// In one transaction.
    pub(super) async fn enqueue_all<J: JobKind>(&self, jobs: &[J]) -> Vec<JobId> {
        let mut tx = self.pool.begin().await.unwrap();
        let mut ids = Vec::new();
        for job in jobs {
            let Enqueued { id, .. } = enqueue(&mut tx, job).await.unwrap();
            ids.push(id);
        }
        tx.commit().await.unwrap();
        self.bus.jobs_ready(J::QUEUE);
        ids
    }

    pub(super) async fn live(&self, id: JobId) -> Option<Live> {
        sqlx::query_as(
            "select state, attempt, lease, errors,
                    extract(epoch from run_at - (errors -> -1 ->> 'at')::timestamptz)::float8 as wait
             from queue.jobs where id = $1",
        )
        .bind(id.0)
        .fetch_optional(&self.pool)
        .await
        .unwrap()
    }

    pub(super) async fn past(&self, id: JobId) -> Option<Past> {
        sqlx::query_as("select outcome, attempt, errors from queue.history where id = $1")
            .bind(id.0)
            .fetch_optional(&self.pool)
            .await
            .unwrap()
    }

    pub(super) async fn count(&self, sql: &'static str) -> i64 {
        sqlx::query_scalar(sql).fetch_one(&self.pool).await.unwrap()
    }

    pub(super) async fn execute(&self, sql: &'static str) {
        sqlx::query(sql).execute(&self.pool).await.unwrap();
    }

    /// Waits until a job has ended.
    pub(super) async fn ended(&self, id: JobId) -> Past {
        until("the job ends", async || self.past(id).await).await
    }

    /// Waits until a job waits for its next attempt after `attempt` of them failed.
    pub(super) async fn failed(&self, id: JobId, attempt: i16) -> Live {
        until("the attempt fails", async || {
            let job = self.live(id).await?;
            (["scheduled", "ready"].contains(&job.state.as_str()) && job.attempt == attempt)
                .then_some(job)
        })
        .await
    }

    /// Makes everything due that waits, as if the time had passed.
    pub(super) async fn let_time_pass(&self) {
        self.execute("update queue.jobs set run_at = now() where state in ('scheduled', 'ready')")
            .await;
        for queue in [Work::QUEUE, Eager::QUEUE, Hasty::QUEUE] {
            self.bus.jobs_ready(queue);
        }
    }

    pub(super) fn database(&self) -> Database {
        open(&self.url)
    }

    /// Lets the test's own bus reach other processes.
    pub(super) fn talk(&self) -> Process {
        self.start(self.bus.clone(), &config(), |runtime| runtime)
    }

    /// A process of which a test adds the handlers; it shares the bus of the test.
    pub(super) fn process(&self, handlers: impl FnOnce(Runtime) -> Runtime) -> Process {
        self.start(self.bus.clone(), &config(), handlers)
    }

    /// Another process: it hears of this one by Postgres alone, on a bus that runs.
    pub(super) fn remote(
        &self,
        name: &str,
        config: &QueueConfig,
        handlers: impl FnOnce(Runtime) -> Runtime,
    ) -> Process {
        self.start(Bus::new(name), config, handlers)
    }

    fn start(
        &self,
        bus: Bus,
        config: &QueueConfig,
        handlers: impl FnOnce(Runtime) -> Runtime,
    ) -> Process {
        let database = open(&self.url);
        let runtime = handlers(Runtime::new(database.clone(), bus.clone(), config.clone()));
        let shutdown = CancellationToken::new();
        let bus_shutdown = CancellationToken::new();
        let (stop, bus_stop) = (shutdown.clone(), bus_shutdown.clone());
        let (drain, drains) = tokio::sync::watch::channel(PATIENCE);
        let talking = tokio::spawn({
            let (bus, database) = (bus.clone(), database.clone());
            async move { bus.run(&database, bus_stop).await }
        });
        let running = tokio::spawn(async move {
            let drain = *drains.borrow();
            runtime.run(stop, drain).await
        });
        Process {
            bus,
            database,
            shutdown,
            bus_shutdown,
            running,
            talking,
            drain,
        }
    }

    /// The same with a drain of its own.
    pub(super) fn process_with_drain(
        &self,
        drain: Duration,
        handlers: impl FnOnce(Runtime) -> Runtime,
    ) -> Process {
        let process = self.remote("draining", &config(), handlers);
        // The task has not begun: it reads the value when it is first polled.
        process.drain.send_replace(drain);
        process
    }
}

pub(super) fn open(url: &str) -> Database {
    DatabaseConfig::new(url.to_owned(), 4).open().unwrap()
}

pub(super) fn config() -> QueueConfig {
    QueueConfig {
        queues: Vec::new(),
        fleet: BTreeMap::new(),
        concurrency: Concurrency::of_every_queue(16),
        lease: LEASE,
        // Nothing in these tests is found by the fallback poll.
        idle_poll: None,
        ..QueueConfig::default()
    }
}

/// A process that works on the queue.
pub(super) struct Process {
    pub(super) bus: Bus,
    pub(super) database: Database,
    shutdown: CancellationToken,
    bus_shutdown: CancellationToken,
    running: JoinHandle<Result<(), CoreTaskEnded>>,
    talking: JoinHandle<()>,
    drain: tokio::sync::watch::Sender<Duration>,
}

impl Process {
    /// Ends it as SIGKILL would: nothing more is written, nobody is told.
    pub(super) async fn kill(self) {
        self.running.abort();
        self.talking.abort();
        // Dropped when they are awaited, and with them handlers and connections.
        let _ = self.running.await;
        let _ = self.talking.await;
        self.database.pool().close().await;
    }

    /// Ends it as SIGTERM does.
    pub(super) async fn stop(self) {
        self.shutdown.cancel();
        self.running.await.unwrap().unwrap();
        self.bus_shutdown.cancel();
        self.talking.await.unwrap();
    }

    pub(super) fn is_alive(&self) -> bool {
        !self.running.is_finished() && !self.talking.is_finished()
    }

    /// Waits until it hears of the others.
    pub(super) async fn listening(self) -> Self {
        until("the process listens", async || {
            self.bus.is_listening().then_some(())
        })
        .await;
        self
    }
}

/// Waits for a condition.
pub(super) async fn until<T, F: Future<Output = Option<T>>>(
    what: &str,
    mut condition: impl FnMut() -> F,
) -> T {
    let deadline = Instant::now() + PATIENCE;
    loop {
        if let Some(found) = condition().await {
            return found;
        }
        assert!(Instant::now() < deadline, "waited in vain until {what}");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

/// A handler that notes each job's number and is done.
pub(super) fn noting<J: JobKind + Numbered>(
    notes: &Notes<i64>,
) -> impl Fn(J, JobContext) -> std::future::Ready<HandlerResult> + Clone + Send + Sync + 'static {
    let notes = Arc::clone(notes);
    move |job, _| {
        notes.lock().push(job.number());
        std::future::ready(Ok(Outcome::Done))
    }
}

/// A handler that is done.
pub(super) fn noting_nothing<J>(_: J, _: JobContext) -> std::future::Ready<HandlerResult> {
    std::future::ready(Ok(Outcome::Done))
}

pub(super) trait Numbered {
    fn number(&self) -> i64;
}

impl Numbered for Work {
    fn number(&self) -> i64 {
        self.n
    }
}

impl Numbered for Eager {
    fn number(&self) -> i64 {
        self.n
    }
}

/// Numbers that look random and are the same in every run.
pub(super) struct Dice(pub(super) u64);

impl Dice {
    pub(super) fn roll(&mut self, sides: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (mixed ^ (mixed >> 31)) % sides
    }
}

/// Drops a value's flag when a handler is dropped or ends.
pub(super) struct Leaving<T: Copy + Send>(pub(super) Notes<T>, pub(super) T);

impl<T: Copy + Send> Drop for Leaving<T> {
    fn drop(&mut self) {
        self.0.lock().push(self.1);
    }
}
