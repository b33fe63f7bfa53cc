//! `/metrics`: the figures of the queue, what they cost the database, and that all are documented.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::{Duration, Instant},
};

use sandbox::{anthropic::Reply, collector::Collector};
use sqlx::PgPool;
use tokio::time::{sleep, timeout};

use crate::support::{SystemProcess, TestSystem};

/// Far more than it takes.
pub(super) const PATIENCE: Duration = Duration::from_mins(1);
/// A scrape takes no longer, whatever the database does; with room for a machine under load.
const SCRAPE_LIMIT: Duration = Duration::from_secs(3);
/// How long statements are counted.
pub(super) const WINDOW: Duration = Duration::from_secs(3);

/// What one scrape said: `name{labels}` and the value.
pub(super) type Scrape = BTreeMap<String, String>;

pub(super) async fn scrape(process: &SystemProcess) -> Scrape {
    let url = format!("http://{}/metrics", process.metrics_address());
    let response = timeout(SCRAPE_LIMIT, reqwest::get(url)).await;
    let response = response.expect("the scrape takes too long").unwrap();
    assert!(response.status().is_success(), "{}", response.status());
    let text = response.text().await.unwrap();
    let figures = text
        .lines()
        .filter(|line| !line.is_empty() && !line.starts_with('#'));
    figures
        .map(|line| {
            let (name, value) = line.rsplit_once(' ').unwrap();
            (name.to_owned(), value.to_owned())
        })
        .collect()
}

/// Scrapes until it says this, and returns that scrape.
pub(super) async fn until_scraped(
    process: &SystemProcess,
    what: &str,
    found: impl Fn(&Scrape) -> bool,
) -> Scrape {
    let begun = Instant::now();
    loop {
        let figures = scrape(process).await;
        if found(&figures) {
            return figures;
        }
        assert!(begun.elapsed() < PATIENCE, "{what}: {figures:#?}");
        sleep(Duration::from_millis(50)).await;
    }
}

/// How many jobs are ready, scheduled, blocked and running.
fn depth(figures: &Scrape, queue: &str) -> [u64; 4] {
    ["ready", "scheduled", "blocked", "running"].map(|state| {
        let name = format!("growth_chat_queue_depth{{queue=\"{queue}\",state=\"{state}\"}}");
        figures[&name].parse().unwrap()
    })
}

/// How many seconds the oldest due job has waited.
fn oldest(figures: &Scrape, queue: &str) -> f64 {
    let name = format!("growth_chat_queue_oldest_seconds{{queue=\"{queue}\"}}");
    figures[&name].parse().unwrap()
}

fn is_paused(figures: &Scrape, queue: &str) -> bool {
    figures[&format!("growth_chat_queue_paused{{queue=\"{queue}\"}}")] == "1"
}

fn is_stale(figures: &Scrape) -> bool {
    figures["growth_chat_queue_figures_stale"] == "1"
}

async fn execute(pool: &PgPool, statements: &str) {
    let statements = sqlx::AssertSqlSafe(statements.to_owned());
    sqlx::raw_sql(statements).execute(pool).await.unwrap();
}

/// What a producer or a person says after the commit.
async fn wake(pool: &PgPool) {
    execute(pool, "select pg_notify('growth_chat', E'test\\nr')").await;
}

/// Transactions that have ended in the database, this question's own included.
async fn transactions(pool: &PgPool) -> i64 {
    // Backends report what they did when they are idle, at most every second; this one at once.
    execute(pool, "select pg_stat_force_next_flush()").await;
    sqlx::query_scalar(
        "select xact_commit + xact_rollback from pg_stat_database where datname = current_database()",
    )
    .fetch_one(pool)
    .await
    .unwrap()
}

/// How many transactions end while a process is scraped all the time, and how often it was.
async fn cost_of_scrapes(process: &SystemProcess, pool: &PgPool) -> (i64, usize) {
    let before = transactions(pool).await;
    let own = transactions(pool).await - before;
    let begun = Instant::now();
    let mut scrapes = 0;
    while begun.elapsed() < WINDOW {
        scrape(process).await;
        scrapes += 1;
        sleep(Duration::from_millis(20)).await;
    }
    (transactions(pool).await - before - 2 * own, scrapes)
}

/// A connection of its own: what is counted is what this one does not do.
async fn one_connection(system: &TestSystem) -> PgPool {
    sqlx::postgres::PgPoolOptions::new()
        .max_connections(1)
        .connect(&system.database_url())
        .await
        .unwrap()
}

#[tokio::test]
async fn scrapes_of_an_idle_process_do_not_touch_the_database() {
    let mut system = TestSystem::new().await;
    system.set("QUEUE_IDLE_POLL_SECONDS", "0");
    let app = system.serve().await;
    let pool = one_connection(&system).await;
    app.ask("s1", "m1", "Hello?").await.rest().await;
    // A paused queue rests as well, whatever waits in it.
    execute(
        &pool,
        "insert into queue.paused (queue) values ('knowledge');
         insert into queue.jobs (queue, kind, state, max_attempts, retry_waits, payload, run_at)
         values ('knowledge', 'test', 'ready', 1, '{}', '{}', now())",
    )
    .await;
    wake(&pool).await;
    until_scraped(&app.process, "it is paused", |figures| {
        is_paused(figures, "knowledge")
    })
    .await;
    let begun = Instant::now();
    loop {
        let (cost, scrapes) = cost_of_scrapes(&app.process, &pool).await;
        assert!(scrapes > 5, "{scrapes}");
        if cost <= 0 {
            break;
        }
        assert!(begun.elapsed() < PATIENCE, "{cost} transactions");
    }
}

#[tokio::test]
async fn a_queue_that_is_paused_by_a_person_shows_at_once_in_a_process_that_is_idle() {
    let mut system = TestSystem::new().await;
    system.set("QUEUE_IDLE_POLL_SECONDS", "0");
    let app = system.serve().await;
    let pool = one_connection(&system).await;
    until_scraped(&app.process, "nothing is paused", |figures| {
        !is_paused(figures, "knowledge")
    })
    .await;
    for (statement, paused) in [
        ("select ops.pause_queue('knowledge')", true),
        ("select ops.resume_queue('knowledge')", false),
    ] {
        execute(&pool, statement).await;
        until_scraped(&app.process, statement, |figures| {
            is_paused(figures, "knowledge") == paused
        })
        .await;
    }
}

#[tokio::test]
async fn many_scrapes_of_a_busy_queue_cost_few_statements() {
    let system = TestSystem::new().await;
    let app = system.api().await;
    let pool = one_connection(&system).await;
    // Nobody works on it.
    app.submit("s1", "m1", "Hello?").await;
    until_scraped(&app.process, "the job is seen", |figures| {
        depth(figures, "turns") == [1, 0, 0, 0]
    })
    .await;
    // Reported late: the first windows may show what was before, or nothing yet.
    let begun = Instant::now();
    loop {
        let (cost, scrapes) = cost_of_scrapes(&app.process, &pool).await;
        assert!(scrapes > 5, "{scrapes}");
        if (1..=2).contains(&cost) {
            break;
        }
        assert!(begun.elapsed() < PATIENCE, "{cost} transactions");
    }
}

#[tokio::test]
async fn the_figures_of_the_queue_are_those_of_its_jobs() {
    let system = TestSystem::new().await;
    let app = system.api().await;
    let pool = system.pool().await;
    let empty = scrape(&app.process).await;
    for queue in jobs::catalog::QUEUES {
        assert_eq!(depth(&empty, queue), [0; 4], "{queue}");
        assert!(oldest(&empty, queue) <= 0.0);
        assert!(!is_paused(&empty, queue));
    }
    execute(
        &pool,
        "insert into queue.jobs (queue, kind, state, max_attempts, retry_waits, payload, serial_key,
                                 run_at, lease_until, worker)
         values ('turns', 'test', 'ready', 1, '{}', '{}', 'a', now() - interval '100 s', null, null),
                ('turns', 'test', 'ready', 1, '{}', '{}', null, now(), null, null),
                ('turns', 'test', 'blocked', 1, '{}', '{}', 'a', now(), null, null),
                ('turns', 'test', 'scheduled', 1, '{}', '{}', null, now() + interval '1 hour', null, null),
                ('turns', 'test', 'running', 1, '{}', '{}', 'b', now(), now() + interval '1 hour',
                 gen_random_uuid()),
                ('old', 'test', 'blocked', 1, '{}', '{}', 'c', now(), null, null);
         insert into queue.paused (queue) values ('knowledge')",
    )
    .await;
    wake(&pool).await;
    let figures = until_scraped(&app.process, "the jobs are seen", |figures| {
        depth(figures, "turns") == [2, 1, 1, 1]
    })
    .await;
    assert_eq!(depth(&figures, "old"), [0, 0, 1, 0]);
    let waited = oldest(&figures, "turns");
    assert!((100.0..160.0).contains(&waited), "{waited}");
    assert!(oldest(&figures, "old") <= 0.0);
    assert!(is_paused(&figures, "knowledge"));
    assert!(!is_paused(&figures, "turns"));
    assert!(!is_stale(&figures));
    // A queue that is no more does not stay as it was.
    execute(&pool, "delete from queue.jobs; delete from queue.paused").await;
    wake(&pool).await;
    until_scraped(&app.process, "all is gone", |figures| {
        depth(figures, "turns") == [0; 4]
            && depth(figures, "old") == [0; 4]
            && oldest(figures, "turns") <= 0.0
            && !is_paused(figures, "knowledge")
    })
    .await;
}

#[tokio::test]
async fn a_job_in_flight_is_counted_until_it_has_ended() {
    let system = TestSystem::new().await;
    system
        .anthropic
        .on("count", Reply::words(60).stalling_after(5));
    let app = system.api().await;
    let worker = system.worker().await;
    app.submit("s1", "m1", "Please count.").await;
    let in_flight = |figures: &Scrape| {
        let name = "growth_chat_jobs_in_flight{queue=\"turns\"}";
        figures.get(name).map(String::as_str) == Some("1")
    };
    until_scraped(&worker, "the job runs", |figures| {
        in_flight(figures) && depth(figures, "turns") == [0, 0, 0, 1]
    })
    .await;
    // The depth is the database's: every process has it.
    until_scraped(&app.process, "the job is seen", |figures| {
        depth(figures, "turns") == [0, 0, 0, 1]
    })
    .await;
    app.cancel("s1", 1).await;
    until_scraped(&worker, "the job has ended", |figures| {
        !in_flight(figures) && depth(figures, "turns") == [0; 4]
    })
    .await;
}

#[tokio::test]
async fn a_job_that_has_become_due_is_seen_without_a_wake_up() {
    let system = TestSystem::new().await;
    let app = system.api().await;
    let pool = system.pool().await;
    execute(
        &pool,
        "insert into queue.jobs (queue, kind, state, max_attempts, retry_waits, payload, run_at)
         values ('turns', 'test', 'scheduled', 1, '{}', '{}', now() + interval '3 s')",
    )
    .await;
    wake(&pool).await;
    until_scraped(&app.process, "it is scheduled", |figures| {
        depth(figures, "turns") == [0, 1, 0, 0] && oldest(figures, "turns") <= 0.0
    })
    .await;
    until_scraped(&app.process, "it is overdue", |figures| {
        oldest(figures, "turns") > 0.0
    })
    .await;
}

#[tokio::test]
async fn a_database_that_is_away_leaves_the_last_figures_and_says_so() {
    let system = TestSystem::with_own_server().await;
    let app = system.api().await;
    app.submit("s1", "m1", "Hello?").await;
    let waits = |figures: &Scrape| depth(figures, "turns") == [1, 0, 0, 0];
    until_scraped(&app.process, "the job is seen", waits).await;
    system.server().kill().await.unwrap();
    let figures = until_scraped(&app.process, "the figures are stale", is_stale).await;
    assert!(waits(&figures));
    system.server().restart().await.unwrap();
    let healed = |figures: &Scrape| !is_stale(figures) && waits(figures);
    until_scraped(&app.process, "the figures are read again", healed).await;
}

#[tokio::test]
async fn every_metric_is_documented_and_every_documented_one_is_exported() {
    const DOCUMENT: &str = include_str!("../../docs/metrics.md");
    let mut system = TestSystem::new().await;
    system.set("QUEUE_IDLE_POLL_SECONDS", "0");
    let collector = Collector::start(system.world.clone(), 0).await.unwrap();
    system.set("OTEL_EXPORTER_OTLP_ENDPOINT", &collector.url());
    let app = system.serve().await;
    let (frames, _) = app.ask("s1", "m1", "Hello?").await.rest().await;
    let seen = frames.first().unwrap().id.clone();
    app.resume("s1", &seen).await.rest().await;
    // A job that fails, and is at its end at once.
    system
        .anthropic
        .on("refused", Reply::refused(401, "authentication_error"));
    app.ask("s2", "m2", "This is refused.").await.rest().await;
    // Somebody is told that a person is to talk to a visitor.
    let hook = format!("{}/hooks", system.people.receiver.url());
    let events = ["handoff.delivered".to_owned()];
    let pool = system.pool().await;
    let endpoint = store::webhooks::add(&pool, &hook, &events, "")
        .await
        .unwrap();
    system.people.receiver.know(&endpoint.secret);
    let details = serde_json::json!({"email": "ada@visitor.example", "consent": true});
    let contact = app
        .post("/chat/s1/contact")
        .json(&details)
        .send()
        .await
        .unwrap();
    assert_eq!(contact.status(), 202);
    let figures = until_scraped(
        &app.process,
        "a job has died, and somebody is told",
        |figures| {
            figures.contains_key("growth_chat_jobs_total{kind=\"turn.process\",outcome=\"dead\"}")
                && figures
                    .contains_key("growth_chat_webhook_deliveries_total{outcome=\"delivered\"}")
        },
    )
    .await;
    let first_attempts = "growth_chat_job_attempts_bucket{kind=\"turn.process\",le=\"1\"}";
    assert_eq!(figures[first_attempts], "2");
    let exported: BTreeSet<&str> = figures
        .keys()
        .map(|name| name.split('{').next().unwrap())
        .map(|name| {
            ["_bucket", "_sum", "_count"]
                .iter()
                .find_map(|suffix| name.strip_suffix(suffix))
                .unwrap_or(name)
        })
        .collect();
    // A row begins with the name; one that this run can't show says so.
    let documented: BTreeMap<&str, bool> = DOCUMENT
        .lines()
        .filter_map(|line| {
            let (name, rest) = line.strip_prefix("| `")?.split_once('`')?;
            let name = name.split('{').next()?;
            name.starts_with("growth_chat_")
                .then(|| (name, rest.contains(" only)")))
        })
        .collect();
    let unknown: Vec<_> = exported
        .iter()
        .filter(|name| !documented.contains_key(*name))
        .collect();
    assert!(unknown.is_empty(), "not in docs/metrics.md: {unknown:?}");
    let missing: Vec<_> = documented
        .iter()
        .filter(|(name, seldom)| !**seldom && !exported.contains(*name))
        .collect();
    assert!(
        missing.is_empty(),
        "in docs/metrics.md and not exported: {missing:?}"
    );
}
