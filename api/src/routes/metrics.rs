//! `GET /metrics`, on a port of its own: what Prometheus reads.

use axum::{
    extract::State as StateOf,
    http::header,
    response::{IntoResponse, Response},
};
use jobs::QueueFigures;
use metrics_exporter_prometheus::PrometheusHandle;
use store::{backups::BackupFigures, spend::SpendFigures};

/// What a scrape is answered from.
#[derive(Debug, Clone)]
pub(crate) struct Figures {
    pub(crate) recorder: PrometheusHandle,
    pub(crate) queues: QueueFigures,
    pub(crate) spend: SpendFigures,
    pub(crate) backups: BackupFigures,
}

pub(crate) async fn get(StateOf(figures): StateOf<Figures>) -> Response {
    // Each waits for the database for a while at most: all at once.
    tokio::join!(
        figures.queues.refresh(),
        figures.spend.refresh(),
        figures.backups.refresh()
    );
    (
        [(
            header::CONTENT_TYPE,
            "text/plain; version=0.0.4; charset=utf-8",
        )],
        figures.recorder.render(),
    )
        .into_response()
}
