//! Joining, rejoining, takeovers and ends of streams.

use reqwest::{StatusCode, header};
use serde_json::json;

use super::support::{App, End, Frames, Next, assert_problem};

fn ids(turn: i32, attempt: i32, seqs: std::ops::RangeInclusive<i32>) -> Vec<String> {
    seqs.map(|seq| format!("{turn}-{attempt}-{seq}")).collect()
}

#[tokio::test]
async fn a_cursor_continues_exactly_behind_the_frame_it_names() {
    let app = App::start().await;
    app.accept("s1", "m1", "Hello").await;
    let mut worker = app.begin_attempt("s1", 1).await;
    worker.start().await;
    for text in ["a", "b", "c"] {
        worker.delta(text).await;
    }
    let by_header = app.get("/chat/s1/stream").header("last-event-id", "1-1-2");
    let by_query = app.get("/chat/s1/stream?after=1-1-2");
    let header_wins = app
        .get("/chat/s1/stream?after=1-1-4")
        .header("last-event-id", "1-1-2");
    let mut streams = Vec::new();
    for request in [by_header, by_query, header_wins] {
        streams.push(app.stream(request).await);
    }
    worker.finish("abc").await;
    for mut frames in streams {
        assert_eq!(frames.rest_ids().await, (ids(1, 1, 3..=5), End::Clean));
    }
}

#[tokio::test]
async fn a_client_that_is_cut_again_and_again_reads_the_same_bytes_at_any_process() {
    let app = App::start().await;
    let sibling = app.sibling().await;
    let body = json!({"session_id": "s1", "message_id": "m1", "message": "Hello"});
    let mut whole = app.stream(app.post("/chat").json(&body)).await;
    let mut worker = app.begin_attempt("s1", 1).await;
    worker.start().await;

    let mut received: Vec<String> = Vec::new();
    for round in 0..20 {
        worker.delta(&format!("word {round} ")).await;
        // The sibling has no LISTEN connection in this test: its fallback finds the frames.
        let process = if round % 2 == 0 { &app } else { &sibling };
        let mut request = process.get("/chat/s1/stream");
        if let Some(last) = received.last() {
            request = request.header("last-event-id", last);
        }
        let mut frames = process.stream(request).await;
        received.push(frames.frame().await.id);
    }
    worker.finish("all").await;
    let last = received.last().unwrap().clone();
    let mut frames = app
        .stream(app.get("/chat/s1/stream").header("last-event-id", last))
        .await;
    received.extend(frames.rest_ids().await.0);

    let (expected, end) = whole.rest_ids().await;
    assert_eq!(received, expected);
    assert_eq!(end, End::Clean);
}

#[tokio::test]
async fn a_lost_wake_up_delays_frames_by_the_fallback_only() {
    let app = App::start().await;
    app.accept("s1", "m1", "Hello").await;
    let mut frames = app.stream(app.get("/chat/s1/stream")).await;
    assert!(matches!(frames.next().await, Next::Comment));
    let mut worker = app.begin_attempt("s1", 1).await;
    worker.append(json!({"type": "start-step"})).await;
    assert_eq!(frames.frame().await.id, "1-1-1");
}

#[tokio::test]
async fn without_a_cursor_the_oldest_unfinished_turn_is_replayed_from_its_start() {
    let app = App::start().await;
    app.accept("s1", "m1", "one").await;
    app.accept("s1", "m2", "two").await;
    let mut worker = app.begin_attempt("s1", 1).await;
    worker.start().await;
    worker.delta("a").await;
    let mut frames = app.stream(app.get("/chat/s1/stream")).await;
    assert_eq!(frames.frame().await.kind(), "start");
    worker.finish("a").await;
    assert_eq!(frames.rest_ids().await, (ids(1, 1, 2..=3), End::Clean));
}

#[tokio::test]
async fn without_a_cursor_only_the_current_attempt_is_replayed() {
    let app = App::start().await;
    app.accept("s1", "m1", "Hello").await;
    let mut first = app.begin_attempt("s1", 1).await;
    first.start().await;
    first.delta("lost").await;
    let mut second = app.begin_attempt("s1", 1).await;
    second.start().await;
    second.finish("Hello").await;
    app.accept("s1", "m2", "Hello").await;
    let mut frames = app.stream(app.get("/chat/s1/stream?after=1-2-0")).await;
    assert_eq!(frames.rest_ids().await, (ids(1, 2, 1..=2), End::Clean));
}

#[tokio::test]
async fn nothing_to_stream_is_204() {
    let app = App::start().await;
    let get = |path: &'static str| {
        let request = app.get(path);
        async { request.send().await.unwrap().status() }
    };
    assert_eq!(get("/chat/s1/stream").await, StatusCode::NO_CONTENT);
    app.accept("s1", "m1", "Hello").await;
    let mut worker = app.begin_attempt("s1", 1).await;
    worker.start().await;
    worker.finish("Hello").await;
    sqlx::query("update turns set finished_at = now() - interval '61 s'")
        .execute(&app.pool)
        .await
        .unwrap();
    assert_eq!(get("/chat/s1/stream").await, StatusCode::NO_CONTENT);
    assert_eq!(
        get("/chat/s1/stream?after=1-1-2").await,
        StatusCode::NO_CONTENT
    );
}

#[tokio::test]
async fn a_client_without_a_cursor_that_comes_back_after_the_end_gets_the_newest_answer_whole() {
    let app = App::start().await;
    for (turn, message) in [(1, "m1"), (2, "m2")] {
        app.accept("s1", message, "Hello").await;
        let mut worker = app.begin_attempt("s1", turn).await;
        worker.start().await;
        worker.delta("He").await;
        worker.finish("Hello").await;
    }
    let mut frames = app.stream(app.get("/chat/s1/stream")).await;
    assert_eq!(frames.rest_ids().await, (ids(2, 1, 1..=3), End::Clean));
}

#[tokio::test]
async fn what_is_left_of_a_finished_turn_is_replayed_and_ended() {
    let app = App::start().await;
    app.accept("s1", "m1", "Hello").await;
    let mut worker = app.begin_attempt("s1", 1).await;
    worker.start().await;
    worker.delta("Hello").await;
    worker.finish("Hello").await;
    let mut frames = app.stream(app.get("/chat/s1/stream?after=1-1-1")).await;
    assert_eq!(frames.rest_ids().await, (ids(1, 1, 2..=3), End::Clean));
}

#[tokio::test]
async fn a_cursor_at_the_end_of_its_turn_goes_on_with_the_next_one() {
    let app = App::start().await;
    app.accept("s1", "m1", "one").await;
    app.accept("s1", "m2", "two").await;
    let mut worker = app.begin_attempt("s1", 1).await;
    worker.start().await;
    worker.finish("one").await;
    let mut frames = app.stream(app.get("/chat/s1/stream?after=1-1-2")).await;
    let mut worker = app.begin_attempt("s1", 2).await;
    worker.start().await;
    worker.finish("two").await;
    assert_eq!(frames.rest_ids().await, (ids(2, 1, 1..=2), End::Clean));
}

#[tokio::test]
async fn a_bad_cursor_is_refused() {
    let app = App::start().await;
    app.accept("s1", "m1", "Hello").await;
    for bad in [
        "x",
        "1-1",
        "1-1-1-1",
        "0-1-1",
        "-1-1-1",
        "1-1-99999999999",
        "2-1-1",
    ] {
        let request = app.get("/chat/s1/stream").header("last-event-id", bad);
        assert_problem(request.send().await.unwrap(), 400, "invalid_cursor").await;
    }
    let request = app.get("/chat/s1/stream?after=nonsense");
    assert_problem(request.send().await.unwrap(), 400, "invalid_cursor").await;
    let request = app.get("/chat/s1/stream?reset=maybe");
    assert_problem(request.send().await.unwrap(), 400, "invalid_request").await;
}

/// Two attempts at one turn, seen by a client that came before the first.
async fn takeover(app: &App, frames: &mut Frames) {
    let mut first = app.begin_attempt("s1", 1).await;
    first.start().await;
    first.delta("half an ans").await;
    assert_eq!(frames.frame().await.id, "1-1-1");
    assert_eq!(frames.frame().await.id, "1-1-2");
    let mut second = app.begin_attempt("s1", 1).await;
    second.start().await;
    second
        .send(json!({"type": "data-reset", "data": {"attempt": 2}, "transient": true}))
        .await;
    second.finish("an answer").await;
}

#[tokio::test]
async fn a_takeover_is_told_in_the_stream_to_clients_of_our_form() {
    let app = App::start().await;
    let body = json!({"session_id": "s1", "message": "Hello"});
    let mut frames = app.stream(app.post("/chat").json(&body)).await;
    takeover(&app, &mut frames).await;
    assert_eq!(frames.rest_ids().await, (ids(1, 2, 1..=3), End::Clean));
}

#[tokio::test]
async fn a_takeover_cuts_clients_of_the_sdk_which_then_replay_the_new_attempt() {
    let app = App::start().await;
    let body = json!({
        "id": "s1",
        "messages": [{"id": "m1", "role": "user", "parts": [{"type": "text", "text": "Hello"}]}],
    });
    let mut frames = app.stream(app.post("/chat").json(&body)).await;
    let mut first = app.begin_attempt("s1", 1).await;
    first.start().await;
    assert_eq!(frames.frame().await.id, "1-1-1");
    let mut second = app.begin_attempt("s1", 1).await;
    second.start().await;
    assert_eq!(frames.rest_ids().await, (vec![], End::Cut));

    let mut frames = app.stream(app.get("/chat/s1/stream")).await;
    second.finish("Hello").await;
    assert_eq!(frames.rest_ids().await, (ids(1, 2, 1..=2), End::Clean));
}

#[tokio::test]
async fn the_flag_chooses_what_a_takeover_does() {
    let app = App::start().await;
    let body = json!({"session_id": "s1", "message": "Hello"});
    let mut cut = app.stream(app.post("/chat?reset=cut").json(&body)).await;
    let mut told = app.stream(app.get("/chat/s1/stream?reset=event")).await;
    takeover(&app, &mut cut).await;
    assert_eq!(cut.rest_ids().await, (vec![], End::Cut));
    let (received, end) = told.rest_ids().await;
    assert_eq!(received, [ids(1, 1, 1..=2), ids(1, 2, 1..=3)].concat());
    assert_eq!(end, End::Clean);
}

#[tokio::test]
async fn a_frame_of_an_attempt_that_was_overtaken_is_not_written() {
    let app = App::start().await;
    app.accept("s1", "m1", "Hello").await;
    let old = app.begin_attempt("s1", 1).await;
    let _new = app.begin_attempt("s1", 1).await;
    drop(old);
    let event = store::events::NewEvent {
        key: store::ids::TurnKey {
            session_id: "s1".parse().unwrap(),
            turn: 1,
        },
        attempt: 1,
        seq: 1,
        terminal: false,
        json: json!({"type": "start-step"}).to_string(),
    };
    let mut conn = app.pool.acquire().await.unwrap();
    let written = store::events::append(&mut conn, &[event]).await.unwrap();
    assert_eq!(written, 0);
}

#[tokio::test]
async fn a_shutdown_cuts_streams_so_that_they_do_not_look_complete() {
    let app = App::start().await;
    let body = json!({"session_id": "s1", "message": "Hello"});
    let mut frames = app.stream(app.post("/chat").json(&body)).await;
    assert!(matches!(frames.next().await, Next::Comment));
    app.stop();
    assert_eq!(frames.rest_ids().await, (vec![], End::Cut));
}

#[tokio::test]
async fn an_answer_that_is_longer_than_every_buffer_arrives_whole() {
    let app = App::start().await;
    let body = json!({"session_id": "s1", "message": "Hello"});
    let mut frames = app.stream(app.post("/chat").json(&body)).await;
    let mut worker = app.begin_attempt("s1", 1).await;
    let big = "x".repeat(64 * 1024);
    for _ in 0..40 {
        worker
            .append(json!({"type": "text-delta", "id": "t", "delta": big}))
            .await;
    }
    for _ in 0..400 {
        worker
            .append(json!({"type": "text-delta", "id": "t", "delta": "y"}))
            .await;
    }
    worker.finish("long").await;
    assert_eq!(frames.rest_ids().await, (ids(1, 1, 1..=441), End::Clean));
}

#[tokio::test]
async fn a_head_request_opens_no_stream_that_is_not_read() {
    let app = App::start().await;
    app.accept("s1", "m1", "Hello").await;
    let response = app
        .client
        .head(app.url("/chat/s1/stream"))
        .header("x-widget-token", super::support::TOKEN)
        .bearer_auth(super::support::SECRET)
        .send()
        .await
        .unwrap();
    assert_eq!(
        response.headers()[header::CONTENT_TYPE],
        "text/event-stream"
    );
}
