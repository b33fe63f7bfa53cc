//! A job that a person enqueues.

use serde_json::{Value, json};
use sqlx::{Row, postgres::PgListener, query};
use tokio::time::timeout;

use super::{Desk, PATIENCE};

const DOCUMENT: &str = r#"{"document_id": 7, "content_hash": "abc"}"#;

impl Desk {
    async fn add(&self, options: &[&str]) -> Value {
        let words = [
            &["add", "knowledge.index_document", DOCUMENT, "--json"],
            options,
        ]
        .concat();
        let output = self.run_words(&words).await;
        let complaint = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{complaint}");
        assert_eq!(complaint, "");
        serde_json::from_slice(&output.stdout).unwrap()
    }
}

#[tokio::test]
async fn a_job_is_enqueued_by_hand_once_and_the_workers_are_told() {
    let desk = Desk::new().await;
    let mut listener = PgListener::connect(desk.database.url()).await.unwrap();
    listener.listen("growth_chat").await.unwrap();
    let output = desk
        .run_words(&["add", "knowledge.index_document", DOCUMENT])
        .await;
    let said = String::from_utf8(output.stdout).unwrap();
    let id: i64 = said
        .strip_prefix("job ")
        .and_then(|rest| rest.strip_suffix(" is enqueued in knowledge\n"))
        .unwrap_or_else(|| panic!("{said}"))
        .parse()
        .unwrap();
    assert_eq!(desk.state(id).await.unwrap(), "ready");
    let told = timeout(PATIENCE, listener.recv()).await.unwrap().unwrap();
    let told: Vec<&str> = told.payload().lines().skip(1).collect();
    assert_eq!(told, ["q knowledge"]);

    assert_eq!(
        desk.add(&[]).await,
        json!({ "id": id, "new": false, "queue": "knowledge", "paused": false })
    );
    let output = desk
        .run_words(&["add", "knowledge.index_document", DOCUMENT])
        .await;
    assert_eq!(
        String::from_utf8(output.stdout).unwrap(),
        format!("nothing is enqueued: job {id} has the same unique key\n")
    );
}

#[tokio::test]
async fn a_job_can_be_enqueued_for_later_and_with_a_priority() {
    let desk = Desk::new().await;
    let added = desk.add(&["--in", "2h", "--priority", "-3"]).await;
    assert_eq!(added["new"], true);
    let job = query(
        "select state, priority, run_at - now() between interval '119 minutes' and interval '2 hours' as soon
         from queue.jobs where id = $1",
    )
    .bind(added["id"].as_i64().unwrap())
    .fetch_one(&desk.pool)
    .await
    .unwrap();
    assert_eq!(job.get::<String, _>("state"), "scheduled");
    assert_eq!(job.get::<i16, _>("priority"), -3);
    assert!(job.get::<bool, _>("soon"));
    assert_eq!(
        desk.ids("list --state scheduled").await,
        [added["id"].as_i64().unwrap()]
    );
}

#[tokio::test]
async fn a_paused_queue_accepts_a_job_and_the_operator_is_told_that_it_waits() {
    let desk = Desk::new().await;
    desk.says("pause knowledge").await;
    let output = desk
        .run_words(&["add", "knowledge.index_document", DOCUMENT])
        .await;
    assert!(output.status.success());
    assert_eq!(
        String::from_utf8(output.stderr).unwrap(),
        "growth-chat: the queue knowledge is paused: the job waits until it is resumed\n"
    );
    assert_eq!(desk.ids("list --queue knowledge").await.len(), 1);
}
