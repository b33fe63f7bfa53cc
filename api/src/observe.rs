//! What is measured of every request.

use axum::{
    extract::{MatchedPath, Request},
    middleware::Next,
    response::Response,
};
use tokio::time::Instant;

/// Measures the time to the response's head; a stream's body is not part of it.
pub(crate) async fn measure(request: Request, next: Next) -> Response {
    // The pattern, not the path: a path holds a session's id, and there are few patterns.
    let route = request.extensions().get::<MatchedPath>().map_or_else(
        || "unmatched".to_owned(),
        |path| {
            let path = path.as_str();
            path.strip_prefix("/api/v1").unwrap_or(path).to_owned()
        },
    );
    let start = Instant::now();
    let response = next.run(request).await;
    metrics::histogram!(
        "growth_chat_http_request_duration_seconds",
        "route" => route,
        "status" => response.status().as_str().to_owned(),
    )
    .record(start.elapsed().as_secs_f64());
    response
}
