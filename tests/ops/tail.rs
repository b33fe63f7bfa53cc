//! `growth-chat jobs tail`, while things happen.

use std::process::{ExitStatus, Stdio};

use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};
use serde_json::{Value, json};
use sqlx::{PgPool, query, raw_sql};
use tokio::{
    io::{AsyncBufReadExt, AsyncReadExt, BufReader, Lines},
    process::{Child, ChildStdout},
    time::timeout,
};

use super::{Desk, PATIENCE, command};
use crate::support::TestSystem;

/// A `tail` that runs.
struct Follower {
    process: Child,
    lines: Lines<BufReader<ChildStdout>>,
}

impl Follower {
    fn start(url: &str, words: &str) -> Self {
        let words: Vec<&str> = ["tail"]
            .into_iter()
            .chain(words.split_whitespace())
            .collect();
        let mut process = command(url, &words)
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let lines = BufReader::new(process.stdout.take().unwrap()).lines();
        Self { process, lines }
    }

    async fn line(&mut self) -> String {
        let line = timeout(PATIENCE, self.lines.next_line()).await;
        line.expect("no line comes").unwrap().expect("it has ended")
    }

    async fn json(&mut self) -> Value {
        serde_json::from_str(&self.line().await).unwrap()
    }

    /// What it says about a job: the words behind its kind.
    async fn says(&mut self) -> String {
        let line = self.line().await;
        let (_, said) = line.split_once("test.two").unwrap_or_else(|| {
            panic!("{line}");
        });
        said.trim().to_owned()
    }

    async fn complaint(&mut self, expected: &str) {
        let said = self.process.stderr.as_mut().unwrap();
        let mut lines = BufReader::new(said).lines();
        let found = timeout(PATIENCE, async {
            while let Some(line) = lines.next_line().await.unwrap() {
                if line.contains(expected) {
                    return;
                }
            }
            panic!("it has ended and never said {expected:?}");
        });
        found
            .await
            .unwrap_or_else(|_| panic!("it does not say {expected:?}"));
    }

    /// How it ends, and what else it said.
    async fn ended(mut self) -> (ExitStatus, String, String) {
        let ended = async {
            let mut rest = String::new();
            let mut complaint = String::new();
            let mut errors = self.process.stderr.take().unwrap();
            while let Some(line) = self.lines.next_line().await.unwrap() {
                rest += &line;
            }
            errors.read_to_string(&mut complaint).await.unwrap();
            (self.process.wait().await.unwrap(), rest, complaint)
        };
        timeout(PATIENCE, ended).await.expect("it does not end")
    }

    fn signal(&self, signal: Signal) {
        let pid = i32::try_from(self.process.id().unwrap()).unwrap();
        kill(Pid::from_raw(pid), signal).unwrap();
    }
}

async fn run(pool: &PgPool, sql: &'static str) {
    raw_sql(sql).execute(pool).await.unwrap();
}

/// What the queue does to a job in its life; the claim and the failure as `jobs` writes them.
const ENQUEUE: &str = r#"
    insert into queue.jobs (id, queue, kind, max_attempts, retry_waits, payload) overriding system value
    values (77, 'knowledge', 'test.two', 2, '{60}', '{"text": "hidden"}')"#;
const CLAIM: &str = "
    update queue.jobs set state = 'running', attempt = attempt + 1, lease = lease + 1, worker = gen_random_uuid(),
                          lease_until = now() + interval '4 s', started_at = clock_timestamp()
    where id = 77";
const FAIL: &str = r"
    update queue.jobs set state = 'scheduled', worker = null, lease_until = null, run_at = '2100-01-02T03:04:05Z',
        errors = errors || jsonb_build_object('attempt', attempt, 'at', clock_timestamp(), 'error', E'busy\u001b[2J\nnow')
    where id = 77";
const DIE: &str = "
    with ended as (delete from queue.jobs where id = 77 returning *)
    insert into queue.history (id, queue, kind, outcome, priority, attempt, max_attempts, retry_waits, payload, errors,
                               created_at, started_at, finished_at)
    select id, queue, kind, 'dead', priority, attempt, max_attempts, retry_waits, payload,
           errors || jsonb_build_object('attempt', attempt, 'at', clock_timestamp(), 'error', 'gone'),
           created_at, started_at, clock_timestamp()
    from ended";

#[tokio::test]
async fn a_job_is_followed_from_its_enqueue_to_its_end() {
    let desk = Desk::new().await;
    let mut follower = Follower::start(desk.database.url(), "-n 1");
    follower.line().await;
    run(&desk.pool, ENQUEUE).await;
    assert_eq!(follower.says().await, "enqueued");
    run(&desk.pool, CLAIM).await;
    assert_eq!(follower.says().await, "running (attempt 1 of 2)");
    run(&desk.pool, FAIL).await;
    assert_eq!(
        follower.says().await,
        "failed (attempt 1 of 2), next 2100-01-02T03:04:05.000Z: busy\\u{1b}[2J\\nnow"
    );
    // Both between two looks, perhaps.
    run(&desk.pool, CLAIM).await;
    run(&desk.pool, DIE).await;
    assert_eq!(follower.says().await, "running (attempt 2 of 2)");
    assert_eq!(follower.says().await, "failed (attempt 2 of 2): gone");
    let end = follower.says().await;
    assert!(
        end.starts_with("dead after 0.") && end.ends_with(" s"),
        "{end}"
    );
    follower.signal(Signal::SIGINT);
    let (status, rest, complaint) = follower.ended().await;
    assert_eq!(
        (status.code(), rest.as_str(), complaint.as_str()),
        (Some(0), "", "")
    );
}

#[tokio::test]
async fn it_begins_with_what_happened_last_and_answers_programs_without_payloads() {
    let desk = Desk::new().await;
    for step in [ENQUEUE, CLAIM, FAIL, CLAIM, DIE] {
        run(&desk.pool, step).await;
    }
    let mut follower = Follower::start(desk.database.url(), "-n 3 --json --kind test.two");
    let started = follower.json().await;
    assert_eq!(
        (&started["event"], &started["attempt"]),
        (&json!("running"), &json!(2))
    );
    assert_eq!(follower.json().await["error"], "gone");
    let mut end = follower.json().await;
    let fields = end.as_object_mut().unwrap();
    let (at, seconds) = (fields.remove("at").unwrap(), fields.remove("seconds"));
    assert!(at.as_str().unwrap().ends_with('Z') && seconds.unwrap().as_f64().unwrap() < 60.0);
    assert_eq!(
        end,
        json!({ "id": 77, "queue": "knowledge", "kind": "test.two", "event": "dead",
                "attempt": 2, "max_attempts": 2 })
    );
    follower.signal(Signal::SIGTERM);
    let (status, rest, _) = follower.ended().await;
    assert_eq!((status.code(), rest.as_str()), (Some(0), ""));
}

#[tokio::test]
async fn failures_alone_can_be_followed() {
    let desk = Desk::new().await;
    let mut follower = Follower::start(desk.database.url(), "-n 1 --failed --queue knowledge");
    // Job 1 died.
    assert!(
        follower
            .line()
            .await
            .ends_with("test.one                   dead")
    );
    for step in [ENQUEUE, CLAIM, FAIL] {
        run(&desk.pool, step).await;
    }
    assert!(follower.says().await.starts_with("failed (attempt 1 of 2)"));
    for step in [CLAIM, DIE] {
        run(&desk.pool, step).await;
    }
    assert!(follower.says().await.starts_with("failed (attempt 2 of 2)"));
    assert!(follower.says().await.starts_with("dead"));
}

#[tokio::test]
async fn a_job_that_ran_and_failed_is_noticed_behind_many_newer_ones_and_many_due_before_it() {
    let desk = Desk::new().await;
    run(&desk.pool, ENQUEUE).await;
    run(&desk.pool, CLAIM).await;
    run(
        &desk.pool,
        "insert into queue.jobs (id, queue, kind, state, run_at, max_attempts, retry_waits, payload)
         overriding system value
         select n, 'knowledge', 'test.one', 'scheduled', '2099-01-01', 1, '{}', '{}' from generate_series(1000, 8000) n",
    )
    .await;
    let mut follower = Follower::start(desk.database.url(), "-n 1 --kind test.two");
    assert_eq!(follower.says().await, "running (attempt 1 of 2)");
    run(&desk.pool, FAIL).await;
    assert!(follower.says().await.starts_with("failed (attempt 1 of 2)"));
}

#[tokio::test]
async fn it_ends_when_nobody_reads_any_more_though_nothing_happens() {
    let desk = Desk::new().await;
    let mut follower = Follower::start(desk.database.url(), "-n 1");
    follower.line().await;
    let Follower { mut process, lines } = follower;
    drop(lines);
    let status = timeout(PATIENCE, process.wait()).await;
    let status = status.expect("it goes on without a reader").unwrap();
    assert_eq!(status.code(), Some(0));
}

/// Jobs that were enqueued, ran and ended just now.
async fn flood(pool: &PgPool, jobs: i64) {
    query(
        "insert into queue.history (id, queue, kind, outcome, priority, attempt, max_attempts, retry_waits, payload,
                                    errors, created_at, started_at, finished_at)
         select 1000 + n, 'knowledge', 'test.two', 'done', 0, 1, 1, '{}', '{}', '[]',
                clock_timestamp(), clock_timestamp(), clock_timestamp()
         from generate_series(1, $1) n",
    )
    .bind(jobs)
    .execute(pool)
    .await
    .unwrap();
}

#[tokio::test]
async fn a_flood_is_cut_short_and_that_is_said() {
    let desk = Desk::new().await;
    let mut follower = Follower::start(desk.database.url(), "-n 1 --json");
    follower.line().await;
    flood(&desk.pool, 7_000).await;
    let mut shown = 0;
    loop {
        let line = follower.json().await;
        shown += 1;
        if line["id"] == 8_000 && line["event"] == "done" {
            break;
        }
    }
    assert!(shown <= 5_000, "{shown} lines of one look");
    follower.complaint("some of it is left out").await;
}

#[tokio::test]
async fn a_signal_ends_it_while_its_reader_does_not_read() {
    let desk = Desk::new().await;
    // More than a pipe holds.
    flood(&desk.pool, 1_000).await;
    let mut follower = Follower::start(desk.database.url(), "-n 1000");
    follower.line().await;
    follower.signal(Signal::SIGTERM);
    let status = timeout(PATIENCE, follower.process.wait()).await;
    let status = status.expect("it waits for its reader").unwrap();
    assert_eq!(status.code(), Some(0));
}

#[tokio::test]
async fn it_goes_on_when_its_database_is_back() {
    let system = TestSystem::with_own_server().await;
    let url = system.database_url();
    let pool = PgPool::connect(&url).await.unwrap();
    run(&pool, ENQUEUE).await;
    let mut follower = Follower::start(&url, "-n 1");
    assert_eq!(follower.says().await, "enqueued");
    pool.close().await;
    system.server().kill().await.unwrap();
    follower.complaint("the database is away").await;
    system.server().restart().await.unwrap();
    let pool = PgPool::connect(&url).await.unwrap();
    run(&pool, CLAIM).await;
    assert_eq!(follower.says().await, "running (attempt 1 of 2)");
}
