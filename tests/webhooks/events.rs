//! The whole system tells exactly what happened: on every path, once.

use sandbox::{anthropic::Reply, receiver::Delivery};
use serde_json::{Value, json};
use sqlx::PgPool;
use store::webhooks::EventType;

use super::support::{text, until};
use crate::support::{TestSystem, frames::End, process::ApiProcess, process::until_text};

/// A system with an endpoint that is told of everything.
async fn system() -> (TestSystem, PgPool) {
    let system = TestSystem::new().await;
    let pool = system.pool().await;
    let url = format!("{}/hooks", system.people.receiver.url());
    let events: Vec<String> = EventType::ALL
        .iter()
        .map(|it| it.as_str().to_owned())
        .collect();
    let added = store::webhooks::add(&pool, &url, &events, "")
        .await
        .unwrap();
    system.people.receiver.know(&added.secret);
    (system, pool)
}

/// What was told of a session, when so much of it has come: types and statuses.
async fn told(
    system: &TestSystem,
    pool: &PgPool,
    session: &str,
    count: usize,
) -> Vec<(String, String)> {
    let of_session = || -> Vec<Delivery> {
        let mut taken = system.people.receiver.taken_at("/hooks");
        taken.retain(|delivery| delivery.body["data"]["session_id"] == session);
        taken
    };
    until("everything is told", async || {
        (of_session().len() >= count).then_some(())
    })
    .await;
    // What is too much would wait behind it.
    until("nothing is left to tell", async || {
        let left = "select count(*) from queue.jobs where queue = 'webhooks'";
        let left: i64 = sqlx::query_scalar(left).fetch_one(pool).await.unwrap();
        (left == 0).then_some(())
    })
    .await;
    let taken = of_session();
    let told = taken.iter().map(|delivery| {
        let data = &delivery.body["data"];
        let status = match data["termination_type"].as_str() {
            Some(reason) => reason.to_owned(),
            None => text(&data["status"]),
        };
        (text(&delivery.body["type"]), status)
    });
    told.collect()
}

fn events(expected: &[(&str, &str)]) -> Vec<(String, String)> {
    let owned = expected
        .iter()
        .map(|(event, status)| ((*event).to_owned(), (*status).to_owned()));
    owned.collect()
}

async fn leave_contact(app: &ApiProcess, session: &str) {
    let details = json!({"email": "ada@example.org", "name": "Ada", "consent": true});
    let path = format!("/chat/{session}/contact");
    let response = app.post(&path).json(&details).send().await.unwrap();
    assert_eq!(response.status(), 202);
}

async fn close(app: &ApiProcess, session: &str) {
    let response = app
        .post(&format!("/chat/{session}/close"))
        .send()
        .await
        .unwrap();
    assert_eq!(response.status(), 200);
}

#[tokio::test]
async fn a_conversation_is_told_from_its_beginning_to_its_end() {
    let (system, pool) = system().await;
    let app = system.serve().await;
    for (message, turn) in [("m1", 1), ("m2", 2)] {
        let (_, end) = app.ask("s-1", message, "Hello?").await.rest().await;
        assert_eq!(end, End::Clean, "{turn}");
    }
    // The same message again is no event.
    app.submit("s-1", "m1", "Hello?").await;
    leave_contact(&app, "s-1").await;
    until("the handoff is settled", async || {
        let settled =
            "select status from handoff_records where session_id = 's-1' and status <> 'pending'";
        sqlx::query_scalar::<_, String>(settled)
            .fetch_optional(&pool)
            .await
            .unwrap()
    })
    .await;
    close(&app, "s-1").await;
    close(&app, "s-1").await;
    let expected = events(&[
        ("session.started", "open"),
        ("turn.completed", "answered"),
        ("turn.completed", "answered"),
        ("handoff.created", "pending"),
        ("handoff.delivered", "delivered"),
        ("session.closed", "visitor_closed"),
    ]);
    assert_eq!(told(&system, &pool, "s-1", 6).await, expected);
    let taken = system.people.receiver.taken_at("/hooks");
    let turn = &taken[1].body["data"];
    assert_eq!((&turn["turn"], &turn["stage"]), (&json!(1), &json!(1)));
    assert!(turn["output_tokens"].as_i64().unwrap() > 0);
    let closed = &taken[5].body["data"];
    assert_eq!((&closed["turns"], &closed["stage"]), (&json!(2), &json!(4)));
    assert_eq!(taken[3].body["data"]["lead"]["email"], "ada@example.org");
    let personal: i64 = sqlx::query_scalar(
        "select count(*) from (select payload from queue.jobs union all select payload from queue.history) j
         where payload::text like '%ada@%'",
    )
    .fetch_one(&pool)
    .await
    .unwrap();
    assert_eq!(personal, 0);
}

#[tokio::test]
async fn turns_that_are_stopped_and_a_session_that_is_closed_meanwhile_are_told_once() {
    let (system, pool) = system().await;
    system
        .anthropic
        .on("count", Reply::words(60).stalling_after(5));
    let app = system.serve().await;
    let mut stream = app.ask("s-1", "m1", "Please count.").await;
    until_text(&mut stream).await;
    app.submit("s-1", "m2", "Please count again.").await;
    close(&app, "s-1").await;
    let mut found = told(&system, &pool, "s-1", 4).await;
    found.sort();
    let mut expected = events(&[
        ("session.started", "open"),
        ("turn.completed", "cancelled"),
        ("turn.completed", "cancelled"),
        ("session.closed", "visitor_closed"),
    ]);
    expected.sort();
    assert_eq!(found, expected);
}

#[tokio::test]
async fn the_end_of_the_tokens_and_a_turn_that_fails_are_told() {
    let (mut system, pool) = system().await;
    system.set("MAX_TOKENS_PER_SESSION", "1000");
    system.anthropic.on("Hello", Reply::words(5));
    let app = system.serve().await;
    app.ask("s-1", "m1", "Hello?").await.rest().await;
    sqlx::query("update sessions set tokens_used = 1000 where session_id = 's-1'")
        .execute(&pool)
        .await
        .unwrap();
    app.ask("s-1", "m2", "More?").await.rest().await;
    let expected = events(&[
        ("session.started", "open"),
        ("turn.completed", "answered"),
        ("turn.completed", "answered"),
        ("session.closed", "token_limit"),
    ]);
    assert_eq!(told(&system, &pool, "s-1", 4).await, expected);
    let taken = system.people.receiver.taken_at("/hooks");
    assert_eq!(taken[2].body["data"]["limit_reached"], "session_tokens");
}

#[tokio::test]
async fn a_turn_whose_job_dies_and_sessions_that_expire_are_told() {
    let (system, pool) = system().await;
    let app = system.api().await;
    app.submit("s-1", "m1", "Hello?").await;
    app.submit("s-2", "m1", "Hello?").await;
    for statement in [
        // It has no attempt left: whoever rescues it ends it.
        "update queue.jobs set state = 'running', attempt = max_attempts, worker = gen_random_uuid(),
                lease = lease + 1, lease_until = now() - interval '1 minute'
         where kind = 'turn.process' and payload ->> 'session_id' = 's-1'",
        "delete from queue.jobs where payload ->> 'session_id' = 's-2' and kind = 'turn.process'",
        "update turns set finished_at = now(), status = 'failed' where session_id = 's-2'",
        "update sessions set last_activity_at = now() - interval '25 hours', created_at = now() - interval '25 hours'
         where session_id = 's-2'",
        "update queue.jobs set run_at = now(), state = 'ready' where kind = 'session.sweep'",
    ] {
        sqlx::query(statement).execute(&pool).await.unwrap();
    }
    let _worker = system.worker().await;
    let expected = events(&[("session.started", "open"), ("turn.completed", "failed")]);
    assert_eq!(told(&system, &pool, "s-1", 2).await, expected);
    let expected = events(&[
        ("session.started", "open"),
        ("session.closed", "session_expiry"),
    ]);
    assert_eq!(told(&system, &pool, "s-2", 2).await, expected);
}

#[tokio::test]
async fn where_nobody_wants_to_know_nothing_is_enqueued() {
    let system = TestSystem::new().await;
    let pool = system.pool().await;
    let app = system.serve().await;
    app.ask("s-1", "m1", "Hello?").await.rest().await;
    close(&app, "s-1").await;
    let kinds: Vec<Value> = sqlx::query_scalar(
        "select to_jsonb(kind) from (select kind from queue.jobs union all select kind from queue.history) j
         where kind like 'webhook.%'",
    )
    .fetch_all(&pool)
    .await
    .unwrap();
    assert!(kinds.is_empty(), "{kinds:?}");
}
