//! Endpoints that others registered: their addresses may be secrets, their answers may repeat what they
//! were told, and neither is told to anybody.

use reqwest::StatusCode;
use sandbox::{outside::Service, switch::Trouble};
use serde_json::{Value, json};
use sqlx::{AssertSqlSafe, PgPool};

use super::support::{text, until};
use crate::support::{
    ApiProcess, TestSystem,
    discretion::{Discretion, SECRETS, VISITORS},
};

/// In the path and in the query of every endpoint.
const OF_URLS: &str = "hook0known0to0us";
/// Where an operator looks for the addresses of the endpoints.
const OF_ENDPOINTS: &[&str] = &["webhook_endpoints", "ops.webhook_endpoints"];

async fn json(system: &TestSystem, words: &[&str]) -> Value {
    let words = [&["webhooks"], words, &["--json"]].concat();
    let output = system.run(&words).await;
    let complaint = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(output.status.success(), "{words:?}: {complaint}");
    serde_json::from_slice(&output.stdout).unwrap()
}

/// A session of which an endpoint is told, with a lead.
async fn happens(api: &ApiProcess, session: &str) {
    let question = format!("What does {VISITORS} cost?");
    api.ask(session, "m1", &question).await.rest().await;
    let details = json!({
        "email": format!("{VISITORS}@visitor.example"), "name": VISITORS, "message": VISITORS, "consent": true
    });
    let path = format!("/chat/{session}/contact");
    let left = api.post(&path).json(&details).send().await.unwrap();
    assert_eq!(left.status(), StatusCode::ACCEPTED);
}

/// Makes what waits due, until something holds.
async fn until_there(pool: &PgPool, what: &str, sql: &str) {
    until(what, async || {
        let due = "update queue.jobs set run_at = clock_timestamp()
                   where queue = 'webhooks' and state = 'scheduled'";
        sqlx::query(due).execute(pool).await.unwrap();
        sqlx::query("select pg_notify('growth_chat', E'test\\nq webhooks')")
            .execute(pool)
            .await
            .unwrap();
        let there: bool = sqlx::query_scalar(AssertSqlSafe(sql.to_owned()))
            .fetch_one(pool)
            .await
            .unwrap();
        there.then_some(())
    })
    .await;
}

#[tokio::test]
async fn an_endpoint_that_refuses_and_quotes_makes_nobody_tell() {
    let mut system = TestSystem::new().await;
    let discretion = Discretion::seed(&mut system)
        .await
        .and_at(OF_URLS, OF_ENDPOINTS);
    let pool = system.pool().await;
    let receiver = system.people.receiver.url();
    let url = format!("{receiver}/{OF_URLS}?token={OF_URLS}");
    let added = json(&system, &["add", &url]).await;
    let (id, secret) = (text(&added["endpoint_id"]), text(&added["secret"]));
    system.people.receiver.know(&secret);
    let discretion = discretion.and_at(secret.trim_start_matches("whsec_"), &["webhook_secrets"]);
    let api = system.serve().await;
    let switch = system.people.receiver.switch();
    // The beginning and the turn are told well: what has the lead in it is not.
    switch.once_after(2, Trouble::Quote(503));
    for trouble in [
        Trouble::Quote(500),
        Trouble::Quote(400),
        Trouble::Quote(302),
        Trouble::Quote(429),
        Trouble::TakeAndCut,
        Trouble::Refuse(format!("{VISITORS} {SECRETS}")),
    ] {
        switch.once(trouble);
    }
    happens(&api, "s1").await;
    let all = "select count(*) filter (where outcome = 'failed') = 7
               from webhook_attempts where outcome is not null";
    until_there(&pool, "all is told", all).await;
    let shown = "select count(*) = 0 from queue.jobs where kind = 'webhook.deliver'";
    until_there(&pool, "nothing is left", shown).await;

    // One that is gone is disabled; its job is dead.
    switch.set(Some(Trouble::Quote(410)));
    happens(&api, "s2").await;
    let disabled = "select status = 'disabled' from webhook_endpoints";
    until_there(&pool, "it is disabled", disabled).await;
    discretion.look_through(&system, &[&api.process]).await;
    // What was looked for was there to be found.
    let told = system.world.received_by(Service::Webhook);
    let quoted = |words: &str| told.iter().any(|exchange| exchange.answer.contains(words));
    assert!(quoted(VISITORS) && quoted("webhook-signature"));

    // The commands show the address to the operator, and a secret when it is made only.
    switch.set(Some(Trouble::Quote(400)));
    let enabled = system.run(&["webhooks", "enable", &id]).await;
    let tested = system.run(&["webhooks", "test", &id]).await;
    assert_eq!(tested.status.code(), Some(1));
    for output in [enabled, tested] {
        discretion.look_at_output(&output);
    }
    for words in [
        &["list"][..],
        &["show", &id],
        &["disable", &id],
        &["enable", &id],
    ] {
        for form in [&[][..], &["--json"]] {
            let said = system.run(&[&["webhooks"], words, form].concat()).await;
            let said = String::from_utf8(said.stdout).unwrap();
            for secret in ["whsec_", &secret, SECRETS, VISITORS] {
                assert!(!said.contains(secret), "{words:?}: {said}");
            }
        }
    }
    let rotated = system.run(&["webhooks", "rotate", &id]).await;
    let rotated = String::from_utf8(rotated.stdout).unwrap();
    assert!(
        rotated.contains("whsec_") && !rotated.contains(&secret),
        "{rotated}"
    );
}

#[tokio::test]
async fn an_address_that_can_not_be_reached_or_may_not_is_not_told() {
    let mut system = TestSystem::new().await;
    let discretion = Discretion::seed(&mut system)
        .await
        .and_at(OF_URLS, OF_ENDPOINTS);
    let pool = system.pool().await;
    for (url, code) in [
        (format!("http://10.0.0.1/{OF_URLS}"), 1),
        (
            format!("https://{SECRETS}:{OF_URLS}@hooks.example/{OF_URLS}"),
            1,
        ),
        (format!("ftp://hooks.example/{OF_URLS}"), 1),
        (
            format!("https://hooks.example/{OF_URLS}/{}", "x".repeat(3_000)),
            1,
        ),
    ] {
        let refused = system.run(&["webhooks", "add", &url]).await;
        assert_eq!(refused.status.code(), Some(code), "{url}");
        discretion.look_at_output(&refused);
    }
    // They were registered elsewhere, where nobody looked.
    for url in [
        format!("http://10.0.0.1/{OF_URLS}?token={OF_URLS}"),
        format!("http://127.0.0.1:1/{OF_URLS}?token={OF_URLS}"),
        format!("https://{OF_URLS}.invalid/{OF_URLS}?token={OF_URLS}"),
    ] {
        sqlx::query("select ops.add_webhook_endpoint($1, array['session.started'])")
            .bind(url)
            .execute(&pool)
            .await
            .unwrap();
    }
    let api = system.serve().await;
    happens(&api, "s1").await;
    let failed =
        "select count(distinct endpoint_id) = 3 from webhook_attempts where outcome = 'failed'";
    until_there(&pool, "each was tried", failed).await;
    let noted =
        "select count(*) = 3 from queue.jobs where kind = 'webhook.deliver' and errors <> '[]'";
    until_there(&pool, "each error is noted", noted).await;
    discretion.look_through(&system, &[&api.process]).await;
}
