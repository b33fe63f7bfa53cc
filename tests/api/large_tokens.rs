//! Deltas and logs that are larger than the buffers on their way: they arrive whole.

use futures::future::join_all;
use sandbox::anthropic::Reply;
use serde_json::json;

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
async fn clients_that_together_ask_for_more_than_one_read_returns_get_all_of_it() {
    const CLIENTS: usize = 4;
    const DELTAS: usize = 30;
    let app = App::start().await;
    let large = "x".repeat(64 * 1024);
    for client in 0..CLIENTS {
        let session = format!("s{client}");
        app.accept(&session, "m1", "Hello").await;
        let mut worker = app.begin_attempt(&session, 1).await;
        for _ in 0..DELTAS {
            worker
                .append(json!({"type": "text-delta", "id": "t", "delta": large}))
                .await;
        }
        worker.finish("long").await;
    }
    let read = (0..CLIENTS).map(|client| {
        let request = app.get(&format!("/chat/s{client}/stream?after=1-1-0"));
        async {
            let mut frames = app.stream(request).await;
            frames.rest_ids().await
        }
    });
    let ids: Vec<String> = (1..=DELTAS + 1).map(|seq| format!("1-1-{seq}")).collect();
    for received in join_all(read).await {
        assert_eq!(received, (ids.clone(), End::Clean));
    }
}
