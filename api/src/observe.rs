//! What is measured and logged of every request, and the trace that it is part of.

use axum::{
    extract::{MatchedPath, Request, State as StateOf},
    middleware::Next,
    response::Response,
};
use store::trace::TraceContext;
use tokio::time::Instant;
use tracing::Instrument;

use crate::state::State;

/// The header in which a caller names its trace.
pub(crate) const TRACEPARENT: &str = "traceparent";

/// Measures the time to the response's head; a stream's body is not part of it. What is logged
/// meanwhile names the request's trace, and handlers find it as an extension.
pub(crate) async fn observe(
    StateOf(state): StateOf<State>,
    mut request: Request,
    next: Next,
) -> Response {
    // The pattern, not the path: a path holds a session's id, and there are few patterns.
    let route = request.extensions().get::<MatchedPath>().map_or_else(
        || "unmatched".to_owned(),
        |path| {
            let path = path.as_str();
            path.strip_prefix("/api/v1").unwrap_or(path).to_owned()
        },
    );
    let trace = TraceContext::of_caller(traceparent(&request), state.entropy().as_ref());
    request.extensions_mut().insert(trace);
    let span = tracing::info_span!(
        "request", trace_id = %trace.trace_id(), method = %request.method(), route,
    );
    let start = Instant::now();
    let response = next.run(request).instrument(span).await;
    metrics::histogram!(
        "growth_chat_http_request_duration_seconds",
        "route" => route,
        "status" => response.status().as_str().to_owned(),
    )
    .record(start.elapsed().as_secs_f64());
    response
}

/// The caller's; of two nobody can say which is right.
fn traceparent(request: &Request) -> Option<&str> {
    let mut values = request.headers().get_all(TRACEPARENT).iter();
    let value = values.next()?;
    values.next().is_none().then(|| value.to_str().ok())?
}
