//! Whatever goes wrong, nobody learns of it what a visitor wrote or what is secret.

use std::{panic::AssertUnwindSafe, time::Duration};

use futures::FutureExt;
use reqwest::header;
use sandbox::{anthropic::Reply, openai::Failure};
use serde_json::json;

use crate::support::{
    ApiProcess, TestSystem,
    discretion::{Discretion, EDGE_SECRET, VISITORS},
};

const DOCUMENT: &str = "# Prices\n\nA discovery week costs 9,000 euros.\n";

/// A refusal that quotes what was asked, as providers do.
fn quoting(status: u16, kind: &str) -> Reply {
    Reply::refused(status, kind).with_message(format!("messages.0: {VISITORS} is too much"))
}

/// Asks until the end, whatever that is.
async fn ask(api: &ApiProcess, session: &str, words: &str) {
    let text = format!("{words}: my {VISITORS}, {VISITORS}@visitor.example");
    api.ask(session, "m1", &text).await.rest().await;
}

#[tokio::test]
async fn providers_that_fail_and_quote_make_nobody_tell() {
    let mut system = TestSystem::new().await;
    let discretion = Discretion::seed(&mut system).await;
    system.index(&[("prices.md", DOCUMENT)]).await;
    let api = system.api().await;
    let worker = system.worker().await;
    ask(&api, "well", "answered").await;
    for (session, reply) in [
        ("refused", quoting(400, "invalid_request_error")),
        ("unauthorized", quoting(401, "authentication_error")),
        ("too-large", quoting(413, "request_too_large")),
    ] {
        system.anthropic.on(session, reply);
        ask(&api, session, session).await;
    }
    for (session, reply) in [
        ("limited", quoting(429, "rate_limit_error")),
        (
            "overloaded",
            Reply::words(9).failing_after(3, "overloaded_error"),
        ),
        ("cut", Reply::words(9).cut_after(3)),
    ] {
        system.anthropic.push(reply);
        ask(&api, session, session).await;
    }
    system.openai.fail_next(Failure {
        status: 400,
        code: "invalid_request_error",
        retry_after: None,
        after: Duration::ZERO,
    });
    ask(&api, "embedded", "a discovery week").await;
    discretion
        .look_through(&system, &[&api.process, &worker])
        .await;
    // What was looked for was there to be found.
    let pool = system.pool().await;
    let failed: i64 = sqlx::query_scalar("select count(*) from turns where status = 'failed'")
        .fetch_one(&pool)
        .await
        .unwrap();
    assert!(failed >= 2, "{failed} turns failed");
}

#[tokio::test]
async fn requests_that_are_refused_are_not_repeated_to_anybody() {
    const ADDRESS: &str = "203.0.113.77";
    let mut system = TestSystem::new().await;
    let discretion = Discretion::seed(&mut system).await.and(ADDRESS);
    system.set("RATE_LIMIT_SESSION", "3/24h");
    let api = system.api().await;
    let long = VISITORS.repeat(400);
    let mut answers = Vec::new();
    for body in [
        json!({"session_id": VISITORS.repeat(9), "message": VISITORS}),
        json!({"session_id": "s", "message": format!("{VISITORS}\0")}),
        json!({"session_id": "s", "message": long}),
        json!({"session_id": "s", "message": {"no": VISITORS}}),
        json!({"session_id": "s", "message": "x", "on_busy": VISITORS}),
        json!({"id": "s", "trigger": VISITORS, "messages": [{"role": VISITORS}]}),
    ] {
        answers.push(api.post("/chat").json(&body).send().await.unwrap());
    }
    let broken = format!("{{\"message\": \"{VISITORS}");
    let raw = api
        .post("/chat")
        .header(header::CONTENT_TYPE, "application/json");
    answers.push(raw.body(broken).send().await.unwrap());
    for n in 0..5 {
        let message =
            json!({"session_id": "s", "message_id": format!("m{n}"), "message": VISITORS});
        let json = api.post("/chat").header(header::ACCEPT, "application/json");
        let json = json
            .header("cf-connecting-ip", ADDRESS)
            .header("x-edge-secret", EDGE_SECRET);
        answers.push(json.json(&message).send().await.unwrap());
    }
    for contact in [
        json!({"email": VISITORS, "consent": true}),
        json!({"email": format!("{VISITORS}@v.example"), "phone": VISITORS, "consent": true}),
        json!({"email": format!("{VISITORS}@v.example"), "consent": false}),
    ] {
        answers.push(
            api.post("/chat/s/contact")
                .json(&contact)
                .send()
                .await
                .unwrap(),
        );
    }
    let foreign = system.client.get(api.url("/chat/s"));
    let foreign = foreign.header("x-widget-token", VISITORS);
    answers.push(foreign.send().await.unwrap());
    let path = format!("/chat/{VISITORS}/turns/{VISITORS}/cancel");
    answers.push(api.post(&path).send().await.unwrap());
    let cursor = format!("/chat/s/stream?after={VISITORS}");
    answers.push(api.get(&cursor).send().await.unwrap());
    let mut refused = 0;
    for answer in answers {
        refused += usize::from(answer.status().is_client_error());
        assert!(!answer.status().is_server_error(), "{answer:?}");
        discretion.look_at("an answer", &answer.text().await.unwrap());
    }
    assert!(refused >= 14, "{refused} were refused");
    discretion.look_through(&system, &[&api.process]).await;
}

#[tokio::test]
async fn a_database_that_quotes_a_row_makes_nobody_tell() {
    let mut system = TestSystem::new().await;
    let discretion = Discretion::seed(&mut system).await;
    let pool = system.pool().await;
    // Postgres says in the details of an error which row it refuses: all of it.
    for refuse in [
        "alter table messages add constraint no_posts check (body not like '%unkept%')",
        "alter table messages add constraint no_answers check (role = 'user')",
        "alter table handoff_records add constraint no_leads check (handoff_id = '')",
    ] {
        sqlx::query(refuse).execute(&pool).await.unwrap();
    }
    let api = system.api().await;
    let worker = system.worker().await;
    let unkept = json!({"session_id": "s", "message": format!("unkept {VISITORS}")});
    let refused = api.post("/chat").json(&unkept).send().await.unwrap();
    assert_eq!(refused.status(), 500);
    discretion.look_at("an answer", &refused.text().await.unwrap());
    // The answer quotes the question, and is refused at the end of each attempt.
    let answer = Reply::text(format!("You wrote {VISITORS}."));
    system.anthropic.on("quoted", answer);
    let question =
        json!({"session_id": "t", "message": format!("quoted {VISITORS}"), "message_id": "m"});
    let accepted = api.post("/chat").header(header::ACCEPT, "application/json");
    assert_eq!(accepted.json(&question).send().await.unwrap().status(), 202);
    let contact = json!({"email": format!("{VISITORS}@v.example"), "consent": true});
    let refused = api
        .post("/chat/t/contact")
        .json(&contact)
        .send()
        .await
        .unwrap();
    assert_eq!(refused.status(), 500);
    discretion.look_at("an answer", &refused.text().await.unwrap());
    system.until_logged("an attempt failed", 1).await;
    discretion
        .look_through(&system, &[&api.process, &worker])
        .await;
}

#[tokio::test]
async fn what_is_told_is_found_wherever_it_stands() {
    let mut system = TestSystem::new().await;
    let discretion = Discretion::seed(&mut system).await;
    let pool = system.pool().await;
    // Here it belongs.
    for statement in [
        "insert into sessions (session_id) values ('s1')",
        "insert into messages (session_id, message_id, role, turn, body)
         values ('s1', 'm-1', 'user', 1, 'visitors-own-words')",
    ] {
        sqlx::query(statement).execute(&pool).await.unwrap();
    }
    discretion.look_through(&system, &[]).await;
    for (tell, withdraw) in [
        (
            "create view ops.told as select body from messages",
            "drop view ops.told",
        ),
        (
            "insert into queue.jobs (queue, kind, max_attempts, retry_waits, payload, errors)
             values ('q', 'k', 1, '{}', '{}', '[{\"error\": \"key mark0of0a0secret\"}]')",
            "delete from queue.jobs",
        ),
        (
            "update messages set body = 'my key is mark0of0a0secret'",
            "update messages set body = 'visitors-own-words'",
        ),
    ] {
        sqlx::query(tell).execute(&pool).await.unwrap();
        let looking = AssertUnwindSafe(discretion.look_through(&system, &[]));
        let found = looking.catch_unwind().await.unwrap_err();
        let found = found.downcast_ref::<String>().unwrap();
        assert!(found.contains(" stands in "), "{tell}: {found}");
        sqlx::query(withdraw).execute(&pool).await.unwrap();
    }
    let output = system.run(&["replay", VISITORS]).await;
    let looking = AssertUnwindSafe(async { discretion.look_at_output(&output) });
    assert!(looking.catch_unwind().await.is_err(), "{output:?}");
    discretion.look_through(&system, &[]).await;
}
