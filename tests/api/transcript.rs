//! What a reload of the page is given.

use reqwest::StatusCode;
use serde_json::json;

use super::support::{App, body_of};

#[tokio::test]
async fn the_transcript_has_the_shape_of_the_sdk() {
    let app = App::start().await;
    app.accept("s1", "m1", "Hello").await;
    app.begin_attempt("s1", 1).await.finish("Hi!").await;
    app.accept("s1", "m2", "And?").await;
    let response = app.get("/chat/s1").send().await.unwrap();
    let mut transcript = body_of(response, StatusCode::OK).await;
    let answer: String = sqlx::query_scalar("select answer_id from turns where turn = 1")
        .fetch_one(&app.pool)
        .await
        .unwrap();
    for message in transcript["messages"].as_array_mut().unwrap() {
        let created_at = message["metadata"]["created_at"].take();
        assert!(created_at.as_str().unwrap().ends_with('Z'));
    }
    assert_eq!(
        transcript,
        json!({
            "session": {
                "id": "s1", "stage": 1, "status": "open", "termination_type": null,
                "handoff": null, "promise": null, "agent": null,
            },
            "messages": [
                {
                    "id": "m1", "role": "user", "parts": [{"type": "text", "text": "Hello"}],
                    "metadata": {
                        "turn": 1, "author": "visitor", "created_at": null, "status": "complete",
                    },
                },
                {
                    "id": answer, "role": "assistant",
                    "parts": [
                        {"type": "text", "text": "Hi!"},
                        {
                            "type": "source-url", "sourceId": "1", "url": "https://a.example/",
                            "title": "A",
                        },
                    ],
                    "metadata": {
                        "turn": 1, "author": "assistant", "created_at": null,
                        "status": "complete",
                    },
                },
                {
                    "id": "m2", "role": "user", "parts": [{"type": "text", "text": "And?"}],
                    "metadata": {
                        "turn": 2, "author": "visitor", "created_at": null, "status": "complete",
                    },
                },
            ],
            "active_turn": 2,
        })
    );
}
