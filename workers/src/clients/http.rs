//! What the HTTP clients share: one connection pool, the reading of a refusal, and limits.

use std::time::Duration;

use bytes::{Bytes, BytesMut};
use chrono::DateTime;
use reqwest::{
    RequestBuilder, Response, StatusCode,
    header::{DATE, HeaderMap, RETRY_AFTER},
};
use serde::Deserialize;
use store::trace::{Span, attribute};

use super::error::{Failure, ProviderError, RetryClass};

/// How long a connection may take to come about, TLS included.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// How long an unused connection is kept. Shorter than what load balancers in front of the
/// providers allow, so that a call seldom meets a connection that was just closed.
const POOL_IDLE_TIMEOUT: Duration = Duration::from_secs(50);
/// The most that is read of a refusal.
const REFUSAL_LIMIT: usize = 64 * 1024;
/// The header that names the trace which a call is part of.
const TRACEPARENT: &str = "traceparent";
/// The longest wait that a provider can ask for; what is beyond is cut to it.
const LONGEST_RETRY_AFTER: Duration = Duration::from_hours(24);

/// The client of a process, to be shared by cloning: it owns the pool.
///
/// TLS trusts the system's roots (`SSL_CERT_FILE` is honoured); the process has installed a rustls
/// provider before. Redirects are not followed: no API of ours redirects, and a key must not travel.
pub fn http_client() -> reqwest::Result<reqwest::Client> {
    reqwest::Client::builder()
        .user_agent(concat!("growth-chat/", env!("CARGO_PKG_VERSION")))
        .connect_timeout(CONNECT_TIMEOUT)
        .pool_idle_timeout(POOL_IDLE_TIMEOUT)
        .redirect(reqwest::redirect::Policy::none())
        .build()
}

/// Sends a request, as a call of its own in the trace that the task works in: the service that is called,
/// and what it is to do, one of few things.
pub(crate) async fn send(
    service: &'static str,
    what: &'static str,
    request: RequestBuilder,
) -> reqwest::Result<Response> {
    let mut span = Span::of_call(service, what);
    send_as(&mut span, request).await
}

/// The same to an address that somebody has registered: whose it is, no collector needs to know.
pub(crate) async fn send_to_registered(
    service: &'static str,
    what: &'static str,
    request: RequestBuilder,
) -> reqwest::Result<Response> {
    let mut span = Span::of_call(service, what);
    exchange(&mut span, request, false).await
}

/// Sends a request as the call that a span is of.
pub(crate) async fn send_as(span: &mut Span, request: RequestBuilder) -> reqwest::Result<Response> {
    exchange(span, request, true).await
}

async fn exchange(
    span: &mut Span,
    request: RequestBuilder,
    tells_host: bool,
) -> reqwest::Result<Response> {
    let request = match span.context() {
        Some(trace) => request.header(TRACEPARENT, trace.to_string()),
        None => request,
    };
    let (client, request) = request.build_split();
    let request = request.inspect_err(|_| span.fail("unsendable"))?;
    if span.is_recorded() {
        span.set(attribute::HTTP_REQUEST_METHOD, request.method().to_string());
        // Not the path and the query: they have ids and keys in them.
        if let Some(host) = request.url().host_str().filter(|_| tells_host) {
            span.set(attribute::SERVER_ADDRESS, host.to_owned());
        }
    }
    match client.execute(request).await {
        Ok(response) => {
            let status = response.status();
            span.set(
                attribute::HTTP_RESPONSE_STATUS_CODE,
                i64::from(status.as_u16()),
            );
            if !status.is_success() {
                span.fail(status.as_str().to_owned());
            }
            Ok(response)
        }
        Err(error) => {
            span.fail(failure_of(&error, Failure::Timeout).code());
            Err(error)
        }
    }
}

/// Turns the failure to get a response into ours; `timeout` is what a time-out is called here.
pub(crate) fn send_error(
    provider: &'static str,
    timeout: Failure,
    error: reqwest::Error,
) -> ProviderError {
    let failure = failure_of(&error, timeout);
    ProviderError::transport(provider, failure, error)
}

fn failure_of(error: &reqwest::Error, timeout: Failure) -> Failure {
    if error.is_connect() {
        Failure::Connect
    } else if error.is_timeout() {
        timeout
    } else if error.is_builder() {
        Failure::InvalidRequest
    } else {
        Failure::ConnectionLost
    }
}

/// Reads a body of at most `limit` bytes.
pub(crate) async fn read_body(
    provider: &'static str,
    mut response: Response,
    limit: usize,
) -> Result<Bytes, ProviderError> {
    let mut body = BytesMut::new();
    loop {
        match response.chunk().await {
            Ok(Some(part)) if body.len() + part.len() <= limit => body.extend_from_slice(&part),
            Ok(Some(_)) => return Err(ProviderError::new(provider, Failure::MalformedResponse)),
            Ok(None) => return Ok(body.freeze()),
            Err(error) => {
                let failure = if error.is_timeout() {
                    Failure::Timeout
                } else {
                    Failure::ConnectionLost
                };
                return Err(ProviderError::transport(provider, failure, error));
            }
        }
    }
}

/// The error object that Anthropic and `OpenAI` answer with, as far as we look at it.
#[derive(Debug, Default, Deserialize)]
pub(crate) struct Refusal {
    #[serde(default)]
    error: ErrorObject,
}

/// The inner object of a [`Refusal`]; also the `error` event inside a stream.
#[derive(Debug, Default, Deserialize)]
pub(crate) struct ErrorObject {
    #[serde(default, rename = "type")]
    kind: Option<String>,
    #[serde(default)]
    code: Option<serde_json::Value>,
    #[serde(default)]
    message: Option<String>,
    #[serde(default)]
    details: Option<serde_json::Value>,
}

impl ErrorObject {
    /// The failure that the provider names, if it is one that we know.
    pub(crate) fn failure(&self) -> Option<Failure> {
        if self.is_spend_limit() {
            return Some(Failure::SpendLimit);
        }
        Some(match self.kind.as_deref()? {
            "overloaded_error" => Failure::Overloaded,
            "rate_limit_error" => Failure::RateLimited,
            "billing_error" => Failure::SpendLimit,
            "authentication_error" => Failure::Authentication,
            "permission_error" => Failure::Permission,
            "invalid_request_error" => Failure::InvalidRequest,
            "not_found_error" => Failure::NotFound,
            "request_too_large" => Failure::TooLarge,
            "api_error" | "timeout_error" => Failure::Server,
            _ => return None,
        })
    }

    /// Anthropic's enforced spend limit and `OpenAI`'s used-up quota: both come as a 429.
    fn is_spend_limit(&self) -> bool {
        let names = |text: &str| {
            text.contains("enforced_spend_limit_reached") || text.contains("insufficient_quota")
        };
        [self.kind.as_deref(), self.message.as_deref()]
            .into_iter()
            .flatten()
            .any(names)
            || [self.code.as_ref(), self.details.as_ref()]
                .into_iter()
                .flatten()
                .any(|value| names(&value.to_string()))
    }
}

/// Reads a refusal (a status that is not 2xx) and decides what it means.
pub(crate) async fn refusal(
    provider: &'static str,
    request_id_header: &str,
    response: Response,
) -> ProviderError {
    let status = response.status();
    let headers = response.headers().clone();
    let refusal: Refusal = match read_body(provider, response, REFUSAL_LIMIT).await {
        Ok(body) => serde_json::from_slice(&body).unwrap_or_default(),
        // The status alone says enough.
        Err(_) => Refusal::default(),
    };
    let (failure, retry) = classify(status, &headers, &refusal);
    ProviderError::new(provider, failure)
        .with_retry(retry)
        .with_status(status.as_u16())
        .with_request_id(header(&headers, request_id_header))
}

/// 408, 409, 429 and 5xx may heal. `x-should-retry` wins over that, a spend limit over everything.
fn classify(status: StatusCode, headers: &HeaderMap, refusal: &Refusal) -> (Failure, RetryClass) {
    let failure = match (refusal.error.failure(), status.as_u16()) {
        (Some(failure @ (Failure::SpendLimit | Failure::Overloaded)), _) => failure,
        (_, 400 | 422) => Failure::InvalidRequest,
        (_, 401) => Failure::Authentication,
        (_, 402) => Failure::SpendLimit,
        (_, 403) => Failure::Permission,
        (_, 404) => Failure::NotFound,
        (_, 413) => Failure::TooLarge,
        (_, 429) => Failure::RateLimited,
        (_, 529) => Failure::Overloaded,
        (_, 408 | 409 | 500..) => Failure::Server,
        _ => Failure::UnexpectedStatus,
    };
    if failure == Failure::SpendLimit {
        return (failure, RetryClass::Never);
    }
    let heals = match header(headers, "x-should-retry") {
        Some("true") => true,
        Some("false") => false,
        _ => matches!(status.as_u16(), 408 | 409 | 429 | 500..),
    };
    let retry = if heals {
        RetryClass::Retry {
            after: retry_after(headers),
        }
    } else {
        RetryClass::Never
    };
    (failure, retry)
}

/// The wait that the provider asked for: `retry-after-ms`, else `retry-after` in seconds or as a
/// date, which is compared with the response's own `date` so that our clock doesn't matter.
pub(crate) fn retry_after(headers: &HeaderMap) -> Option<Duration> {
    let milliseconds = header(headers, "retry-after-ms").and_then(|text| text.parse::<f64>().ok());
    let seconds =
        || header(headers, RETRY_AFTER.as_str()).and_then(|text| text.parse::<f64>().ok());
    let until = || {
        let date = |name: &str| {
            header(headers, name).and_then(|text| DateTime::parse_from_rfc2822(text).ok())
        };
        let wait = date(RETRY_AFTER.as_str())? - date(DATE.as_str())?;
        wait.to_std().ok()
    };
    milliseconds
        .map(|value| value / 1_000.0)
        .or_else(seconds)
        .map_or_else(until, |value| Duration::try_from_secs_f64(value).ok())
        .map(|wait| wait.min(LONGEST_RETRY_AFTER))
}

/// A header's value, if it is there and legible.
pub(crate) fn header<'h>(headers: &'h HeaderMap, name: &str) -> Option<&'h str> {
    headers.get(name)?.to_str().ok()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use reqwest::header::{HeaderName, HeaderValue};

    use super::*;

    fn headers(pairs: &[(&'static str, &str)]) -> HeaderMap {
        pairs
            .iter()
            .map(|(name, value)| {
                (
                    HeaderName::from_static(name),
                    HeaderValue::from_str(value).unwrap(),
                )
            })
            .collect()
    }

    fn classified(
        status: u16,
        pairs: &[(&'static str, &str)],
        body: &str,
    ) -> (Failure, RetryClass) {
        classify(
            StatusCode::from_u16(status).unwrap(),
            &headers(pairs),
            &serde_json::from_str(body).unwrap_or_default(),
        )
    }

    fn after(milliseconds: u64) -> RetryClass {
        RetryClass::Retry {
            after: Some(Duration::from_millis(milliseconds)),
        }
    }

    #[test]
    fn only_statuses_that_heal_are_retried() {
        for status in [408, 409, 429, 500, 502, 503, 504, 529] {
            assert_eq!(classified(status, &[], "").1, RetryClass::LATER, "{status}");
        }
        for status in [301, 400, 401, 402, 403, 404, 405, 413, 422] {
            assert_eq!(classified(status, &[], "").1, RetryClass::Never, "{status}");
        }
    }

    #[test]
    fn the_providers_own_advice_wins_over_the_status() {
        assert_eq!(
            classified(400, &[("x-should-retry", "true")], ""),
            (Failure::InvalidRequest, RetryClass::LATER)
        );
        assert_eq!(
            classified(
                503,
                &[("x-should-retry", "false"), ("retry-after", "1")],
                ""
            )
            .1,
            RetryClass::Never
        );
    }

    #[test]
    fn milliseconds_win_over_seconds_and_seconds_over_nothing() {
        let both = [("retry-after-ms", "1500"), ("retry-after", "7")];
        assert_eq!(classified(429, &both, "").1, after(1_500));
        assert_eq!(classified(429, &[("retry-after", "7")], "").1, after(7_000));
        assert_eq!(
            classified(429, &[("retry-after", "soon")], "").1,
            RetryClass::LATER
        );
    }

    #[test]
    fn a_date_to_retry_at_is_compared_with_the_responses_own_date() {
        let dates = [
            ("date", "Mon, 01 Jun 2026 10:00:00 GMT"),
            ("retry-after", "Mon, 01 Jun 2026 10:00:12 GMT"),
        ];
        assert_eq!(classified(503, &dates, "").1, after(12_000));
    }

    #[test]
    fn a_used_up_spend_limit_is_never_retried() {
        let anthropic = r#"{"type":"error","error":{"type":"rate_limit_error","message":"x",
            "details":{"error_code":"enforced_spend_limit_reached"}}}"#;
        let openai =
            r#"{"error":{"type":"insufficient_quota","code":"insufficient_quota","message":"x"}}"#;
        for body in [anthropic, openai] {
            let insists = [("x-should-retry", "true"), ("retry-after", "1")];
            assert_eq!(
                classified(429, &insists, body),
                (Failure::SpendLimit, RetryClass::Never)
            );
        }
    }

    #[test]
    fn a_refusal_of_any_form_still_has_a_class() {
        for body in [
            "<html>",
            "[]",
            r#"{"error":"text"}"#,
            r#"{"error":{"code":5}}"#,
        ] {
            assert_eq!(classified(529, &[], body).0, Failure::Overloaded, "{body}");
        }
    }

    proptest! {
        #[test]
        fn any_wait_is_bounded(value in "[ -~]{0,24}") {
            for name in ["retry-after", "retry-after-ms"] {
                if let Some(wait) = retry_after(&headers(&[(name, &value)])) {
                    prop_assert!(wait <= LONGEST_RETRY_AFTER);
                }
            }
        }
    }
}
