//! Processes that run jobs.

use reqwest::StatusCode;

use super::process::{complaint, run};
use crate::support::TestSystem;

#[tokio::test]
async fn a_worker_serves_health_and_metrics_and_ends_well() {
    let system = TestSystem::new().await;
    let mut worker = system.worker().await;
    let metrics = worker.metrics_address();
    for path in ["/health", "/metrics"] {
        let url = format!("http://{metrics}{path}");
        let response = system.client.get(url).send().await.unwrap();
        assert_eq!(response.status(), StatusCode::OK, "{path}");
    }
    assert!(worker.serves_no_api());
    worker.stop().await;
}

#[tokio::test]
async fn serve_is_api_and_worker_and_misses_what_both_miss() {
    let system = TestSystem::new().await;
    let mut serve = system.serve().await;
    let health = serve.get("/health").send().await.unwrap();
    assert_eq!(health.status(), StatusCode::OK);
    serve.process.stop().await;

    let named = |said: String| -> Vec<String> {
        let lines = said.lines().skip(1);
        lines
            .map(|line| line.trim().split(':').next().unwrap().to_owned())
            .collect()
    };
    let api = named(complaint(&run("api", &[]).await));
    let worker = named(complaint(&run("worker", &[]).await));
    let both = named(complaint(&run("serve", &[]).await));
    for name in [
        "CHECKPOINT_DB_URL",
        "OPENAI_API_KEY",
        "RAG_RELEVANCE_THRESHOLD",
    ] {
        assert!(worker.contains(&name.to_owned()), "{worker:?}");
    }
    assert!(!worker.contains(&"WIDGET_TOKENS".to_owned()), "{worker:?}");
    for name in api.iter().chain(&worker) {
        assert!(both.contains(name), "{name} is not in {both:?}");
    }
}

#[tokio::test]
async fn documents_are_indexed_without_a_worker() {
    let system = TestSystem::new().await;
    system
        .index(&[("a.md", "# A\n\nOne."), ("b/c.txt", "Two.")])
        .await;
    let pool = system.pool().await;
    let chunks: i64 = sqlx::query_scalar("select count(*) from knowledge_chunks")
        .fetch_one(&pool)
        .await
        .unwrap();
    assert_eq!(chunks, 2);
}

#[tokio::test]
async fn what_is_not_there_fails_the_index_and_needs_no_model() {
    let system = TestSystem::new().await;
    let output = run(
        "index /nothing/is/here",
        &[
            ("CHECKPOINT_DB_URL", &system.database_url()),
            ("OPENAI_API_KEY", "test"),
            ("OPENAI_EU_ENDPOINT", &system.openai.url()),
            ("RAG_RELEVANCE_THRESHOLD", "0.5"),
        ],
    )
    .await;
    assert_eq!(output.status.code(), Some(1), "{}", complaint(&output));
    let told = complaint(&output) + &String::from_utf8(output.stdout).unwrap();
    assert!(told.contains("/nothing/is/here"), "{told}");
}
