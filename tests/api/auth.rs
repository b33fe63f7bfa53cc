//! Who may see what.

use reqwest::{Method, StatusCode};
use serde_json::json;

use super::support::{App, OTHER_SECRET, SECRET, TOKEN, assert_problem};

/// Every route that names a session.
const ROUTES: [(Method, &str); 4] = [
    (Method::GET, "/chat/s1"),
    (Method::GET, "/chat/s1/stream"),
    (Method::POST, "/chat/s1/turns/1/cancel"),
    (Method::POST, "/chat/s1/close"),
];

#[tokio::test]
async fn a_wrong_missing_or_ill_formed_secret_is_answered_with_404_everywhere() {
    let app = App::start().await;
    app.accept("s1", "m1", "Hello").await;
    let wrong = [
        None,
        Some(format!("Bearer {OTHER_SECRET}")),
        Some("Bearer short".to_owned()),
        Some(format!("Basic {SECRET}")),
    ];
    for authorization in &wrong {
        for (method, path) in ROUTES {
            let mut request = app.client.request(method, app.url(path));
            request = request.header("x-widget-token", TOKEN);
            if let Some(value) = authorization {
                request = request.header("authorization", value);
            }
            let response = request.send().await.unwrap();
            assert_problem(response, 404, "session_not_found").await;
        }
        let mut request = app.client.post(app.url("/chat"));
        request = request.header("x-widget-token", TOKEN);
        if let Some(value) = authorization {
            request = request.header("authorization", value);
        }
        let body = json!({"session_id": "s1", "message_id": "m1", "message": "Hello"});
        let response = request.json(&body).send().await.unwrap();
        assert_problem(response, 404, "session_not_found").await;
    }
    let untouched = "select count(*) from turns where status = 'queued'";
    assert_eq!(app.count(untouched).await, 1);
}

#[tokio::test]
async fn a_session_that_does_not_exist_is_answered_like_a_foreign_one() {
    let app = App::start().await;
    for (method, path) in ROUTES {
        let stream = path.ends_with("/stream");
        let request = app.client.request(method, app.url(path));
        let request = request.header("x-widget-token", TOKEN).bearer_auth(SECRET);
        let response = request.send().await.unwrap();
        if stream {
            // The AI SDK asks before it has sent anything.
            assert_eq!(response.status(), StatusCode::NO_CONTENT);
        } else {
            assert_problem(response, 404, "session_not_found").await;
        }
    }
}

#[tokio::test]
async fn a_session_is_not_bound_to_an_ill_formed_secret() {
    let app = App::start().await;
    let request = app
        .client
        .post(app.url("/chat"))
        .header("x-widget-token", TOKEN)
        .bearer_auth("too-short")
        .json(&json!({"session_id": "s1", "message": "Hello"}));
    assert_problem(request.send().await.unwrap(), 400, "invalid_secret").await;
    assert_eq!(app.count("select count(*) from sessions").await, 0);
}

#[tokio::test]
async fn every_chat_route_needs_the_site_key() {
    let app = App::start().await;
    app.accept("s1", "m1", "Hello").await;
    for token in [None, Some("wrong"), Some("")] {
        for (method, path) in ROUTES.into_iter().chain([(Method::POST, "/chat")]) {
            let mut request = app
                .client
                .request(method, app.url(path))
                .bearer_auth(SECRET);
            if let Some(token) = token {
                request = request.header("x-widget-token", token);
            }
            let response = request.send().await.unwrap();
            assert_problem(response, 403, "widget_token").await;
        }
    }
}

#[tokio::test]
async fn any_of_the_site_keys_will_do() {
    let app = App::start().await;
    for token in [TOKEN, "another-token"] {
        let request = app
            .client
            .get(app.url("/chat/s1/stream"))
            .header("x-widget-token", token);
        let response = request.send().await.unwrap();
        assert_eq!(response.status(), StatusCode::NO_CONTENT);
    }
}
