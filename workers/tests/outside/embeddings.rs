use std::time::Duration;

use serde_json::{Value, json};
use workers::{
    clients::{RetryClass, embeddings::Embedder},
    config::EmbeddingsConfig,
};

use crate::support::{Provider, Received, http, plain};

fn embedder(base_url: &str, model: &str) -> Embedder {
    let config = EmbeddingsConfig {
        api_key: "sk-secret".into(),
        base_url: format!("{base_url}/v1"),
        model: model.into(),
        dimensions: 2,
    };
    Embedder::new(config, http())
}

/// Embeds a text as its length and its number in the request, and answers in reverse order.
fn backwards(received: &Received) -> Value {
    let inputs = received.body["input"].as_array().unwrap();
    let mut data: Vec<Value> = inputs
        .iter()
        .enumerate()
        .map(|(index, input)| {
            json!({"object": "embedding", "index": index,
                   "embedding": [input.as_str().unwrap().len(), index]})
        })
        .collect();
    data.reverse();
    json!({"object": "list", "data": data, "usage": {"prompt_tokens": 3, "total_tokens": 3}})
}

async fn provider() -> Provider {
    Provider::start(|received| plain(200, &[], backwards(received).to_string())).await
}

#[tokio::test]
async fn texts_are_embedded_in_batches_and_come_back_in_order() {
    let provider = provider().await;
    let texts: Vec<String> = (1_u16..=300)
        .map(|length| "x".repeat(length.into()))
        .collect();
    let embedded = embedder(&provider.url(), "text-embedding-3-small")
        .embed(&texts)
        .await
        .unwrap();
    let lengths: Vec<f32> = embedded.vectors.iter().map(|vector| vector[0]).collect();
    assert_eq!(lengths, (1_u16..=300).map(f32::from).collect::<Vec<_>>());
    let received = provider.received();
    assert_eq!(received.len(), 2);
    assert_eq!(embedded.tokens, 6);
    assert_eq!(received[0].path, "/v1/embeddings");
    assert_eq!(received[0].headers["authorization"], "Bearer sk-secret");
    assert_eq!(received[0].body["dimensions"], 2);
}

#[tokio::test]
async fn no_texts_need_no_call() {
    let provider = provider().await;
    let embedded = embedder(&provider.url(), "text-embedding-3-small")
        .embed::<&str>(&[])
        .await;
    assert_eq!(embedded.unwrap().vectors, Vec::<Vec<f32>>::new());
    assert!(provider.received().is_empty());
}

#[tokio::test]
async fn older_models_are_not_asked_for_a_length() {
    let provider = provider().await;
    embedder(&provider.url(), "text-embedding-ada-002")
        .embed(&["x"])
        .await
        .unwrap();
    assert_eq!(provider.received()[0].body.get("dimensions"), None);
}

#[tokio::test]
async fn what_the_provider_would_refuse_is_not_sent() {
    let provider = provider().await;
    let embedder = embedder(&provider.url(), "text-embedding-3-small");
    let blank = embedder.embed(&["fine", " \n"]).await.unwrap_err();
    assert_eq!(
        (blank.code(), blank.retry()),
        ("invalid_request", RetryClass::Never)
    );
    let long = "word ".repeat(9_000);
    assert_eq!(
        embedder.embed(&[long]).await.unwrap_err().code(),
        "too_large"
    );
    // Many bytes and few tokens.
    embedder.embed(&["word ".repeat(4_000)]).await.unwrap();
    assert_eq!(provider.received().len(), 1);
}

#[tokio::test]
async fn an_answer_that_is_not_embeddings_is_malformed() {
    let too_short = json!({"data": [{"index": 0, "embedding": [1.0]}]}).to_string();
    for body in [too_short, "{}".into(), "<html>".into()] {
        let provider =
            Provider::start(move |_| plain(200, &[("x-request-id", "req_9")], body.clone())).await;
        let error = embedder(&provider.url(), "text-embedding-3-small")
            .embed(&["x"])
            .await
            .unwrap_err();
        assert_eq!(
            (error.code(), error.retry()),
            ("malformed_response", RetryClass::LATER)
        );
        assert_eq!(error.request_id(), Some("req_9"));
    }
}

#[tokio::test]
async fn a_rate_limit_says_when_to_come_back_and_a_used_up_quota_never_does() {
    let provider = Provider::start(|_| {
        let body = json!({"error": {"type": "requests", "code": "rate_limit_exceeded"}});
        plain(429, &[("retry-after-ms", "250")], body.to_string())
    })
    .await;
    let limited = embedder(&provider.url(), "text-embedding-3-small")
        .embed(&["x"])
        .await
        .unwrap_err();
    let after = Some(Duration::from_millis(250));
    assert_eq!(
        (limited.code(), limited.retry()),
        ("rate_limited", RetryClass::Retry { after })
    );

    let provider = Provider::start(|_| {
        let body = json!({"error": {"type": "insufficient_quota", "code": "insufficient_quota"}});
        plain(429, &[], body.to_string())
    })
    .await;
    let spent = embedder(&provider.url(), "text-embedding-3-small")
        .embed(&["x"])
        .await
        .unwrap_err();
    assert_eq!(
        (spent.code(), spent.retry()),
        ("spend_limit", RetryClass::Never)
    );
}
