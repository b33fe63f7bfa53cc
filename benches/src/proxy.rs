//! The same answer without any durability: a process that passes the model's stream on as it comes.
//! What a turn costs beyond this is what the promise costs.

use std::{net::SocketAddr, time::Instant};

use anyhow::{Context, ensure};
use futures::StreamExt;
use serde_json::json;

/// Calls the embeddings and then the model, as a turn does, and returns how long the first delta took.
pub(crate) async fn first_delta(
    client: &reqwest::Client,
    anthropic: &str,
    openai: &str,
    question: &str,
) -> anyhow::Result<f64> {
    let begun = Instant::now();
    client
        .post(format!("{openai}/embeddings"))
        .bearer_auth("bench")
        .json(
            &json!({ "model": "text-embedding-3-small", "input": [question], "dimensions": 1536 }),
        )
        .send()
        .await?
        .error_for_status()?
        .bytes()
        .await?;
    let answer = client
        .post(format!("{anthropic}/v1/messages"))
        .header("x-api-key", "bench")
        .header("anthropic-version", "2023-06-01")
        .json(&json!({
            "model": "claude-haiku-4-5", "max_tokens": 1024, "stream": true,
            "messages": [{ "role": "user", "content": question }],
        }))
        .send()
        .await?;
    until_delta(answer, "text_delta", begun).await
}

/// Reads a stream to its end; returns the milliseconds from `begun` until the marker was seen.
pub(crate) async fn until_delta(
    answer: reqwest::Response,
    marker: &str,
    begun: Instant,
) -> anyhow::Result<f64> {
    ensure!(
        answer.status().is_success(),
        "the answer's status is {}",
        answer.status()
    );
    let mut text = String::new();
    let mut seen = None;
    let mut body = answer.bytes_stream();
    while let Some(bytes) = body.next().await {
        text.push_str(&String::from_utf8_lossy(&bytes?));
        if seen.is_none() && text.contains(marker) {
            seen = Some(begun.elapsed().as_secs_f64() * 1_000.0);
        }
    }
    seen.context("the answer has no text")
}

/// The URL of a role's chat.
pub(crate) fn chat_url(http: SocketAddr) -> String {
    format!("http://{http}/chat")
}
