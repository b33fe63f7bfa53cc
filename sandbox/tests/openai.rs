//! The `OpenAI` stand-in over real HTTP.
#![expect(clippy::unwrap_used, reason = "a helper that fails fails its test")]

use std::time::Duration;

use base64::{Engine, engine::general_purpose::STANDARD};
use sandbox::{
    openai::{Failure, OpenAi},
    outside::OutsideWorld,
};
use serde_json::{Value, json};

struct Setting {
    openai: OpenAi,
    client: reqwest::Client,
}

impl Setting {
    async fn new() -> Self {
        let _ = rustls::crypto::ring::default_provider().install_default();
        Self {
            openai: OpenAi::start(OutsideWorld::default(), 0).await.unwrap(),
            client: reqwest::Client::new(),
        }
    }

    async fn post(&self, body: &Value) -> (u16, Value) {
        let response = self
            .client
            .post(format!("{}/embeddings", self.openai.url()))
            .bearer_auth("key")
            .json(body)
            .send()
            .await
            .unwrap();
        (response.status().as_u16(), response.json().await.unwrap())
    }
}

fn of(input: &Value) -> Value {
    json!({"model": "text-embedding-3-small", "input": input})
}

#[tokio::test]
async fn every_input_gets_its_vector_in_order() {
    let setting = Setting::new().await;
    let (status, answer) = setting
        .post(&of(&json!(["one apple", "another banana"])))
        .await;
    assert_eq!(status, 200);
    let data = answer["data"].as_array().unwrap();
    assert_eq!(
        (data[0]["index"].as_u64(), data[1]["index"].as_u64()),
        (Some(0), Some(1))
    );
    assert_eq!(data[0]["embedding"].as_array().unwrap().len(), 1536);
    assert_ne!(data[0]["embedding"], data[1]["embedding"]);
    assert_eq!(answer["usage"]["total_tokens"], 7);
    let (_, alone) = setting.post(&of(&json!("one apple"))).await;
    assert_eq!(alone["data"][0]["embedding"], data[0]["embedding"]);
    assert_eq!(setting.openai.calls(), 2);
}

#[tokio::test]
#[expect(
    clippy::cast_possible_truncation,
    reason = "the wire has single precision"
)]
async fn base64_holds_the_same_numbers() {
    let setting = Setting::new().await;
    let mut body = of(&json!("one apple"));
    body["dimensions"] = json!(256);
    let (_, floats) = setting.post(&body).await;
    body["encoding_format"] = json!("base64");
    let (_, packed) = setting.post(&body).await;
    let bytes = STANDARD
        .decode(packed["data"][0]["embedding"].as_str().unwrap())
        .unwrap();
    let unpacked: Vec<f32> = bytes
        .as_chunks::<4>()
        .0
        .iter()
        .map(|bytes| f32::from_le_bytes(*bytes))
        .collect();
    let plain: Vec<f32> = floats["data"][0]["embedding"]
        .as_array()
        .unwrap()
        .iter()
        .map(|value| value.as_f64().unwrap() as f32)
        .collect();
    assert_eq!(plain.len(), 256);
    assert_eq!(unpacked, plain);
}

#[tokio::test]
async fn the_real_limits_are_kept() {
    let setting = Setting::new().await;
    let many = json!(vec!["x"; 2049]);
    let long = json!("word ".repeat(8000));
    let much = json!(vec!["word ".repeat(6000); 41]);
    for (input, complaint) in [
        (json!([]), "empty"),
        (json!(""), "empty string"),
        (json!(["fine", ""]), "empty string"),
        (many, "2048"),
        (long, "maximum context length"),
        (much, "max 300000 tokens per request"),
        (json!(7), "invalid"),
    ] {
        let (status, answer) = setting.post(&of(&input)).await;
        assert_eq!(status, 400);
        assert_eq!(answer["error"]["type"], "invalid_request_error");
        let message = answer["error"]["message"].as_str().unwrap();
        assert!(message.contains(complaint), "{message}");
    }
    let (status, _) = setting.post(&of(&json!(vec!["x"; 2048]))).await;
    assert_eq!(status, 200);
}

#[tokio::test]
async fn a_model_or_a_size_that_does_not_exist_is_refused() {
    let setting = Setting::new().await;
    let (status, answer) = setting.post(&json!({"model": "other", "input": "x"})).await;
    assert_eq!(
        (status, answer["error"]["code"].as_str()),
        (404, Some("model_not_found"))
    );
    let mut body = of(&json!("x"));
    body["dimensions"] = json!(1537);
    assert_eq!(setting.post(&body).await.0, 400);
    body["model"] = json!("text-embedding-ada-002");
    body["dimensions"] = json!(1536);
    assert_eq!(setting.post(&body).await.0, 400);
}

#[tokio::test]
async fn a_failure_on_demand_comes_once() {
    let setting = Setting::new().await;
    setting.openai.fail_next(Failure {
        status: 429,
        code: "rate_limit_exceeded",
        retry_after: Some(2),
        after: Duration::ZERO,
    });
    let (status, answer) = setting.post(&of(&json!("x"))).await;
    assert_eq!(
        (status, answer["error"]["code"].as_str()),
        (429, Some("rate_limit_exceeded"))
    );
    assert_eq!(setting.post(&of(&json!("x"))).await.0, 200);
}

#[tokio::test]
async fn a_request_without_a_key_is_refused() {
    let setting = Setting::new().await;
    let url = format!("{}/embeddings", setting.openai.url());
    let response = setting
        .client
        .post(url)
        .json(&of(&json!("x")))
        .send()
        .await
        .unwrap();
    assert_eq!(response.status(), 401);
}

#[tokio::test]
async fn requests_beyond_those_that_may_be_answered_are_held() {
    let setting = Setting::new().await;
    setting.openai.answer_only(Some(1));
    assert_eq!(setting.post(&of(&json!("one"))).await.0, 200);
    let body = of(&json!("two"));
    let held = setting.post(&body);
    tokio::pin!(held);
    let early = tokio::time::timeout(Duration::from_millis(100), &mut held).await;
    assert!(early.is_err());
    assert_eq!(setting.openai.calls(), 2);
    setting.openai.answer_only(None);
    assert_eq!(held.await.0, 200);
}
