//! A collector of traces: OTLP over HTTP, protobuf, as a Langfuse or an `OpenTelemetry` collector takes it.
//! <https://opentelemetry.io/docs/specs/otlp/#otlphttp>

use std::{
    collections::{BTreeMap, VecDeque},
    io,
    sync::Arc,
    time::Duration,
};

use axum::{
    Router,
    body::Bytes,
    extract::State,
    http::{HeaderMap, StatusCode, header},
    response::{IntoResponse, Response},
    routing::post,
};
use opentelemetry_proto::tonic::{
    collector::trace::v1::{ExportTraceServiceRequest, ExportTraceServiceResponse},
    common::v1::{AnyValue, KeyValue, any_value},
    trace::v1::{Span, span::SpanKind, status::StatusCode as SpanStatus},
};
use parking_lot::Mutex;
use prost::Message;
use serde::Serialize;
use serde_json::Value;
use tokio::sync::watch;

use crate::{
    mishap::{self, Asked},
    outside::{OutsideWorld, Service},
    serve::Served,
    switch::Switch,
};

/// How many spans are kept; the oldest go first.
const KEPT: usize = 2_000;

/// A span as it was received.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Received {
    /// 32 hex digits.
    pub trace_id: String,
    /// 16 hex digits.
    pub span_id: String,
    /// The same of the span that it is a part of; empty: it is the first.
    pub parent_id: String,
    /// Whether the parent is said to be of another process.
    pub parent_is_remote: bool,
    /// What it is called.
    pub name: String,
    /// `server`, `client`, `consumer`, `internal`, ….
    pub kind: String,
    /// When it began, in nanoseconds since 1970.
    pub started: u64,
    /// How long it took.
    pub took: Duration,
    /// What it says.
    pub attributes: BTreeMap<String, Value>,
    /// Why it failed; none: it did not.
    pub error: Option<String>,
    /// What the process says of itself.
    pub resource: Arc<BTreeMap<String, Value>>,
}

/// The stand-in, which serves until it is dropped.
#[derive(Debug)]
pub struct Collector {
    served: Served,
    state: Shared,
}

#[derive(Debug, Clone)]
struct Shared {
    world: OutsideWorld,
    switch: Switch,
    kept: Arc<Mutex<Kept>>,
    changed: Arc<watch::Sender<()>>,
}

#[derive(Debug, Default)]
struct Kept {
    spans: VecDeque<Received>,
    authorization: Option<String>,
}

impl Collector {
    /// Serves on a port, or with 0 on a free one.
    pub async fn start(world: OutsideWorld, port: u16) -> io::Result<Self> {
        let state = Shared {
            world,
            switch: Switch::default(),
            kept: Arc::default(),
            changed: Arc::new(watch::Sender::new(())),
        };
        let router = Router::new()
            .route("/v1/traces", post(take))
            .with_state(state.clone());
        let served = Served::start(router, port).await?;
        Ok(Self { served, state })
    }

    /// What `OTEL_EXPORTER_OTLP_ENDPOINT` is to be.
    pub fn url(&self) -> String {
        self.served.url()
    }

    /// How it fails.
    pub fn switch(&self) -> &Switch {
        &self.state.switch
    }

    /// What was received, in its order.
    pub fn spans(&self) -> Vec<Received> {
        self.state.kept.lock().spans.iter().cloned().collect()
    }

    /// The `Authorization` of the newest request.
    pub fn authorization(&self) -> Option<String> {
        self.state.kept.lock().authorization.clone()
    }

    /// Waits until what was received is as wanted.
    pub async fn until(&self, mut wanted: impl FnMut(&[Received]) -> bool) -> Vec<Received> {
        let mut changed = self.state.changed.subscribe();
        loop {
            let spans = self.spans();
            if wanted(&spans) {
                return spans;
            }
            // The sender lives as long as we do.
            let _ = changed.changed().await;
        }
    }
}

async fn take(State(state): State<Shared>, headers: HeaderMap, body: Bytes) -> Response {
    let recording = state
        .world
        .record(Service::Collector, "POST /v1/traces", b"");
    let authorization = headers.get(header::AUTHORIZATION);
    let authorization = authorization.and_then(|value| value.to_str().ok());
    state.kept.lock().authorization = authorization.map(ToOwned::to_owned);
    let trouble = state.switch.take();
    let take = || {
        let Ok(request) = ExportTraceServiceRequest::decode(&*body) else {
            return StatusCode::BAD_REQUEST.into_response();
        };
        state.keep(request);
        let answer = ExportTraceServiceResponse::default().encode_to_vec();
        ([(header::CONTENT_TYPE, "application/x-protobuf")], answer).into_response()
    };
    let refuse = |code: &str| (StatusCode::BAD_REQUEST, code.to_owned()).into_response();
    let asked = Asked {
        headers: &headers,
        body: &body,
    };
    mishap::meet(trouble, recording, asked, take, refuse).await
}

impl Shared {
    fn keep(&self, request: ExportTraceServiceRequest) {
        {
            let mut kept = self.kept.lock();
            for of_process in request.resource_spans {
                let resource = of_process.resource.unwrap_or_default();
                let resource = Arc::new(attributes(resource.attributes));
                let spans = of_process.scope_spans.into_iter().flat_map(|it| it.spans);
                kept.spans
                    .extend(spans.map(|span| received(span, &resource)));
            }
            let surplus = kept.spans.len().saturating_sub(KEPT);
            kept.spans.drain(..surplus);
        }
        self.changed.send_replace(());
    }
}

fn received(span: Span, resource: &Arc<BTreeMap<String, Value>>) -> Received {
    /// `SPAN_FLAGS_CONTEXT_HAS_IS_REMOTE_MASK` and `SPAN_FLAGS_CONTEXT_IS_REMOTE_MASK`.
    const REMOTE: u32 = 0x300;
    let status = span.status.clone().unwrap_or_default();
    Received {
        trace_id: hex(&span.trace_id),
        span_id: hex(&span.span_id),
        parent_id: hex(&span.parent_span_id),
        parent_is_remote: span.flags & REMOTE == REMOTE,
        kind: match span.kind() {
            SpanKind::Unspecified => "unspecified",
            SpanKind::Internal => "internal",
            SpanKind::Server => "server",
            SpanKind::Client => "client",
            SpanKind::Producer => "producer",
            SpanKind::Consumer => "consumer",
        }
        .to_owned(),
        error: (status.code() == SpanStatus::Error).then_some(status.message),
        started: span.start_time_unix_nano,
        took: Duration::from_nanos(
            span.end_time_unix_nano
                .saturating_sub(span.start_time_unix_nano),
        ),
        name: span.name,
        attributes: attributes(span.attributes),
        resource: Arc::clone(resource),
    }
}

fn attributes(list: Vec<KeyValue>) -> BTreeMap<String, Value> {
    list.into_iter()
        .map(|attribute| (attribute.key, value(attribute.value)))
        .collect()
}

fn value(any: Option<AnyValue>) -> Value {
    match any.and_then(|any| any.value) {
        Some(any_value::Value::StringValue(text)) => text.into(),
        Some(any_value::Value::BoolValue(truth)) => truth.into(),
        Some(any_value::Value::IntValue(number)) => number.into(),
        Some(any_value::Value::DoubleValue(number)) => number.into(),
        Some(any_value::Value::ArrayValue(list)) => {
            let values = list.values.into_iter();
            values.map(|item| value(Some(item))).collect()
        }
        _ => Value::Null,
    }
}

fn hex(bytes: &[u8]) -> String {
    use std::fmt::Write;
    bytes.iter().fold(String::new(), |mut text, byte| {
        // A String takes everything.
        let _ = write!(text, "{byte:02x}");
        text
    })
}
