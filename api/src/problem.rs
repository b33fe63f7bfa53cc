//! What a client is told when something is wrong: RFC 9457 `application/problem+json` with a stable
//! `code`. What went wrong inside is logged here, once, and never sent.

use std::{any::Any, borrow::Cow, error::Error, fmt::Write, time::Duration};

use axum::{
    body::Body,
    http::{HeaderValue, Response, StatusCode, header},
    response::IntoResponse,
};
use serde::Serialize;
use utoipa::ToSchema;

/// The media type of every error.
pub const PROBLEM_JSON: &str = "application/problem+json";

/// The stable names of what can be wrong.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum Code {
    /// The body is not JSON, or its strings are not Unicode.
    InvalidJson,
    /// A text holds a character that can't be kept (NUL).
    InvalidText,
    /// A session can't be bound to this secret.
    InvalidSecret,
    /// The cursor is not one that this session's streams gave out.
    InvalidCursor,
    /// The path, the query or a header can't be read.
    InvalidRequest,
    /// The request does not come through the site's proxy.
    EdgeRequired,
    /// The site key is missing or wrong.
    WidgetToken,
    /// There is no such session, or the secret does not open it.
    SessionNotFound,
    /// The session has no such turn.
    TurnNotFound,
    /// There is no such page.
    NotFound,
    /// The page has no such method.
    MethodNotAllowed,
    /// The request did not arrive in time.
    RequestTimeout,
    /// The session takes no more messages.
    SessionClosed,
    /// A turn is running and the message was not to wait.
    TurnRunning,
    /// The turn is not finished.
    TurnUnfinished,
    /// A person speaks: the assistant answers nothing again.
    PersonSpeaks,
    /// The body is larger than its form may be.
    BodyTooLarge,
    /// The body is not announced as JSON.
    UnsupportedMediaType,
    /// The body is JSON of another form than the documented one.
    InvalidBody,
    /// An id is not of the documented form.
    InvalidId,
    /// The message has no text.
    EmptyMessage,
    /// The message is longer than 4,000 characters.
    MessageTooLong,
    /// The id names another message.
    MessageIdReused,
    /// What is to be answered again is not the session's last message.
    NothingToRegenerate,
    /// The e-mail address is not one that mail can be sent to.
    InvalidEmail,
    /// The visitor has not agreed to be contacted.
    ConsentRequired,
    /// Too many messages of the session wait for an answer.
    TooManyTurns,
    /// The request is not signed as it has to be, or too old.
    InvalidSignature,
    /// Too much was asked for in too short a time.
    RateLimited,
    /// The service made a mistake.
    Internal,
    /// More is being sent at this moment than the service takes.
    Overloaded,
    /// The service can't answer now.
    Unavailable,
}

impl Code {
    fn status(self) -> StatusCode {
        match self {
            Self::InvalidJson
            | Self::InvalidText
            | Self::InvalidSecret
            | Self::InvalidCursor
            | Self::InvalidRequest => StatusCode::BAD_REQUEST,
            Self::EdgeRequired | Self::WidgetToken => StatusCode::FORBIDDEN,
            Self::SessionNotFound | Self::TurnNotFound | Self::NotFound => StatusCode::NOT_FOUND,
            Self::MethodNotAllowed => StatusCode::METHOD_NOT_ALLOWED,
            Self::RequestTimeout => StatusCode::REQUEST_TIMEOUT,
            Self::SessionClosed | Self::TurnRunning | Self::TurnUnfinished | Self::PersonSpeaks => {
                StatusCode::CONFLICT
            }
            Self::InvalidSignature => StatusCode::UNAUTHORIZED,
            Self::BodyTooLarge => StatusCode::PAYLOAD_TOO_LARGE,
            Self::UnsupportedMediaType => StatusCode::UNSUPPORTED_MEDIA_TYPE,
            Self::InvalidBody
            | Self::InvalidId
            | Self::EmptyMessage
            | Self::MessageTooLong
            | Self::MessageIdReused
            | Self::NothingToRegenerate
            | Self::InvalidEmail
            | Self::ConsentRequired => StatusCode::UNPROCESSABLE_ENTITY,
            Self::TooManyTurns | Self::RateLimited => StatusCode::TOO_MANY_REQUESTS,
            Self::Internal => StatusCode::INTERNAL_SERVER_ERROR,
            Self::Overloaded | Self::Unavailable => StatusCode::SERVICE_UNAVAILABLE,
        }
    }

    fn title(self) -> &'static str {
        match self {
            Self::InvalidJson => "The body is not valid JSON",
            Self::InvalidText => "The text holds a character that can't be kept",
            Self::InvalidSecret => "The secret is not of the documented form",
            Self::InvalidCursor => "The cursor is not valid",
            Self::InvalidRequest => "The request can't be read",
            Self::EdgeRequired => "The request must come through the site's proxy",
            Self::WidgetToken => "The widget token is missing or wrong",
            Self::SessionNotFound => "There is no such session",
            Self::TurnNotFound => "There is no such turn",
            Self::NotFound => "There is no such page",
            Self::MethodNotAllowed => "The method is not allowed here",
            Self::RequestTimeout => "The request did not arrive in time",
            Self::SessionClosed => "The session is closed",
            Self::TurnRunning => "A turn is running",
            Self::TurnUnfinished => "The turn is not finished",
            Self::PersonSpeaks => "A person has taken over the conversation",
            Self::InvalidSignature => "The signature is not valid",
            Self::BodyTooLarge => "The body is too large",
            Self::UnsupportedMediaType => "The body must be JSON",
            Self::InvalidBody => "The body is not of the documented form",
            Self::InvalidId => "An id is not of the documented form",
            Self::EmptyMessage => "The message has no text",
            Self::MessageTooLong => "The message is too long",
            Self::MessageIdReused => "The message id names another message",
            Self::NothingToRegenerate => "There is nothing to answer again",
            Self::InvalidEmail => "The e-mail address is not valid",
            Self::ConsentRequired => "Contact details need the visitor's consent",
            Self::TooManyTurns => "Too many messages wait for an answer",
            Self::RateLimited => "Too many requests",
            Self::Internal => "The service made a mistake",
            Self::Overloaded => "Too much is being sent at this moment",
            Self::Unavailable => "The service can't answer now",
        }
    }

    /// Which problem a bare status is.
    fn of_status(status: StatusCode) -> Self {
        match status {
            StatusCode::NOT_FOUND => Self::NotFound,
            StatusCode::METHOD_NOT_ALLOWED => Self::MethodNotAllowed,
            StatusCode::REQUEST_TIMEOUT => Self::RequestTimeout,
            StatusCode::PAYLOAD_TOO_LARGE => Self::BodyTooLarge,
            StatusCode::UNSUPPORTED_MEDIA_TYPE => Self::UnsupportedMediaType,
            StatusCode::SERVICE_UNAVAILABLE => Self::Unavailable,
            status if status.is_client_error() => Self::InvalidRequest,
            _ => Self::Internal,
        }
    }
}

/// An error as it is sent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Problem {
    code: Code,
    detail: Cow<'static, str>,
    /// When the same may succeed, of what is refused for now.
    retry_after: Duration,
}

/// Of a refusal that has no time of its own.
const RETRY_AFTER: Duration = Duration::from_secs(2);

/// The members of a problem document.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct ProblemDocument<'a> {
    /// A URN that ends in the code.
    #[serde(rename = "type")]
    #[schema(example = "urn:growth-chat:problem:session_closed")]
    kind: String,
    /// A short sentence, the same for every problem of the code.
    title: &'a str,
    /// The HTTP status.
    status: u16,
    /// What is wrong with this request.
    detail: &'a str,
    /// The stable name of the problem.
    code: Code,
}

impl Problem {
    /// A problem whose detail says no more than its title.
    pub fn new(code: Code) -> Self {
        Self::with_detail(code, code.title())
    }

    /// A problem with a sentence about this request. It is sent: no internals, no echo of input.
    pub fn with_detail(code: Code, detail: impl Into<Cow<'static, str>>) -> Self {
        Self {
            code,
            detail: detail.into(),
            retry_after: RETRY_AFTER,
        }
    }

    /// A failure of ours, logged with its causes. `operation` says what was being done.
    pub fn internal(operation: &'static str, error: &(dyn Error + 'static)) -> Self {
        if is_outage(error) {
            tracing::warn!(operation, error = chain(error), "the database is away");
            return Self::new(Code::Unavailable);
        }
        tracing::error!(operation, error = chain(error), "a request failed");
        Self::new(Code::Internal)
    }

    /// The same about another code.
    #[must_use]
    pub(crate) fn with_code(self, code: Code) -> Self {
        Self { code, ..self }
    }

    /// The same with a time after which to come again.
    #[must_use]
    pub(crate) fn with_retry_after(self, retry_after: Duration) -> Self {
        Self {
            retry_after,
            ..self
        }
    }

    /// The problem's code.
    pub fn code(&self) -> Code {
        self.code
    }
}

impl IntoResponse for Problem {
    fn into_response(self) -> Response<Body> {
        let status = self.code.status();
        let name = serde_json::to_value(self.code).unwrap_or_default();
        let document = ProblemDocument {
            kind: format!(
                "urn:growth-chat:problem:{}",
                name.as_str().unwrap_or_default()
            ),
            title: self.code.title(),
            status: status.as_u16(),
            detail: &self.detail,
            code: self.code,
        };
        let body = serde_json::to_vec(&document).unwrap_or_default();
        let mut response = Response::new(Body::from(body));
        *response.status_mut() = status;
        let headers = response.headers_mut();
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(PROBLEM_JSON));
        headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
        if matches!(status.as_u16(), 429 | 503) {
            // Whole seconds, and not too early.
            let seconds = self.retry_after.as_secs_f64().ceil().max(1.0);
            if let Ok(value) = HeaderValue::from_str(&format!("{seconds:.0}")) {
                headers.insert(header::RETRY_AFTER, value);
            }
        }
        response
    }
}

/// An error with its causes in one line.
pub(crate) fn chain(error: &(dyn Error + 'static)) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        // Writing into memory does not fail.
        let _ = write!(text, ": {error}");
        cause = error.source();
    }
    text
}

/// Whether the database could not be reached, as opposed to having refused.
fn is_outage(error: &(dyn Error + 'static)) -> bool {
    let mut cause = Some(error);
    while let Some(error) = cause {
        if let Some(error) = error.downcast_ref::<sqlx::Error>() {
            return match error {
                sqlx::Error::Io(_)
                | sqlx::Error::Tls(_)
                | sqlx::Error::PoolTimedOut
                | sqlx::Error::PoolClosed => true,
                // 57P01–57P03: shut down, crashed, starting up. 53300: too many connections.
                // 25006: a standby.
                sqlx::Error::Database(error) => error.code().is_some_and(|code| {
                    code.starts_with("57P0") || code == "53300" || code == "25006"
                }),
                _ => false,
            };
        }
        cause = error.source();
    }
    false
}

/// Turns an error that came out of a library as text into a problem of the same status.
pub(crate) async fn give_every_error_the_same_form(response: Response<Body>) -> Response<Body> {
    let status = response.status();
    let is_error = status.is_client_error() || status.is_server_error();
    let is_ours = response
        .headers()
        .get(header::CONTENT_TYPE)
        .is_some_and(|kind| kind == PROBLEM_JSON || kind == "application/json");
    if !is_error || is_ours {
        return response;
    }
    let mut problem = Problem::new(Code::of_status(status)).into_response();
    *problem.status_mut() = status;
    if let Some(allow) = response.headers().get(header::ALLOW) {
        problem.headers_mut().insert(header::ALLOW, allow.clone());
    }
    problem
}

/// What a client is told after a panic. The panic hook has logged where it was.
pub(crate) fn of_panic(_panic: Box<dyn Any + Send + 'static>) -> Response<Body> {
    tracing::error!("a request handler panicked");
    Problem::new(Code::Internal).into_response()
}

#[cfg(test)]
mod tests {
    use http_body_util::BodyExt;

    use super::*;

    #[tokio::test]
    async fn a_problem_names_its_code_and_hides_its_cause() {
        let cause = sqlx::Error::Protocol("the visitor's text".to_owned());
        let response = Problem::internal("accept a message", &cause).into_response();
        assert_eq!(response.status(), StatusCode::INTERNAL_SERVER_ERROR);
        assert_eq!(response.headers()[header::CONTENT_TYPE], PROBLEM_JSON);
        let body = response.into_body().collect().await.unwrap().to_bytes();
        let document: serde_json::Value = serde_json::from_slice(&body).unwrap();
        assert_eq!(document["code"], "internal");
        assert_eq!(document["status"], 500);
        assert_eq!(document["type"], "urn:growth-chat:problem:internal");
        assert_eq!(document["detail"], document["title"]);
    }

    #[test]
    fn a_database_that_is_away_is_503() {
        let problem = Problem::internal("look", &sqlx::Error::PoolTimedOut);
        assert_eq!(problem.code(), Code::Unavailable);
    }
}
