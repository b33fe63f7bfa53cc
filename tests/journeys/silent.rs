//! A visitor who goes away without a word.

use std::time::Duration;

use reqwest::StatusCode;
use sandbox::anthropic::Reply;
use serde_json::Value;
use sqlx::{PgPool, query, query_scalar};
use tokio::time::{Instant, sleep};

use crate::support::{ApiProcess, TestSystem, frames::PATIENCE};

const SWEEPS: &str = "select count(*) from queue.jobs where kind = 'session.sweep'";

async fn count(pool: &PgPool, sql: &'static str) -> i64 {
    query_scalar(sql).fetch_one(pool).await.unwrap()
}

/// Asks, and reads the answer to its end.
async fn answered(app: &ApiProcess, session: &str) {
    app.ask(session, "m1", "hello").await.rest().await;
}

/// Lets a session's last activity lie back some hours, and its sweep be due.
async fn let_hours_pass(system: &TestSystem, pool: &PgPool, hours: f64) {
    query("update sessions set last_activity_at = now() - make_interval(secs => $1 * 3600)")
        .bind(hours)
        .execute(pool)
        .await
        .unwrap();
    let sweep: i64 = query_scalar("select id from queue.jobs where kind = 'session.sweep'")
        .fetch_one(pool)
        .await
        .unwrap();
    let retried = system.run(&["jobs", "retry", &sweep.to_string()]).await;
    assert!(retried.status.success(), "{retried:?}");
}

/// Waits until a session says so.
async fn until(app: &ApiProcess, session: &str, status: &str) -> Value {
    let deadline = Instant::now() + PATIENCE;
    loop {
        let transcript = app.transcript(session).await;
        if transcript["session"]["status"] == status {
            return transcript;
        }
        assert!(Instant::now() < deadline, "{transcript}");
        sleep(Duration::from_millis(20)).await;
    }
}

#[tokio::test]
async fn a_visitor_who_falls_silent_finds_the_conversation_closed() {
    let mut system = TestSystem::new().await;
    system.set("SESSION_TTL_HOURS", "2");
    system.anthropic.on("hello", Reply::text("Good morning."));
    let app = system.serve().await;
    let pool = system.pool().await;
    answered(&app, "s1").await;
    let_hours_pass(&system, &pool, 2.01).await;
    let transcript = until(&app, "s1", "closed").await;
    assert_eq!(transcript["session"]["termination_type"], "session_expiry");
    // What was said can still be read.
    assert_eq!(transcript["messages"].as_array().unwrap().len(), 2);
    let refused = app.submission("s1", "m2", "hello?").send().await.unwrap();
    assert_eq!(refused.status(), StatusCode::CONFLICT);
    let problem: Value = refused.json().await.unwrap();
    assert_eq!(problem["code"], "session_closed");
}

#[tokio::test]
async fn a_visitor_who_comes_back_in_time_goes_on() {
    let mut system = TestSystem::new().await;
    system.set("SESSION_TTL_HOURS", "2");
    system.anthropic.on("hello", Reply::text("Good morning."));
    let app = system.serve().await;
    let pool = system.pool().await;
    answered(&app, "s1").await;
    let_hours_pass(&system, &pool, 1.99).await;
    // It has looked, and comes again.
    let deadline = Instant::now() + PATIENCE;
    let again = "select count(*) from queue.jobs
                 where kind = 'session.sweep' and state = 'scheduled' and run_at > now()";
    while count(&pool, again).await == 0 {
        assert!(Instant::now() < deadline, "no sweep waits");
        sleep(Duration::from_millis(20)).await;
    }
    until(&app, "s1", "open").await;
    let accepted = app.submit("s1", "m2", "hello again").await;
    assert_eq!(accepted["turn"], 2);
}

#[tokio::test]
async fn a_worker_that_starts_looks_after_sessions_that_are_open_and_after_none_if_there_are_none()
{
    let system = TestSystem::new().await;
    let pool = system.pool().await;
    let mut worker = system.worker().await;
    // It works: so it has prepared itself.
    let app = system.api().await;
    system.anthropic.on("hello", Reply::text("Good morning."));
    answered(&app, "s1").await;
    assert_eq!(count(&pool, SWEEPS).await, 1);
    worker.stop().await;
    // As an earlier version left it.
    query("delete from queue.jobs where kind = 'session.sweep'")
        .execute(&pool)
        .await
        .unwrap();
    let _worker = system.worker().await;
    let deadline = Instant::now() + PATIENCE;
    while count(&pool, SWEEPS).await == 0 {
        assert!(Instant::now() < deadline, "no sweep waits");
        sleep(Duration::from_millis(20)).await;
    }
}
