//! Whatever is sent is refused with a problem; nothing breaks.

use reqwest::{Method, header};
use serde_json::json;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};

use super::support::{App, CLIENT, EDGE_SECRET, SECRET, TOKEN, assert_problem};

#[tokio::test]
async fn hostile_bodies_are_refused() {
    let app = App::start().await;
    let deep = [
        b"{\"message\":".to_vec(),
        b"[".repeat(100_000),
        b"}".to_vec(),
    ]
    .concat();
    let our_limit = json!({"message": "x", "padding": "p".repeat(16 * 1024)}).to_string();
    let sdk_limit =
        json!({"id": "c", "messages": [], "padding": "p".repeat(1024 * 1024)}).to_string();
    let long = json!({"message": "x".repeat(4_001)}).to_string();
    let cases: Vec<(Vec<u8>, u16, &str)> = vec![
        (b"".to_vec(), 400, "invalid_json"),
        (b"\xff\xfe\x00".to_vec(), 400, "invalid_json"),
        (b"{\"message\":\"\xc3\x28\"}".to_vec(), 400, "invalid_json"),
        (br#"{"message":"a\u0000b"}"#.to_vec(), 400, "invalid_text"),
        (br#"{"message":"\ud800"}"#.to_vec(), 400, "invalid_json"),
        (
            br#"{"message":"\udfff\ud800 x"}"#.to_vec(),
            400,
            "invalid_json",
        ),
        (
            br#"{"message":"x","page_url":"\u0000"}"#.to_vec(),
            400,
            "invalid_text",
        ),
        (br#"{"message":{"a":1}}"#.to_vec(), 422, "invalid_body"),
        (
            br#"{"message":"x","session_id":7}"#.to_vec(),
            422,
            "invalid_body",
        ),
        (
            br#"{"message":"x","session_id":"../../etc"}"#.to_vec(),
            422,
            "invalid_id",
        ),
        (
            br#"{"message":"x","locale":"'; drop table"}"#.to_vec(),
            422,
            "invalid_body",
        ),
        (br#"{"message":""}"#.to_vec(), 422, "empty_message"),
        (br"[]".to_vec(), 422, "invalid_body"),
        (deep, 400, "invalid_json"),
        (long.into_bytes(), 422, "message_too_long"),
        (our_limit.into_bytes(), 413, "body_too_large"),
        (sdk_limit.into_bytes(), 413, "body_too_large"),
        (vec![b'x'; 8 * 1024 * 1024], 413, "body_too_large"),
    ];
    for (body, status, code) in cases {
        let request = app
            .post("/chat")
            .header(header::CONTENT_TYPE, "application/json")
            .body(body);
        assert_problem(request.send().await.unwrap(), status, code).await;
    }
    assert_eq!(app.count("select count(*) from sessions").await, 0);
}

#[tokio::test]
async fn a_long_history_in_the_sdk_form_is_no_reason_to_refuse() {
    let app = App::start().await;
    let mut messages: Vec<_> = (0..200)
        .map(|index| {
            json!({"id": format!("a{index}"), "role": "assistant",
                   "parts": [{"type": "text", "text": "long ".repeat(800)}]})
        })
        .collect();
    messages.push(json!({"id": "u", "role": "user", "parts": [{"type": "text", "text": "Hi"}]}));
    let request = app
        .post("/chat")
        .header(header::ACCEPT, "application/json")
        .json(&json!({"id": "s1", "messages": messages}));
    assert_eq!(request.send().await.unwrap().status(), 202);
}

#[tokio::test]
async fn a_body_that_is_not_announced_as_json_is_refused() {
    let app = App::start().await;
    for kind in [
        "text/plain",
        "application/x-www-form-urlencoded",
        "jsonish",
        "",
    ] {
        let request = app
            .post("/chat")
            .header(header::CONTENT_TYPE, kind)
            .body(r#"{"message":"x"}"#);
        assert_problem(request.send().await.unwrap(), 415, "unsupported_media_type").await;
    }
    let none = app.post("/chat").body(r#"{"message":"x"}"#);
    assert_problem(none.send().await.unwrap(), 415, "unsupported_media_type").await;
}

#[tokio::test]
async fn unknown_routes_and_methods_are_problems_too() {
    let app = App::start().await;
    for path in [
        "/",
        "/nothing",
        "/chat/s1/nothing",
        "/api/v2/chat",
        "/api/v1/nothing",
    ] {
        let response = app.get(path).send().await.unwrap();
        assert_problem(response, 404, "not_found").await;
    }
    for (method, path) in [
        (Method::PUT, "/chat"),
        (Method::GET, "/chat"),
        (Method::PATCH, "/chat/s1"),
        (Method::POST, "/health"),
        (Method::DELETE, "/api/v1/chat/s1/stream"),
        (Method::TRACE, "/chat/s1/close"),
    ] {
        let request = app.client.request(method, app.url(path));
        let request = request.header("x-widget-token", TOKEN).bearer_auth(SECRET);
        assert_problem(request.send().await.unwrap(), 405, "method_not_allowed").await;
    }
}

#[tokio::test]
async fn a_session_id_in_the_path_that_can_not_exist_does_not_exist() {
    let app = App::start().await;
    for id in [
        "%00",
        "%FF%FE",
        "a%2Fb",
        "%20",
        "a.b",
        &"a".repeat(65),
        "%F0%9F%92%A9",
    ] {
        for path in [format!("/chat/{id}"), format!("/chat/{id}/stream")] {
            let response = app.get(&path).send().await.unwrap();
            assert_problem(response, 404, "session_not_found").await;
        }
        let response = app.post(&format!("/chat/{id}/close")).send().await.unwrap();
        assert_problem(response, 404, "session_not_found").await;
    }
}

#[tokio::test]
async fn header_values_that_are_not_text_are_refused() {
    let app = App::start().await;
    let head = |name: &str| {
        format!(
            "GET /chat/s1/stream HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\
             x-edge-secret: {EDGE_SECRET}\r\ncf-connecting-ip: {CLIENT}\r\n\
             x-widget-token: {TOKEN}\r\n{name}: "
        )
    };
    for (name, expected) in [
        ("last-event-id", "HTTP/1.1 400"),
        ("authorization", "HTTP/1.1 204"),
        ("x-widget-token", "HTTP/1.1 "),
    ] {
        let mut socket = TcpStream::connect(app.address).await.unwrap();
        socket.write_all(head(name).as_bytes()).await.unwrap();
        socket.write_all(b"\xff\xfe\xfd\r\n\r\n").await.unwrap();
        let mut answer = Vec::new();
        socket.read_to_end(&mut answer).await.unwrap();
        let answer = String::from_utf8_lossy(&answer).into_owned();
        assert!(answer.starts_with(expected), "{name}: {answer}");
        assert!(!answer.starts_with("HTTP/1.1 5"), "{name}: {answer}");
    }
}
