//! A worker that has nothing to do ends, and comes back when there is something.

use std::{net::SocketAddr, sync::Arc, time::Duration};

use axum::{Router, http::StatusCode, routing::post};
use sandbox::anthropic::{Pace, Reply};
use serde_json::json;
use tokio::{net::TcpListener, sync::Notify, time::Instant};

use crate::support::{TestSystem, process::last_answer};

/// A platform that is asked to start a worker: where, and when it was.
async fn platform() -> (SocketAddr, Arc<Notify>) {
    let asked = Arc::new(Notify::new());
    let bell = Arc::clone(&asked);
    let wake = post(move || async move {
        bell.notify_one();
        StatusCode::ACCEPTED
    });
    let listener = TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
    let address = listener.local_addr().unwrap();
    let router = Router::new().route("/wake", wake);
    tokio::spawn(async move { axum::serve(listener, router).await });
    (address, asked)
}

#[tokio::test]
async fn an_idle_worker_ends_well_and_a_message_has_it_started_again() {
    let mut system = TestSystem::new().await;
    let (address, asked) = platform().await;
    system.set("IDLE_SHUTDOWN_SECONDS", "1");
    system.set("WORKER_WAKE_URL", &format!("http://{address}/wake"));
    system.set("QUEUE_IDLE_POLL_SECONDS", "0");
    // An answer that takes longer than the worker would wait for another.
    let slow = Reply::words(6).paced(Pace {
        between_tokens: Duration::from_millis(500),
        ..Pace::default()
    });
    system.anthropic.push(slow);
    let api = system.api().await;
    let mut worker = system.worker().await;
    assert!(worker.ended().await.success());

    let message = json!({"session_id": "s", "message_id": "m", "message": "Hello?"});
    let accepted = api.post("/chat").header("accept", "application/json");
    let accepted = accepted.json(&message).send().await.unwrap();
    assert_eq!(accepted.status(), StatusCode::ACCEPTED);
    asked.notified().await;
    let mut worker = system.worker().await;
    let begun = Instant::now();
    assert!(worker.ended().await.success());
    assert!(
        begun.elapsed() > Duration::from_secs(3),
        "{:?}",
        begun.elapsed()
    );
    let transcript = api.transcript("s").await;
    assert_eq!(transcript["active_turn"], serde_json::Value::Null);
    assert!(last_answer(&transcript).ends_with("word6"), "{transcript}");
}

#[tokio::test]
async fn a_worker_waits_for_what_is_due_soon() {
    let mut system = TestSystem::new().await;
    system.set("IDLE_SHUTDOWN_SECONDS", "2");
    // The second attempt is due after 3 s.
    system
        .anthropic
        .push(Reply::refused(503, "api_error").with_header("retry-after", "3"));
    system.anthropic.push(Reply::text("Here I am."));
    let api = system.api().await;
    let message = json!({"session_id": "s", "message_id": "m", "message": "Hello?"});
    let accepted = api.post("/chat").header("accept", "application/json");
    accepted.json(&message).send().await.unwrap();
    let mut worker = system.worker().await;
    assert!(worker.ended().await.success());
    assert_eq!(last_answer(&api.transcript("s").await), "Here I am.");
}

#[tokio::test]
async fn a_service_is_kept_by_its_visitors_and_ends_when_they_are_gone() {
    let mut system = TestSystem::new().await;
    system.set("IDLE_SHUTDOWN_SECONDS", "2");
    let mut serve = system.serve().await;
    let begun = Instant::now();
    while begun.elapsed() < Duration::from_secs(4) {
        // No such session: it is a visitor all the same.
        serve.get("/chat/s").send().await.unwrap();
        tokio::time::sleep(Duration::from_millis(250)).await;
    }
    assert!(serve.process.ended().await.success());
}
