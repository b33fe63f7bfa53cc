//! A person speaks: takeover, messages both ways, hand back.

use reqwest::{StatusCode, header};
use serde_json::json;

use super::{
    people::{ADA, BOB, handed_off, jobs, press, said, submit, transcript, write},
    support::{App, End, Frame, assert_problem, body_of},
};

/// A session that was handed off, with one answered message.
async fn answered() -> App {
    let app = App::start().await;
    app.accept("s1", "m1", "Hello").await;
    app.begin_attempt("s1", 1).await.finish("Good day").await;
    handed_off(&app, "s1").await;
    app
}

fn kinds(frames: &[Frame]) -> Vec<&str> {
    frames.iter().map(Frame::kind).collect()
}

#[tokio::test]
async fn a_takeover_withdraws_what_the_assistant_was_saying() {
    let app = answered().await;
    app.accept("s1", "m2", "And now?").await;
    let mut attempt = app.begin_attempt("s1", 2).await;
    attempt.start().await;
    let seen = attempt.delta("Half an ans").await;
    let mut stream = app
        .stream(app.get(&format!("/chat/s1/stream?after={seen}")))
        .await;
    app.accept("s1", "m3", "Anybody?").await;
    let mut queued = app.stream(app.get("/chat/s1/stream?after=3-0-0")).await;

    press(&app, "s1", "take_over", ADA).await;

    let (frames, end) = stream.rest().await;
    assert_eq!(
        kinds(&frames),
        ["start", "data-reset", "data-agent", "abort"]
    );
    assert_eq!(
        frames[2].json["data"],
        json!({"name": "Ada", "status": "joined"})
    );
    assert_eq!(frames[3].json["reason"], "taken_over");
    assert_eq!(end, End::Clean);
    let (frames, end) = queued.rest().await;
    assert_eq!(
        (kinds(&frames), end),
        (vec!["data-agent", "abort"], End::Clean)
    );

    assert_eq!(
        app.count("select count(*) from queue.jobs where kind = 'turn.process'")
            .await,
        0
    );
    assert_eq!(
        app.count("select count(*) from turns where status = 'relayed'")
            .await,
        2
    );
    let relays = jobs(&app, "handoff.relay").await;
    let turns: Vec<_> = relays.iter().map(|relay| relay["turn"].clone()).collect();
    assert_eq!(turns, [2, 3]);
    let view = transcript(&app, "s1").await;
    assert_eq!(view["session"]["agent"], "Ada");
    assert_eq!(view["active_turn"], json!(null));
    let authors: Vec<String> = said(&app, "s1").await.into_iter().map(|it| it.0).collect();
    assert_eq!(authors, ["visitor", "assistant", "visitor", "visitor"]);
}

#[tokio::test]
async fn the_worker_that_was_answering_writes_nothing_any_more() {
    let app = answered().await;
    app.accept("s1", "m2", "And now?").await;
    let mut attempt = app.begin_attempt("s1", 2).await;
    attempt.start().await;
    press(&app, "s1", "take_over", ADA).await;
    let mut conn = app.pool.acquire().await.unwrap();
    let late = store::events::NewEvent {
        key: "s1/2".parse().unwrap(),
        attempt: 1,
        seq: 9,
        terminal: false,
        json: json!({"type": "start-step"}).to_string(),
    };
    assert_eq!(store::events::append(&mut conn, &[late]).await.unwrap(), 0);
}

#[tokio::test]
async fn while_a_person_speaks_messages_go_to_them_and_no_model_is_asked() {
    let app = answered().await;
    press(&app, "s1", "take_over", ADA).await;
    let request = app
        .post("/chat")
        .json(&json!({"session_id": "s1", "message_id": "m2", "message": "Are you there?"}));
    let (frames, end) = app.stream(request).await.rest().await;
    assert_eq!(kinds(&frames), ["data-session", "data-agent", "finish"]);
    assert_eq!(end, End::Clean);
    // The same message again is the same turn.
    assert_eq!(app.accept("s1", "m2", "Are you there?").await, 2);
    assert_eq!(
        app.count("select count(*) from queue.jobs where kind = 'turn.process'")
            .await,
        0
    );
    assert_eq!(
        jobs(&app, "handoff.relay").await,
        [json!({"session_id": "s1", "turn": 2})]
    );
    let messages = transcript(&app, "s1").await["messages"].clone();
    assert_eq!(messages[2]["metadata"]["status"], "relayed");
    assert_eq!(messages[1]["metadata"]["status"], "complete");
}

#[tokio::test]
async fn nothing_is_answered_again_while_a_person_speaks() {
    let app = answered().await;
    press(&app, "s1", "take_over", ADA).await;
    let request = app
        .post("/chat")
        .header(header::ACCEPT, "application/json")
        .json(&json!({
            "id": "s1", "trigger": "regenerate-message",
            "messages": [{"id": "m1", "role": "user", "parts": [{"type": "text", "text": "Hello"}]}],
        }));
    assert_problem(request.send().await.unwrap(), 409, "person_speaks").await;
}

#[tokio::test]
async fn a_marked_reply_takes_over_and_reaches_the_visitor_and_a_note_does_neither() {
    let app = answered().await;
    for (id, note) in [
        ("Ev1", "looks promising"),
        ("Ev2", "I'd reply: no"),
        ("Ev3", "reply:"),
    ] {
        assert_eq!(write(&app, id, ADA, note).await.status(), StatusCode::OK);
    }
    assert_eq!(
        transcript(&app, "s1").await["session"]["agent"],
        json!(null)
    );
    assert_eq!(said(&app, "s1").await.len(), 2);

    write(&app, "Ev4", ADA, "Reply: How can I help?").await;
    write(&app, "Ev5", BOB, "!reply Or I?").await;
    write(&app, "Ev6", BOB, "a secret between us").await;
    let said = said(&app, "s1").await;
    let by = |author: &str, text: &str| (author.to_owned(), text.to_owned());
    assert_eq!(
        said[2..],
        [by("Ada", "How can I help?"), by("Bob", "Or I?")]
    );
    assert_eq!(transcript(&app, "s1").await["session"]["agent"], "Bob");
    let (frames, end) = app
        .stream(app.get("/chat/s1/stream?after=2-0-0"))
        .await
        .rest()
        .await;
    assert_eq!(
        kinds(&frames),
        [
            "start",
            "data-session",
            "data-agent",
            "text-start",
            "text-delta",
            "text-end",
            "finish"
        ]
    );
    assert_eq!(frames[4].json["delta"], "How can I help?");
    assert_eq!(end, End::Clean);
}

#[tokio::test]
async fn the_form_says_what_was_typed_and_complains_of_nothing_typed() {
    let app = answered().await;
    press(&app, "s1", "take_over", ADA).await;
    press(&app, "s1", "reply", ADA).await;
    assert_eq!(jobs(&app, "slack.open_reply").await.len(), 1);
    let types = "select count(*) from sessions where agent_typing_until > now()";
    assert_eq!(app.count(types).await, 1);
    let empty = submit(&app, "s1", "V1", ADA, Some("  ")).await;
    let answer = body_of(empty, StatusCode::OK).await;
    assert_eq!(answer["response_action"], "errors");
    assert!(answer["errors"]["reply"].is_string());
    assert_eq!(app.count(types).await, 1);
    for _ in 0..2 {
        let sent = submit(&app, "s1", "V1", ADA, Some("Hello <b>")).await;
        assert_eq!(sent.text().await.unwrap(), "");
    }
    let last = said(&app, "s1").await.pop().unwrap();
    assert_eq!(last, ("Ada".to_owned(), "Hello <b>".to_owned()));
    assert_eq!(said(&app, "s1").await.len(), 3);
    assert_eq!(app.count(types).await, 0);
    press(&app, "s1", "reply", ADA).await;
    submit(&app, "s1", "V2", ADA, None).await;
    assert_eq!(app.count(types).await, 0);
}

#[tokio::test]
async fn handing_back_has_the_assistant_answer_the_next_message() {
    let app = answered().await;
    press(&app, "s1", "take_over", ADA).await;
    write(&app, "Ev1", ADA, "reply: I am Ada").await;
    press(&app, "s1", "hand_back", ADA).await;
    assert_eq!(
        transcript(&app, "s1").await["session"]["agent"],
        json!(null)
    );
    assert_eq!(app.accept("s1", "m2", "And you?").await, 3);
    assert_eq!(
        app.count("select count(*) from queue.jobs where kind = 'turn.process'")
            .await,
        1
    );
}

#[tokio::test]
async fn somebody_may_take_care_without_taking_over() {
    let app = answered().await;
    press(&app, "s1", "taken", ADA).await;
    press(&app, "s1", "taken", BOB).await;
    let by: String = sqlx::query_scalar("select taken_by from handoff_records")
        .fetch_one(&app.pool)
        .await
        .unwrap();
    assert_eq!(by, "Ada");
    assert_eq!(
        transcript(&app, "s1").await["session"]["agent"],
        json!(null)
    );
    assert_eq!(jobs(&app, "slack.face").await.len(), 1);
}

#[tokio::test]
async fn a_person_whose_name_is_not_known_speaks_for_the_team() {
    let app = answered().await;
    press(&app, "s1", "take_over", "U0NEW").await;
    assert_eq!(transcript(&app, "s1").await["session"]["agent"], "Our team");
    assert_eq!(
        jobs(&app, "slack.person").await,
        [json!({"user_id": "U0NEW"})]
    );
}

#[tokio::test]
async fn nobody_speaks_in_a_session_that_is_closed() {
    let app = answered().await;
    press(&app, "s1", "take_over", ADA).await;
    app.post("/chat/s1/close").send().await.unwrap();
    assert_eq!(
        transcript(&app, "s1").await["session"]["agent"],
        json!(null)
    );
    write(&app, "Ev1", ADA, "reply: Too late?").await;
    press(&app, "s1", "take_over", BOB).await;
    let refused = submit(&app, "s1", "V1", ADA, Some("Hello?")).await;
    let answer = body_of(refused, StatusCode::OK).await;
    assert_eq!(answer["response_action"], "errors");
    assert_eq!(said(&app, "s1").await.len(), 2);
    let notices = jobs(&app, "slack.note").await;
    let closed = notices.iter().filter(|it| it["notice"]["what"] == "closed");
    assert_eq!(closed.count(), 3);
}
