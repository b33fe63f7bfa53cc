//! `docs/operating.md`: what it says to type is what is run here.

use jobs::catalog::QUEUE_RULES;
use sqlx::{AssertSqlSafe, PgConnection, Row, postgres::PgRow, query, raw_sql};

use super::{Desk, program};

const DOCUMENT: &str = include_str!("../../docs/operating.md");

/// A job that died by its second attempt.
const DEAD: &str = r#"
    insert into queue.history (id, queue, kind, outcome, priority, attempt, max_attempts, retry_waits, payload, errors,
                               created_at, finished_at)
    values (42, 'knowledge', 'knowledge.index_document', 'dead', 0, 2, 2, '{1}',
            '{"document_id": 7, "content_hash": "abc"}',
            '[{"attempt": 1, "at": "2026-01-01T00:00:00Z", "error": "the endpoint is busy"},
              {"attempt": 2, "at": "2026-01-01T00:00:02Z", "error": "the endpoint is gone"}]', now(), now() + interval '1 s')"#;

/// A conversation that used up its tokens.
const CLOSED: &str = "
    insert into sessions (session_id, status, last_turn, tokens_used, closed_at, termination_type)
    values ('S', 'closed', 2, 16001, now(), 'token_limit');
    insert into turns (session_id, turn, status, message_id, answer_id, cost_usd, created_at, started_at, finished_at)
    values ('S', 1, 'answered', 'm1', 'a1', 0.01, now() - interval '9 s', now() - interval '8 s', now()),
           ('S', 2, 'answered', 'm2', 'a2', 0.02, now() - interval '3 s', now() - interval '2 s', now())";

/// The text of a section.
fn section(title: &str) -> &'static str {
    let (_, rest) = DOCUMENT
        .split_once(&format!("\n## {title}\n"))
        .unwrap_or_else(|| panic!("there is no section {title:?}"));
    rest.split_once("\n## ").map_or(rest, |(text, _)| text)
}

/// The statements of a section's block of SQL.
pub(super) fn statements(title: &str) -> Vec<&'static str> {
    let (_, rest) = section(title).split_once("```sql\n").unwrap();
    let (block, _) = rest.split_once("```").unwrap();
    block
        .lines()
        .map(|line| line.split_once(';').map_or(line, |(sql, _)| sql).trim())
        .filter(|sql| !sql.is_empty())
        .collect()
}

/// As somebody who may only operate.
async fn operator(desk: &Desk) -> PgConnection {
    let mut connection = desk.pool.acquire().await.unwrap().detach();
    query("set role growth_chat_operator")
        .execute(&mut connection)
        .await
        .unwrap();
    connection
}

async fn rows(operator: &mut PgConnection, sql: &str) -> Vec<PgRow> {
    query(AssertSqlSafe(sql))
        .fetch_all(operator)
        .await
        .unwrap_or_else(|error| panic!("{sql}: {error}"))
}

#[tokio::test]
async fn with_only_psql_a_person_finds_why_a_job_died_and_runs_it_again() {
    let desk = Desk::new().await;
    raw_sql(DEAD).execute(&desk.pool).await.unwrap();
    let mut operator = operator(&desk).await;
    let [find, explain, retry] = statements("Why did a job die, and how does it run again")[..]
    else {
        panic!("the document has other steps than the test");
    };
    let found = rows(&mut operator, find).await;
    assert_eq!(found[0].get::<i64, _>("id"), 42);
    assert_eq!(
        found[0].get::<String, _>("last_error"),
        "the endpoint is gone"
    );
    let errors: String = rows(&mut operator, explain).await[0].get(0);
    assert!(errors.contains("the endpoint is busy") && errors.contains("the endpoint is gone"));
    assert_eq!(
        rows(&mut operator, retry).await[0].get::<String, _>(0),
        "ready"
    );
    assert_eq!(desk.state(42).await.unwrap(), "ready");
    // What the first statement finds is the dead, and this one is alive.
    let dead = rows(&mut operator, find).await;
    assert!(dead.iter().all(|job| job.get::<i64, _>("id") != 42));
}

#[tokio::test]
async fn with_only_psql_a_person_finds_why_a_conversation_ended_and_what_it_cost() {
    let desk = Desk::new().await;
    raw_sql(CLOSED).execute(&desk.pool).await.unwrap();
    let mut operator = operator(&desk).await;
    let [closed, expensive, slow, elsewhere] =
        statements("Why was this conversation closed, so expensive, so slow")[..]
    else {
        panic!("the document has other steps than the test");
    };
    let closed = rows(&mut operator, closed).await;
    assert_eq!(
        closed[0].get::<String, _>("termination_type"),
        "token_limit"
    );
    for (sql, dearest) in [(expensive, 2), (slow, 1)] {
        let turns = rows(&mut operator, sql).await;
        assert_eq!(turns.len(), 2);
        assert_eq!(turns[0].get::<i32, _>("turn"), dearest, "{sql}");
    }
    let sessions = rows(&mut operator, elsewhere).await;
    assert_eq!(sessions[0].get::<String, _>("session_id"), "S");
    // Every way in which a session can end is explained.
    let check: String = sqlx::query_scalar(
        "select pg_get_constraintdef(oid) from pg_constraint where conname = 'sessions_termination_known'",
    )
    .fetch_one(&desk.pool)
    .await
    .unwrap();
    let explained = section("Why was this conversation closed, so expensive, so slow");
    let ways: Vec<&str> = check.split('\'').skip(1).step_by(2).collect();
    assert!(ways.len() >= 6, "{check}");
    for way in ways {
        assert!(explained.contains(&format!("| `{way}` |")), "{way}");
    }
}

#[tokio::test]
async fn every_statement_of_the_overview_is_one_that_an_operator_may_run() {
    let desk = Desk::new().await;
    raw_sql(DEAD).execute(&desk.pool).await.unwrap();
    raw_sql("insert into sessions (session_id) values ('a-session')")
        .execute(&desk.pool)
        .await
        .unwrap();
    let mut operator = operator(&desk).await;
    let overview = DOCUMENT.split_once("\n## ").unwrap().0;
    let statements: Vec<String> = overview
        .lines()
        .filter(|line| line.starts_with('|'))
        .flat_map(|line| line.split('`').skip(1).step_by(2))
        .filter(|code| code.starts_with("select"))
        .map(|sql| {
            sql.replace("(ID)", "(42)")
                .replace("'ID'", "'a-session'")
                .replace("'ADDRESS'", "'ada@lead.example'")
                .replace("'KIND'", "'turn.process'")
                .replace("'Q'", "'turns'")
        })
        .collect();
    assert!(statements.len() >= 9, "only {statements:?}");
    for sql in &statements {
        rows(&mut operator, sql).await;
    }
}

#[tokio::test]
async fn every_command_of_the_overview_is_one_that_the_program_knows() {
    let desk = Desk::new().await;
    let commands: Vec<&str> = DOCUMENT
        .split('`')
        .filter_map(|code| code.strip_prefix("growth-chat jobs "))
        .map(|words| words.split_whitespace().next().unwrap())
        .collect();
    assert!(commands.len() >= 9, "only {commands:?}");
    for command in commands {
        let output = desk.run_words(&[command, "--help"]).await;
        assert!(output.status.success(), "{command}");
    }
    for words in [
        &["sessions", "list"][..],
        &["sessions", "show"],
        &["replay"],
    ] {
        let command = format!("`growth-chat {}", words.join(" "));
        assert!(DOCUMENT.contains(&command), "{command}");
        let (first, rest) = words.split_first().unwrap();
        let words = [rest, &["--help"]].concat();
        let output = program(desk.database.url(), first, &words).output().await;
        assert!(output.unwrap().status.success(), "{command}");
    }
}

#[test]
fn the_limits_are_those_of_the_catalogue() {
    let limits = section("Limits");
    let written = limits
        .lines()
        .filter(|line| line.starts_with("| `"))
        .count();
    assert_eq!(written, QUEUE_RULES.len());
    for rules in QUEUE_RULES {
        let fleet = rules
            .fleet
            .map_or("none".to_owned(), |fleet| fleet.to_string());
        let row = format!("| `{}` | {} | {fleet} |", rules.queue, rules.slots);
        assert!(limits.contains(&row), "{row}");
    }
}

#[tokio::test]
async fn with_only_psql_a_person_sees_which_backups_were_made_and_which_are_good() {
    let desk = Desk::new().await;
    raw_sql(
        "insert into backup_runs (kind, status, reason, finished_at)
         values ('backup', 'failed', 'the bucket was gone', now());
         insert into backup_runs (kind, status, object_key, snapshot_at, finished_at, verified_at)
         values ('backup', 'succeeded', 'backups/backup-2026-11-20.sql.gz', '2026-11-20T01:00Z', now(), now()),
                ('backup', 'succeeded', 'backups/backup-2026-11-21.sql.gz', '2026-11-21T01:00Z', now(), null)",
    )
    .execute(&desk.pool)
    .await
    .unwrap();
    let mut operator = operator(&desk).await;
    let [runs, good] = statements("Backups")[..] else {
        panic!("the document has other statements than the test");
    };
    let runs = rows(&mut operator, runs).await;
    assert_eq!(runs.len(), 3);
    assert_eq!(runs[2].get::<String, _>("reason"), "the bucket was gone");
    let good = rows(&mut operator, good).await;
    let newest: chrono::DateTime<chrono::Utc> = good[0].get("newest_good");
    assert_eq!(newest.to_rfc3339(), "2026-11-20T01:00:00+00:00");
}
