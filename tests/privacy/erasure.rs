//! A person is forgotten, wherever they are.

use std::{fs, time::Duration};

use reqwest::StatusCode;
use sandbox::switch::Trouble;
use serde_json::{Value, json};
use sqlx::query_scalar;
use tokio::time::timeout;

use super::{
    marker::tables_with,
    person::{ADDRESS, MARKER, erase, leave_contact, system, talk, until, until_done},
};
use crate::support::{PATIENCE, TestSystem, process::until_text};

#[tokio::test]
async fn a_visitor_erases_a_conversation_and_no_trace_of_it_is_left() {
    let system = system().await;
    let pool = system.pool().await;
    let api = system.serve().await;
    talk(&api, "s1").await;
    talk(&api, "other").await;
    assert!(tables_with(&pool, MARKER).await.len() >= 2);

    let (status, erased) = erase(&api, "s1").await;
    assert_eq!(status, StatusCode::OK);
    assert_eq!(
        (&erased["status"], &erased["awaits_approval"]),
        (&json!("erased"), &json!(false))
    );
    let left: Vec<String> = query_scalar(
        "select session_id from messages
         union select session_id from turn_events where event ->> 'reason' is distinct from 'erased'
         union select session_id from checkpoints union select session_id from checkpoint_writes
         union select session_id from feedback",
    )
    .fetch_all(&pool)
    .await
    .unwrap();
    assert_eq!(left, ["other"]);
    let transcript = api.get("/chat/s1").send().await.unwrap();
    assert_eq!(transcript.status(), StatusCode::NOT_FOUND);
    let again = api
        .submission("s1", "m2", "Hello again")
        .send()
        .await
        .unwrap();
    assert_eq!(again.status(), StatusCode::NOT_FOUND);
    assert_eq!(erase(&api, "s1").await.0, StatusCode::NOT_FOUND);

    let receipt = until_done(&pool, erased["request_id"].as_str().unwrap()).await;
    assert_eq!(receipt["statement"]["erased"]["messages"], 2);
    assert_eq!(erase(&api, "other").await.0, StatusCode::OK);
    assert_eq!(tables_with(&pool, MARKER).await, Vec::<String>::new());
    assert_eq!(system.count_logged(MARKER), 0);
}

#[tokio::test]
async fn an_answer_that_is_being_written_is_stopped_and_never_comes_back() {
    let system = system().await;
    let pool = system.pool().await;
    let api = system.api().await;
    system.anthropic.set_pace(sandbox::anthropic::Pace {
        between_tokens: Duration::from_millis(200),
        ..sandbox::anthropic::Pace::default()
    });
    let mut worker = system.worker().await;
    let mut stream = api
        .ask("s1", "m1", &format!("Tell me all about {MARKER}"))
        .await;
    until_text(&mut stream).await;
    assert_eq!(erase(&api, "s1").await.0, StatusCode::OK);
    // Whoever reads along is told.
    timeout(PATIENCE, stream.rest())
        .await
        .expect("the stream never ends");
    // The worker ends in order: whatever it still wanted to write, it has tried to.
    worker.stop().await;
    assert_eq!(tables_with(&pool, MARKER).await, Vec::<String>::new());
    let messages: i64 = query_scalar("select count(*) from messages")
        .fetch_one(&pool)
        .await
        .unwrap();
    assert_eq!(messages, 0);
}

#[tokio::test]
async fn contact_details_go_when_an_operator_has_approved() {
    let system = system().await;
    let pool = system.pool().await;
    let api = system.serve().await;
    talk(&api, "s1").await;
    leave_contact(&pool, &api, "s1").await;
    let (_, erased) = erase(&api, "s1").await;
    assert_eq!(erased["awaits_approval"], true);
    until_done(&pool, erased["request_id"].as_str().unwrap()).await;
    assert!(
        tables_with(&pool, MARKER)
            .await
            .iter()
            .all(|table| table.contains("handoff_records"))
    );

    let waiting = system.run(&["erase", "--waiting"]).await;
    let waiting = String::from_utf8(waiting.stdout).unwrap();
    assert!(waiting.contains("s1"), "{waiting}");
    let request = waiting.split_whitespace().next().unwrap();
    let said = system.run(&["erase", "--approve", request, "--text"]).await;
    assert!(said.status.success(), "{said:?}");
    assert_eq!(tables_with(&pool, MARKER).await, Vec::<String>::new());
    let waiting = system.run(&["erase", "--waiting"]).await;
    assert_eq!(waiting.stdout, b"no request waits\n");
    let again = system.run(&["erase", "--approve", request]).await;
    assert_eq!(again.status.code(), Some(1));
}

#[tokio::test]
async fn a_person_is_forgotten_by_their_address_and_gets_a_receipt_that_verifies() {
    let system = system().await;
    let pool = system.pool().await;
    let api = system.serve().await;
    for session in ["s1", "s2"] {
        talk(&api, session).await;
        leave_contact(&pool, &api, session).await;
    }
    // One who only wrote it.
    api.ask("s3", "m1", &format!("Write to {}", ADDRESS.to_uppercase()))
        .await
        .rest()
        .await;
    talk(&api, "somebody-else").await;

    let said = system
        .run(&["erase", "--email", &ADDRESS.to_uppercase()])
        .await;
    assert!(said.status.success(), "{said:?}");
    let receipt: Value = serde_json::from_slice(&said.stdout).unwrap();
    assert_eq!(
        receipt["statement"]["session_ids"],
        json!(["s1", "s2", "s3"])
    );
    let left: Vec<String> = query_scalar("select distinct session_id from messages")
        .fetch_all(&pool)
        .await
        .unwrap();
    assert_eq!(left, ["somebody-else"]);
    assert_eq!(
        tables_with(&pool, "visitor.example").await,
        Vec::<String>::new()
    );

    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("receipt.json");
    let verify = async |receipt: &Value| {
        fs::write(&file, receipt.to_string()).unwrap();
        system
            .run(&["erase", "--verify", file.to_str().unwrap()])
            .await
    };
    let genuine = verify(&receipt).await;
    assert!(genuine.status.success(), "{genuine:?}");
    let mut changed = receipt.clone();
    changed["statement"]["session_ids"] = json!(["s1"]);
    assert_eq!(verify(&changed).await.status.code(), Some(1));
}

#[tokio::test]
async fn a_lead_goes_from_slack_and_the_crm_as_well() {
    let system = system().await;
    let pool = system.pool().await;
    let api = system.serve().await;
    talk(&api, "s1").await;
    leave_contact(&pool, &api, "s1").await;
    let (slack, hubspot) = (&system.people.slack, &system.people.hubspot);
    assert_eq!((slack.messages().len(), hubspot.contacts().len()), (1, 1));
    // Slack is away at first: the job comes again.
    slack.set_trouble(Some(Trouble::Status(500)));
    let request: String = query_scalar("select ops.erase_session('s1')")
        .fetch_one(&pool)
        .await
        .unwrap();
    until(async || {
        let failed = "select exists (select 1 from queue.jobs
                                     where kind = 'privacy.erase' and jsonb_array_length(errors) > 0)";
        query_scalar::<_, bool>(failed).fetch_one(&pool).await.unwrap()
    })
    .await;
    assert_eq!(tables_with(&pool, MARKER).await, Vec::<String>::new());
    slack.set_trouble(None);
    let receipt = until_done(&pool, &request).await;
    let outside = receipt["statement"]["outside"].as_array().unwrap();
    let states: Vec<_> = outside
        .iter()
        .map(|it| (&it["system"], &it["state"]))
        .collect();
    assert_eq!(states.len(), 2, "{receipt}");
    assert!(
        states.iter().all(|(_, state)| *state == "done"),
        "{receipt}"
    );
    assert_eq!((slack.messages().len(), hubspot.contacts().len()), (0, 0));
}

/// Whether every place outside has forgotten, of so many.
#[track_caller]
fn assert_forgotten(receipt: &Value, places: usize) {
    let outside = receipt["statement"]["outside"].as_array().unwrap();
    assert_eq!(outside.len(), places, "{receipt}");
    assert!(outside.iter().all(|it| it["state"] == "done"), "{receipt}");
    assert!(!receipt.to_string().contains(ADDRESS), "{receipt}");
}

#[tokio::test]
async fn a_contact_of_an_attempt_that_failed_afterwards_is_found_by_its_address() {
    let mut system = system().await;
    system.set("HANDOFF_RETRY_BACKOFF_SECONDS", "1,1,1");
    let pool = system.pool().await;
    let api = system.serve().await;
    talk(&api, "s1").await;
    let hubspot = &system.people.hubspot;
    // The contact is looked for, and made; its note is refused for good.
    hubspot.switch().once_after(2, Trouble::Status(403));
    leave_contact(&pool, &api, "s1").await;
    let delivered = "select status from handoff_deliveries where channel = 'crm'";
    let status: String = query_scalar(delivered).fetch_one(&pool).await.unwrap();
    assert_eq!((status.as_str(), hubspot.contacts().len()), ("dead", 1));
    let request: String = query_scalar("select ops.erase_session('s1')")
        .fetch_one(&pool)
        .await
        .unwrap();
    let receipt = until_done(&pool, &request).await;
    assert_forgotten(&receipt, 2);
    assert!(hubspot.contacts().is_empty());
    assert!(hubspot.blocked().is_empty());
    assert_eq!(tables_with(&pool, ADDRESS).await, Vec::<String>::new());
}

#[tokio::test]
async fn a_contact_that_is_made_at_the_moment_of_the_erasure_is_looked_for_later() {
    let system = system().await;
    let pool = system.pool().await;
    let api = system.serve().await;
    talk(&api, "s1").await;
    let hubspot = &system.people.hubspot;
    hubspot.switch().once_after(1, Trouble::TakeAndHang);
    let details = json!({"email": ADDRESS, "name": MARKER, "consent": true});
    let contact = api.post("/chat/s1/contact").json(&details);
    assert_eq!(contact.send().await.unwrap().status(), StatusCode::ACCEPTED);
    until(async || !hubspot.contacts().is_empty()).await;
    let request: String = query_scalar("select ops.erase_session('s1')")
        .fetch_one(&pool)
        .await
        .unwrap();
    let waits = "select exists (select 1 from queue.jobs j, privacy_requests r
                                where j.kind = 'privacy.erase' and j.state = 'scheduled'
                                  and r.outside @? '$[*].reference.not_before')";
    until(async || query_scalar(waits).fetch_one(&pool).await.unwrap()).await;
    // A minute later.
    for later in [
        "update privacy_requests set outside = (
             select jsonb_agg(jsonb_set(o, '{reference, not_before}', '\"2026-01-01T00:00:00Z\"'))
             from jsonb_array_elements(outside) o)",
        "update queue.jobs set run_at = now() where kind = 'privacy.erase'",
        "select pg_notify('growth_chat', E'test\nq maintenance')",
    ] {
        sqlx::query(later).execute(&pool).await.unwrap();
    }
    let receipt = until_done(&pool, &request).await;
    assert_forgotten(&receipt, 2);
    assert!(hubspot.contacts().is_empty());
    assert_eq!(tables_with(&pool, ADDRESS).await, Vec::<String>::new());
}

#[tokio::test]
async fn an_address_is_not_erased_without_the_secret_that_it_is_recognised_by() {
    let system = TestSystem::new().await;
    let said = system.run(&["erase", "--email", ADDRESS]).await;
    assert_eq!(said.status.code(), Some(1));
    let text = String::from_utf8(said.stderr).unwrap();
    assert!(
        text.contains("PRIVACY_SECRET") && !text.contains(ADDRESS),
        "{text}"
    );
}

#[tokio::test]
async fn an_operator_erases_in_sql_and_sees_no_address() {
    let system = system().await;
    let pool = system.pool().await;
    let api = system.serve().await;
    talk(&api, "s1").await;
    leave_contact(&pool, &api, "s1").await;
    let request: String = query_scalar("select ops.erase_email($1)")
        .bind(ADDRESS)
        .fetch_one(&pool)
        .await
        .unwrap();
    until_done(&pool, &request).await;
    assert_eq!(tables_with(&pool, MARKER).await, Vec::<String>::new());
    let seen: String = query_scalar("select r::text from ops.privacy_requests r")
        .fetch_one(&pool)
        .await
        .unwrap();
    assert!(seen.contains("done") && !seen.contains('@'), "{seen}");
    assert!(
        sqlx::query("select ops.erase_session('nobody')")
            .execute(&pool)
            .await
            .is_err()
    );
}
