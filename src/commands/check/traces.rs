//! Whether the collector of traces takes what we would send. A batch of nothing is sent.

use super::{Context, Finding};

pub(super) async fn probe(context: &Context) -> Finding {
    let Some(traces) = &context.traces else {
        return Finding::new(
            super::Status::Skip,
            "no traces are sent: OTEL_EXPORTER_OTLP_ENDPOINT is not set",
        );
    };
    match traces.try_out().await {
        Ok(()) => Finding::pass("the collector of OTEL_EXPORTER_OTLP_ENDPOINT takes traces"),
        Err(error) => Finding::failed(
            "the collector of OTEL_EXPORTER_OTLP_ENDPOINT takes no traces",
            error,
        ),
    }
}
