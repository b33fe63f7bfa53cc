//! The visitor ends the conversation.

use reqwest::StatusCode;
use serde_json::json;

use super::support::{App, End, TURN_JOBS, assert_problem, body_of};

#[tokio::test]
async fn a_closed_session_takes_no_message_and_keeps_its_transcript() {
    let app = App::start().await;
    app.accept("s1", "m1", "Hello").await;
    app.begin_attempt("s1", 1).await.finish("Hello").await;
    for _ in 0..2 {
        let response = app.post("/chat/s1/close").send().await.unwrap();
        let body = body_of(response, StatusCode::OK).await;
        assert_eq!(body, json!({"session_id": "s1", "status": "closed"}));
    }
    let response = app.message("s1", "m2", "More").send().await.unwrap();
    assert_problem(response, 409, "session_closed").await;

    let response = app.get("/chat/s1").send().await.unwrap();
    let transcript = body_of(response, StatusCode::OK).await;
    assert_eq!(transcript["session"]["status"], "closed");
    assert_eq!(transcript["session"]["termination_type"], "visitor_closed");
    assert_eq!(transcript["messages"].as_array().unwrap().len(), 2);
}

#[tokio::test]
async fn closing_ends_what_waits() {
    let app = App::start().await;
    let body = json!({"session_id": "s1", "message": "Hello"});
    let mut frames = app.stream(app.post("/chat").json(&body)).await;
    app.accept("s1", "m2", "two").await;
    let response = app.post("/chat/s1/close").send().await.unwrap();
    assert_eq!(response.status(), StatusCode::OK);
    let (received, end) = frames.rest().await;
    assert_eq!(
        received[1].json,
        json!({"type": "abort", "reason": "cancelled"})
    );
    assert_eq!(end, End::Clean);
    assert_eq!(app.count(TURN_JOBS).await, 0);
}
