//! Browsers of the company's site may call, others may not.

use api::config::{AllowedOrigins, Environment};
use reqwest::{Method, Response, StatusCode};

use super::support::App;

const SITE: &str = "https://www.company.example";

async fn preflight(app: &App, path: &str, origin: &str) -> Response {
    app.client
        .request(Method::OPTIONS, app.url(path))
        .header("origin", origin)
        .header("access-control-request-method", "POST")
        .header(
            "access-control-request-headers",
            "authorization,content-type,idempotency-key,last-event-id,traceparent,x-widget-token",
        )
        .send()
        .await
        .unwrap()
}

#[tokio::test]
async fn a_preflight_needs_no_site_key_and_allows_what_the_widget_sends() {
    let app = App::start().await;
    for path in [
        "/chat",
        "/chat/s1",
        "/chat/s1/stream",
        "/chat/s1/contact",
        "/chat/s1/feedback",
        "/api/v1/chat",
    ] {
        let response = preflight(&app, path, SITE).await;
        assert_eq!(response.status(), StatusCode::OK, "{path}");
        let headers = response.headers();
        assert_eq!(headers["access-control-allow-origin"], SITE);
        let allowed = |name: &str| headers[name].to_str().unwrap().to_ascii_lowercase();
        for method in ["get", "post", "delete", "options"] {
            assert!(allowed("access-control-allow-methods").contains(method));
        }
        for header in [
            "content-type",
            "x-widget-token",
            "authorization",
            "last-event-id",
            "idempotency-key",
            "traceparent",
        ] {
            assert!(allowed("access-control-allow-headers").contains(header));
        }
    }
}

#[tokio::test]
async fn another_site_is_not_allowed() {
    let app = App::start().await;
    for origin in [
        "https://evil.example",
        "null",
        "https://www.company.example.evil",
    ] {
        let response = preflight(&app, "/chat", origin).await;
        let headers = response.headers();
        assert!(
            !headers.contains_key("access-control-allow-origin"),
            "{origin}"
        );
    }
}

#[tokio::test]
async fn a_refusal_can_be_read_by_the_site() {
    let app = App::start().await;
    for path in ["/chat/s1", "/chat/s1/stream?after=x"] {
        let response = app.get(path).header("origin", SITE).send().await.unwrap();
        assert!(response.status().is_client_error());
        assert_eq!(response.headers()["access-control-allow-origin"], SITE);
    }
}

#[tokio::test]
async fn every_site_is_allowed_in_development() {
    let app = App::start_with(|config| {
        config.environment = Environment::Development;
        config.allowed_origins = AllowedOrigins::Any;
    })
    .await;
    let response = preflight(&app, "/chat", "http://localhost:5173").await;
    assert_eq!(response.headers()["access-control-allow-origin"], "*");
}
