//! Bodies that are sent slowly, or not to the end: what is refused before them, and how many there may be.

use reqwest::{StatusCode, header};
use sandbox::slack::{SLACK_SIGNING_SECRET, signature};
use serde_json::json;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    time::timeout,
};

use super::{
    people::now,
    support::{App, EDGE_SECRET, SECRET, TOKEN, assert_problem, through_the_edge},
};
use crate::support::frames::PATIENCE;

/// The largest legal body.
const LARGEST: usize = 1024 * 1024;
/// So much of one is kept as if it were whole.
const MOST: usize = 600 * 1024;
/// Largest bodies that a process holds.
const ROOM: u8 = 16;
/// Largest bodies of one sender that it holds.
const SHARE: usize = 2;

/// The head of a message of a visitor at an address, through the site's proxy.
fn head(visitor: &str) -> String {
    format!(
        "POST /chat HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\naccept: application/json\r\n\
         x-edge-secret: {EDGE_SECRET}\r\ncf-connecting-ip: {visitor}\r\nx-widget-token: {TOKEN}\r\n\
         authorization: Bearer {SECRET}\r\ncontent-length: {LARGEST}\r\n\r\n"
    )
}

/// Sends a head and so many bytes of what it announces.
async fn begin(app: &App, head: &str, bytes: usize) -> TcpStream {
    let mut socket = TcpStream::connect(app.address).await.unwrap();
    socket.write_all(head.as_bytes()).await.unwrap();
    socket.write_all(&vec![b' '; bytes]).await.unwrap();
    socket
}

/// The answer to a request that nobody will finish: it must come all the same.
async fn answer(socket: &mut TcpStream) -> String {
    let mut answer = Vec::new();
    let read = async {
        while !answer.ends_with(b"}") {
            assert_ne!(socket.read_buf(&mut answer).await.unwrap(), 0);
        }
    };
    // Before the time is over in which the rest could come.
    let in_time = timeout(std::time::Duration::from_secs(10), read).await;
    assert!(in_time.is_ok(), "no answer without the body");
    String::from_utf8(answer).unwrap()
}

/// What a short message of a visitor at an address is answered.
async fn message(app: &App, visitor: &str) -> reqwest::Response {
    let request = through_the_edge(visitor)
        .post(app.url("/chat"))
        .header("x-widget-token", TOKEN)
        .header(header::ACCEPT, "application/json")
        .bearer_auth(SECRET)
        .json(&json!({"message": "hello"}));
    request.send().await.unwrap()
}

/// Sends short messages until one is answered so.
async fn until(app: &App, visitor: &str, status: StatusCode) -> reqwest::Response {
    let answered = async {
        loop {
            let response = message(app, visitor).await;
            if response.status() == status {
                return response;
            }
        }
    };
    timeout(PATIENCE, answered)
        .await
        .unwrap_or_else(|_| panic!("never {status}"))
}

#[tokio::test]
async fn unfinished_bodies_are_held_up_to_a_budget_and_everything_else_goes_on() {
    let app = App::start().await;
    let mut held = Vec::new();
    for n in 0..ROOM {
        held.push(begin(&app, &head(&format!("203.0.113.{n}")), MOST).await);
    }
    let refused = until(&app, "198.51.100.1", StatusCode::SERVICE_UNAVAILABLE).await;
    assert!(refused.headers().contains_key(header::RETRY_AFTER));
    assert_problem(refused, 503, "overloaded").await;
    let mut one_more = begin(&app, &head("198.51.100.2"), MOST).await;
    let refused = answer(&mut one_more).await;
    assert!(refused.starts_with("HTTP/1.1 503"), "{refused}");
    // What has no body is served.
    let response = app.get("/ready").send().await.unwrap();
    assert_eq!(response.status(), StatusCode::OK);
    drop(held);
    until(&app, "198.51.100.1", StatusCode::ACCEPTED).await;
}

#[tokio::test]
async fn who_sends_slowly_takes_nobody_elses_place() {
    let app = App::start().await;
    let mut held = Vec::new();
    for _ in 0..SHARE {
        held.push(begin(&app, &head("203.0.113.1"), MOST).await);
    }
    let refused = until(&app, "203.0.113.1", StatusCode::SERVICE_UNAVAILABLE).await;
    assert_problem(refused, 503, "overloaded").await;
    let other = message(&app, "203.0.113.2").await;
    assert_eq!(other.status(), StatusCode::ACCEPTED);
}

#[tokio::test]
async fn what_can_not_be_slacks_is_refused_without_its_body() {
    let app = App::start().await;
    let old = now() - 301;
    let sign = |at| signature(SLACK_SIGNING_SECRET, at, "{}");
    for (at, signature) in [
        (String::new(), String::new()),
        (now().to_string(), String::new()),
        (now().to_string(), "v0=00".to_owned()),
        (old.to_string(), sign(old)),
    ] {
        for path in ["/slack/events", "/slack/interactions"] {
            let head = format!(
                "POST {path} HTTP/1.1\r\nhost: x\r\nx-slack-request-timestamp: {at}\r\n\
                 x-slack-signature: {signature}\r\ncontent-length: 1000\r\n\r\n"
            );
            let mut socket = begin(&app, &head, 10).await;
            let refused = answer(&mut socket).await;
            assert!(refused.starts_with("HTTP/1.1 401"), "{refused}");
        }
    }
}

#[tokio::test]
async fn whose_refusal_is_remembered_is_refused_before_the_body_and_hears_it_whole() {
    let app = App::start_with(|config| {
        config.limits.address = "1/24h".parse().unwrap();
    })
    .await;
    let visitor = "203.0.113.1";
    assert_eq!(message(&app, visitor).await.status(), StatusCode::ACCEPTED);
    let refused = message(&app, visitor).await;
    assert_problem(refused, 429, "rate_limited").await;
    let mut socket = begin(&app, &head(visitor), MOST).await;
    // Whoever goes on sending is not cut off, and may ask for something else.
    for _ in 0..2 {
        let refused = answer(&mut socket).await;
        assert!(refused.starts_with("HTTP/1.1 429"), "{refused}");
        let rest = vec![b' '; LARGEST - MOST];
        socket.write_all(&rest).await.unwrap();
        socket.write_all(head(visitor).as_bytes()).await.unwrap();
        socket.write_all(&vec![b' '; MOST]).await.unwrap();
    }
}
