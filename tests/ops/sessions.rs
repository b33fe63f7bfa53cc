//! `growth-chat sessions …`, and the views that it reads.

use std::{process::Stdio, time::Duration};

use sandbox::postgres::TestDatabase;
use serde_json::{Value, json};
use sqlx::{PgPool, Row, query, query_scalar, raw_sql};
use store::{
    bus::{Bus, Wake},
    db::DatabaseConfig,
    ids::TurnKey,
};
use tokio::{
    io::{AsyncBufReadExt, BufReader, Lines},
    process::{Child, ChildStdout},
    time::timeout,
};
use tokio_util::sync::CancellationToken;

use super::{PATIENCE, program};

/// `done` was answered in its second attempt and handed over; `live` waits; `old` was closed.
const SESSIONS: &str = r#"
    insert into sessions (session_id, status, stage, locale, page_url, last_turn, tokens_used, stall_offered_turn,
                          created_at, last_activity_at, closed_at, termination_type)
    values ('done', 'open', 3, 'de', 'https://x.example/?name=hidden', 1, 1340, null,
            '2026-01-01T00:00:00Z', '2026-01-01T00:00:09Z', null, null),
           ('live', 'open', 1, null, null, 1, 0, null, '2026-01-02T00:00:00Z', '2026-01-02T00:00:00Z', null, null),
           ('old', 'closed', 2, null, null, 0, 0, 1, '2025-01-01T00:00:00Z', '2025-01-01T00:00:00Z',
            '2025-01-02T00:00:00Z', 'stalled');
    insert into turns (session_id, turn, status, message_id, answer_id, attempt, job_id, finish_reason, model,
                       input_tokens, output_tokens, cache_write_tokens, cache_read_tokens, stage, cost_usd,
                       created_at, started_at, first_token_at, finished_at)
    values ('done', 1, 'answered', 'm1', 'a1', 2, 7, 'stop', 'claude-haiku-4-5', 300, 40, 0, 1000, 3, 0.00125,
            '2026-01-01T00:00:00Z', '2026-01-01T00:00:01Z', '2026-01-01T00:00:04.5Z', '2026-01-01T00:00:09Z');
    insert into turns (session_id, turn, message_id, answer_id, created_at)
    values ('live', 1, 'm1', 'a1', '2026-01-02T00:00:00Z');
    insert into messages (session_id, message_id, turn, role, body)
    values ('done', 'm1', 1, 'user', E'What does\nit cost\u001b[2J?'), ('done', 'a1', 1, 'assistant', 'Nine thousand.'),
           ('live', 'm1', 1, 'user', 'Hello');
    insert into checkpoint_writes (session_id, turn, step, attempt, output, created_at)
    values ('done', 1, 'retrieved', 1, '{"passages": [{"content": "hidden"}, {"content": "hidden"}]}', '2026-01-01T00:00:01.1Z'),
           ('done', 1, 'called.1', 1,
            '{"blocks": [{"type": "text", "text": "hidden"},
                         {"type": "call", "id": "t", "name": "retrieve_knowledge", "input": {"query": "hidden"}},
                         {"type": "call", "id": "t", "name": "set_stage", "input": {"stage": "propose"}}]}', '2026-01-01T00:00:02Z'),
           ('done', 1, 'answered', 2,
            '{"status": "answered", "tools": [{"type": "call", "id": "t", "name": "request_handoff", "input": {"email": "hidden"}}]}',
            '2026-01-01T00:00:09Z');
    insert into model_calls (session_id, turn, attempt, call, purpose, model, outcome, input_tokens, output_tokens,
                             cache_write_tokens, cache_read_tokens, cost_usd, created_at)
    values ('done', 1, 1, 1, 'answer', 'claude-haiku-4-5', 'ok', 100, 10, 0, 500, 0.00025, '2026-01-01T00:00:02Z'),
           ('done', 1, 2, 2, 'answer', 'claude-haiku-4-5', 'ok', 200, 30, 0, 500, 0.00075, '2026-01-01T00:00:08Z'),
           ('done', 1, 2, 3, 'summary', 'claude-haiku-4-5', 'ok', 0, 0, 0, 0, 0.00025, '2026-01-01T00:00:08.5Z'),
           ('done', 1, 0, 1, 'replay', 'another', 'ok', 300, 50, 0, 0, 0.5, '2026-01-03T00:00:00Z');
    insert into queue.history (id, queue, kind, outcome, priority, attempt, max_attempts, retry_waits, payload, errors,
                               created_at, finished_at)
    values (7, 'turns', 'turn.process', 'done', 0, 2, 4, '{1,3,9}', '{"session_id": "done", "turn": 1}',
            '[{"attempt": 1, "at": "2026-01-01T00:00:03Z", "error": "the provider is overloaded"}]', now(), now());
    insert into handoff_records (session_id, handoff_id, turn, trigger, status, lead, summary)
    values ('done', 'h1', 1, 'qualified_lead', 'pending', '{"email": "hidden@x.example"}', 'hidden');
"#;

struct Desk {
    pool: PgPool,
    database: TestDatabase,
}

impl Desk {
    async fn new() -> Self {
        let database = TestDatabase::create().await.unwrap();
        let pool = database.pool().await.unwrap();
        raw_sql(SESSIONS).execute(&pool).await.unwrap();
        Self { pool, database }
    }

    async fn says(&self, arguments: &str) -> String {
        let mut command = program(self.database.url(), "sessions", &words(arguments));
        let output = timeout(PATIENCE, command.output()).await.unwrap().unwrap();
        let complaint = String::from_utf8(output.stderr).unwrap();
        assert!(output.status.success(), "{arguments}: {complaint}");
        String::from_utf8(output.stdout).unwrap()
    }

    async fn json(&self, arguments: &str) -> Value {
        serde_json::from_str(&self.says(&format!("{arguments} --json")).await).unwrap()
    }

    async fn ids(&self, arguments: &str) -> Vec<String> {
        let sessions = self.json(arguments).await;
        let sessions = sessions.as_array().unwrap().iter();
        sessions
            .map(|session| session["session_id"].as_str().unwrap().to_owned())
            .collect()
    }
}

fn words(arguments: &str) -> Vec<&str> {
    arguments.split_whitespace().collect()
}

#[tokio::test]
async fn a_list_shows_the_sessions_that_the_filters_let_through() {
    let desk = Desk::new().await;
    for (arguments, ids) in [
        ("list", &["live", "done", "old"][..]),
        ("list --open", &["live", "done"]),
        ("list --stage 2", &["old"]),
        ("list --open --stage 3", &["done"]),
        ("list --limit 1", &["live"]),
        ("list --open --stage 4", &[]),
    ] {
        assert_eq!(desk.ids(arguments).await, ids, "{arguments}");
    }
    let table = desk.says("list").await;
    let rows: Vec<Vec<&str>> = table.lines().map(words).collect();
    assert_eq!(rows[0][..3], ["SESSION", "STATUS", "STAGE"]);
    let done = [
        "done",
        "open",
        "3",
        "1",
        "1340",
        "0.00125",
        "pending",
        "2026-01-01T00:00:09Z",
    ];
    assert_eq!(rows[2], done);
    assert_eq!(rows[3][1], "stalled");
    assert_eq!(desk.says("list --stage 4").await, "no sessions\n");
}

#[tokio::test]
async fn a_page_tells_how_a_conversation_went_and_nothing_that_was_said() {
    let desk = Desk::new().await;
    let page = desk.says("show done").await;
    for line in [
        "stage      3 propose",
        "handoff    pending (by qualified_lead)",
        "cost       $0.00125",
        "turn 1",
        "  2026-01-01T00:00:00.000Z  accepted",
        "  2026-01-01T00:00:01.100Z  step retrieved (attempt 1), 2 passages",
        "  2026-01-01T00:00:02.000Z  step called.1 (attempt 1), tools: retrieve_knowledge, set_stage",
        "  2026-01-01T00:00:03.000Z  attempt 1 of the job failed: the provider is overloaded",
        "  2026-01-01T00:00:08.500Z  call for the summary (attempt 2, claude-haiku-4-5): ok, 0 tokens in, 0 out, $0.00025",
        "  2026-01-01T00:00:09.000Z  answered (stop), stage 3, 1300 tokens in, 40 out, $0.00125, first text after 4.50 s, 9.00 s in all, 2 attempts, tools: request_handoff",
        "  2026-01-03T00:00:00.000Z  call for the replay (another): ok, 300 tokens in, 50 out, $0.50",
    ] {
        assert!(page.lines().any(|shown| shown == line), "{line}: {page}");
    }
    let told = desk.says("show done --json").await;
    for text in [&page, &told] {
        assert!(
            !text.contains("hidden") && !text.contains("cost it"),
            "{text}"
        );
        assert!(!text.contains("Nine thousand"), "{text}");
    }
}

#[tokio::test]
async fn what_was_said_is_shown_to_who_asks_for_it_and_can_not_move_the_cursor() {
    let desk = Desk::new().await;
    let page = desk.says("show done --text").await;
    for line in [
        "  question | What does",
        "  question | it cost\\u{1b}[2J?",
        "  answer   | Nine thousand.",
    ] {
        assert!(page.lines().any(|shown| shown == line), "{line}: {page}");
    }
    let report = desk.json("show done --text").await;
    assert_eq!(report["turns"][0]["answer"], "Nine thousand.");
    assert_eq!(report["session"]["stage"], 3);
    assert_eq!(report["failures"][0]["error"], "the provider is overloaded");
}

#[tokio::test]
async fn a_session_that_is_not_there_is_named() {
    let desk = Desk::new().await;
    for arguments in ["show nobody", "show nobody --follow"] {
        let mut command = program(desk.database.url(), "sessions", &words(arguments));
        let output = timeout(PATIENCE, command.output()).await.unwrap().unwrap();
        assert_eq!(output.status.code(), Some(1));
        let said = String::from_utf8(output.stderr).unwrap();
        assert!(said.contains("there is no session nobody"), "{said}");
    }
}

/// A `show --follow` that runs.
struct Follower {
    process: Child,
    lines: Lines<BufReader<ChildStdout>>,
}

impl Follower {
    fn start(desk: &Desk, arguments: &str) -> Self {
        let mut process = program(desk.database.url(), "sessions", &words(arguments))
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let lines = BufReader::new(process.stdout.take().unwrap()).lines();
        Self { process, lines }
    }

    async fn json(&mut self) -> Value {
        let line = timeout(PATIENCE, self.lines.next_line()).await;
        let line = line.expect("no line comes").unwrap();
        serde_json::from_str(&line.expect("it has ended")).unwrap()
    }

    /// Reads until it tells of something.
    async fn until(&mut self, what: &str) {
        loop {
            let line = self.json().await;
            if line["what"]
                .as_str()
                .is_some_and(|said| said.contains(what))
            {
                return;
            }
        }
    }
}

/// Tells the follower, as a worker does.
async fn publish(desk: &Desk) {
    let config = DatabaseConfig::new(desk.database.url().to_owned(), 2);
    let bus = Bus::new("worker");
    bus.publish(&Wake {
        turns: [TurnKey {
            session_id: "live".parse().unwrap(),
            turn: 1,
        }]
        .into(),
        ..Wake::default()
    });
    let stopped = CancellationToken::new();
    stopped.cancel();
    bus.run(&config.open().unwrap(), stopped).await;
}

#[tokio::test]
async fn a_conversation_is_followed_to_its_end() {
    let desk = Desk::new().await;
    let mut follower = Follower::start(&desk, "show live --follow --text --json");
    let first = follower.json().await;
    assert_eq!(first["turns"][0]["question"], "Hello");
    for (statement, what) in [
        (
            "update turns set status = 'running', attempt = 1, started_at = now() where session_id = 'live'",
            "begun",
        ),
        (
            "insert into checkpoint_writes (session_id, turn, step, attempt, output)
             values ('live', 1, 'retrieved', 1, '[]')",
            "step retrieved (attempt 1), 0 passages",
        ),
    ] {
        query(statement).execute(&desk.pool).await.unwrap();
        publish(&desk).await;
        follower.until(what).await;
    }
    raw_sql(
        "insert into messages (session_id, message_id, turn, role, body) values ('live', 'a1', 1, 'assistant', 'Hi.');
         update turns set status = 'answered', finish_reason = 'stop', finished_at = now() where session_id = 'live';
         update sessions set status = 'closed', closed_at = now(), termination_type = 'visitor_closed'
         where session_id = 'live'",
    )
    .execute(&desk.pool)
    .await
    .unwrap();
    publish(&desk).await;
    follower.until("answered (stop)").await;
    follower.until("closed: visitor_closed").await;
    assert_eq!(follower.json().await, json!({"turn": 1, "answer": "Hi."}));
    // A closed session has no more to tell.
    let ended = timeout(PATIENCE, follower.process.wait()).await;
    assert!(ended.expect("it does not end").unwrap().success());
}

#[tokio::test]
async fn a_follower_asks_the_database_nothing_while_nothing_happens() {
    let desk = Desk::new().await;
    query("update turns set status = 'cancelled', finished_at = now() where session_id = 'live'")
        .execute(&desk.pool)
        .await
        .unwrap();
    let mut follower = Follower::start(&desk, "show live --follow --json");
    follower.json().await;
    let quiet = async || -> Option<String> {
        query_scalar(
            "select string_agg(pid || ' ' || state_change, ',' order by pid) from pg_stat_activity
             where datname = current_database() and application_name = 'growth-chat'",
        )
        .fetch_one(&desk.pool)
        .await
        .unwrap()
    };
    // It listens, and looks once more.
    let mut last = quiet().await;
    loop {
        tokio::time::sleep(Duration::from_secs(1)).await;
        let now = quiet().await;
        if now == last && now.is_some() {
            break;
        }
        last = now;
    }
    tokio::time::sleep(Duration::from_secs(2)).await;
    assert_eq!(quiet().await, last);
    // The server hangs up, as one does that goes to sleep: the follower leaves it alone.
    query(
        "select pg_terminate_backend(pid) from pg_stat_activity
           where datname = current_database() and application_name = 'growth-chat'",
    )
    .execute(&desk.pool)
    .await
    .unwrap();
    let ended = timeout(PATIENCE, follower.process.wait()).await;
    assert!(ended.expect("it does not end").unwrap().success());
}

#[tokio::test]
async fn the_views_say_what_a_turn_came_to() {
    let desk = Desk::new().await;
    let turn = query(
        "select stage, cost_usd = 0.00125 as cost, outcome, seconds_to_first_token, seconds_total, answer_calls,
                answer_cost_usd = 0.001 as answers, summary_calls, replay_calls, replay_cost_usd = 0.5 as replays
         from ops.turns where session_id = 'done'",
    )
    .fetch_one(&desk.pool)
    .await
    .unwrap();
    assert_eq!(turn.get::<i16, _>("stage"), 3);
    assert_eq!(turn.get::<&str, _>("outcome"), "stop");
    assert!((turn.get::<f64, _>("seconds_to_first_token") - 4.5).abs() < 1e-9);
    assert!((turn.get::<f64, _>("seconds_total") - 9.0).abs() < 1e-9);
    for calls in ["answer_calls", "summary_calls", "replay_calls"] {
        let expected = if calls == "answer_calls" { 2 } else { 1 };
        assert_eq!(turn.get::<i64, _>(calls), expected, "{calls}");
    }
    for right in ["cost", "answers", "replays"] {
        assert!(turn.get::<bool, _>(right), "{right}");
    }
    // The outcome is the first of: limit, finish reason, status.
    for (change, outcome) in [
        ("limit_reached = 'cost_cap'", "cost_cap"),
        (
            "limit_reached = null, finish_reason = null, status = 'failed'",
            "failed",
        ),
    ] {
        let sql = format!("update turns set {change} where session_id = 'done'");
        query(sqlx::AssertSqlSafe(sql))
            .execute(&desk.pool)
            .await
            .unwrap();
        let said: String = query_scalar("select outcome from ops.turns where session_id = 'done'")
            .fetch_one(&desk.pool)
            .await
            .unwrap();
        assert_eq!(said, outcome);
    }
    let session = query(
        "select turns, unfinished_turns, failed_turns, cost_usd = 0.00125 as cost, handoff_trigger
         from ops.sessions where session_id = 'done'",
    )
    .fetch_one(&desk.pool)
    .await
    .unwrap();
    assert_eq!(session.get::<i32, _>("turns"), 1);
    assert_eq!(session.get::<i64, _>("unfinished_turns"), 0);
    assert_eq!(session.get::<i64, _>("failed_turns"), 1);
    assert!(session.get::<bool, _>("cost"));
    assert_eq!(session.get::<&str, _>("handoff_trigger"), "qualified_lead");
    let handoffs: i64 = query_scalar("select count(*) from ops.handoffs where status = 'pending'")
        .fetch_one(&desk.pool)
        .await
        .unwrap();
    assert_eq!(handoffs, 1);
}
