//! Endpoints on a database of their own, a receiver outside, and processes that deliver.

use std::{collections::BTreeMap, future::Future, sync::Arc, time::Duration};

use jobs::{Concurrency, CoreTaskEnded, QueueConfig, Runtime, webhooks};
use sandbox::{outside::OutsideWorld, postgres::TestDatabase, receiver::Receiver};
use serde_json::Value;
use sqlx::{AssertSqlSafe, PgPool};
use store::{
    bus::{Bus, Wake},
    clock::{SharedClock, SystemClock},
    db::{Database, DatabaseConfig},
    webhooks::{Endpoint, Event},
};
use tokio::{task::JoinHandle, time::Instant};
use tokio_util::sync::CancellationToken;
use workers::{
    clients::guarded::{AddressRules, GuardedClient},
    webhooks::WebhookDeps,
};

/// Far more than anything takes, on a machine under load too.
const PATIENCE: Duration = Duration::from_secs(30);

/// A desk from which endpoints are registered and events announced.
pub(super) struct Desk {
    pub(super) pool: PgPool,
    pub(super) bus: Bus,
    pub(super) receiver: Receiver,
    // Dropped last.
    database: TestDatabase,
}

/// An endpoint that was registered.
pub(super) struct Registered {
    pub(super) id: String,
    pub(super) secret: String,
}

/// A process that delivers. It ends when it is dropped.
pub(super) struct Process {
    shutdown: CancellationToken,
    running: JoinHandle<Result<(), CoreTaskEnded>>,
    talking: JoinHandle<()>,
}

impl Drop for Process {
    fn drop(&mut self) {
        self.shutdown.cancel();
        self.running.abort();
        self.talking.abort();
    }
}

impl Desk {
    pub(super) async fn new() -> Self {
        let database = TestDatabase::create().await.unwrap();
        let pool = open(database.url()).pool().clone();
        let receiver = Receiver::start(OutsideWorld::default(), 0).await.unwrap();
        Self {
            pool,
            bus: Bus::new("desk"),
            receiver,
            database,
        }
    }

    pub(super) fn url(&self) -> &str {
        self.database.url()
    }

    /// Registers a path of the receiver, which learns the secret.
    pub(super) async fn endpoint(&self, path: &str, events: &[&str]) -> Registered {
        let url = format!("{}{path}", self.receiver.url());
        let registered = self.endpoint_at(&url, events).await;
        self.receiver.know(&registered.secret);
        registered
    }

    pub(super) async fn endpoint_at(&self, url: &str, events: &[&str]) -> Registered {
        let events: Vec<String> = events.iter().map(|it| (*it).to_owned()).collect();
        let added = store::webhooks::add(&self.pool, url, &events, "")
            .await
            .unwrap();
        Registered {
            id: added.endpoint_id,
            secret: added.secret,
        }
    }

    pub(super) async fn shown(&self, endpoint: &Registered) -> Endpoint {
        let shown = store::webhooks::show(&self.pool, &endpoint.id)
            .await
            .unwrap();
        shown.unwrap()
    }

    /// Makes a session and tells of it, in one transaction.
    pub(super) async fn session_starts(&self, id: &str) {
        self.happens(id, &[Event::SessionStarted(id.parse().unwrap())])
            .await;
    }

    /// Lets events happen in a session, in one transaction.
    pub(super) async fn happens(&self, session: &str, events: &[Event]) {
        let mut after = Wake::default();
        let mut transaction = self.pool.begin().await.unwrap();
        sqlx::query("insert into sessions (session_id) values ($1) on conflict do nothing")
            .bind(session)
            .execute(&mut *transaction)
            .await
            .unwrap();
        webhooks::announce(&mut transaction, events, &mut after)
            .await
            .unwrap();
        transaction.commit().await.unwrap();
        self.bus.publish(&after);
    }

    /// A process that may reach this machine, as in development.
    pub(super) fn process(&self) -> Process {
        let rules = AddressRules {
            loopback: true,
            ..AddressRules::default()
        };
        self.process_with(client(rules), Arc::new(SystemClock))
    }

    pub(super) fn process_with(&self, client: GuardedClient, clock: SharedClock) -> Process {
        let database = open(self.url());
        let bus = self.bus.clone();
        let deps = WebhookDeps::with_client(client, database.pool().clone(), bus.clone(), clock);
        let config = QueueConfig {
            queues: Vec::new(),
            fleet: BTreeMap::new(),
            concurrency: Concurrency::of_every_queue(16),
            lease: Duration::from_secs(2),
            idle_poll: None,
            ..QueueConfig::default()
        };
        let runtime = Runtime::new(database.clone(), bus.clone(), config);
        let runtime = workers::webhooks::register(runtime, &deps);
        let shutdown = CancellationToken::new();
        let (stop, bus_stop) = (shutdown.clone(), shutdown.clone());
        Process {
            shutdown,
            running: tokio::spawn(async move { runtime.run(stop, PATIENCE).await }),
            talking: tokio::spawn(async move { bus.run(&database, bus_stop).await }),
        }
    }

    /// Makes everything due that waits, as if the time had passed.
    pub(super) async fn let_time_pass(&self) {
        sqlx::query("update queue.jobs set run_at = now() where state = 'scheduled'")
            .execute(&self.pool)
            .await
            .unwrap();
        self.bus.jobs_ready("webhooks");
    }

    /// Waits until nothing is left to do; time passes meanwhile.
    pub(super) async fn all_done(&self) {
        until("everything is delivered", async || {
            self.let_time_pass().await;
            (self.count("select count(*) from queue.jobs").await == 0).then_some(())
        })
        .await;
    }

    pub(super) async fn count(&self, sql: &str) -> i64 {
        let query = sqlx::query_scalar(AssertSqlSafe(sql));
        query.fetch_one(&self.pool).await.unwrap()
    }

    pub(super) async fn execute(&self, sql: &str) {
        let query = sqlx::query(AssertSqlSafe(sql));
        query.execute(&self.pool).await.unwrap();
    }

    /// The attempts of an endpoint, the oldest first: outcome and error.
    pub(super) async fn attempts(&self, endpoint: &Registered) -> Vec<(String, Option<String>)> {
        let attempts = store::webhooks::attempts(&self.pool, &endpoint.id, 1_000)
            .await
            .unwrap();
        let attempts = attempts.into_iter().rev();
        attempts
            .map(|it| (it.outcome.unwrap_or_default(), it.error))
            .collect()
    }

    /// The sessions that a path was told of, in order, without repetitions.
    pub(super) fn sessions_told(&self, path: &str) -> Vec<String> {
        let taken = self.receiver.taken_at(path).into_iter();
        taken
            .map(|delivery| text(&delivery.body["data"]["session_id"]))
            .collect()
    }
}

pub(super) fn client(rules: AddressRules) -> GuardedClient {
    // Another test may have been first.
    let _ = rustls::crypto::ring::default_provider().install_default();
    GuardedClient::new(rules).unwrap()
}

pub(super) fn text(value: &Value) -> String {
    value.as_str().unwrap_or_default().to_owned()
}

fn open(url: &str) -> Database {
    DatabaseConfig::new(url.to_owned(), 6).open().unwrap()
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
