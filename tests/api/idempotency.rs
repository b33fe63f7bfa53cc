//! The same message again is the same turn.

use futures::future::join_all;
use reqwest::{StatusCode, header};
use serde_json::json;

use super::support::{App, End, TURN_JOBS, assert_problem, body_of};

#[tokio::test]
async fn fifty_identical_posts_at_once_make_one_turn_and_one_job() {
    let app = App::start().await;
    let posts = (0..50).map(|_| app.accept("s1", "m1", "Hello"));
    let turns = join_all(posts).await;
    assert!(turns.iter().all(|turn| *turn == 1));
    for table in [
        "select count(*) from sessions",
        "select count(*) from messages",
        "select count(*) from turns",
        TURN_JOBS,
    ] {
        assert_eq!(app.count(table).await, 1, "{table}");
    }
}

#[tokio::test]
async fn the_same_id_with_another_text_is_refused() {
    let app = App::start().await;
    app.accept("s1", "m1", "Hello").await;
    let response = app.message("s1", "m1", "Goodbye").send().await.unwrap();
    assert_problem(response, 422, "message_id_reused").await;
}

#[tokio::test]
async fn the_id_of_an_answer_is_no_id_for_a_message() {
    let app = App::start().await;
    app.accept("s1", "m1", "Hello").await;
    let answer: String = sqlx::query_scalar("select answer_id from turns")
        .fetch_one(&app.pool)
        .await
        .unwrap();
    let response = app.message("s1", &answer, "Hello").send().await.unwrap();
    assert_problem(response, 422, "message_id_reused").await;
}

#[tokio::test]
async fn the_idempotency_key_stands_for_a_missing_id() {
    let app = App::start().await;
    let post = |text: &str| {
        app.post("/chat")
            .header("idempotency-key", "key-1")
            .header(header::ACCEPT, "application/json")
            .json(&json!({"session_id": "s1", "message": text}))
            .send()
    };
    for _ in 0..2 {
        let body = body_of(post("Hello").await.unwrap(), StatusCode::ACCEPTED).await;
        assert_eq!(body["turn"], 1);
        assert_eq!(body["message_id"], "key-1");
    }
    assert_problem(post("Other").await.unwrap(), 422, "message_id_reused").await;
}

#[tokio::test]
async fn the_same_message_again_joins_the_running_answer() {
    let app = App::start().await;
    app.accept("s1", "m1", "Hello").await;
    let mut worker = app.begin_attempt("s1", 1).await;
    worker.start().await;
    worker.delta("Hel").await;

    let again = json!({"session_id": "s1", "message_id": "m1", "message": "Hello"});
    let mut frames = app.stream(app.post("/chat").json(&again)).await;
    assert_eq!(frames.frame().await.id, "1-1-1");
    worker.finish("Hello").await;
    let (ids, end) = frames.rest_ids().await;
    assert_eq!(ids, ["1-1-2", "1-1-3"]);
    assert_eq!(end, End::Clean);
}

#[tokio::test]
async fn the_same_message_again_replays_a_finished_answer() {
    let app = App::start().await;
    app.accept("s1", "m1", "Hello").await;
    let mut worker = app.begin_attempt("s1", 1).await;
    worker.start().await;
    worker.finish("Hello").await;

    let again = json!({"session_id": "s1", "message_id": "m1", "message": "Hello"});
    let mut frames = app.stream(app.post("/chat").json(&again)).await;
    assert_eq!(
        frames.rest_ids().await,
        (vec!["1-1-1".to_owned(), "1-1-2".to_owned()], End::Clean)
    );
    assert_eq!(app.count("select count(*) from turns").await, 1);
}
