//! A session's first message has it looked after: by a sweep in the hour in which it could expire.

use chrono::{DateTime, Utc};
use futures::future::join_all;

use super::support::{App, assert_problem};

/// The sweeps that wait, with the time that each is due.
async fn sweeps(app: &App) -> Vec<(String, String, DateTime<Utc>)> {
    sqlx::query_as(
        "select state, unique_key, run_at from queue.jobs where kind = 'session.sweep' order by run_at",
    )
    .fetch_all(&app.pool)
    .await
    .unwrap()
}

#[tokio::test]
async fn the_first_message_of_a_session_adds_the_sweep_of_the_hour_in_which_it_expires() {
    let app = App::start().await;
    app.accept("s1", "m1", "Hello").await;
    let waiting = sweeps(&app).await;
    let (state, due, run_at) = &waiting[0];
    assert_eq!(state, "scheduled");
    // By the database's clock, as everything of a job.
    let in_its_hour: bool = sqlx::query_scalar(
        "select $1 - interval '1 hour' <= created_at + interval '24 hours' and created_at + interval '24 hours' < $1
         from sessions",
    )
    .bind(run_at)
    .fetch_one(&app.pool)
    .await
    .unwrap();
    assert!(in_its_hour, "{waiting:?}");
    assert_eq!(*due, run_at.format("%Y-%m-%dT%H:00Z").to_string());
    // Its name is what the kind reads.
    let payload: serde_json::Value =
        sqlx::query_scalar("select payload from queue.jobs where kind = 'session.sweep'")
            .fetch_one(&app.pool)
            .await
            .unwrap();
    let job: jobs::catalog::SessionSweep = serde_json::from_value(payload).unwrap();
    assert_eq!(job.due, *due);
}

#[tokio::test]
async fn further_messages_and_sessions_add_no_sweep() {
    let app = App::start().await;
    app.accept("s1", "m1", "Hello").await;
    // Unless the hour has changed since the first.
    let before = sweeps(&app).await;
    let hour = "select count(distinct date_trunc('hour', created_at, 'UTC')) from sessions";
    app.accept("s1", "m2", "More").await;
    assert_eq!(sweeps(&app).await, before);
    let ids: Vec<String> = (0..20).map(|n| format!("t{n}")).collect();
    let others = ids.iter().map(|id| app.accept(id, "m1", "Hello"));
    join_all(others).await;
    let sweeps = i64::try_from(sweeps(&app).await.len()).unwrap();
    assert_eq!(sweeps, app.count(hour).await);
}

#[tokio::test]
async fn an_expired_session_takes_no_message() {
    let app = App::start().await;
    app.accept("s1", "m1", "Hello").await;
    app.begin_attempt("s1", 1).await.finish("Hello").await;
    sqlx::query(
        "update sessions set status = 'closed', closed_at = now(), termination_type = 'session_expiry'",
    )
    .execute(&app.pool)
    .await
    .unwrap();
    let response = app.message("s1", "m2", "More").send().await.unwrap();
    assert_problem(response, 409, "session_closed").await;
}

#[tokio::test]
async fn a_message_that_comes_before_the_sweep_goes_on_with_the_session() {
    let app = App::start().await;
    app.accept("s1", "m1", "Hello").await;
    app.begin_attempt("s1", 1).await.finish("Hello").await;
    sqlx::query("update sessions set last_activity_at = now() - interval '25 hours'")
        .execute(&app.pool)
        .await
        .unwrap();
    assert_eq!(app.accept("s1", "m2", "I am back").await, 2);
    let active = "select count(*) from sessions where last_activity_at > now() - interval '1 hour'";
    assert_eq!(app.count(active).await, 1);
}
