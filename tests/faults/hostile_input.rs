//! Visitors who mean no good, against a whole system that answers others meanwhile. Every single
//! case is in the tests of the API.

use reqwest::{Method, RequestBuilder, Response, StatusCode};
use sandbox::anthropic::Reply;
use serde_json::{Value, json};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    time::timeout,
};

use crate::support::{
    ApiProcess, TOKEN, TestSystem,
    frames::{End, PATIENCE},
    process::{assert_one_answer, shown_text},
};

/// Nobody's session is bound to it.
const FOREIGN_SECRET: &str = "BBBBBBBBBBBBBBBBBBBBBB";

#[tokio::test]
async fn hostile_requests_are_refused_and_the_process_answers_on() {
    let system = TestSystem::new().await;
    system.anthropic.on("count", Reply::words(5));
    let mut serve = system.serve().await;
    let bodies: Vec<Vec<u8>> = vec![
        br#"{"message":"a\u0000b","message_id":"m1"}"#.to_vec(),
        br#"{"message":"\ud800","message_id":"m1"}"#.to_vec(),
        b"{\"message\":\"\xc3\x28\",\"message_id\":\"m1\"}".to_vec(),
        [
            b"{\"message\":".to_vec(),
            b"[".repeat(200_000),
            b"}".to_vec(),
        ]
        .concat(),
        json!({"message": "x".repeat(1_000_000)})
            .to_string()
            .into_bytes(),
        json!({"id": "s", "messages": "x".repeat(2_000_000)})
            .to_string()
            .into_bytes(),
        br#"{"message":7,"message_id":[]}"#.to_vec(),
        br#"{"message":"hello","message_id":"m1","session_id":"../../etc/passwd"}"#.to_vec(),
        b"[1,2".to_vec(),
        Vec::new(),
    ];
    for body in bodies {
        let shown = String::from_utf8_lossy(&body[..body.len().min(60)]).into_owned();
        let request = serve
            .post("/chat")
            .header("content-type", "application/json");
        assert_refused(request.body(body).send().await.unwrap(), &shown).await;
    }
    let requests = [
        (Method::GET, "/chat"),
        (Method::PUT, "/chat/s1"),
        (Method::GET, "/chat/%00/stream"),
        (
            Method::GET,
            "/chat/s1/stream?after=9-9-99999999999999999999",
        ),
        (Method::POST, "/chat/s1/turns/-1/cancel"),
        (Method::POST, "/chat/s1/turns/99999999999/cancel"),
        (Method::GET, "/wp-admin/setup.php"),
        (Method::TRACE, "/chat"),
    ];
    for (method, path) in requests {
        let request = system.client.request(method.clone(), serve.url(path));
        let request = request.header("x-widget-token", TOKEN);
        let shown = format!("{method} {path}");
        assert_refused(request.send().await.unwrap(), &shown).await;
    }
    for bytes in [
        &b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03"[..],
        b"GET /chat HTTP/9.9\r\n\r\n",
        b"POST /chat HTTP/1.1\r\nhost: x\r\ncontent-length: 99999999999999999999999\r\n\r\n",
        b"POST /chat HTTP/1.1\r\nhost: x\r\ntransfer-encoding: chunked\r\n\r\nZZZ\r\n",
    ] {
        assert_no_server_error(&serve, bytes).await;
    }
    let (frames, end) = serve.ask("s1", "m1", "Please count.").await.rest().await;
    assert_eq!(end, End::Clean);
    assert_eq!(shown_text(&frames), "word1 word2 word3 word4 word5");
    // The same process, which nothing has hurt.
    serve.process.stop().await;
}

#[track_caller]
fn is_problem(response: &Response) -> bool {
    response.headers()["content-type"] == "application/problem+json"
}

async fn assert_refused(response: Response, what: &str) {
    let status = response.status();
    assert!(status.is_client_error(), "{status} for {what}");
    assert!(is_problem(&response), "{what}");
    let problem: Value = response.json().await.unwrap();
    assert_eq!(problem["status"], status.as_u16(), "{what}");
    assert!(problem["code"].is_string(), "{what}");
}

/// Sends what is no HTTP. It is refused, or hung up on.
async fn assert_no_server_error(api: &ApiProcess, bytes: &[u8]) {
    let mut connection = TcpStream::connect(api.address()).await.unwrap();
    connection.write_all(bytes).await.unwrap();
    connection.shutdown().await.unwrap();
    let mut answer = Vec::new();
    // A reset is as good as an end.
    let _ = timeout(PATIENCE, connection.read_to_end(&mut answer))
        .await
        .expect("the connection is kept");
    let line = String::from_utf8_lossy(&answer);
    let line = line.lines().next().unwrap_or_default();
    assert!(line.is_empty() || line.contains(" 4"), "{line}");
}

#[tokio::test]
async fn whoever_sends_far_too_much_is_heard_out_and_told_so() {
    let system = TestSystem::new().await;
    let api = system.api().await;
    // More than the buffers between the two hold, so that it arrives only if it is read.
    let body = vec![b'x'; 12 * 1024 * 1024];
    let mut connection = TcpStream::connect(api.address()).await.unwrap();
    let head = format!(
        "POST /chat HTTP/1.1\r\nhost: x\r\nx-widget-token: {TOKEN}\r\nconnection: close\r\n\
         content-type: application/json\r\ncontent-length: {}\r\n\r\n",
        body.len()
    );
    connection.write_all(head.as_bytes()).await.unwrap();
    connection.write_all(&body).await.unwrap();
    let mut answer = String::new();
    timeout(PATIENCE, connection.read_to_string(&mut answer))
        .await
        .unwrap()
        .unwrap();
    assert!(answer.starts_with("HTTP/1.1 413"), "{answer}");
    assert!(answer.contains("body_too_large"), "{answer}");
}

#[tokio::test]
async fn the_session_of_another_visitor_is_not_there() {
    let system = TestSystem::new().await;
    system.anthropic.on("count", Reply::words(5));
    let serve = system.serve().await;
    serve.ask("s1", "m1", "Please count.").await.rest().await;
    let client = &system.client;
    let message = |session: &str| json!({"session_id": session, "message_id": "m2", "message": "What did I say?"});
    let routes: Vec<(&str, RequestBuilder)> = vec![
        ("transcript", client.get(serve.url("/chat/s1"))),
        ("stream", client.get(serve.url("/chat/s1/stream"))),
        (
            "resume",
            client.get(serve.url("/chat/s1/stream?after=1-1-1")),
        ),
        (
            "message",
            client.post(serve.url("/chat")).json(&message("s1")),
        ),
        ("cancel", client.post(serve.url("/chat/s1/turns/1/cancel"))),
        ("close", client.post(serve.url("/chat/s1/close"))),
    ];
    for (route, request) in routes {
        let request = request.header("x-widget-token", TOKEN);
        let without = request.try_clone().unwrap();
        for (who, request) in [
            ("a foreign secret", request.bearer_auth(FOREIGN_SECRET)),
            ("no secret", without),
        ] {
            let response = request.send().await.unwrap();
            assert_eq!(
                response.status(),
                StatusCode::NOT_FOUND,
                "{route} with {who}"
            );
            assert!(is_problem(&response));
            let problem: Value = response.json().await.unwrap();
            assert_eq!(problem["code"], "session_not_found", "{route} with {who}");
        }
    }
    let words = "word1 word2 word3 word4 word5";
    assert_one_answer(&serve.transcript("s1").await, words);
}
