//! Calls of HubSpot's API, and what its refusals mean
//! (<https://developers.hubspot.com/docs/api-reference/error-handling>).

use std::time::Duration;

use reqwest::{Method, StatusCode, header::HeaderMap};
use secrecy::{ExposeSecret, SecretString};
use serde_json::Value;
use tokio::time::Instant;

use crate::{
    clients::http::{read_body, retry_after, send},
    handoff::SendError,
};

/// The longest wait for one answer.
const TIMEOUT: Duration = Duration::from_secs(10);
/// The most that is read of an answer, in bytes: a hundred notes of the longest.
const LARGEST_ANSWER: usize = 16 * 1024 * 1024;
/// How long to leave HubSpot alone that says how many requests it takes but not when again: its
/// shortest limits count ten seconds and one.
const BURST_WAIT: Duration = Duration::from_secs(10);
const SECOND_WAIT: Duration = Duration::from_secs(1);

/// The account. A clone shares its connections.
#[derive(Debug, Clone)]
pub(super) struct Api {
    pub(super) http: reqwest::Client,
    pub(super) access_token: SecretString,
    pub(super) base_url: String,
}

/// Whether a call leaves something behind.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Effect {
    /// It only looks: when it gets lost, nothing has happened.
    Looks,
    /// It writes: when its answer gets lost, nobody knows.
    Writes,
}

/// One call.
#[derive(Debug)]
pub(super) struct Call<'a> {
    /// What it is for, in words for an operator.
    pub(super) what: &'static str,
    pub(super) method: Method,
    pub(super) path: &'a str,
    pub(super) body: Option<Value>,
    pub(super) effect: Effect,
}

/// Why a call failed.
#[derive(Debug)]
pub(super) enum CallError {
    /// There is no such thing.
    NotFound(SendError),
    /// What was sent is refused; the body says why.
    Invalid(SendError, Value),
    /// Everything else.
    Failed(SendError),
}

impl From<CallError> for SendError {
    fn from(error: CallError) -> Self {
        match error {
            CallError::NotFound(error)
            | CallError::Invalid(error, _)
            | CallError::Failed(error) => error,
        }
    }
}

impl Api {
    /// Makes a call, which has to end before `deadline`.
    pub(super) async fn call(&self, deadline: Instant, call: Call<'_>) -> Result<Value, CallError> {
        let left = deadline.saturating_duration_since(Instant::now());
        if left.is_zero() {
            let reason = format!("HubSpot: {}: no time was left", call.what);
            return Err(CallError::Failed(SendError::healable(reason)));
        }
        let mut request = self
            .http
            .request(
                call.method.clone(),
                format!("{}{}", self.base_url, call.path),
            )
            .bearer_auth(self.access_token.expose_secret())
            .timeout(left.min(TIMEOUT));
        if let Some(body) = &call.body {
            request = request.json(body);
        }
        let lost = |failure: &str, sent: bool| {
            let reason = format!("HubSpot: {}: {failure}", call.what);
            CallError::Failed(match call.effect {
                Effect::Writes if sent => SendError::unknown(reason),
                _ => SendError::healable(reason),
            })
        };
        let response = send("hubspot", call.what, request).await.map_err(|error| {
            if error.is_connect() {
                lost("it was not reached", false)
            } else if error.is_timeout() {
                lost("it did not answer in time", true)
            } else {
                lost("the connection broke", true)
            }
        })?;
        let status = response.status();
        let headers = response.headers().clone();
        let body = read_body("hubspot", response, LARGEST_ANSWER).await;
        if !status.is_success() {
            let body = body.map_or(Value::Null, |body| {
                serde_json::from_slice(&body).unwrap_or_default()
            });
            return Err(refusal(call.what, status, &headers, body));
        }
        let body = body.map_err(|_| lost("the connection broke", true))?;
        if body.is_empty() {
            return Ok(Value::Null);
        }
        serde_json::from_slice(&body).map_err(|_| lost("its answer is not JSON", true))
    }
}

/// What a status that is not 2xx means.
fn refusal(what: &'static str, status: StatusCode, headers: &HeaderMap, body: Value) -> CallError {
    let mut reason = format!("HubSpot: {what}: status {}", status.as_u16());
    for name in ["category", "policyName"] {
        if let Some(word) = body[name].as_str().and_then(word) {
            reason = format!("{reason}, {word}");
        }
    }
    if let Some(id) = body["correlationId"].as_str().and_then(word) {
        reason = format!("{reason} [correlation {id}]");
    }
    match status.as_u16() {
        404 => CallError::NotFound(SendError::fatal(reason)),
        // 423: the record is locked; 477: the account is being moved.
        408 | 409 | 423 | 429 | 477 | 500.. => {
            let retry_after = retry_after(headers).or_else(|| {
                let policy = body["policyName"].as_str().unwrap_or_default();
                match policy {
                    _ if status != StatusCode::TOO_MANY_REQUESTS => None,
                    "SECONDLY" => Some(SECOND_WAIT),
                    policy if policy.starts_with("TEN_SECONDLY") => Some(BURST_WAIT),
                    _ => None,
                }
            });
            CallError::Failed(SendError::Healable {
                reason,
                retry_after,
            })
        }
        400 | 422 => CallError::Invalid(SendError::fatal(reason), body),
        _ => CallError::Failed(SendError::fatal(reason)),
    }
}

/// A word of HubSpot's that is fit for an error: a code, an id. Its sentences quote what was sent.
fn word(text: &str) -> Option<&str> {
    let legal = |byte: u8| byte.is_ascii_alphanumeric() || b"_-".contains(&byte);
    ((1..=64).contains(&text.len()) && text.bytes().all(legal)).then_some(text)
}

/// A text of an answer that is an id of HubSpot's: digits, as text or as a number.
pub(super) fn id(value: &Value) -> Option<String> {
    let text = match value {
        Value::String(text) => text.clone(),
        Value::Number(number) => number.to_string(),
        _ => return None,
    };
    let digits = (1..=20).contains(&text.len()) && text.bytes().all(|byte| byte.is_ascii_digit());
    digits.then_some(text)
}
