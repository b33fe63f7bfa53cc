//! `OpenAI`'s embeddings: `POST /v1/embeddings`, with the real limits and the real errors; and
//! `GET /v1/models`, which costs nothing and needs the key.

mod hashing;

use std::{collections::VecDeque, io, sync::Arc, time::Duration};

use axum::{
    Router,
    body::Bytes,
    extract::State,
    http::{HeaderMap, StatusCode, header},
    response::{IntoResponse, Response},
    routing::{get, post},
};
use base64::{Engine, engine::general_purpose::STANDARD};
use parking_lot::Mutex;
use serde::Deserialize;
use serde_json::{Value, json};
use tokio::sync::watch;

use crate::{
    outside::{Outcome, OutsideWorld, Service},
    serve::Served,
};

/// The `RAG_RELEVANCE_THRESHOLD` (cosine) that `growth-chat eval` proposes for these vectors and the
/// sample knowledge (`docs/evaluation.md`).
pub const RELEVANCE_THRESHOLD: f32 = 0.141;

/// Inputs of one request at most.
const MOST_INPUTS: usize = 2048;
/// Tokens of one input at most.
const MOST_INPUT_TOKENS: usize = 8192;
/// Tokens of one request at most.
const MOST_REQUEST_TOKENS: usize = 300_000;

/// What to answer instead of embeddings.
#[derive(Debug, Clone)]
pub struct Failure {
    /// The HTTP status.
    pub status: u16,
    /// `error.code`, such as `rate_limit_exceeded` or `insufficient_quota`.
    pub code: &'static str,
    /// The `Retry-After` header, in seconds.
    pub retry_after: Option<u32>,
    /// How long to wait before answering.
    pub after: Duration,
}

/// The stand-in, served until it is dropped.
#[derive(Debug)]
pub struct OpenAi {
    served: Served,
    state: Shared,
}

#[derive(Debug, Clone)]
struct Shared {
    world: OutsideWorld,
    failures: Arc<Mutex<VecDeque<Failure>>>,
    /// How many more requests are answered; `None`: all.
    answers: Arc<watch::Sender<Option<usize>>>,
}

impl Shared {
    /// Waits until the request may be answered.
    async fn admission(&self) {
        let mut gate = self.answers.subscribe();
        let take_one = |left: &mut Option<usize>| {
            let is_open = *left != Some(0);
            *left = left.map(|left| left.saturating_sub(1));
            is_open
        };
        // It fails only if the sender is gone, which lives as long as the state.
        while gate.wait_for(|left| *left != Some(0)).await.is_ok() {
            // Others wait as well.
            if self.answers.send_if_modified(take_one) {
                return;
            }
        }
    }
}

impl OpenAi {
    /// Serves it on a port, or with 0 on a free one.
    pub async fn start(world: OutsideWorld, port: u16) -> io::Result<Self> {
        let state = Shared {
            world,
            failures: Arc::default(),
            answers: Arc::new(watch::Sender::new(None)),
        };
        let router = Router::new()
            .route("/v1/embeddings", post(embeddings))
            .route("/v1/models", get(models))
            .layer(axum::extract::DefaultBodyLimit::max(32 * 1024 * 1024))
            .with_state(state.clone());
        let served = Served::start(router, port).await?;
        Ok(Self { served, state })
    }

    /// For `OPENAI_EU_ENDPOINT`: ends in `/v1`.
    pub fn url(&self) -> String {
        format!("{}/v1", self.served.url())
    }

    /// The next request that has no failure yet fails so.
    pub fn fail_next(&self, failure: Failure) {
        self.state.failures.lock().push_back(failure);
    }

    /// Answers so many requests more and holds those that follow; with `None` all are answered, those
    /// that are held as well.
    pub fn answer_only(&self, requests: Option<usize>) {
        self.state.answers.send_replace(requests);
    }

    /// How many requests were received (as far back as the log goes).
    pub fn calls(&self) -> usize {
        self.state.world.received_by(Service::OpenAi).len()
    }
}

/// An answer that is not 200.
#[derive(Debug)]
struct ApiError {
    status: StatusCode,
    code: Option<&'static str>,
    param: Option<&'static str>,
    message: String,
    retry_after: Option<u32>,
}

impl ApiError {
    fn invalid(param: &'static str, message: impl Into<String>) -> Self {
        Self {
            status: StatusCode::BAD_REQUEST,
            code: None,
            param: Some(param),
            message: message.into(),
            retry_after: None,
        }
    }
}

impl IntoResponse for ApiError {
    fn into_response(self) -> Response {
        let kind = match self.status.as_u16() {
            429 if self.code == Some("insufficient_quota") => "insufficient_quota",
            429 => "requests",
            500.. => "server_error",
            _ => "invalid_request_error",
        };
        let body = json!({"error": {
            "message": self.message,
            "type": kind,
            "param": self.param,
            "code": self.code,
        }});
        let mut response = (self.status, axum::Json(body)).into_response();
        if let Some(seconds) = self.retry_after {
            response
                .headers_mut()
                .insert(header::RETRY_AFTER, seconds.into());
        }
        response
    }
}

#[derive(Debug, Deserialize)]
struct Request {
    model: String,
    input: Input,
    dimensions: Option<usize>,
    encoding_format: Option<String>,
    #[expect(dead_code, reason = "legal, and of no consequence")]
    user: Option<String>,
}

#[derive(Debug, Deserialize)]
#[serde(untagged)]
enum Input {
    One(String),
    Many(Vec<String>),
    Tokens(Vec<u32>),
    ManyTokens(Vec<Vec<u32>>),
}

impl Input {
    /// Tokens are told apart by their numbers alone, which is all that a hash needs.
    fn into_texts(self) -> Vec<String> {
        let text = |tokens: Vec<u32>| {
            let words: Vec<String> = tokens.iter().map(ToString::to_string).collect();
            words.join(" ")
        };
        match self {
            Self::One(one) => vec![one],
            Self::Many(many) => many,
            Self::Tokens(tokens) => vec![text(tokens)],
            Self::ManyTokens(many) => many.into_iter().map(text).collect(),
        }
    }
}

async fn embeddings(State(state): State<Shared>, headers: HeaderMap, body: Bytes) -> Response {
    let mut recording = state
        .world
        .record(Service::OpenAi, "POST /v1/embeddings", &body);
    recording.came_with(&headers);
    state.admission().await;
    let failure = state.failures.lock().pop_front();
    let answer = match failure {
        Some(failure) => {
            tokio::time::sleep(failure.after).await;
            Err(ApiError {
                status: StatusCode::from_u16(failure.status)
                    .unwrap_or(StatusCode::INTERNAL_SERVER_ERROR),
                code: Some(failure.code),
                param: None,
                message: "The stand-in was told to fail.".to_owned(),
                retry_after: failure.retry_after,
            })
        }
        None => answer(&headers, &body),
    };
    let (summary, response) = match answer {
        Ok(value) => {
            let count = value["data"].as_array().map_or(0, Vec::len);
            (
                format!("{count} embedding(s)"),
                axum::Json(value).into_response(),
            )
        }
        Err(error) => (error.message.clone(), error.into_response()),
    };
    recording.answered_text(&summary);
    recording.end(Outcome::Answered(response.status().as_u16()));
    response
}

async fn models(headers: HeaderMap) -> Response {
    match check_key(&headers) {
        Ok(()) => axum::Json(json!({"object": "list", "data": []})).into_response(),
        Err(error) => error.into_response(),
    }
}

fn answer(headers: &HeaderMap, body: &[u8]) -> Result<Value, ApiError> {
    check_key(headers)?;
    let request: Request = serde_json::from_slice(body)
        .map_err(|error| ApiError::invalid("input", format!("'$.input' is invalid. {error}")))?;
    let dimensions = dimensions(&request)?;
    let as_base64 = match request.encoding_format.as_deref() {
        None | Some("float") => false,
        Some("base64") => true,
        Some(other) => {
            let message =
                format!("Invalid value: '{other}'. Supported values are: 'float', 'base64'.");
            return Err(ApiError::invalid("encoding_format", message));
        }
    };
    let texts = request.input.into_texts();
    let tokens = check_limits(&texts)?;
    let data: Vec<Value> = texts
        .iter()
        .enumerate()
        .map(|(index, text)| {
            let vector = hashing::embed(text, dimensions);
            let embedding = if as_base64 {
                let bytes: Vec<u8> = vector
                    .iter()
                    .flat_map(|value| value.to_le_bytes())
                    .collect();
                json!(STANDARD.encode(bytes))
            } else {
                json!(vector)
            };
            json!({"object": "embedding", "index": index, "embedding": embedding})
        })
        .collect();
    Ok(json!({
        "object": "list",
        "data": data,
        "model": request.model,
        "usage": {"prompt_tokens": tokens, "total_tokens": tokens},
    }))
}

fn check_key(headers: &HeaderMap) -> Result<(), ApiError> {
    let key = headers
        .get(header::AUTHORIZATION)
        .and_then(|value| value.to_str().ok())
        .and_then(|value| value.strip_prefix("Bearer "));
    if key.is_some_and(|key| !key.trim().is_empty()) {
        return Ok(());
    }
    Err(ApiError {
        status: StatusCode::UNAUTHORIZED,
        code: Some("invalid_api_key"),
        param: None,
        message: "You didn't provide an API key.".to_owned(),
        retry_after: None,
    })
}

fn dimensions(request: &Request) -> Result<usize, ApiError> {
    let (most, adjustable) = match request.model.as_str() {
        "text-embedding-3-small" => (1536, true),
        "text-embedding-3-large" => (3072, true),
        "text-embedding-ada-002" => (1536, false),
        other => {
            return Err(ApiError {
                status: StatusCode::NOT_FOUND,
                code: Some("model_not_found"),
                param: None,
                message: format!("The model `{other}` does not exist."),
                retry_after: None,
            });
        }
    };
    match request.dimensions {
        None => Ok(most),
        Some(_) if !adjustable => Err(ApiError::invalid(
            "dimensions",
            "This model does not support specifying dimensions.",
        )),
        Some(wanted) if (1..=most).contains(&wanted) => Ok(wanted),
        Some(wanted) => Err(ApiError::invalid(
            "dimensions",
            format!("Invalid value for 'dimensions' = {wanted}. Must be between 1 and {most}."),
        )),
    }
}

/// The tokens of all inputs together.
fn check_limits(texts: &[String]) -> Result<usize, ApiError> {
    if texts.is_empty() {
        return Err(ApiError::invalid(
            "input",
            "'$.input' is invalid: it is empty.",
        ));
    }
    if texts.len() > MOST_INPUTS {
        let message = format!("'$.input' is invalid: at most {MOST_INPUTS} inputs are allowed.");
        return Err(ApiError::invalid("input", message));
    }
    let mut total = 0;
    for text in texts {
        // Four characters a token is what English text comes to.
        let tokens = text.chars().count().div_ceil(4);
        if tokens == 0 {
            return Err(ApiError::invalid(
                "input",
                "'$.input' is invalid: input cannot be an empty string.",
            ));
        }
        if tokens > MOST_INPUT_TOKENS {
            let message = format!(
                "This model's maximum context length is {MOST_INPUT_TOKENS} tokens, however you requested {tokens} tokens."
            );
            return Err(ApiError::invalid("input", message));
        }
        total += tokens;
    }
    if total > MOST_REQUEST_TOKENS {
        return Err(ApiError {
            code: Some("max_tokens_per_request"),
            ..ApiError::invalid(
                "input",
                format!("Requested {total} tokens, max {MOST_REQUEST_TOKENS} tokens per request."),
            )
        });
    }
    Ok(total)
}
