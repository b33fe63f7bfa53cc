//! Anthropic's Messages API, streamed.
//!
//! ```text
//! stream() ──send──▶ headers ──▶ Started ──▶ first content ──▶ … ──▶ Finished
//!    └────────── LLM_STREAM_TIMEOUT_MS ──────────┘└ idle limits, event by event ┘
//! ```
//!
//! With `LLM_FALLBACK_MODEL` a model that fails before `Started` in a way that another one may not is
//! replaced once ([`fallback`]). Both share `LLM_STREAM_TIMEOUT_MS`: the first has half of it to start, so
//! that a visitor never waits longer because there is a fallback.
//!
//! Dropping a [`MessageStream`] closes its connection at once: that is how an answer is stopped.

mod chat;
mod events;
mod fallback;
mod request;
mod stream;
mod thinking;

use std::time::Duration;

use reqwest::Response;
use secrecy::ExposeSecret;
use tokio::time::{Instant, timeout_at};

use self::chat::Chat;
pub use self::{
    events::{ModelEvent, StopReason, Usage},
    request::{
        CacheControl, ContentBlock, Message, MessageRequest, Role, SearchResult, SystemBlock, Tool,
        ToolChoice,
    },
    stream::MessageStream,
};
use super::{
    error::{Failure, ProviderError},
    http::{header, refusal, send_as, send_error},
};
use crate::config::ModelConfig;

/// A call of the model failed.
pub type ModelError = ProviderError;

pub(crate) const PROVIDER: &str = "anthropic";
const VERSION: &str = "2023-06-01";
const REQUEST_ID: &str = "request-id";

/// How long a stream may be silent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct StreamLimits {
    /// From the call to the first piece of content (`LLM_STREAM_TIMEOUT_MS`).
    pub first_token: Duration,
    /// Between two events of any kind. The provider pings every few seconds, so that this much
    /// silence means a dead connection.
    pub idle: Duration,
    /// Between two pieces of content, however many pings come meanwhile. Half a turn's job time-out:
    /// a model that only pings is given up while the job can still report it.
    pub no_content: Duration,
}

impl StreamLimits {
    /// The limits that hold after the first token are not configurable.
    pub const fn after(first_token: Duration) -> Self {
        Self {
            first_token,
            idle: Duration::from_secs(30),
            no_content: Duration::from_mins(1),
        }
    }
}

/// The client. A clone shares its connections.
#[derive(Debug, Clone)]
pub struct Anthropic {
    http: reqwest::Client,
    config: ModelConfig,
    limits: StreamLimits,
}

impl Anthropic {
    /// A client over the process's connection pool.
    pub fn new(config: ModelConfig, http: reqwest::Client) -> Self {
        let limits = StreamLimits::after(config.stream_timeout);
        Self {
            http,
            config,
            limits,
        }
    }

    /// The same client with other limits, for tests of slow streams.
    #[must_use]
    pub fn with_limits(self, limits: StreamLimits) -> Self {
        Self { limits, ..self }
    }

    /// Calls the model, and the fallback if it has to be. Returns when the provider has accepted the
    /// request; fails with `timeout_first_token` when it takes longer than the first token may.
    pub async fn stream(&self, request: &MessageRequest) -> Result<MessageStream, ModelError> {
        let first_token = Instant::now() + self.limits.first_token;
        match &self.config.fallback_model {
            Some(fallback) if *fallback != request.model => {
                // Boxed: every turn would carry its size, and few have a fallback.
                Box::pin(self.stream_or_fall_back(request, fallback, first_token)).await
            }
            _ => self.open(request, first_token, first_token).await,
        }
    }

    /// Calls one model: the provider has to accept by `accepted`, and content has to come by
    /// `first_token`.
    async fn open(
        &self,
        request: &MessageRequest,
        accepted: Instant,
        first_token: Instant,
    ) -> Result<MessageStream, ModelError> {
        let mut chat = Chat::begin(PROVIDER, &request.model, request.max_tokens);
        let opened = self.open_as(&mut chat, request, accepted).await;
        match opened {
            Ok(response) => Ok(MessageStream::new(response, self.limits, first_token, chat)),
            Err(error) => {
                chat.span.fail(error.code());
                Err(error)
            }
        }
    }

    async fn open_as(
        &self,
        chat: &mut Chat,
        request: &MessageRequest,
        accepted: Instant,
    ) -> Result<Response, ModelError> {
        let too_slow = || ProviderError::new(PROVIDER, Failure::FirstTokenTimeout);
        let body = request::StreamedRequest {
            request,
            thinking: thinking::Thinking::of(&request.model),
            stream: true,
        };
        let request = self
            .http
            .post(format!("{}/v1/messages", self.config.base_url))
            .header("x-api-key", self.config.api_key.expose_secret())
            .header("anthropic-version", VERSION)
            .header("accept", "text/event-stream")
            .json(&body);
        let response = timeout_at(accepted, send_as(&mut chat.span, request))
            .await
            .map_err(|_| too_slow())?
            .map_err(|error| send_error(PROVIDER, Failure::Connect, error))?;
        if !response.status().is_success() {
            let refused = timeout_at(accepted, refusal(PROVIDER, REQUEST_ID, response));
            return Err(refused.await.unwrap_or_else(|_| too_slow()));
        }
        let streams = header(response.headers(), "content-type")
            .is_some_and(|kind| kind.starts_with("text/event-stream"));
        if !streams {
            let status = response.status().as_u16();
            return Err(
                ProviderError::new(PROVIDER, Failure::MalformedResponse).with_status(status)
            );
        }
        Ok(response)
    }
}
