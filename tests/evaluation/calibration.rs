//! A calibration, and when it stops to hold: told by `/ready`, by `check` and by a worker's log.

use std::{fs, path::Path};

use reqwest::StatusCode;
use serde_json::{Value, json};

use super::{command::shop, measured, told};
use crate::support::{ApiProcess, TestSystem};

/// What `/ready` says of the knowledge base.
async fn knowledge(api: &ApiProcess) -> Value {
    let response = api.get("/ready").send().await.unwrap();
    assert_eq!(response.status(), StatusCode::OK);
    let body: Value = response.json().await.unwrap();
    body["knowledge"].clone()
}

/// The line of a probe: its status and what it says.
async fn checked(system: &TestSystem, name: &str) -> (String, String) {
    let output = system.run(&["check", "--json"]).await;
    // Whatever else is missing here, such as a bucket.
    let lines: Value =
        serde_json::from_slice(&output.stdout).unwrap_or_else(|_| panic!("{}", told(&output)));
    let mut lines = lines.as_array().unwrap().iter();
    let line = lines.find(|line| line["name"] == name).unwrap();
    let text = |key: &str| line[key].as_str().unwrap().to_owned();
    (text("status"), text("says"))
}

/// Measures, saves, and sets the proposed threshold.
async fn calibrate(system: &mut TestSystem, questions: &Path) -> f64 {
    let report = measured(system, questions, &["--save"]).await;
    assert_eq!(report["saved"], true);
    let threshold = report["proposal"]["threshold"].as_f64().unwrap();
    system.set("RAG_RELEVANCE_THRESHOLD", &format!("{threshold:.3}"));
    threshold
}

/// What a worker says that runs with another threshold than was measured.
const UNCALIBRATED: &str = "RAG_RELEVANCE_THRESHOLD is not calibrated";

#[tokio::test]
async fn a_calibration_holds_until_the_threshold_the_model_or_the_documents_change() {
    let (mut system, place) = shop().await;
    let questions = place.path().join("q.toml");
    let api = system.api().await;
    assert_eq!(
        knowledge(&api).await,
        json!({"calibrated": false, "why": "no_worker"})
    );
    assert_eq!(checked(&system, "calibration").await.0, "warn");

    let mut worker = system.worker().await;
    let why = |why: &str| json!({"calibrated": false, "why": why});
    becomes(&api, &why("never_calibrated")).await;
    system.until_logged(UNCALIBRATED, 1).await;
    worker.stop().await;

    let threshold = calibrate(&mut system, &questions).await;
    // What runs is the old threshold still, of which the last worker told.
    becomes(&api, &why("other_threshold")).await;
    let mut worker = system.worker().await;
    becomes(&api, &json!({"calibrated": true})).await;
    assert_eq!(system.count_logged(UNCALIBRATED), 1);
    worker.stop().await;
    assert_eq!(checked(&system, "calibration").await.0, "pass");

    system.set(
        "RAG_RELEVANCE_THRESHOLD",
        &format!("{:.3}", threshold + 0.01),
    );
    let (status, says) = checked(&system, "calibration").await;
    assert_eq!(status, "warn");
    assert!(
        says.contains(&format!("{threshold:.3} was measured")),
        "{says}"
    );
    system.set("RAG_RELEVANCE_THRESHOLD", &format!("{threshold:.3}"));

    let site = place.path().join("site");
    fs::write(
        site.join("boats.md"),
        "# Boats\n\nA canoe is rented by the hour.\n",
    )
    .unwrap();
    let indexed = system.run(&["index", site.to_str().unwrap()]).await;
    assert!(indexed.status.success(), "{}", told(&indexed));
    becomes(&api, &why("other_corpus")).await;
    calibrate(&mut system, &questions).await;

    system.set("OPENAI_EMBEDDING_MODEL", "text-embedding-3-large");
    let (status, says) = checked(&system, "calibration").await;
    assert_eq!(status, "warn");
    assert!(
        says.contains("measured with text-embedding-3-small"),
        "{says}"
    );
}

/// Waits until `/ready` says so: a worker publishes a moment after it listens.
async fn becomes(api: &ApiProcess, expected: &Value) {
    let reached = async {
        while knowledge(api).await != *expected {
            tokio::time::sleep(std::time::Duration::from_millis(20)).await;
        }
    };
    let limit = std::time::Duration::from_secs(30);
    if tokio::time::timeout(limit, reached).await.is_err() {
        assert_eq!(knowledge(api).await, *expected);
    }
}

#[tokio::test]
async fn without_questions_that_nothing_answers_no_threshold_is_saved() {
    let (system, place) = shop().await;
    let file = place.path().join("q.toml");
    fs::write(
        &file,
        "[[questions]]\nquestion = \"tent\"\nsources = [\"tents.md\"]\n",
    )
    .unwrap();
    let output = system
        .run(&["eval", file.to_str().unwrap(), "--save"])
        .await;
    assert_eq!(output.status.code(), Some(1));
    let said = told(&output);
    assert!(said.contains("there is no threshold to save"), "{said}");
    let saved: i64 = sqlx::query_scalar("select count(*) from knowledge_calibrations")
        .fetch_one(&system.pool().await)
        .await
        .unwrap();
    assert_eq!(saved, 0);
}
