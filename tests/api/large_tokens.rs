//! Deltas and logs that are larger than the buffers on their way: they arrive whole.

use sandbox::anthropic::Reply;
use serde_json::json;
use store::events::{self, Cursor, ReadLimit};

use super::support::{App, End};
use crate::support::{
    TestSystem,
    process::{assert_one_answer, shown_text},
};

/// Asks for an answer, of which the model sends each word in one piece; it comes as it was said, and is kept.
async fn is_streamed_whole(text: &str) {
    let system = TestSystem::new().await;
    system.anthropic.on("large", Reply::text(text));
    let app = system.serve().await;
    let mut stream = app.ask("s1", "m1", "A large one, please.").await;
    let (frames, end) = stream.rest().await;
    assert_eq!(end, End::Clean);
    // Not `assert_eq!`: a megabyte of difference is no help.
    assert!(shown_text(&frames) == text, "the text is another one");
    assert_one_answer(&app.transcript("s1").await, text);
}

#[tokio::test]
async fn deltas_of_64_kb_among_small_ones_are_streamed_whole() {
    let large = "x".repeat(64 * 1024);
    is_streamed_whole(&format!("small {large} tiny {large} {large} end")).await;
}

#[tokio::test]
async fn a_delta_of_a_megabyte_is_streamed_whole() {
    is_streamed_whole(&"ü".repeat(512 * 1024)).await;
}

#[tokio::test]
async fn a_delta_that_its_json_makes_larger_is_streamed_whole() {
    is_streamed_whole(&"\\\"".repeat(256 * 1024)).await;
}

#[tokio::test]
async fn a_read_ends_at_its_bytes_and_says_so() {
    let app = App::start().await;
    let json = json!({"type": "text-delta", "id": "t", "delta": "x".repeat(64 * 1024)});
    let mut cursors = Vec::new();
    for session in ["s1", "s2", "s3"] {
        app.accept(session, "m1", "Hello").await;
        let mut worker = app.begin_attempt(session, 1).await;
        for _ in 0..2 {
            worker.append(json.clone()).await;
        }
        cursors.push((session.parse().unwrap(), Cursor::start_of(1)));
    }
    let size = i64::try_from(json.to_string().len()).unwrap();
    let mut conn = app.pool.acquire().await.unwrap();
    // The bytes that may be read, the frames that come, whether there may be more.
    for (bytes, frames, is_cut) in [
        (1, 1, true),
        (size, 1, true),
        (size + 1, 2, true),
        (4 * size, 4, true),
        (6 * size, 6, true),
        (6 * size + 1, 6, false),
    ] {
        let limit = ReadLimit {
            frames_per_turn: 10,
            bytes,
        };
        let page = events::read_after(&mut conn, &cursors, limit)
            .await
            .unwrap();
        assert_eq!(
            (page.events.len(), page.is_cut),
            (frames, is_cut),
            "{bytes}"
        );
        let places: Vec<_> = page
            .events
            .iter()
            .map(|event| (event.key.session_id.as_str(), event.cursor.seq))
            .collect();
        let all = [
            ("s1", 1),
            ("s1", 2),
            ("s2", 1),
            ("s2", 2),
            ("s3", 1),
            ("s3", 2),
        ];
        assert_eq!(places, all[..frames]);
    }
}
