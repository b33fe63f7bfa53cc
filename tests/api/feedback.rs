//! Thumbs and comments.

use reqwest::{StatusCode, header};
use serde_json::{Value, json};

use super::support::{App, OTHER_SECRET, TOKEN, assert_problem, body_of};

async fn rate(app: &App, body: Value) {
    let response = app
        .post("/chat/s1/feedback")
        .json(&body)
        .send()
        .await
        .unwrap();
    assert_eq!(response.status(), StatusCode::NO_CONTENT);
}

async fn rated(app: &App) -> Vec<(i32, String, Option<String>)> {
    sqlx::query_as("select turn, rating, comment from feedback order by turn")
        .fetch_all(&app.pool)
        .await
        .unwrap()
}

#[tokio::test]
async fn the_newest_opinion_stands_and_a_reload_shows_it() {
    let app = App::start().await;
    app.accept("s1", "m1", "Hello").await;
    app.begin_attempt("s1", 1).await.finish("Hi").await;
    rate(
        &app,
        json!({"turn": 1, "rating": "down", "comment": " Too short "}),
    )
    .await;
    assert_eq!(
        rated(&app).await,
        [(1, "down".to_owned(), Some("Too short".to_owned()))]
    );
    rate(&app, json!({"turn": 1, "rating": "up"})).await;
    assert_eq!(rated(&app).await, [(1, "up".to_owned(), None)]);

    let transcript = app.get("/chat/s1").send().await.unwrap();
    let messages = body_of(transcript, StatusCode::OK).await["messages"].clone();
    assert_eq!(messages[0]["metadata"].get("rating"), None);
    assert_eq!(messages[1]["metadata"]["rating"], "up");
}

#[tokio::test]
async fn only_a_finished_turn_of_the_session_can_be_rated() {
    let app = App::start().await;
    app.accept("s1", "m1", "Hello").await;
    let post = |turn: i64| {
        let body = json!({"turn": turn, "rating": "up"});
        app.post("/chat/s1/feedback").json(&body)
    };
    assert_problem(post(1).send().await.unwrap(), 409, "turn_unfinished").await;
    for turn in [0, -1, 2, 2_147_483_647] {
        assert_problem(post(turn).send().await.unwrap(), 404, "turn_not_found").await;
    }
    assert!(rated(&app).await.is_empty());
}

#[tokio::test]
async fn a_turn_is_rated_by_its_own_visitor_only() {
    let app = App::start().await;
    app.accept("s1", "m1", "Hello").await;
    app.begin_attempt("s1", 1).await.finish("Hi").await;
    let post = || {
        app.client
            .post(app.url("/api/v1/chat/s1/feedback"))
            .header("x-widget-token", TOKEN)
            .json(&json!({"turn": 1, "rating": "up"}))
    };
    assert_problem(post().send().await.unwrap(), 404, "session_not_found").await;
    let other = post().bearer_auth(OTHER_SECRET).send().await.unwrap();
    assert_problem(other, 404, "session_not_found").await;
    assert!(rated(&app).await.is_empty());
}

#[tokio::test]
async fn an_opinion_on_a_forgotten_conversation_is_refused_and_not_kept() {
    let app = App::start().await;
    app.accept("s1", "m1", "Hello").await;
    app.begin_attempt("s1", 1).await.finish("Hi").await;
    sqlx::query(
        "update sessions set status = 'closed', termination_type = 'session_expiry',
                closed_at = now() - interval '91 days'",
    )
    .execute(&app.pool)
    .await
    .unwrap();
    let gone = store::retention::forget_batch(&app.pool, 90, 10, 1_000);
    assert_eq!(gone.await.unwrap().sessions, 1);
    let opinion = json!({"turn": 1, "rating": "down", "comment": "I am John"});
    let late = app.post("/chat/s1/feedback").json(&opinion).send();
    assert_problem(late.await.unwrap(), 404, "turn_not_found").await;
    assert!(rated(&app).await.is_empty());
}

#[tokio::test]
async fn hostile_opinions_are_refused() {
    let app = App::start().await;
    app.accept("s1", "m1", "Hello").await;
    app.begin_attempt("s1", 1).await.finish("Hi").await;
    let cases: Vec<(String, u16, &str)> = vec![
        ("{".to_owned(), 400, "invalid_json"),
        ("[1, \"up\"]".to_owned(), 422, "invalid_body"),
        (json!({"turn": 1}).to_string(), 422, "invalid_body"),
        (
            json!({"turn": 1, "rating": "UP"}).to_string(),
            422,
            "invalid_body",
        ),
        (
            json!({"turn": 1, "rating": true}).to_string(),
            422,
            "invalid_body",
        ),
        (
            json!({"turn": "1", "rating": "up"}).to_string(),
            422,
            "invalid_body",
        ),
        (
            json!({"turn": 1e30, "rating": "up"}).to_string(),
            422,
            "invalid_body",
        ),
        (
            json!({"turn": 2_147_483_648_i64, "rating": "up"}).to_string(),
            422,
            "invalid_body",
        ),
        (
            json!({"turn": 1, "rating": "up", "comment": "a\u{0}b"}).to_string(),
            400,
            "invalid_text",
        ),
        (
            json!({"turn": 1, "rating": "up", "comment": "x".repeat(1_001)}).to_string(),
            422,
            "invalid_body",
        ),
        (
            json!({"turn": 1, "rating": "up", "x": "x".repeat(20_000)}).to_string(),
            413,
            "body_too_large",
        ),
    ];
    for (body, status, code) in cases {
        let request = app
            .post("/chat/s1/feedback")
            .header(header::CONTENT_TYPE, "application/json")
            .body(body);
        assert_problem(request.send().await.unwrap(), status, code).await;
    }
    assert!(rated(&app).await.is_empty());
}
