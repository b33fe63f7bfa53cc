//! When the database may sleep: what processes do there that have nothing to do. See the table in
//! docs/architecture.md.

use std::time::Duration;

use reqwest::StatusCode;
use sandbox::anthropic::Reply;
use serde_json::json;
use tokio::time::timeout;

use crate::support::{
    ApiProcess, SystemProcess, TestSystem,
    activity::Activity,
    frames::{End, Next, PATIENCE},
    process::{assert_one_answer, shown_text},
};

/// A system whose processes do not poll, on a server that does nothing by itself either.
async fn sleepy() -> (TestSystem, Activity) {
    let mut system = TestSystem::with_server(&[("autovacuum", "off")]).await;
    system.set("QUEUE_IDLE_POLL_SECONDS", "0");
    system.anthropic.on("hello", Reply::text("Good morning."));
    let activity = Activity::of(&system).await;
    (system, activity)
}

async fn answered(api: &ApiProcess, session: &str) {
    let mut stream = api.ask(session, "m1", "hello").await;
    // The comments of a stream that is silent come for ever.
    let (frames, end) = timeout(PATIENCE, stream.rest()).await.unwrap();
    assert_eq!(end, End::Clean);
    assert_eq!(shown_text(&frames), "Good morning.");
}

/// Its connections are cut at rest, and nobody connects again.
async fn falls_asleep(activity: &Activity) {
    activity.comes_to_rest().await;
    assert!(
        !activity.listeners().await.is_empty(),
        "nothing can be lost"
    );
    activity.cut_all().await;
    assert!(activity.rests().await, "{:?}", activity.backends().await);
    assert!(activity.backends().await.is_empty());
}

async fn wake(worker: &SystemProcess) {
    let url = format!("http://{}/wake", worker.metrics_address());
    let response = crate::support::client().post(url).send().await.unwrap();
    assert_eq!(response.status(), StatusCode::ACCEPTED);
}

#[tokio::test]
async fn a_service_without_a_poll_lets_the_database_sleep_until_a_visitor_comes() {
    let (system, activity) = sleepy().await;
    let api = system.serve().await;
    answered(&api, "s1").await;
    // Idle: connected, and silent.
    falls_asleep(&activity).await;
    // Dormant. A scrape and a probe are no reason to wake the database.
    for path in ["/metrics", "/health"] {
        let url = api.metrics_url().replace("/metrics", path);
        let response = system.client.get(url).send().await.unwrap();
        assert_eq!(response.status(), StatusCode::OK);
    }
    assert!(activity.rests().await);
    assert!(activity.backends().await.is_empty());
    // A visitor is: everything is there again, and the work of others is heard of.
    answered(&api, "s2").await;
    activity.listening(1).await;
    activity.comes_to_rest().await;
}

#[tokio::test]
async fn a_worker_that_let_the_database_sleep_is_woken_by_its_wake_url() {
    let (system, activity) = sleepy().await;
    let worker = system.worker().await;
    activity.listening(1).await;
    falls_asleep(&activity).await;
    // The API is another process: its NOTIFY reaches nobody.
    let api = system.api().await;
    let mut stream = api.ask("s1", "m1", "hello").await;
    assert!(matches!(stream.next().await, Next::Comment));
    assert_eq!(activity.listening(1).await.len(), 1);
    wake(&worker).await;
    let (frames, _) = timeout(PATIENCE, stream.rest()).await.unwrap();
    assert_eq!(shown_text(&frames), "Good morning.");
    assert_one_answer(&api.transcript("s1").await, "Good morning.");
    // It listens again: the next one needs no such help.
    activity.listening(2).await;
    answered(&api, "s2").await;
}

#[tokio::test]
async fn a_wake_up_during_an_outage_is_not_forgotten() {
    let (system, activity) = sleepy().await;
    let worker = system.worker().await;
    let api = system.api().await;
    activity.listening(2).await;
    falls_asleep(&activity).await;
    let mut stream = api.ask("s1", "m1", "hello").await;
    assert!(matches!(stream.next().await, Next::Comment));
    system.server().stop().await.unwrap();
    wake(&worker).await;
    worker.logged("claiming failed").await;
    system.server().restart().await.unwrap();
    let (frames, _) = timeout(PATIENCE, stream.rest()).await.unwrap();
    assert_eq!(shown_text(&frames), "Good morning.");
}

#[tokio::test]
async fn a_client_that_waits_keeps_its_process_connected() {
    let (system, activity) = sleepy().await;
    // Without a worker the turn never begins.
    let api = system.api().await;
    let body = json!({"session_id": "s1", "message_id": "m1", "message": "hello"});
    let stream = api.post("/chat").json(&body).send().await.unwrap();
    let lost = activity.listening(1).await;
    activity.terminate(&lost).await;
    assert_ne!(activity.listening(1).await, lost);
    assert!(!activity.rests().await, "events are read every second");
    // It goes, and with it the reason.
    drop(stream);
    falls_asleep(&activity).await;
    let read = timeout(PATIENCE, api.transcript("s1")).await.unwrap();
    assert_eq!(read["messages"].as_array().unwrap().len(), 1);
    activity.listening(1).await;
}

#[tokio::test]
async fn a_worker_that_polls_is_always_connected_again() {
    let (mut system, activity) = sleepy().await;
    // None of the polls falls into this test.
    system.set("QUEUE_IDLE_POLL_SECONDS", "3600");
    let _worker = system.worker().await;
    let mut lost = activity.listening(1).await;
    for _ in 0..3 {
        activity.cut_all().await;
        let found = timeout(Duration::from_secs(10), activity.listening(1)).await;
        let found = found.unwrap();
        assert_ne!(found, lost);
        lost = found;
    }
    activity.comes_to_rest().await;
}
