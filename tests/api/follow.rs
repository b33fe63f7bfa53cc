//! `GET /chat/{session}/stream?follow=`: what people say comes without a question.

use reqwest::StatusCode;

use super::{
    people::{ADA, handed_off, press, submit, write},
    support::{App, End, Frame, Frames, assert_problem},
};

async fn answered() -> App {
    let app = App::start().await;
    app.accept("s1", "m1", "Hello").await;
    app.begin_attempt("s1", 1).await.finish("Good day").await;
    app
}

async fn follow(app: &App, known: i32) -> Frames {
    app.stream(app.get(&format!("/chat/s1/stream?follow={known}")))
        .await
}

/// The next news of people.
async fn news(frames: &mut Frames) -> (String, String) {
    let frame = frames.frame().await;
    assert_eq!(
        (frame.kind(), frame.id.as_str()),
        ("data-agent", ""),
        "{frame:?}"
    );
    assert_eq!(frame.json["transient"], true);
    let text = |name: &str| frame.json["data"][name].as_str().unwrap().to_owned();
    (text("status"), text("name"))
}

fn is(status: &str, name: &str) -> (String, String) {
    (status.to_owned(), name.to_owned())
}

#[tokio::test]
async fn nobody_waits_where_nobody_is_expected() {
    let app = answered().await;
    let asked = app.get("/chat/s1/stream?follow=1").send().await.unwrap();
    assert_eq!(asked.status(), StatusCode::NO_CONTENT);
    let unknown = app.get("/chat/s2/stream?follow=0").send().await.unwrap();
    assert_eq!(unknown.status(), StatusCode::NO_CONTENT);
    handed_off(&app, "s1").await;
    let foreign = app
        .client
        .get(app.url("/chat/s1/stream?follow=1"))
        .header("x-widget-token", super::support::TOKEN)
        .bearer_auth("x".repeat(32));
    assert_problem(foreign.send().await.unwrap(), 404, "session_not_found").await;
    for bad in ["-1", "2", "99"] {
        let asked = app.get(&format!("/chat/s1/stream?follow={bad}")).send();
        assert_problem(asked.await.unwrap(), 400, "invalid_cursor").await;
    }
    let asked = app.get("/chat/s1/stream?follow=x").send().await.unwrap();
    assert_problem(asked, 400, "invalid_request").await;
}

#[tokio::test]
async fn a_visitor_who_follows_sees_who_speaks_and_types_and_what_they_say() {
    let app = answered().await;
    handed_off(&app, "s1").await;
    let mut frames = follow(&app, 1).await;
    assert_eq!(news(&mut frames).await, is("left", ""));
    press(&app, "s1", "take_over", ADA).await;
    assert_eq!(news(&mut frames).await, is("joined", "Ada"));
    press(&app, "s1", "reply", ADA).await;
    assert_eq!(news(&mut frames).await, is("typing", "Ada"));
    submit(&app, "s1", "V1", ADA, None).await;
    assert_eq!(news(&mut frames).await, is("joined", "Ada"));
    press(&app, "s1", "hand_back", ADA).await;
    assert_eq!(news(&mut frames).await, is("left", "Ada"));
    write(&app, "Ev1", ADA, "reply: Here I am").await;
    let (rest, end) = frames.rest().await;
    let kept: Vec<&Frame> = rest.iter().filter(|frame| !frame.id.is_empty()).collect();
    assert_eq!(kept[0].id, "2-1-1");
    let delta = kept
        .iter()
        .find(|frame| frame.kind() == "text-delta")
        .unwrap();
    assert_eq!(delta.json["delta"], "Here I am");
    assert_eq!(end, End::Clean);
}

#[tokio::test]
async fn what_was_said_between_two_streams_is_played_at_once_one_turn_each() {
    let app = answered().await;
    handed_off(&app, "s1").await;
    write(&app, "Ev1", ADA, "reply: One").await;
    write(&app, "Ev2", ADA, "reply: Two").await;
    for (known, text) in [(1, "One"), (2, "Two")] {
        let (frames, end) = follow(&app, known).await.rest().await;
        let delta = frames
            .iter()
            .find(|frame| frame.kind() == "text-delta")
            .unwrap();
        assert_eq!(
            (delta.json["delta"].as_str(), &end),
            (Some(text), &End::Clean)
        );
        assert!(
            frames
                .iter()
                .all(|frame| frame.id.starts_with(&format!("{}-", known + 1)))
        );
    }
    let mut frames = follow(&app, 3).await;
    assert_eq!(news(&mut frames).await, is("joined", "Ada"));
}

#[tokio::test]
async fn a_turn_that_the_assistant_answers_is_followed_as_well() {
    let app = answered().await;
    handed_off(&app, "s1").await;
    let mut frames = follow(&app, 1).await;
    assert_eq!(news(&mut frames).await, is("left", ""));
    app.accept("s1", "m2", "In another tab").await;
    let mut attempt = app.begin_attempt("s1", 2).await;
    attempt.start().await;
    assert_eq!(frames.frame().await.kind(), "start");
    attempt.finish("Yes").await;
    let (rest, end) = frames.rest().await;
    assert_eq!(
        (rest.last().map(Frame::kind), end),
        (Some("finish"), End::Clean)
    );
}

#[tokio::test]
async fn a_session_that_is_closed_ends_the_wait() {
    let app = answered().await;
    handed_off(&app, "s1").await;
    press(&app, "s1", "take_over", ADA).await;
    let mut frames = follow(&app, 1).await;
    assert_eq!(news(&mut frames).await, is("joined", "Ada"));
    app.post("/chat/s1/close").send().await.unwrap();
    assert_eq!(news(&mut frames).await, is("left", "Ada"));
    assert_eq!(frames.rest().await.1, End::Clean);
    let again = app.get("/chat/s1/stream?follow=1").send().await.unwrap();
    assert_eq!(again.status(), StatusCode::NO_CONTENT);
}

#[tokio::test]
async fn followers_wake_no_workers_and_ask_the_database_seldom() {
    let app = answered().await;
    handed_off(&app, "s1").await;
    let mut frames = follow(&app, 1).await;
    assert_eq!(news(&mut frames).await, is("left", ""));
    let mut woken = app.bus.subscribe();
    let nobody = tokio::time::timeout(std::time::Duration::from_millis(2_500), woken.wait());
    assert!(nobody.await.is_err(), "somebody was woken");
}
