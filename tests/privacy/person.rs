//! Somebody who talks, leaves contact details, and wants to be forgotten.

use std::time::Duration;

use reqwest::{Method, StatusCode};
use serde_json::{Value, json};
use sqlx::{PgPool, query_scalar};

use crate::support::{ApiProcess, PATIENCE, TestSystem};

pub(super) const MARKER: &str = "forgetMeXQJ";
pub(super) const ADDRESS: &str = "forgetMeXQJ@visitor.example";

/// A system whose worker can sign receipts.
pub(super) async fn system() -> TestSystem {
    let mut system = TestSystem::new().await;
    system.set("PRIVACY_SECRET", &"a".repeat(32));
    system
}

/// A conversation with the marker in everything that a visitor can write.
pub(super) async fn talk(api: &ApiProcess, session: &str) {
    api.ask(
        session,
        "m1",
        &format!("What does a sprint for {MARKER} cost?"),
    )
    .await
    .rest()
    .await;
    let rating = json!({"turn": 1, "rating": "down", "comment": format!("{MARKER} is sad")});
    let path = format!("/chat/{session}/feedback");
    let response = api.post(&path).json(&rating).send().await.unwrap();
    assert!(response.status().is_success());
}

/// Leaves contact details, and waits until nothing of them is on its way.
pub(super) async fn leave_contact(pool: &PgPool, api: &ApiProcess, session: &str) {
    let details = json!({
        "email": ADDRESS, "name": MARKER, "company": MARKER, "message": MARKER, "consent": true
    });
    let path = format!("/chat/{session}/contact");
    let response = api.post(&path).json(&details).send().await.unwrap();
    assert_eq!(response.status(), StatusCode::ACCEPTED);
    until(async || {
        let under_way = "select exists (select from queue.jobs where queue = 'handoff' and kind <> 'handoff.remind')";
        !query_scalar::<_, bool>(under_way).fetch_one(pool).await.unwrap()
    })
    .await;
}

pub(super) async fn erase(api: &ApiProcess, session: &str) -> (StatusCode, Value) {
    let path = format!("/chat/{session}");
    let response = api.request(Method::DELETE, &path).send().await.unwrap();
    (response.status(), response.json().await.unwrap())
}

pub(super) async fn until(condition: impl AsyncFn() -> bool) {
    let holds = async {
        while !condition().await {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    tokio::time::timeout(PATIENCE, holds)
        .await
        .expect("it did not come to that");
}

pub(super) async fn until_done(pool: &PgPool, request_id: &str) -> Value {
    let done = async {
        loop {
            let receipt: Option<Value> =
                query_scalar("select receipt from privacy_requests where request_id = $1")
                    .bind(request_id)
                    .fetch_one(pool)
                    .await
                    .unwrap();
            if let Some(receipt) = receipt {
                return receipt;
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    tokio::time::timeout(PATIENCE, done)
        .await
        .expect("no receipt")
}
