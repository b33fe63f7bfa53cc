//! The response that carries a turn's stream.

use axum::{
    body::Body,
    http::{HeaderName, HeaderValue, header},
    response::Response,
};
use serde::Deserialize;
use utoipa::ToSchema;

use crate::hub::{EventStream, Takeover};

/// `?reset=`: what a takeover does to the stream.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Reset {
    /// The stream goes on with `data-reset` and the new attempt.
    Event,
    /// The stream is cut, so that the client asks again from the beginning.
    Cut,
}

impl From<Reset> for Takeover {
    fn from(reset: Reset) -> Self {
        match reset {
            Reset::Event => Self::Event,
            Reset::Cut => Self::Cut,
        }
    }
}

/// The header by which the AI SDK's tools know the protocol.
pub(crate) const PROTOCOL: HeaderName = HeaderName::from_static("x-vercel-ai-ui-message-stream");

/// Streams a turn's events.
pub(crate) fn respond(events: EventStream) -> Response {
    let mut response = Response::new(Body::from_stream(events));
    let headers = response.headers_mut();
    for (name, value) in [
        (header::CONTENT_TYPE, "text/event-stream"),
        (header::CACHE_CONTROL, "no-cache, no-transform"),
        (HeaderName::from_static("x-accel-buffering"), "no"),
        (PROTOCOL, "v1"),
    ] {
        headers.insert(name, HeaderValue::from_static(value));
    }
    response
}
