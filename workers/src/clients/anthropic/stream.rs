//! The answer while it comes: time-outs, and the bytes' way to events.

use std::{
    pin::Pin,
    task::{Context, Poll},
};

use futures::{Stream, StreamExt};
use reqwest::Response;
use tokio::time::{Instant, timeout_at};

use super::{
    ModelError, PROVIDER, REQUEST_ID, StreamLimits,
    chat::Chat,
    events::{Decoded, Decoder, ModelEvent},
};
use crate::clients::{
    error::{Failure, ProviderError},
    http::header,
    sse::SseDecoder,
};

/// The most that one answer may send. A thousand tokens with their framing are about 200 kB, so
/// only a broken peer gets here.
const ANSWER_LIMIT: usize = 16 * 1024 * 1024;

/// The events of one answer, ended by [`ModelEvent::Finished`] or by an error. Dropping it closes
/// the connection.
pub struct MessageStream {
    events: Pin<Box<dyn Stream<Item = Result<ModelEvent, ModelError>> + Send>>,
    request_id: Option<String>,
    /// It goes on for as long as somebody listens.
    chat: Chat,
}

impl MessageStream {
    pub(super) fn new(
        response: Response,
        limits: StreamLimits,
        first_token: Instant,
        chat: Chat,
    ) -> Self {
        let request_id = header(response.headers(), REQUEST_ID).map(str::to_owned);
        Self {
            chat,
            request_id: request_id.clone(),
            events: Box::pin(events(response, limits, first_token, request_id)),
        }
    }

    /// The same stream, with an event that was taken from it put back.
    pub(super) fn beginning_with(self, event: ModelEvent) -> Self {
        let first = futures::stream::once(std::future::ready(Ok(event)));
        Self {
            events: Box::pin(first.chain(self.events)),
            ..self
        }
    }

    /// The provider's name for the call.
    pub fn request_id(&self) -> Option<&str> {
        self.request_id.as_deref()
    }
}

impl std::fmt::Debug for MessageStream {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("MessageStream")
            .field("request_id", &self.request_id)
            .finish_non_exhaustive()
    }
}

impl Stream for MessageStream {
    type Item = Result<ModelEvent, ModelError>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let this = &mut *self;
        let next = this.events.as_mut().poll_next(cx);
        match &next {
            Poll::Ready(Some(Ok(event))) => this.chat.saw(event),
            Poll::Ready(Some(Err(error))) => this.chat.span.fail(error.code()),
            Poll::Ready(None) | Poll::Pending => {}
        }
        next
    }
}

fn events(
    response: Response,
    limits: StreamLimits,
    first_token: Instant,
    request_id: Option<String>,
) -> impl Stream<Item = Result<ModelEvent, ModelError>> + Send {
    let failed =
        move |failure| ProviderError::new(PROVIDER, failure).with_request_id(request_id.as_deref());
    async_stream::try_stream! {
        let mut body = response.bytes_stream();
        let mut received = 0;
        let mut events = SseDecoder::default();
        let mut decoder = Decoder::default();
        let mut clock = Patience::new(limits, first_token);
        loop {
            while let Some(data) = events.pop() {
                let seen = decoder.push(&data).map_err(&failed)?;
                clock.saw(&seen);
                if let Decoded::Event(event) = seen {
                    let last = matches!(event, ModelEvent::Finished { .. });
                    yield event;
                    if last {
                        return;
                    }
                    clock.resume();
                }
            }
            let (deadline, overdue) = clock.deadline();
            let part = match timeout_at(deadline, body.next()).await {
                Err(_) => Err(overdue),
                // The connection ended before `message_stop`, cleanly or not.
                Ok(None | Some(Err(_))) => Err(Failure::ConnectionLost),
                Ok(Some(Ok(part))) => Ok(part),
            }
            .map_err(&failed)?;
            received += part.len();
            if received > ANSWER_LIMIT || events.push(&part).is_err() {
                Err(failed(Failure::MalformedResponse))?;
            }
        }
    }
}

/// Which silence ends the stream next.
struct Patience {
    limits: StreamLimits,
    /// `None` as soon as there was content.
    first_token: Option<Instant>,
    last_event: Instant,
    last_content: Instant,
}

impl Patience {
    fn new(limits: StreamLimits, first_token: Instant) -> Self {
        let now = Instant::now();
        Self {
            limits,
            first_token: Some(first_token),
            last_event: now,
            last_content: now,
        }
    }

    fn deadline(&self) -> (Instant, Failure) {
        if let Some(first_token) = self.first_token {
            return (first_token, Failure::FirstTokenTimeout);
        }
        let deadline =
            (self.last_event + self.limits.idle).min(self.last_content + self.limits.no_content);
        (deadline, Failure::IdleTimeout)
    }

    /// The time that the caller took for an event is not the provider's silence.
    fn resume(&mut self) {
        let now = Instant::now();
        self.last_event = now;
        self.last_content = now;
    }

    fn saw(&mut self, decoded: &Decoded) {
        self.last_event = Instant::now();
        if !matches!(
            decoded,
            Decoded::Nothing | Decoded::Event(ModelEvent::Started { .. })
        ) {
            self.last_content = self.last_event;
            self.first_token = None;
        }
    }
}
