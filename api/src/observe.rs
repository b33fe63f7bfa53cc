//! What is measured, logged and traced of every request.

use std::sync::Arc;

use axum::{
    extract::{MatchedPath, Request, State as StateOf},
    http::Method,
    middleware::Next,
    response::Response,
};
use store::trace::{Span, attribute};
use tokio::time::Instant;
use tracing::Instrument;

use crate::state::State;

/// The header in which a caller names its trace.
pub(crate) const TRACEPARENT: &str = "traceparent";

/// What is asked every few seconds, and by whoever looks for a hole: no collector needs to hear of it.
const UNTOLD: [&str; 3] = ["/health", "/ready", UNMATCHED];
const UNMATCHED: &str = "unmatched";

/// Measures the time to the response's head; a stream's body is not part of it. The handler works in the
/// request's span, and what is logged meanwhile names its trace.
pub(crate) async fn observe(
    StateOf(state): StateOf<State>,
    request: Request,
    next: Next,
) -> Response {
    // The pattern, not the path: a path holds a session's id, and there are few patterns.
    let route: Arc<str> = request.extensions().get::<MatchedPath>().map_or_else(
        || UNMATCHED.into(),
        |path| {
            let path = path.as_str();
            path.strip_prefix("/api/v1").unwrap_or(path).into()
        },
    );
    let method = known(request.method());
    let mut span = Span::of_request(method, &route, traceparent(&request), state.entropy());
    if UNTOLD.contains(&&*route) || request.method() == Method::OPTIONS {
        span.forget();
    }
    span.set(attribute::HTTP_ROUTE, Arc::clone(&route));
    span.set(attribute::HTTP_REQUEST_METHOD, method);
    let log = tracing::info_span!(
        "request",
        trace_id = span.context().map(|trace| tracing::field::display(trace.trace_id())),
        method = %request.method(),
        route = &*route,
    );
    let start = Instant::now();
    let response = span.scope(next.run(request)).instrument(log).await;
    let status = response.status();
    span.set(
        attribute::HTTP_RESPONSE_STATUS_CODE,
        i64::from(status.as_u16()),
    );
    if status.is_server_error() {
        span.fail(status.as_str().to_owned());
    }
    metrics::histogram!(
        "growth_chat_http_request_duration_seconds",
        "route" => route,
        "status" => status.as_str().to_owned(),
    )
    .record(start.elapsed().as_secs_f64());
    response
}

/// A method, of which there are few; a caller may make up any.
fn known(method: &Method) -> &'static str {
    match *method {
        Method::GET => "GET",
        Method::POST => "POST",
        Method::DELETE => "DELETE",
        Method::HEAD => "HEAD",
        _ => "_OTHER",
    }
}

/// The caller's; of two nobody can say which is right.
fn traceparent(request: &Request) -> Option<&str> {
    let mut values = request.headers().get_all(TRACEPARENT).iter();
    let value = values.next()?;
    values.next().is_none().then(|| value.to_str().ok())?
}
