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
            "privacy warn",
            "database pass",
            "pgvector pass",
            "schema pass",
            "notifications pass",
            "knowledge warn",
            "calibration warn",
            "model pass",
            "embeddings pass",
            "bucket warn",
            "pg_dump pass",
            "verify pass",
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
            "privacy warn",
            "database pass",
            "pgvector pass",
            "schema pass",
            "notifications pass",
            "knowledge skip",
            "calibration skip",
            "model pass",
            "embeddings pass",
            "bucket skip",
            "pg_dump fail",
            "verify skip",
            "slack pass",
            "crm pass",
            "mail pass",
            "traces skip",
        ]
    );
    let told = String::from_utf8(output.stdout).unwrap();
    assert!(
        ["WIDGET_TOKENS", "CHUNK_SIZE", "TIGRIS_BUCKET_NAME"]
            .iter()
            .all(|name| told.contains(name)),
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
    for line in ["schema fail", "notifications pass", "knowledge skip"] {
        assert!(statuses.contains(&line.to_owned()), "{statuses:?}");
    }
}

#[tokio::test]
async fn a_pooler_that_swallows_notifications_is_told() {
    let mut system = TestSystem::new().await;
    let s3 = S3::start(None, 0).await.unwrap();
    system.use_bucket(&s3);
    pooler::put_before(&mut system).await;
    let output = system.run(&["check", "--json"]).await;
    assert_eq!(output.status.code(), Some(1));
    let statuses = statuses(&output);
    assert_eq!(
        statuses[..7],
        [
            "configuration pass",
            "edge warn",
            "privacy warn",
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
    let failed: Vec<_> = statuses
        .iter()
        .filter(|line| line.ends_with(" fail"))
        .collect();
    assert_eq!(failed, ["configuration fail", "database fail"]);
    for line in &statuses[2..] {
        assert!(line.ends_with(" skip") || line == "database fail", "{line}");
    }
}

#[tokio::test]
async fn what_a_database_refuses_is_told_once() {
    let mut system = TestSystem::new().await;
    let mut elsewhere = reqwest::Url::parse(&system.database_url()).unwrap();
    elsewhere.set_path("nowhere");
    system.set("CHECKPOINT_DB_URL", elsewhere.as_str());
    for words in [&["check"][..], &["search", "what"]] {
        let output = system.run(words).await;
        assert_eq!(output.status.code(), Some(1), "{words:?}");
        let said = [output.stdout, output.stderr].concat();
        let said = String::from_utf8(said).unwrap();
        let once = said.matches("\"nowhere\" does not exist").count() == 1;
        assert!(once && !said.contains("at line"), "{said}");
    }
}

#[tokio::test]
async fn keys_that_no_provider_takes_and_addresses_that_lead_elsewhere_are_told() {
    let mut system = TestSystem::new().await;
    let s3 = S3::start(None, 0).await.unwrap();
    system.use_bucket(&s3);
    // The bucket answers 403 or 404 to whatever it does not know.
    let elsewhere = s3.url();
    for name in [
        "ANTHROPIC_BASE_URL",
        "OPENAI_EU_ENDPOINT",
        "HUBSPOT_BASE_URL",
    ] {
        system.set(name, &elsewhere);
    }
    system.set("PRIVACY_SECRET", "a-random-text-that-is-long-enough-for-it");
    let output = system.run(&["check", "--json"]).await;
    assert_eq!(output.status.code(), Some(1));
    let statuses = statuses(&output);
    for line in ["model fail", "embeddings fail", "crm fail", "privacy pass"] {
        assert!(statuses.contains(&line.to_owned()), "{statuses:?}");
    }
}
