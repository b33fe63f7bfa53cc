//! `LLM_FALLBACK_MODEL`: a visitor does not notice that the model was not to be had.

use sandbox::{anthropic::Reply, outside::Service};

use crate::support::{
    TestSystem,
    frames::End,
    process::{assert_one_answer, resets},
};

const ANSWER: &str = "All of it.";

#[tokio::test]
async fn an_overloaded_model_is_replaced_at_once_and_both_calls_are_counted() {
    let mut system = TestSystem::new().await;
    system.set("LLM_FALLBACK_MODEL", "claude-sonnet-5-5");
    system
        .anthropic
        .push(Reply::refused(529, "overloaded_error"));
    system.anthropic.push(Reply::text(ANSWER));
    let serve = system.serve().await;
    let (frames, end) = serve.ask("s1", "m1", "Well?").await.rest().await;
    assert_eq!(end, End::Clean);
    assert_eq!(resets(&frames), 0);
    assert_one_answer(&serve.transcript("s1").await, ANSWER);

    let asked = system.received(Service::Anthropic, "Well?");
    let models: Vec<&str> = asked
        .iter()
        .map(|asked| asked.body["model"].as_str().unwrap())
        .collect();
    assert_eq!(models, ["claude-haiku-4-5", "claude-sonnet-5-5"]);
    // In one attempt: the queue has not waited in between.
    let turn: (i32, String) = sqlx::query_as("select attempt, model from turns")
        .fetch_one(&system.pool().await)
        .await
        .unwrap();
    assert_eq!(turn, (1, "claude-sonnet-5-5".to_owned()));
    let scraped = reqwest::get(serve.metrics_url()).await.unwrap();
    let metrics = scraped.text().await.unwrap();
    for outcome in ["overloaded", "ok"] {
        let line = format!("growth_chat_llm_requests_total{{outcome=\"{outcome}\"}} 1");
        assert!(metrics.contains(&line), "{line}");
    }
}
