//! Whoever is forgotten is not remembered by what forgot them: not by a receipt, a job or a log, whatever
//! refuses. A copy of what is known goes to nobody but whoever asked for it.

use reqwest::StatusCode;
use sandbox::{outside::Service, s3::S3, switch::Trouble};
use serde_json::{Value, json};
use sqlx::{PgPool, query_scalar};
use tokio::time::timeout;

use super::marker::tables_with;
use crate::support::{
    ApiProcess, PATIENCE, TestSystem,
    discretion::{Discretion, SECRETS, VISITORS},
    output::said,
};

/// The address of whoever is forgotten.
fn address() -> String {
    format!("{VISITORS}@visitor.example")
}

async fn marked() -> (TestSystem, Discretion) {
    let mut system = TestSystem::new().await;
    system.set("PRIVACY_SECRET", &"a".repeat(32));
    let discretion = Discretion::seed(&mut system).await;
    (system, discretion)
}

/// A conversation, and a lead that has reached people.
async fn known(api: &ApiProcess, pool: &PgPool, session: &str) {
    let question = format!("What does a sprint for {VISITORS} cost?");
    api.ask(session, "m1", &question).await.rest().await;
    let details =
        json!({"email": address(), "name": VISITORS, "message": VISITORS, "consent": true});
    let path = format!("/chat/{session}/contact");
    let left = api.post(&path).json(&details).send().await.unwrap();
    assert_eq!(left.status(), StatusCode::ACCEPTED);
    let quiet = "select not exists (select from queue.jobs where queue = 'handoff' and kind <> 'handoff.remind')";
    until(pool, quiet).await;
}

async fn until(pool: &PgPool, condition: &'static str) {
    let holds = async {
        while !query_scalar::<_, bool>(condition)
            .fetch_one(pool)
            .await
            .unwrap()
        {
            tokio::time::sleep(std::time::Duration::from_millis(10)).await;
        }
    };
    timeout(PATIENCE, holds)
        .await
        .unwrap_or_else(|_| panic!("it did not come to this: {condition}"));
}

/// Slack and the CRM refuse to forget, with this; `None`: they do as they are told.
fn refuse(system: &TestSystem, trouble: Option<Trouble>) {
    system.people.slack.set_trouble(trouble.clone());
    system.people.hubspot.switch().set(trouble);
}

#[tokio::test]
async fn a_receipt_and_the_command_that_prints_it_hold_nothing_of_who_was_forgotten() {
    let (mut system, discretion) = marked().await;
    let s3 = S3::start(None, 0).await.unwrap();
    system.use_bucket(&s3);
    let pool = system.pool().await;
    let api = system.serve().await;
    known(&api, &pool, "s1").await;
    let receipt = system.run(&["erase", "--email", &address()]).await;
    assert!(receipt.status.success(), "{}", said(&receipt));
    discretion.look_at_output(&receipt);
    let id: Value = serde_json::from_slice(&receipt.stdout).unwrap();
    let id = id["statement"]["request_id"].as_str().unwrap();
    let again = system.run(&["erase", "--receipt", id, "--text"]).await;
    assert!(again.status.success(), "{}", said(&again));
    discretion.look_at_output(&again);
    // Nor does the ledger in the bucket.
    let entries: Vec<String> = s3
        .keys()
        .into_iter()
        .filter(|key| key.starts_with("erasures/"))
        .collect();
    assert!(!entries.is_empty());
    for entry in &entries {
        let entry = std::fs::read_to_string(s3.path(entry)).unwrap();
        discretion.look_at("the ledger", &entry);
    }
    discretion.look_through(&system, &[&api.process]).await;
    assert_eq!(tables_with(&pool, VISITORS).await, Vec::<String>::new());
}

#[tokio::test]
async fn services_that_refuse_to_forget_and_quote_make_nobody_tell() {
    let (system, discretion) = marked().await;
    let pool = system.pool().await;
    let api = system.serve().await;
    for (session, status) in [("s1", 400), ("s2", 403), ("s3", 200)] {
        known(&api, &pool, session).await;
        refuse(&system, Some(Trouble::Quote(status)));
        let receipt = system
            .run(&["erase", "--session", session, "--wait", "0"])
            .await;
        discretion.look_at_output(&receipt);
        let noted =
            "select exists (select from queue.jobs where kind = 'privacy.erase' and errors <> '[]')
                     or not exists (select from queue.jobs where kind = 'privacy.erase')";
        until(&pool, noted).await;
        discretion.look_through(&system, &[&api.process]).await;
        refuse(&system, None);
        let due = "update queue.jobs set run_at = clock_timestamp() where kind = 'privacy.erase'";
        sqlx::query(due).execute(&pool).await.unwrap();
        sqlx::query("select pg_notify('growth_chat', E'test\\nq maintenance')")
            .execute(&pool)
            .await
            .unwrap();
        let done = "select bool_and(status = 'done') from privacy_requests";
        until(&pool, done).await;
    }
    let receipts: Vec<String> = query_scalar("select receipt::text from privacy_requests")
        .fetch_all(&pool)
        .await
        .unwrap();
    assert_eq!(receipts.len(), 3);
    assert!(
        receipts.iter().any(|receipt| receipt.contains("remains")),
        "{receipts:?}"
    );
    discretion.look_through(&system, &[&api.process]).await;
    // What was looked for was there to be found.
    for service in [Service::Slack, Service::HubSpot] {
        let asked = system.world.received_by(service);
        assert!(
            asked.iter().any(|it| it.answer.contains(SECRETS)),
            "{service:?}"
        );
    }
}

#[tokio::test]
async fn what_an_operator_mistypes_is_not_repeated() {
    let (system, discretion) = marked().await;
    let pool = system.pool().await;
    let file = tempfile::NamedTempFile::new().unwrap();
    let receipt =
        json!({"text": VISITORS, "statement": {"format": VISITORS}, "signature": SECRETS});
    std::fs::write(file.path(), receipt.to_string()).unwrap();
    let receipt = file.path().to_str().unwrap();
    let no_address = format!("{VISITORS} at visitor.example");
    for (words, why) in [
        (
            ["erase", "--email", &no_address],
            "that is no e-mail address",
        ),
        (
            ["export", "--email", &no_address],
            "that is no e-mail address",
        ),
        (["export", "--email", &address()], "nothing is known"),
        (["erase", "--verify", receipt], "receipt"),
    ] {
        let output = system.run(&words).await;
        assert_eq!(output.status.code(), Some(1), "{words:?}");
        assert!(said(&output).contains(why), "{words:?}: {}", said(&output));
        discretion.look_at_output(&output);
    }
    // Postgres says in the details of an error which row it refuses: all of it.
    let refuse = "alter table privacy_requests add constraint nobody check (email is null)";
    sqlx::query(refuse).execute(&pool).await.unwrap();
    let output = system.run(&["erase", "--email", &address()]).await;
    assert_eq!(output.status.code(), Some(1), "{}", said(&output));
    discretion.look_at_output(&output);
    discretion.look_through(&system, &[]).await;
}

#[tokio::test]
async fn a_copy_goes_to_whoever_asked_and_into_no_log() {
    let (system, discretion) = marked().await;
    let pool = system.pool().await;
    let api = system.serve().await;
    known(&api, &pool, "s1").await;
    let copy = api.get("/chat/s1/export").send().await.unwrap();
    assert!(copy.text().await.unwrap().contains(VISITORS));
    for words in [
        &["export", "--email", &address()][..],
        &["export", "--session", "s1", "--html"],
    ] {
        let output = system.run(words).await;
        assert!(output.status.success(), "{words:?}: {}", said(&output));
        let copy = String::from_utf8(output.stdout).unwrap();
        assert!(copy.contains(VISITORS), "{words:?}");
        assert!(!copy.contains(SECRETS), "{words:?}");
        discretion.look_at("what is logged", &String::from_utf8_lossy(&output.stderr));
    }
    discretion.look_through(&system, &[&api.process]).await;
}

#[tokio::test]
async fn a_password_that_stands_where_nobody_reads_it_in_the_databases_url_is_not_repeated() {
    let (mut system, discretion) = marked().await;
    let mut url = reqwest::Url::parse(&system.database_url()).unwrap();
    // The one is a slip, the other one libpq's.
    for name in ["passwd", "sslpassword"] {
        url.query_pairs_mut().append_pair(name, SECRETS);
    }
    system.set("CHECKPOINT_DB_URL", url.as_str());
    let output = system.run(&["jobs", "list"]).await;
    assert!(output.status.success(), "{}", said(&output));
    discretion.look_at_output(&output);
    let api = system.serve().await;
    api.ask("s1", "m1", "Hello?").await.rest().await;
    discretion.look_through(&system, &[&api.process]).await;
}
