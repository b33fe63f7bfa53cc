//! Another model for a call whose own one is not to be had.
//!
//! Only before the model has taken the request: nobody has seen anything, and nothing is billed that we
//! could know of. Only for failures of the model, which another one may not have: what is wrong with
//! the request, the key, the account or the way to the provider is wrong for both.

use futures::StreamExt;
use tokio::time::{Instant, timeout_at};

use super::{Anthropic, MessageRequest, MessageStream, ModelError, PROVIDER};
use crate::clients::error::{Failure, ProviderError};

impl Anthropic {
    /// Calls the model; if that fails in time, the fallback. Returns when one of them has started.
    pub(super) async fn stream_or_fall_back(
        &self,
        request: &MessageRequest,
        fallback: &str,
        first_token: Instant,
    ) -> Result<MessageStream, ModelError> {
        let half = Instant::now() + self.limits.first_token / 2;
        let failed = match self.start(request, half, first_token).await {
            Err(error) if is_of_the_model(error.failure()) => error,
            started => return started,
        };
        tracing::warn!(
            model = request.model,
            fallback,
            error = %failed,
            "the model failed before it answered: the fallback is asked"
        );
        let request = MessageRequest {
            model: fallback.to_owned(),
            ..request.clone()
        };
        match self.start(&request, first_token, first_token).await {
            Ok(stream) => {
                count(&failed);
                Ok(stream)
            }
            Err(second) => {
                let (decisive, other) = decisive(failed, second);
                count(&other);
                tracing::warn!(error = %other, "both models failed");
                Err(decisive)
            }
        }
    }

    /// Calls one model, and waits until it has started.
    async fn start(
        &self,
        request: &MessageRequest,
        started: Instant,
        first_token: Instant,
    ) -> Result<MessageStream, ModelError> {
        let mut stream = self.open(request, started, first_token).await?;
        let request_id = stream.request_id().map(str::to_owned);
        match timeout_at(started, stream.next()).await {
            Ok(Some(Ok(event))) => Ok(stream.beginning_with(event)),
            Ok(Some(Err(error))) => Err(error),
            // A stream ends by an event or an error.
            Ok(None) => Err(ProviderError::new(PROVIDER, Failure::ConnectionLost)),
            Err(_) => Err(ProviderError::new(PROVIDER, Failure::FirstTokenTimeout)
                .with_request_id(request_id.as_deref())),
        }
    }
}

/// Whether another model may do better.
const fn is_of_the_model(failure: Failure) -> bool {
    matches!(
        failure,
        Failure::Overloaded
            | Failure::RateLimited
            | Failure::Server
            | Failure::Timeout
            | Failure::FirstTokenTimeout
    )
}

/// `growth_chat_llm_requests_total{outcome}`, of the request that the caller does not hear of.
fn count(failed: &ModelError) {
    metrics::counter!("growth_chat_llm_requests_total", "outcome" => failed.code()).increment(1);
}

/// The failure that the job goes by, when both models failed, and the other one: it goes by the model which
/// was asked for. What the fallback found out about the account or the key holds for both, though.
fn decisive(first: ModelError, second: ModelError) -> (ModelError, ModelError) {
    let of_the_account = matches!(
        second.failure(),
        Failure::SpendLimit | Failure::Authentication
    );
    if of_the_account {
        (second, first)
    } else {
        (first, second)
    }
}
