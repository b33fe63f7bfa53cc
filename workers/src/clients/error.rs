//! What went wrong at a provider, told without a word of the prompt, the answer or a key.

use std::{error::Error, fmt, time::Duration};

use jobs::Retry;

/// Whether the same call may succeed later.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RetryClass {
    /// It may.
    Retry {
        /// How long the provider asked to be left alone, if it said.
        after: Option<Duration>,
    },
    /// It can't succeed unless somebody changes the request, the key or the account.
    Never,
}

impl RetryClass {
    /// On the job's own schedule.
    pub const LATER: Self = Self::Retry { after: None };
}

impl From<RetryClass> for Retry {
    /// The schedule is the job's.
    fn from(class: RetryClass) -> Self {
        match class {
            RetryClass::Retry { after: None } => Self::AsPlanned,
            RetryClass::Retry { after: Some(wait) } => Self::NotBefore(wait),
            RetryClass::Never => Self::Never,
        }
    }
}

/// The kinds of failure that we tell apart.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Failure {
    /// The provider has no capacity at the moment.
    Overloaded,
    /// Too many requests or tokens in a while.
    RateLimited,
    /// The account's money or quota is used up; waiting does not help.
    SpendLimit,
    /// The key is wrong or was withdrawn.
    Authentication,
    /// The key may not do this.
    Permission,
    /// The request is wrong, so that it would be refused again.
    InvalidRequest,
    /// The model or the path does not exist.
    NotFound,
    /// The request is longer than the provider takes.
    TooLarge,
    /// The provider failed (5xx).
    Server,
    /// Another status than the provider documents.
    UnexpectedStatus,
    /// No connection came about.
    Connect,
    /// The connection broke before the answer was complete.
    ConnectionLost,
    /// A call that is not streamed took too long.
    Timeout,
    /// The model did not begin to answer in `LLM_STREAM_TIMEOUT_MS`.
    FirstTokenTimeout,
    /// The stream stood still.
    IdleTimeout,
    /// The answer is not what the provider documents.
    MalformedResponse,
}

impl Failure {
    /// The stable name, for logs, metrics and recorded errors.
    pub const fn code(self) -> &'static str {
        match self {
            Self::Overloaded => "overloaded",
            Self::RateLimited => "rate_limited",
            Self::SpendLimit => "spend_limit",
            Self::Authentication => "authentication",
            Self::Permission => "permission",
            Self::InvalidRequest => "invalid_request",
            Self::NotFound => "not_found",
            Self::TooLarge => "too_large",
            Self::Server => "server_error",
            Self::UnexpectedStatus => "unexpected_status",
            Self::Connect => "connect",
            Self::ConnectionLost => "connection_lost",
            Self::Timeout => "timeout",
            Self::FirstTokenTimeout => "timeout_first_token",
            Self::IdleTimeout => "idle_timeout",
            Self::MalformedResponse => "malformed_response",
        }
    }

    /// The rule for a failure whose response gave no other hint.
    pub(crate) const fn default_retry(self) -> RetryClass {
        match self {
            Self::SpendLimit
            | Self::Authentication
            | Self::Permission
            | Self::InvalidRequest
            | Self::NotFound
            | Self::TooLarge
            | Self::UnexpectedStatus => RetryClass::Never,
            Self::Overloaded
            | Self::RateLimited
            | Self::Server
            | Self::Connect
            | Self::ConnectionLost
            | Self::Timeout
            | Self::FirstTokenTimeout
            | Self::IdleTimeout
            | Self::MalformedResponse => RetryClass::LATER,
        }
    }
}

/// A call to a provider failed.
///
/// `Display` and `Debug` carry the provider's name, our code, its status and its request id. What
/// the provider wrote stays out: its messages quote the request.
#[derive(Debug)]
pub struct ProviderError {
    provider: &'static str,
    failure: Failure,
    retry: RetryClass,
    status: Option<u16>,
    request_id: Option<String>,
    source: Option<Box<dyn Error + Send + Sync>>,
}

impl ProviderError {
    /// A failure with its usual retry rule.
    pub(crate) fn new(provider: &'static str, failure: Failure) -> Self {
        Self {
            provider,
            failure,
            retry: failure.default_retry(),
            status: None,
            request_id: None,
            source: None,
        }
    }

    /// A failure of the connection. The address is left out of the source: it may hold a key.
    pub(crate) fn transport(
        provider: &'static str,
        failure: Failure,
        error: reqwest::Error,
    ) -> Self {
        Self {
            source: Some(Box::new(error.without_url())),
            ..Self::new(provider, failure)
        }
    }

    pub(crate) fn with_retry(mut self, retry: RetryClass) -> Self {
        self.retry = retry;
        self
    }

    pub(crate) fn with_status(mut self, status: u16) -> Self {
        self.status = Some(status);
        self
    }

    pub(crate) fn with_request_id(mut self, request_id: Option<&str>) -> Self {
        self.request_id = request_id.and_then(legible_id);
        self
    }

    /// What kind of failure it is.
    pub fn failure(&self) -> Failure {
        self.failure
    }

    /// [`Failure::code`].
    pub fn code(&self) -> &'static str {
        self.failure.code()
    }

    /// Whether the same call may succeed later, and when.
    pub fn retry(&self) -> RetryClass {
        self.retry
    }

    /// The provider's name for the call, to be quoted to its support.
    pub fn request_id(&self) -> Option<&str> {
        self.request_id.as_deref()
    }

    /// The HTTP status, when the provider refused by one.
    pub fn status(&self) -> Option<u16> {
        self.status
    }
}

impl fmt::Display for ProviderError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.provider, self.code())?;
        if let Some(status) = self.status {
            write!(f, " (status {status})")?;
        }
        if let Some(id) = &self.request_id {
            write!(f, " [request {id}]")?;
        }
        Ok(())
    }
}

impl Error for ProviderError {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        self.source.as_deref().map(|source| source as _)
    }
}

/// A request id fit for a log line: providers use short identifiers, so anything else is dropped.
fn legible_id(id: &str) -> Option<String> {
    let legal = |byte: u8| byte.is_ascii_alphanumeric() || b"_-.".contains(&byte);
    ((1..=128).contains(&id.len()) && id.bytes().all(legal)).then(|| id.to_owned())
}
