//! Whose address counts, and how often a client may ask: whatever a client writes into its headers.

use std::collections::BTreeMap;

use api::config::{Environment, TrustedProxies};
use futures::future::join_all;
use reqwest::{RequestBuilder, StatusCode, header};
use serde_json::json;
use store::edge_limits::RateLimit;

use super::support::{
    App, CLIENT, EDGE_SECRET, OTHER_SECRET, SECRET, TOKEN, TURN_JOBS, assert_problem, body_of,
    through_the_edge,
};

/// A message straight to the origin.
fn straight(app: &App, path: &str, session: &str, headers: &[(&str, &str)]) -> RequestBuilder {
    let request = reqwest::Client::new()
        .post(app.url(path))
        .header("x-widget-token", TOKEN)
        .header(header::ACCEPT, "application/json")
        .bearer_auth(SECRET)
        .json(&json!({"session_id": session, "message_id": "m", "message": "hello"}));
    headers.iter().fold(request, |request, (name, value)| {
        request.header(*name, *value)
    })
}

/// A message of a visitor at an address, through the site's proxy.
async fn from(app: &App, visitor: &str, session: &str, message: &str) -> StatusCode {
    let request = through_the_edge(visitor)
        .post(app.url("/chat"))
        .header("x-widget-token", TOKEN)
        .header(header::ACCEPT, "application/json")
        .bearer_auth(SECRET)
        .json(&json!({"session_id": session, "message_id": message, "message": "hello"}));
    request.send().await.unwrap().status()
}

fn limit(text: &str) -> RateLimit {
    text.parse().unwrap()
}

#[tokio::test]
async fn straight_to_the_origin_no_header_helps_and_nothing_is_begun() {
    let app = App::start_with(|config| config.edge.proxies = TrustedProxies::default()).await;
    let named = ("cf-connecting-ip", CLIENT);
    let shown = ("x-edge-secret", EDGE_SECRET);
    for (n, headers) in [
        &[][..],
        &[named],
        &[named, ("x-edge-secret", "a guess")],
        &[named, ("x-edge-secret", "a guess"), shown],
        &[named, shown, shown],
        &[shown],
        &[shown, named, ("cf-connecting-ip", "203.0.113.8")],
        &[shown, ("cf-connecting-ip", "203.0.113.7, 203.0.113.8")],
        &[
            ("x-forwarded-for", CLIENT),
            ("x-real-ip", CLIENT),
            ("true-client-ip", CLIENT),
        ],
        &[("forwarded", "for=173.245.48.1"), named],
    ]
    .into_iter()
    .enumerate()
    {
        for path in ["/chat", "/api/v1/chat"] {
            let response = straight(&app, path, &format!("s{n}"), headers).send().await;
            assert_problem(response.unwrap(), 403, "edge_required").await;
        }
    }
    for path in ["/chat/s1", "/chat/s1/stream"] {
        let get = reqwest::Client::new().get(app.url(path));
        let response = get
            .header("x-widget-token", TOKEN)
            .bearer_auth(SECRET)
            .send();
        assert_problem(response.await.unwrap(), 403, "edge_required").await;
    }
    // Without a job no model is ever called.
    assert_eq!(app.count(TURN_JOBS).await, 0);
    assert_eq!(app.count("select count(*) from sessions").await, 0);

    let response = straight(&app, "/chat", "s", &[named, shown]).send().await;
    assert_eq!(response.unwrap().status(), StatusCode::ACCEPTED);
}

#[tokio::test]
async fn what_is_no_ones_business_needs_no_edge() {
    let app = App::start().await;
    for path in ["/health", "/chat.js", "/openapi.json"] {
        let status = reqwest::get(app.url(path)).await.unwrap().status();
        assert_eq!(status, StatusCode::OK, "{path}");
    }
}

#[tokio::test]
async fn outside_production_forged_headers_do_not_make_another_client() {
    let app = App::start_with(|config| {
        config.environment = Environment::Staging;
        config.limits.address = limit("4/10m");
    })
    .await;
    for n in 0..4 {
        let forged = format!("203.0.113.{n}");
        let headers = [
            ("cf-connecting-ip", &*forged),
            ("x-forwarded-for", &*forged),
            ("x-edge-secret", "a guess"),
        ];
        let response = straight(&app, "/chat", &format!("s{n}"), &headers)
            .send()
            .await;
        assert_eq!(response.unwrap().status(), StatusCode::ACCEPTED);
    }
    for headers in [
        &[("cf-connecting-ip", "203.0.113.9")][..],
        &[("x-forwarded-for", "203.0.113.9")],
        &[
            ("cf-connecting-ip", "::1"),
            ("cf-connecting-ip", "203.0.113.9"),
        ],
        &[],
    ] {
        let response = straight(&app, "/chat", "other", headers)
            .send()
            .await
            .unwrap();
        assert_problem(response, 429, "rate_limited").await;
    }
    assert_eq!(app.count(TURN_JOBS).await, 4);
}

#[tokio::test]
async fn every_address_of_an_ipv6_network_and_every_spelling_is_one_client() {
    let app = App::start_with(|config| config.limits.address = limit("2/10m")).await;
    for (spellings, other) in [
        (
            [
                "2001:db8:1:2::1",
                "2001:0DB8:1:2:ffff:ffff:ffff:ffff",
                "2001:db8:1:2:a::",
            ],
            "2001:db8:1:3::1",
        ),
        (
            ["198.51.100.7", "::ffff:198.51.100.7", "::ffff:c633:6407"],
            "198.51.100.8",
        ),
    ] {
        let mut statuses = Vec::new();
        for (n, spelling) in spellings.iter().enumerate() {
            statuses.push(from(&app, spelling, &format!("s{n}{}", spelling.len()), "m").await);
        }
        let refused = StatusCode::TOO_MANY_REQUESTS;
        assert_eq!(
            statuses,
            [StatusCode::ACCEPTED, StatusCode::ACCEPTED, refused]
        );
        let neighbour = from(&app, other, &format!("o{}", other.len()), "m").await;
        assert_eq!(neighbour, StatusCode::ACCEPTED);
    }
}

#[tokio::test]
async fn two_processes_share_a_limit_exactly() {
    let limited = |config: &mut api::ApiConfig| config.limits.address = limit("20/24h");
    let one = App::start_with(limited).await;
    let other = one.sibling_with(limited).await;
    let posts = (0..80).map(|n| {
        let app = if n % 2 == 0 { &one } else { &other };
        let request = app.message(&format!("s{n}"), "m", "hello");
        async move { request.send().await.unwrap() }
    });
    let mut statuses = BTreeMap::new();
    for response in join_all(posts).await {
        *statuses.entry(response.status().as_u16()).or_insert(0) += 1;
        if response.status() == StatusCode::TOO_MANY_REQUESTS {
            let seconds: u64 = response.headers()[header::RETRY_AFTER]
                .to_str()
                .unwrap()
                .parse()
                .unwrap();
            // A token comes back each 24 h / 20.
            assert!((4_200..=4_320).contains(&seconds), "{seconds}");
            assert_problem(response, 429, "rate_limited").await;
        }
    }
    assert_eq!(statuses, BTreeMap::from([(202, 20), (429, 60)]));
    assert_eq!(one.count(TURN_JOBS).await, 20);
    // Another visitor is not concerned.
    assert_eq!(
        from(&other, "203.0.113.200", "new", "m").await,
        StatusCode::ACCEPTED
    );
}

#[tokio::test]
async fn a_conversation_is_limited_wherever_its_messages_come_from() {
    let app = App::start_with(|config| config.limits.session = limit("3/24h")).await;
    for n in 0..4 {
        let expected = if n < 3 {
            StatusCode::ACCEPTED
        } else {
            StatusCode::TOO_MANY_REQUESTS
        };
        let visitor = format!("203.0.113.{n}");
        assert_eq!(from(&app, &visitor, "s", &format!("m{n}")).await, expected);
    }
    assert_eq!(
        from(&app, "203.0.113.3", "another", "m").await,
        StatusCode::ACCEPTED
    );
}

#[tokio::test]
async fn who_knows_a_sessions_id_and_not_its_secret_uses_up_a_bucket_of_their_own() {
    let app = App::start_with(|config| config.limits.session = limit("3/24h")).await;
    app.accept("s", "m1", "hello").await;
    for (n, shown) in [Some(OTHER_SECRET), Some("no secret"), None]
        .into_iter()
        .enumerate()
    {
        let mut statuses = Vec::new();
        for _ in 0..4 {
            let request = through_the_edge(&format!("198.51.100.{n}"))
                .post(app.url("/chat"))
                .header("x-widget-token", TOKEN)
                .json(&json!({"session_id": "s", "message": "hello"}));
            let request = match shown {
                Some(secret) => request.bearer_auth(secret),
                None => request,
            };
            statuses.push(request.send().await.unwrap().status().as_u16());
        }
        assert_eq!(statuses, [404, 404, 404, 429], "{shown:?}");
    }
    // Two are left for the visitor, as if nobody else had asked.
    let contact = json!({"email": "a@b.example", "consent": true});
    let contact = app.post("/chat/s/contact").json(&contact).send().await;
    body_of(contact.unwrap(), StatusCode::ACCEPTED).await;
    app.accept("s", "m2", "hello").await;
    let response = app.message("s", "m3", "hello").send().await.unwrap();
    assert_problem(response, 429, "rate_limited").await;
}

#[tokio::test]
async fn what_one_client_is_refused_takes_nothing_from_the_site() {
    let limited = |config: &mut api::ApiConfig| {
        config.limits.address = limit("2/24h");
        config.limits.site = limit("4/24h");
    };
    let app = App::start_with(limited).await;
    for n in 0..6 {
        // A new process remembers no refusal: the database itself has to say no.
        let fresh = app.sibling_with(limited).await;
        from(&fresh, "203.0.113.1", &format!("a{n}"), "m").await;
    }
    for (n, expected) in [(2, 202), (3, 202), (4, 429)] {
        let status = from(&app, &format!("203.0.113.{n}"), &format!("b{n}"), "m").await;
        assert_eq!(status.as_u16(), expected, "{n}");
    }
    // The other site key has a bucket of its own.
    let mut request = app.message("c", "m", "hello").build().unwrap();
    let another = "another-token".parse().unwrap();
    request.headers_mut().insert("x-widget-token", another);
    let response = app.client.execute(request).await.unwrap();
    assert_eq!(response.status(), StatusCode::ACCEPTED);
    // A lead is taken however many others write.
    let contact = json!({"email": "a@b.example", "consent": true});
    let response = app
        .post("/chat/c/contact")
        .json(&contact)
        .send()
        .await
        .unwrap();
    body_of(response, StatusCode::ACCEPTED).await;
}

#[tokio::test]
async fn contact_details_count_and_reading_does_not() {
    let app = App::start_with(|config| config.limits.session = limit("2/24h")).await;
    app.accept("s", "m", "hello").await;
    let contact = || {
        let contact = json!({"email": "a@b.example", "consent": true});
        app.post("/chat/s/contact").json(&contact).send()
    };
    body_of(contact().await.unwrap(), StatusCode::ACCEPTED).await;
    assert_problem(contact().await.unwrap(), 429, "rate_limited").await;
    for _ in 0..5 {
        let response = app.get("/chat/s").send().await.unwrap();
        assert_eq!(response.status(), StatusCode::OK);
    }
    let response = app.post("/chat/s/close").send().await.unwrap();
    assert!(response.status().is_success());
}

#[tokio::test]
async fn a_bucket_fills_up_again() {
    let app = App::start_with(|config| config.limits.session = limit("1/24h")).await;
    app.accept("s", "m1", "hello").await;
    // As if the time had passed.
    sqlx::query("update edge_limits set full_at = full_at - interval '24 hours'")
        .execute(&app.pool)
        .await
        .unwrap();
    app.accept("s", "m2", "hello").await;
    let response = app.message("s", "m3", "hello").send().await.unwrap();
    assert_problem(response, 429, "rate_limited").await;
}

#[tokio::test]
async fn no_address_is_kept_and_the_key_of_a_day_goes_with_it() {
    let app = App::start_with(|config| config.limits.address = limit("1/24h")).await;
    let other = app
        .sibling_with(|config| config.limits.address = limit("1/24h"))
        .await;
    app.accept("s", "m", "hello").await;
    let keys = "select count(*) from edge_limits where key::text like '%cb007107%'";
    assert_eq!(app.count(keys).await, 0);
    assert_eq!(app.count("select count(*) from edge_limits").await, 3);
    let of_the_day: Vec<u8> = key(&app).await;

    sqlx::query("update edge_keys set day = day - 1")
        .execute(&app.pool)
        .await
        .unwrap();
    app.accept("s", "n", "hello").await;
    assert_ne!(key(&app).await, of_the_day);
    // The other process has to learn of it before it can count.
    let response = other.message("s", "o", "hello").send().await.unwrap();
    assert_problem(response, 429, "rate_limited").await;
}

/// The only key.
async fn key(app: &App) -> Vec<u8> {
    sqlx::query_scalar("select key from edge_keys")
        .fetch_one(&app.pool)
        .await
        .unwrap()
}

#[tokio::test]
async fn after_a_crash_of_the_server_the_processes_agree_on_a_new_key() {
    let limited = |config: &mut api::ApiConfig| config.limits.address = limit("2/24h");
    let one = App::start_with(limited).await;
    let other = one.sibling_with(limited).await;
    one.accept("a", "m", "hello").await;
    other.accept("b", "m", "hello").await;
    // What a crash does to unlogged tables.
    sqlx::query("truncate edge_keys, edge_limits")
        .execute(&one.pool)
        .await
        .unwrap();
    one.accept("c", "m", "hello").await;
    other.accept("d", "m", "hello").await;
    for (app, session) in [(&one, "e"), (&other, "f")] {
        let response = app.message(session, "m", "hello").send().await.unwrap();
        assert_problem(response, 429, "rate_limited").await;
    }
}
