//! The orderly end: by SIGTERM and SIGINT, with clients connected.

use std::time::Duration;

use reqwest::StatusCode;
use sandbox::watchdog::Signal;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    time::{Instant, timeout},
};

use crate::support::{
    TestSystem,
    frames::{End, PATIENCE},
};

#[tokio::test]
async fn health_and_metrics_answer() {
    let system = TestSystem::new().await;
    let api = system.api().await;
    let health = api.get("/health").send().await.unwrap();
    assert_eq!(health.status(), StatusCode::OK);
    assert_eq!(
        health.json::<serde_json::Value>().await.unwrap()["status"],
        "ok"
    );
    let scrape = system.client.get(api.metrics_url()).send().await.unwrap();
    let figures = scrape.text().await.unwrap();
    let version = env!("CARGO_PKG_VERSION");
    let build = format!("growth_chat_build_info{{version=\"{version}\"}} 1");
    assert!(figures.contains(&build), "{figures}");
    let bucket = "growth_chat_http_request_duration_seconds_bucket";
    assert!(figures.contains(bucket), "{figures}");
}

#[tokio::test]
async fn a_signal_cuts_the_streams_and_ends_the_process_well() {
    let system = TestSystem::new().await;
    for signal in [Signal::SIGTERM, Signal::SIGINT] {
        let mut api = system.api().await;
        // Nobody answers: the stream stays open.
        let session = format!("s-{signal}");
        let mut stream = api.ask(&session, "m1", "Hello?").await;
        // A connection that is kept for the next request must not hold the process up either.
        api.get("/health").send().await.unwrap();
        let begun = Instant::now();
        api.process.signal(signal);
        let (_, end) = stream.rest().await;
        assert_eq!(end, End::Cut, "a clean end would look complete");
        let status = api.process.ended().await;
        assert!(status.success(), "{signal}: {status}");
        // The drain is for work: there was none.
        assert!(begun.elapsed() < Duration::from_secs(10), "{signal}");
    }
}

#[tokio::test]
async fn a_second_signal_exits_at_once() {
    let mut system = TestSystem::new().await;
    system.set("SHUTDOWN_DRAIN_SECONDS", "600");
    for (signal, code) in [(Signal::SIGTERM, 143), (Signal::SIGINT, 130)] {
        let mut api = system.api().await;
        // A request that is never completed keeps the process in its drain.
        let mut request = TcpStream::connect(api.address()).await.unwrap();
        request
            .write_all(
                b"POST /chat HTTP/1.1\r\nhost: x\r\nx-widget-token: test-token\r\n\
                  content-type: application/json\r\ncontent-length: 100\r\nexpect: 100-continue\r\n\r\n",
            )
            .await
            .unwrap();
        // The server reads the body: the request is in progress.
        let mut asked = [0; 12];
        timeout(PATIENCE, request.read_exact(&mut asked))
            .await
            .unwrap()
            .unwrap();
        assert_eq!(&asked, b"HTTP/1.1 100");
        api.process.signal(signal);
        api.process.logged("stopping").await;
        api.process.signal(signal);
        assert_eq!(api.process.ended().await.code(), Some(code));
    }
}

#[tokio::test]
async fn requests_in_progress_are_finished_and_new_ones_are_not_accepted() {
    let system = TestSystem::new().await;
    let mut api = system.api().await;
    let body = r#"{"session_id":"s1","message_id":"m1","message":"Hello"}"#;
    let (first, rest) = body.split_at(10);
    let mut request = TcpStream::connect(api.address()).await.unwrap();
    let head = format!(
        "POST /chat HTTP/1.1\r\nhost: x\r\nx-widget-token: test-token\r\naccept: application/json\r\n\
         content-type: application/json\r\ncontent-length: {}\r\nexpect: 100-continue\r\n\r\n",
        body.len()
    );
    request.write_all(head.as_bytes()).await.unwrap();
    let mut asked = [0; 25];
    timeout(PATIENCE, request.read_exact(&mut asked))
        .await
        .unwrap()
        .unwrap();
    request.write_all(first.as_bytes()).await.unwrap();
    api.process.signal(Signal::SIGTERM);
    api.process.logged("stopping").await;
    timeout(PATIENCE, async {
        // The listener is closed a moment after the log says so.
        while TcpStream::connect(api.address()).await.is_ok() {
            tokio::task::yield_now().await;
        }
    })
    .await
    .expect("connections are still accepted");
    request.write_all(rest.as_bytes()).await.unwrap();
    let mut answer = String::new();
    timeout(PATIENCE, request.read_to_string(&mut answer))
        .await
        .unwrap()
        .unwrap();
    assert!(answer.starts_with("HTTP/1.1 202"), "{answer}");
    assert!(api.process.ended().await.success());
}
