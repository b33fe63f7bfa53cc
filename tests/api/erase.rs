//! `DELETE /chat/{session}` while others read the conversation.

use std::time::{Duration, Instant};

use reqwest::{Method, StatusCode};
use serde_json::json;
use sqlx::{PgConnection, query_scalar};
use tokio::time::timeout;

use super::{
    people::handed_off,
    support::{App, End, Frame, Frames, SECRET, TOKEN, assert_problem},
};
use crate::support::frames::PATIENCE;

async fn erase(app: &App, session: &str) {
    let erased = app
        .client
        .request(Method::DELETE, app.url(&format!("/chat/{session}")))
        .header("x-widget-token", TOKEN)
        .bearer_auth(SECRET)
        .send();
    assert_eq!(erased.await.unwrap().status(), StatusCode::OK);
}

/// Everything up to the end, for which nobody waits long.
async fn rest_of(frames: &mut Frames) -> (Vec<Frame>, End) {
    let ended = timeout(PATIENCE, frames.rest()).await;
    ended.expect("the stream does not end")
}

/// The stream stops without a word, and is whole.
async fn assert_stops(mut frames: Frames) {
    let (rest, end) = rest_of(&mut frames).await;
    let [last] = &rest[..] else {
        panic!("{rest:?}");
    };
    assert_eq!(last.json, json!({"type": "abort", "reason": "erased"}));
    assert_eq!((last.id.as_str(), end), ("", End::Clean));
}

/// When each connection to the database but this one was last given something to do.
async fn statements(conn: &mut PgConnection) -> Vec<String> {
    query_scalar(
        "select format('%s %s', pid, state_change) from pg_stat_activity
         where datname = current_database() and pid <> pg_backend_pid() order by 1",
    )
    .fetch_all(conn)
    .await
    .unwrap()
}

#[tokio::test]
async fn the_streams_of_an_erased_conversation_end_at_every_process_and_nothing_of_it_is_kept() {
    let app = App::start().await;
    // It has no LISTEN connection in this test: its fallback finds out.
    let sibling = app.sibling().await;
    let body = json!({"session_id": "s1", "message_id": "m1", "message": "Hello"});
    let mut here = app.stream(app.post("/chat").json(&body)).await;
    let mut worker = app.begin_attempt("s1", 1).await;
    worker.start().await;
    let mut there = sibling.stream(sibling.get("/chat/s1/stream")).await;
    for frames in [&mut here, &mut there] {
        assert_eq!(frames.frame().await.kind(), "start");
    }
    // Another turn waits behind it, and nothing of it was ever shown.
    let body = json!({"session_id": "s1", "message_id": "m2", "message": "And then?"});
    let waits = app.stream(app.post("/chat").json(&body)).await;
    erase(&app, "s1").await;
    for frames in [here, there, waits] {
        assert_stops(frames).await;
    }
    let again = app.get("/chat/s1/stream").send().await.unwrap();
    assert_problem(again, 404, "session_not_found").await;
    assert_eq!(app.count("select count(*) from turn_events").await, 0);
}

#[tokio::test]
async fn whoever_read_an_erased_conversation_keeps_no_database_awake() {
    let app = App::start().await;
    let body = json!({"session_id": "s1", "message_id": "m1", "message": "Hello"});
    let mut frames = app.stream(app.post("/chat").json(&body)).await;
    erase(&app, "s1").await;
    // The client stays connected: it has only read to the end.
    let (_, end) = rest_of(&mut frames).await;
    assert_eq!(end, End::Clean);
    // While somebody waits, the hub reads every second.
    let quiet_for = Duration::from_millis(2_500);
    let mut conn = app.pool.acquire().await.unwrap();
    let deadline = Instant::now() + PATIENCE;
    let (mut before, mut since) = (statements(&mut conn).await, Instant::now());
    while since.elapsed() < quiet_for {
        assert!(Instant::now() < deadline, "no rest: {before:?}");
        tokio::time::sleep(Duration::from_millis(20)).await;
        let now = statements(&mut conn).await;
        if now != before {
            (before, since) = (now, Instant::now());
        }
    }
}

#[tokio::test]
async fn whoever_follows_an_erased_conversation_is_let_go() {
    let app = App::start().await;
    app.accept("s1", "m1", "Hello").await;
    app.begin_attempt("s1", 1).await.finish("Hi").await;
    handed_off(&app, "s1").await;
    let mut frames = app.stream(app.get("/chat/s1/stream?follow=1")).await;
    assert_eq!(frames.frame().await.kind(), "data-agent");
    erase(&app, "s1").await;
    assert_eq!(rest_of(&mut frames).await, (Vec::new(), End::Clean));
}

#[tokio::test]
async fn what_the_client_named_its_messages_is_gone_as_well() {
    let app = App::start().await;
    app.accept("s1", "john-doe", "Hello").await;
    app.begin_attempt("s1", 1).await.finish("Hi").await;
    app.accept("s1", "john-doe-2", "Hello again").await;
    erase(&app, "s1").await;
    let left: Vec<String> =
        query_scalar("select message_id || ' ' || status from turns order by turn")
            .fetch_all(&app.pool)
            .await
            .unwrap();
    assert_eq!(left, ["erased-1 answered", "erased-2 cancelled"]);
}
