//! The AI SDK's `regenerate-message`: the last message is answered again.

use reqwest::{RequestBuilder, StatusCode, header};
use serde_json::{Value, json};

use super::support::{App, assert_problem, body_of};

fn regenerate(app: &App, message: &str, text: &str, answer: Option<&str>) -> RequestBuilder {
    app.post("/chat")
        .header(header::ACCEPT, "application/json")
        .json(&json!({
            "id": "s1", "trigger": "regenerate-message", "messageId": answer,
            "messages": [{"id": message, "role": "user", "parts": [{"type": "text", "text": text}]}],
        }))
}

async fn turn_of(request: RequestBuilder) -> Value {
    body_of(request.send().await.unwrap(), StatusCode::ACCEPTED).await["turn"].clone()
}

async fn answer_id(app: &App, turn: i32) -> String {
    sqlx::query_scalar("select answer_id from turns where turn = $1")
        .bind(turn)
        .fetch_one(&app.pool)
        .await
        .unwrap()
}

/// A session with one answered message.
async fn answered() -> App {
    let app = App::start().await;
    app.accept("s1", "m1", "Hello").await;
    app.begin_attempt("s1", 1)
        .await
        .finish("First answer")
        .await;
    app
}

#[tokio::test]
async fn the_answer_that_is_replaced_disappears_from_the_transcript() {
    let app = answered().await;
    let first = answer_id(&app, 1).await;
    assert_eq!(
        turn_of(regenerate(&app, "m1", "Hello", Some(&first))).await,
        2
    );
    app.begin_attempt("s1", 2)
        .await
        .finish("Second answer")
        .await;

    let response = app.get("/chat/s1").send().await.unwrap();
    let transcript = body_of(response, StatusCode::OK).await;
    let texts: Vec<&str> = transcript["messages"]
        .as_array()
        .unwrap()
        .iter()
        .map(|message| message["parts"][0]["text"].as_str().unwrap())
        .collect();
    assert_eq!(texts, ["Hello", "Second answer"]);
}

#[tokio::test]
async fn the_same_wish_again_joins_the_turn_that_it_began() {
    let app = answered().await;
    let first = answer_id(&app, 1).await;
    for answer in [Some(first.as_str()), None, Some("m1"), Some(first.as_str())] {
        assert_eq!(turn_of(regenerate(&app, "m1", "Hello", answer)).await, 2);
    }
    app.begin_attempt("s1", 2)
        .await
        .finish("Second answer")
        .await;
    assert_eq!(
        turn_of(regenerate(&app, "m1", "Hello", Some(&first))).await,
        2
    );
    assert_eq!(app.count("select count(*) from turns").await, 2);
}

#[tokio::test]
async fn an_answer_that_replaced_another_can_be_replaced() {
    let app = answered().await;
    assert_eq!(turn_of(regenerate(&app, "m1", "Hello", None)).await, 2);
    app.begin_attempt("s1", 2)
        .await
        .finish("Second answer")
        .await;
    assert_eq!(turn_of(regenerate(&app, "m1", "Hello", None)).await, 3);
    let superseded = "select count(*) from messages where status = 'superseded'";
    assert_eq!(app.count(superseded).await, 2);
}

#[tokio::test]
async fn a_message_that_is_being_answered_is_joined() {
    let app = App::start().await;
    app.accept("s1", "m1", "Hello").await;
    assert_eq!(turn_of(regenerate(&app, "m1", "Hello", None)).await, 1);
}

#[tokio::test]
async fn a_message_that_never_arrived_is_answered_for_the_first_time() {
    let app = App::start().await;
    assert_eq!(turn_of(regenerate(&app, "m1", "Hello", None)).await, 1);
    assert_eq!(app.count("select count(*) from messages").await, 1);
}

#[tokio::test]
async fn only_the_last_message_is_answered_again() {
    let app = answered().await;
    app.accept("s1", "m2", "And?").await;
    let response = regenerate(&app, "m1", "Hello", None).send().await.unwrap();
    assert_problem(response, 422, "nothing_to_regenerate").await;
}
