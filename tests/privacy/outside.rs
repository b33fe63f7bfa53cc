//! What may be outside is looked for outside.

use sandbox::postgres::TestDatabase;
use serde_json::{Value, json};
use sqlx::{PgPool, raw_sql};
use store::{
    ids::SessionId,
    privacy::{self, NewRequest, OutsideSystem, RequestedBy, Scope},
};

/// A handoff without an address, with these deliveries and attempts.
async fn handoff(pool: &PgPool, deliveries: &'static str, attempts: &'static str) {
    for sql in [
        "insert into handoff_records (session_id, handoff_id, trigger, lead)
         values ('s1', 'h', 'contact_form', '{\"name\": \"Y\"}')",
        deliveries,
        attempts,
    ] {
        raw_sql(sql).execute(pool).await.unwrap();
    }
}

async fn outside(pool: &PgPool) -> Vec<(OutsideSystem, Value)> {
    let mut conn = pool.acquire().await.unwrap();
    let session_id: SessionId = "s1".parse().unwrap();
    let new = NewRequest {
        request_id: "r",
        scope: Scope::Person,
        session_id: Some(&session_id),
        email: None,
        requested_by: RequestedBy::Operator,
        waits: false,
    };
    privacy::add(&mut conn, &new).await.unwrap();
    privacy::remember_outside(&mut conn, "r", &session_id)
        .await
        .unwrap();
    let request = privacy::by_id(&mut conn, "r").await.unwrap().unwrap();
    assert!(request.addresses.is_empty());
    let outside = request.outside.into_iter();
    outside.map(|it| (it.system, it.reference)).collect()
}

#[tokio::test]
async fn every_record_that_the_crm_ever_named_is_to_go() {
    let database = TestDatabase::create().await.unwrap();
    let pool = database.pool().await.unwrap();
    handoff(
        &pool,
        "insert into handoff_deliveries (session_id, handoff_id, channel, status, reference)
         values ('s1', 'h', 'crm', 'delivered', '{\"contact\": \"2\"}')",
        "insert into handoff_attempts (session_id, handoff_id, channel, attempt, job_id, lease, ended_at, outcome, provider_id)
         values ('s1', 'h', 'crm', 1, 1, 1, now(), 'sent', '1'), ('s1', 'h', 'crm', 2, 2, 1, now(), 'sent', '2')",
    )
    .await;
    let mut contacts: Vec<String> = outside(&pool)
        .await
        .into_iter()
        .map(|(_, reference)| reference["contact"].as_str().unwrap().to_owned())
        .collect();
    contacts.sort();
    assert_eq!(contacts, ["1", "2"]);
}

#[tokio::test]
async fn what_nobody_heard_of_is_asked_for_and_told_of() {
    let database = TestDatabase::create().await.unwrap();
    let pool = database.pool().await.unwrap();
    handoff(
        &pool,
        "insert into handoff_deliveries (session_id, handoff_id, channel, status)
         values ('s1', 'h', 'crm', 'dead'), ('s1', 'h', 'email', 'dead'), ('s1', 'h', 'slack', 'skipped')",
        "insert into handoff_attempts (session_id, handoff_id, channel, attempt, job_id, lease, ended_at, outcome)
         values ('s1', 'h', 'crm', 1, 1, 1, now(), 'unknown'), ('s1', 'h', 'email', 1, 2, 1, now(), 'unknown')",
    )
    .await;
    let mut outside = outside(&pool).await;
    outside.sort_by_key(|(system, _)| format!("{system:?}"));
    assert_eq!(
        outside,
        [
            (OutsideSystem::Crm, json!({"handoff_id": "h", "attempt": 1})),
            (OutsideSystem::Email, json!({"handoff_id": "h"}))
        ]
    );
}

#[tokio::test]
async fn a_message_that_came_late_is_looked_for_when_it_came() {
    let database = TestDatabase::create().await.unwrap();
    let pool = database.pool().await.unwrap();
    handoff(
        &pool,
        "insert into handoff_deliveries (session_id, handoff_id, channel, status, reference, created_at)
         values ('s1', 'h', 'slack', 'delivered', '{\"via\": \"webhook\"}', '2026-01-01 00:00Z')",
        "insert into handoff_attempts (session_id, handoff_id, channel, attempt, job_id, lease, started_at, ended_at, outcome)
         values ('s1', 'h', 'slack', 1, 1, 1, '2026-01-06 00:00Z', '2026-01-06 00:00Z', 'sent')",
    )
    .await;
    let found = outside(&pool).await;
    assert_eq!(found.len(), 1);
    let (_, reference) = &found[0];
    assert_eq!(reference["via"], "webhook");
    let time = |name: &str| -> chrono::DateTime<chrono::Utc> {
        reference[name].as_str().unwrap().parse().unwrap()
    };
    assert_eq!(time("until") - time("since"), chrono::TimeDelta::days(5));
}
