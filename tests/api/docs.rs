//! What is served besides the chat: health, the contract, the widget, the demo page.

use api::config::Environment;
use metrics_exporter_prometheus::PrometheusBuilder;
use reqwest::{StatusCode, header};
use serde_json::{Value, json};

use super::support::{App, TOKEN, assert_problem, body_of};

#[tokio::test]
async fn health_looks_at_nothing_and_ready_at_the_database() {
    let app = App::start().await;
    let health = || async { app.client.get(app.url("/health")).send().await.unwrap() };
    let ready = || async { app.client.get(app.url("/ready")).send().await.unwrap() };
    assert_eq!(
        body_of(health().await, StatusCode::OK).await,
        json!({"status": "ok"})
    );
    let body = body_of(ready().await, StatusCode::OK).await;
    assert_eq!(body["checks"]["database"], "ok");

    app.pool.close().await;
    assert_eq!(health().await.status(), StatusCode::OK);
    let body = body_of(ready().await, StatusCode::SERVICE_UNAVAILABLE).await;
    assert_eq!(body["status"], "unavailable");
    assert_eq!(body["checks"]["database"], "failed");
    let response = app.message("s1", "m1", "Hello").send().await.unwrap();
    assert_problem(response, 503, "unavailable").await;
}

#[tokio::test]
async fn the_contract_is_served_as_it_is_printed() {
    let app = App::start().await;
    let response = app
        .client
        .get(app.url("/openapi.json"))
        .send()
        .await
        .unwrap();
    let served = body_of(response, StatusCode::OK).await;
    let printed: Value = serde_json::from_str(&api::openapi()).unwrap();
    assert_eq!(served, printed);
    assert_eq!(api::openapi(), api::openapi());
    for path in [
        "/chat",
        "/chat/{session}",
        "/chat/{session}/stream",
        "/chat/{session}/turns/{turn}/cancel",
        "/chat/{session}/close",
        "/health",
        "/ready",
    ] {
        assert!(served["paths"][path].is_object(), "{path}");
    }
}

#[tokio::test]
async fn the_page_to_try_it_needs_nothing_from_elsewhere() {
    let app = App::start().await;
    let response = app.client.get(app.url("/docs")).send().await.unwrap();
    assert_eq!(response.status(), StatusCode::OK);
    let page = response.text().await.unwrap();
    assert!(page.contains("swagger-ui"));
    assert!(!page.contains("https://"));
    let response = app
        .client
        .get(app.url("/docs/swagger-initializer.js"))
        .send()
        .await
        .unwrap();
    assert!(response.text().await.unwrap().contains("/openapi.json"));
}

#[tokio::test]
async fn the_widget_is_kept_by_browsers_until_it_changes() {
    let app = App::start().await;
    let get = |path: &str| app.client.get(app.url(path));
    let plain = get("/chat.js").send().await.unwrap();
    assert_eq!(plain.status(), StatusCode::OK);
    let headers = plain.headers().clone();
    assert_eq!(
        headers[header::CONTENT_TYPE],
        "text/javascript; charset=utf-8"
    );
    assert_eq!(headers["access-control-allow-origin"], "*");
    assert!(
        headers[header::CACHE_CONTROL]
            .to_str()
            .unwrap()
            .contains("max-age=300")
    );

    let etag = &headers[header::ETAG];
    let again = get("/chat.js")
        .header(header::IF_NONE_MATCH, etag)
        .send()
        .await
        .unwrap();
    assert_eq!(again.status(), StatusCode::NOT_MODIFIED);
    assert_eq!(again.headers()[header::ETAG], etag);
    let other = get("/chat.js")
        .header(header::IF_NONE_MATCH, "\"other\"")
        .send()
        .await
        .unwrap();
    assert_eq!(other.status(), StatusCode::OK);

    let versioned = get("/chat.js?v=1").send().await.unwrap();
    let cache = versioned.headers()[header::CACHE_CONTROL].to_str().unwrap();
    assert!(cache.contains("immutable"));
}

#[tokio::test]
async fn the_demo_page_is_not_there_in_production() {
    let app = App::start().await;
    let response = app.client.get(app.url("/demo")).send().await.unwrap();
    assert_problem(response, 404, "not_found").await;

    let app = App::start_with(|config| {
        config.environment = Environment::Development;
        config.widget_tokens = vec![TOKEN.to_owned()];
    })
    .await;
    let response = app.client.get(app.url("/demo")).send().await.unwrap();
    assert_eq!(response.status(), StatusCode::OK);
    assert!(!response.text().await.unwrap().contains("{{"));
}

#[tokio::test]
async fn the_metrics_port_serves_metrics_health_and_wake_and_nothing_else() {
    let recorder = PrometheusBuilder::new().build_recorder();
    metrics::with_local_recorder(&recorder, || metrics::gauge!("growth_chat_test").set(7));
    let app = App::start().await;
    let figures = jobs::QueueFigures::new(app.pool.clone(), &app.bus);
    let spend = store::spend::SpendFigures::new(app.pool.clone(), &app.bus);
    let backups = store::backups::BackupFigures::new(app.pool.clone(), &app.bus);
    let router = api::metrics_router(recorder.handle(), figures, spend, backups, app.bus.clone());
    let listener = tokio::net::TcpListener::bind(("127.0.0.1", 0))
        .await
        .unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move { axum::serve(listener, router).await });
    let _ = rustls::crypto::ring::default_provider().install_default();
    let get = |path: &str| reqwest::get(format!("http://{address}{path}"));
    let metrics = get("/metrics").await.unwrap().text().await.unwrap();
    assert!(metrics.contains("growth_chat_test 7"), "{metrics}");
    assert_eq!(get("/health").await.unwrap().status(), StatusCode::OK);
    assert_problem(get("/chat.js").await.unwrap(), 404, "not_found").await;
}
