//! Stopping an answer.

use reqwest::StatusCode;
use serde_json::json;

use super::support::{App, End, Frame, TURN_JOBS, assert_problem, body_of};

#[tokio::test]
async fn a_turn_that_still_waits_ends_at_once() {
    let app = App::start().await;
    let body = json!({"session_id": "s1", "message": "Hello"});
    let mut frames = app.stream(app.post("/chat").json(&body)).await;
    let sibling = app.sibling().await;
    let response = sibling
        .post("/chat/s1/turns/1/cancel")
        .send()
        .await
        .unwrap();
    let outcome = body_of(response, StatusCode::OK).await;
    assert_eq!(outcome, json!({"turn": 1, "status": "cancelled"}));

    let (received, end) = frames.rest().await;
    let kinds: Vec<&str> = received.iter().map(Frame::kind).collect();
    assert_eq!(kinds, ["start", "abort"]);
    assert_eq!(end, End::Clean);
    assert_eq!(app.count(TURN_JOBS).await, 0);
}

#[tokio::test]
async fn the_worker_of_a_running_turn_is_told() {
    let app = App::start().await;
    app.accept("s1", "m1", "Hello").await;
    let worker = app.begin_attempt("s1", 1).await;
    let mut subscription = app.bus.subscribe();
    for _ in 0..2 {
        let response = app.post("/chat/s1/turns/1/cancel").send().await.unwrap();
        let outcome = body_of(response, StatusCode::ACCEPTED).await;
        assert_eq!(outcome["status"], "cancelling");
        let wake = subscription.wait().await;
        assert_eq!(wake.cancelled_jobs.len(), 1);
    }
    let asked = "select count(*) from queue.jobs where cancel_requested";
    assert_eq!(app.count(asked).await, 1);
    worker.finish("partial").await;
}

#[tokio::test]
async fn a_finished_turn_stays_as_it_is() {
    let app = App::start().await;
    app.accept("s1", "m1", "Hello").await;
    app.begin_attempt("s1", 1).await.finish("Hello").await;
    for _ in 0..2 {
        let response = app.post("/chat/s1/turns/1/cancel").send().await.unwrap();
        let outcome = body_of(response, StatusCode::OK).await;
        assert_eq!(outcome["status"], "answered");
    }
}

#[tokio::test]
async fn a_cancelled_turn_lets_the_next_one_run() {
    let app = App::start().await;
    app.accept("s1", "m1", "one").await;
    app.accept("s1", "m2", "two").await;
    let response = app.post("/chat/s1/turns/1/cancel").send().await.unwrap();
    assert_eq!(response.status(), StatusCode::OK);
    let ready = "select count(*) from queue.jobs where state = 'ready' and unique_key = 's1/2'";
    assert_eq!(app.count(ready).await, 1);
}

#[tokio::test]
async fn a_turn_between_two_attempts_ends_at_once_and_voids_what_was_streamed() {
    let app = App::start().await;
    let body = json!({"session_id": "s1", "message": "Hello"});
    let mut frames = app.stream(app.post("/chat").json(&body)).await;
    let mut worker = app.begin_attempt("s1", 1).await;
    worker.start().await;
    sqlx::query("update queue.jobs set state = 'ready', lease_until = null, worker = null")
        .execute(&app.pool)
        .await
        .unwrap();
    let response = app.post("/chat/s1/turns/1/cancel").send().await.unwrap();
    assert_eq!(response.status(), StatusCode::OK);
    let (received, end) = frames.rest().await;
    let kinds: Vec<&str> = received.iter().map(Frame::kind).collect();
    assert_eq!(kinds, ["start", "start", "data-reset", "abort"]);
    assert_eq!(end, End::Clean);
}

#[tokio::test]
async fn a_turn_that_does_not_exist_is_404() {
    let app = App::start().await;
    app.accept("s1", "m1", "Hello").await;
    for turn in ["2", "0", "x", "-1", "+1", "99999999999", "1e0"] {
        let path = format!("/chat/s1/turns/{turn}/cancel");
        let response = app.post(&path).send().await.unwrap();
        assert_problem(response, 404, "turn_not_found").await;
    }
}
