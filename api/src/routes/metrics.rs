//! `GET /metrics`, on a port of its own: what Prometheus reads.

use axum::{
    extract::State as StateOf,
    http::header,
    response::{IntoResponse, Response},
};
use metrics_exporter_prometheus::PrometheusHandle;

pub(crate) async fn get(StateOf(handle): StateOf<PrometheusHandle>) -> Response {
    (
        [(
            header::CONTENT_TYPE,
            "text/plain; version=0.0.4; charset=utf-8",
        )],
        handle.render(),
    )
        .into_response()
}
