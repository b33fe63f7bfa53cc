//! `growth-chat jobs …`, as the program that an operator runs: with the database's address and
//! nothing else.

mod add;
mod bad_input;
mod document;
mod metrics;
mod pages;
mod roundtrip;
mod sessions;
mod spend;
mod tail;

use std::{
    process::{Output, Stdio},
    time::Duration,
};

use sandbox::postgres::TestDatabase;
use serde_json::{Value, json};
use sqlx::{PgPool, postgres::PgListener, query, query_scalar};
use tokio::{process::Command, time::timeout};

/// Far more than it takes.
const PATIENCE: Duration = Duration::from_secs(30);

/// Four jobs: 1 is dead, 2 waits for its second attempt, 3 is blocked by it, 4 is running.
const JOBS: &str = r#"
    insert into queue.history (id, queue, kind, outcome, priority, attempt, max_attempts, retry_waits,
                               payload, errors, created_at)
    values (1, 'knowledge', 'test.one', 'dead', 0, 2, 2, '{1}', '{"text": "hidden"}',
            '[{"attempt": 1, "at": "2026-01-01T00:00:00Z", "error": "first"},
              {"attempt": 2, "at": "2026-01-01T00:00:02Z", "error": "second"}]', now());
    insert into queue.jobs (id, queue, kind, state, attempt, max_attempts, retry_waits, payload, errors,
                            serial_key, run_at, lease_until, worker)
    overriding system value
    values (2, 'turns', 'turn.process', 'ready', 1, 4, '{1,3,9}', '{"session_id": "s", "turn": 1}',
            '[{"attempt": 1, "at": "2026-01-01T00:00:00Z", "error": "busy"}]', 'session:s',
            '2100-01-02T03:04:05Z', null, null),
           (3, 'turns', 'turn.process', 'blocked', 0, 4, '{1,3,9}', '{"session_id": "s", "turn": 2}', '[]',
            'session:s', now(), null, null),
           (4, 'turns', 'turn.process', 'running', 1, 4, '{1,3,9}', '{"session_id": "t", "turn": 1}', '[]',
            'session:t', now(), now() + interval '1 hour', gen_random_uuid());
    insert into sessions (session_id) values ('s');
    insert into turns (session_id, turn, message_id, answer_id) values ('s', 1, 'm', 'a');
"#;

struct Desk {
    pool: PgPool,
    database: TestDatabase,
}

impl Desk {
    async fn new() -> Self {
        let database = TestDatabase::create().await.unwrap();
        let pool = database.pool().await.unwrap();
        sqlx::raw_sql(JOBS).execute(&pool).await.unwrap();
        Self { pool, database }
    }

    async fn run(&self, arguments: &str) -> Output {
        let words: Vec<&str> = arguments.split_whitespace().collect();
        self.run_words(&words).await
    }

    /// Arguments may have spaces, or be empty.
    async fn run_words(&self, words: &[&str]) -> Output {
        timeout(PATIENCE, self.command(words).output())
            .await
            .expect("the process does not end")
            .unwrap()
    }

    fn command(&self, words: &[&str]) -> Command {
        command(self.database.url(), words)
    }

    /// What it answers when all goes well.
    async fn says(&self, arguments: &str) -> String {
        let output = self.run(arguments).await;
        let complaint = String::from_utf8(output.stderr).unwrap();
        assert!(output.status.success(), "{arguments}: {complaint}");
        String::from_utf8(output.stdout).unwrap()
    }

    async fn json(&self, arguments: &str) -> Value {
        serde_json::from_str(&self.says(&format!("{arguments} --json")).await).unwrap()
    }

    /// What it says when it can't; nothing goes to standard output then.
    async fn refuses(&self, arguments: &str) -> String {
        let output = self.run(arguments).await;
        assert_eq!(output.status.code(), Some(1), "{arguments}");
        assert_eq!(output.stdout, b"", "{arguments}");
        String::from_utf8(output.stderr).unwrap()
    }

    async fn ids(&self, arguments: &str) -> Vec<i64> {
        let jobs = self.json(arguments).await;
        let jobs = jobs.as_array().unwrap().iter();
        jobs.map(|job| job["id"].as_i64().unwrap()).collect()
    }

    async fn state(&self, id: i64) -> Option<String> {
        query_scalar(
            "select state from queue.jobs where id = $1
             union all select outcome from queue.history where id = $1",
        )
        .bind(id)
        .fetch_optional(&self.pool)
        .await
        .unwrap()
    }
}

/// `growth-chat jobs` with these arguments.
fn command(url: &str, words: &[&str]) -> Command {
    program(url, "jobs", words)
}

/// A sub-command with these arguments, and with the database's address only.
fn program(url: &str, sub_command: &str, words: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_growth-chat"));
    command
        .arg(sub_command)
        .args(words)
        .env_clear()
        .env("CHECKPOINT_DB_URL", url)
        .stdin(Stdio::null())
        .kill_on_drop(true);
    command
}

#[tokio::test]
async fn a_list_shows_what_the_filters_let_through() {
    let desk = Desk::new().await;
    for (arguments, ids) in [
        ("list", &[4, 3, 2][..]),
        ("list --limit 2", &[4, 3]),
        ("list --failed", &[2, 1]),
        ("list --failed --state dead", &[1]),
        ("list --state dead", &[1]),
        ("list --state blocked", &[3]),
        ("list --queue knowledge", &[]),
        ("list --queue knowledge --failed", &[1]),
        ("list --kind turn.process --state running", &[4]),
    ] {
        assert_eq!(desk.ids(arguments).await, ids, "{arguments}");
    }
    let table = desk.says("list --failed").await;
    let rows: Vec<Vec<&str>> = table
        .lines()
        .map(|line| line.split_whitespace().collect())
        .collect();
    assert_eq!(rows[0][..3], ["ID", "QUEUE", "KIND"]);
    let waiting = [
        "2",
        "turns",
        "turn.process",
        "ready",
        "1/4",
        "2100-01-02T03:04:05Z",
        "busy",
    ];
    assert_eq!(rows[1], waiting);
    assert_eq!(
        rows[2],
        ["1", "knowledge", "test.one", "dead", "2/2", "-", "second"]
    );
    assert_eq!(
        desk.says("list --queue turns --state dead").await,
        "no jobs\n"
    );
}

#[tokio::test]
async fn a_job_is_shown_with_the_error_of_every_attempt_and_without_its_payload() {
    let desk = Desk::new().await;
    let page = desk.says("show 1").await;
    for part in [
        "kind        test.one\n",
        "state       dead\n",
        "attempts    2 of 2\n",
        "attempt 1 failed at 2026-01-01T00:00:00Z: first\n",
        "attempt 2 failed at 2026-01-01T00:00:02Z: second\n",
    ] {
        assert!(page.contains(part), "{part} is not in {page}");
    }
    let job = desk.json("show 1").await;
    assert_eq!(job["errors"][1]["error"], "second");
    assert!(!job.to_string().contains("hidden") && !page.contains("hidden"));
}

#[tokio::test]
async fn jobs_are_retried_one_by_one_and_by_kind() {
    let desk = Desk::new().await;
    assert_eq!(
        desk.json("retry 1 2").await,
        json!([{ "id": 1, "state": "ready" }, { "id": 2, "state": "ready" }])
    );
    let due: i64 =
        query_scalar("select count(*) from queue.jobs where id in (1, 2) and run_at <= now()")
            .fetch_one(&desk.pool)
            .await
            .unwrap();
    assert_eq!(due, 2);

    let desk = Desk::new().await;
    let nothing = desk.says("retry --kind turn.process --since 1h").await;
    assert!(
        nothing.starts_with("no job of the kind turn.process"),
        "{nothing}"
    );
    assert_eq!(
        desk.says("retry --kind test.one --since 1h").await,
        "job 1 is retried\n"
    );
    assert_eq!(desk.state(1).await.unwrap(), "ready");
}

#[tokio::test]
async fn a_waiting_job_is_cancelled_with_what_follows_and_a_running_one_is_asked() {
    let desk = Desk::new().await;
    let mut listener = PgListener::connect(desk.database.url()).await.unwrap();
    listener.listen("growth_chat").await.unwrap();
    assert_eq!(desk.says("cancel 2").await, "job 2 is cancelled\n");
    assert_eq!(desk.state(2).await.unwrap(), "cancelled");
    // The next of its key runs, and the turn is over.
    assert_eq!(desk.state(3).await.unwrap(), "ready");
    let turn: String = query_scalar("select status from turns where session_id = 's'")
        .fetch_one(&desk.pool)
        .await
        .unwrap();
    assert_eq!(turn, "cancelled");
    let told = timeout(PATIENCE, listener.recv()).await.unwrap().unwrap();
    let told: Vec<&str> = told.payload().lines().skip(1).collect();
    assert_eq!(told, ["q turns", "t 1 s"]);

    assert_eq!(
        desk.json("cancel 4").await,
        json!({ "id": 4, "state": "asked" })
    );
    let told = timeout(PATIENCE, listener.recv()).await.unwrap().unwrap();
    let told: Vec<&str> = told.payload().lines().skip(1).collect();
    assert_eq!(told, ["c 4"]);
}

#[tokio::test]
async fn a_queue_is_paused_and_resumed() {
    let desk = Desk::new().await;
    assert_eq!(desk.says("pause turns").await, "queue turns is paused\n");
    assert_eq!(
        desk.json("pause turns").await,
        json!({ "queue": "turns", "paused": true, "changed": false })
    );
    let paused: bool = query_scalar("select paused from ops.queues where queue = 'turns'")
        .fetch_one(&desk.pool)
        .await
        .unwrap();
    assert!(paused);
    assert_eq!(desk.says("resume turns").await, "queue turns runs again\n");
    assert_eq!(
        desk.says("resume turns").await,
        "queue turns was not paused\n"
    );
}

#[tokio::test]
async fn what_is_not_there_is_named_in_a_sentence() {
    let desk = Desk::new().await;
    let unknown = "job 99 is not known: it never was, or its history has been pruned\n";
    for (arguments, said) in [
        ("show 99", unknown),
        ("retry 99", unknown),
        (
            "cancel 99",
            "job 99 is not live: it has ended, or never was\n",
        ),
        (
            "cancel 1",
            "job 1 is not live: it has ended, or never was\n",
        ),
        ("retry 4", "job 4 is running: there is nothing to retry\n"),
        (
            "pause turn",
            "there is no queue \"turn\": the queues are backup, handoff, knowledge, maintenance, people, turns, webhooks\n",
        ),
        (
            "resume turn",
            "there is no queue \"turn\": the queues are backup, handoff, knowledge, maintenance, people, turns, webhooks\n",
        ),
    ] {
        assert_eq!(
            desk.refuses(arguments).await,
            format!("growth-chat: {said}")
        );
    }
    // The others are retried all the same.
    let said = desk.refuses("retry 99 1").await;
    assert!(
        said.contains("job 99 is not known") && said.contains("job 1 is ready"),
        "{said}"
    );
    assert_eq!(desk.state(1).await.unwrap(), "ready");
}

#[tokio::test]
async fn a_database_that_was_not_migrated_is_named() {
    let desk = Desk::new().await;
    query("delete from _sqlx_migrations where version > 3")
        .execute(&desk.pool)
        .await
        .unwrap();
    let said = desk.refuses("list").await;
    assert!(said.contains("run `growth-chat migrate`"), "{said}");
}

#[tokio::test]
async fn schedules_are_shown_with_their_last_and_next_fire() {
    let desk = Desk::new().await;
    let none = desk.says("schedules").await;
    assert_eq!(none, "no schedules: no worker has run yet\n");
    query(
        "insert into queue.schedules (name, cron, time_zone, since, settled, last_fire, last_job_id, next_fire_at)
         values ('backup', '0 2 * * *', 'Europe/Berlin', now(), '2026-11-21T01:00:00Z', '2026-11-21T02:00:00', 7,
                 '2026-11-22T01:00:00Z'),
                ('new', '*/5 * * * *', 'UTC', now(), now(), null, null, null)",
    )
    .execute(&desk.pool)
    .await
    .unwrap();
    let schedules = desk.json("schedules").await;
    let backup = json!({
        "name": "backup",
        "cron": "0 2 * * *",
        "time_zone": "Europe/Berlin",
        "last_fire_local": "2026-11-21T02:00",
        "last_job_id": 7,
        "next_fire_at": "2026-11-22T01:00:00Z",
    });
    assert_eq!(schedules[0], backup);
    let text = desk.says("schedules").await;
    let rows: Vec<Vec<&str>> = text
        .lines()
        .map(|line| line.split_whitespace().collect())
        .collect();
    assert_eq!(rows[0][..2], ["NAME", "CRON"]);
    let last = [
        "Europe/Berlin",
        "2026-11-21T02:00",
        "7",
        "2026-11-22T01:00:00Z",
    ];
    assert_eq!(rows[1][6..], last);
    assert_eq!(rows[2][6..], ["UTC", "-", "-", "-"]);
}
