//! `growth-chat check`.

use sandbox::s3::S3;
use serde_json::Value;

use super::{pooler, process::run};
use crate::support::TestSystem;

/// `name status` of every line.
fn statuses(output: &std::process::Output) -> Vec<String> {
    let lines: Value = serde_json::from_slice(&output.stdout).unwrap();
    let lines = lines.as_array().unwrap().iter();
    lines
        .map(|line| {
            let text = |key: &str| line[key].as_str().unwrap().to_owned();
            format!("{} {}", text("name"), text("status"))
        })
        .collect()
}

#[tokio::test]
async fn a_system_as_it_should_be_passes_and_says_what_is_not_done_yet() {
    let mut system = TestSystem::new().await;
    let s3 = S3::start(None, 0).await.unwrap();
    system.use_bucket(&s3);
    let output = system.run(&["check", "--json"]).await;
    assert!(output.status.success());
    assert_eq!(
        statuses(&output),
        [
            "configuration pass",
            "edge warn",
            "database pass",
            "pgvector pass",
            "schema pass",
            "notifications pass",
            "knowledge warn",
            "calibration warn",
            "bucket warn",
            "pg_dump pass",
            "slack pass",
            "crm pass",
            "mail pass",
            "traces skip",
        ]
    );
    let output = system.run(&["check"]).await;
    let told = String::from_utf8(output.stdout).unwrap();
    assert!(output.status.success(), "{told}");
    assert!(told.contains("pass  database        PostgreSQL "), "{told}");
}

#[tokio::test]
async fn every_wrong_variable_is_told_at_once_and_the_rest_is_checked_all_the_same() {
    let mut system = TestSystem::new().await;
    system.set("WIDGET_TOKENS", "");
    system.set("CHUNK_SIZE", "hunter2");
    let output = system.run(&["check", "--json"]).await;
    assert_eq!(output.status.code(), Some(1));
    assert_eq!(
        statuses(&output),
        [
            "configuration fail",
            "edge warn",
            "database pass",
            "pgvector pass",
            "schema pass",
            "notifications pass",
            "knowledge skip",
            "calibration skip",
            "bucket fail",
            "pg_dump fail",
            "slack pass",
            "crm pass",
            "mail pass",
            "traces skip",
        ]
    );
    let told = String::from_utf8(output.stdout).unwrap();
    assert!(
        told.contains("WIDGET_TOKENS") && told.contains("CHUNK_SIZE"),
        "{told}"
    );
    assert!(!told.contains("hunter2"), "{told}");
}

#[tokio::test]
async fn a_schema_that_is_not_there_is_one_failure() {
    let system = TestSystem::new().await;
    sqlx::query("drop table _sqlx_migrations")
        .execute(&system.pool().await)
        .await
        .unwrap();
    let output = system.run(&["check", "--json"]).await;
    assert_eq!(output.status.code(), Some(1));
    let statuses = statuses(&output);
    assert_eq!(statuses[4], "schema fail");
    assert_eq!(statuses[5], "notifications pass");
    assert_eq!(statuses[6], "knowledge skip");
}

#[tokio::test]
async fn a_pooler_that_swallows_notifications_is_told() {
    let mut system = TestSystem::new().await;
    pooler::put_before(&mut system).await;
    let output = system.run(&["check", "--json"]).await;
    assert_eq!(output.status.code(), Some(1));
    let statuses = statuses(&output);
    assert_eq!(
        statuses[..6],
        [
            "configuration pass",
            "edge warn",
            "database pass",
            "pgvector pass",
            "schema pass",
            "notifications fail",
        ]
    );
    let told = String::from_utf8(output.stdout).unwrap();
    assert!(told.contains("give the direct one"), "{told}");
}

#[tokio::test]
async fn a_database_that_is_not_there_is_one_failure() {
    let output = run(
        "check --json --role api",
        &[("CHECKPOINT_DB_URL", "postgres://nobody@127.0.0.1:9/x")],
    )
    .await;
    assert_eq!(output.status.code(), Some(1));
    let statuses = statuses(&output);
    assert_eq!(statuses[2], "database fail");
    // The bucket has nothing to do with it.
    for line in statuses[3..]
        .iter()
        .filter(|line| !line.starts_with("bucket "))
    {
        assert!(line.ends_with(" skip"), "{line}");
    }
}
