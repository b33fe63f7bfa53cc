//! Sends spans to a collector of traces by OTLP over HTTP.
//!
//! The SDK of `OpenTelemetry` batches, encodes and repeats; it has a thread of its own for that, and the
//! variables that it knows by itself (`OTEL_BSP_*`, `OTEL_EXPORTER_OTLP_TIMEOUT`, …) hold. Spans that come
//! faster than the collector takes them are dropped: nobody's answer waits for a collector.

use std::{
    collections::HashMap,
    fmt,
    str::FromStr,
    sync::{
        Arc, OnceLock,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use anyhow::Context;
use async_trait::async_trait;
use opentelemetry::{
    InstrumentationScope, KeyValue,
    trace::{SpanContext, SpanId, Status, TraceFlags, TraceState},
};
use opentelemetry_http::{Bytes, HttpClient, HttpError, Request, Response, ResponseBodyTooLarge};
use opentelemetry_otlp::{
    Protocol, SpanExporter as OtlpExporter, WithExportConfig, WithHttpConfig,
};
use opentelemetry_sdk::{
    Resource,
    error::OTelSdkResult,
    trace::{BatchSpanProcessor, SpanData, SpanEvents, SpanExporter, SpanLinks, SpanProcessor},
};
use secrecy::ExposeSecret;
use store::{
    environment::Environment,
    settings::Settings,
    trace::{self, EndedSpan, Recorder},
};
use tokio::{runtime::Handle, task::spawn_blocking};
use workers::{clients::http_client, config::optional_base_url};

/// How long a collector may take for a batch; the SDK's default, which its client has to hold.
const TIMEOUT: Duration = Duration::from_secs(10);
/// The most that is read of a collector's answer.
const LARGEST_ANSWER: usize = 64 * 1024;
/// How long the end of a process waits for its last spans to be taken.
const FINISH_LIMIT: Duration = Duration::from_secs(3);

/// What sends the spans of this process, if anything does.
static SENDER: OnceLock<Arc<BatchSpanProcessor>> = OnceLock::new();

/// Where spans go, and as whose.
#[derive(Debug)]
pub(crate) struct TraceConfig {
    endpoint: String,
    headers: Headers,
    service_name: String,
    environment: Environment,
}

impl TraceConfig {
    /// Reads `OTEL_EXPORTER_OTLP_ENDPOINT`; without it nothing is sent. With it
    /// `OTEL_EXPORTER_OTLP_HEADERS` and `OTEL_SERVICE_NAME` (default `growth-chat`).
    pub(crate) fn read(settings: &mut Settings) -> Option<Self> {
        let endpoint = optional_base_url(settings, "OTEL_EXPORTER_OTLP_ENDPOINT");
        let rule = "name=value,name=value, with percent-encoded values";
        let headers = settings.optional_secret("OTEL_EXPORTER_OTLP_HEADERS", rule);
        let headers = headers.map_or_else(
            || Ok(Headers::default()),
            |headers| headers.expose_secret().parse(),
        );
        if headers.is_err() {
            settings.problem(
                "OTEL_EXPORTER_OTLP_HEADERS",
                format!("is not valid: {rule}"),
            );
        }
        let service_name = settings.with_default(
            "OTEL_SERVICE_NAME",
            "growth-chat".to_owned(),
            "at most 255 characters, none of them a control character",
            |name| name.chars().count() <= 255 && !name.contains(char::is_control),
        );
        let environment = Environment::read(settings);
        Some(Self {
            endpoint: endpoint?,
            headers: headers.unwrap_or_default(),
            service_name,
            environment,
        })
    }

    /// `OTEL_EXPORTER_OTLP_ENDPOINT`, with the path of traces.
    fn url(&self) -> String {
        format!("{}/v1/traces", self.endpoint)
    }

    /// Sends the spans of the process from now on.
    pub(super) fn start(&self) -> anyhow::Result<()> {
        let exporter = OtlpExporter::builder()
            .with_http()
            .with_http_client(Carrier {
                http: http_client().context("the system's trust roots could not be read")?,
                runtime: Handle::current(),
            })
            .with_protocol(Protocol::HttpBinary)
            .with_endpoint(self.url())
            .with_timeout(TIMEOUT)
            .with_headers(self.headers.0.clone())
            .build()
            .context("OTEL_EXPORTER_OTLP_ENDPOINT: traces could not be started")?;
        let counted = Counted {
            exporter,
            is_failing: AtomicBool::new(false),
        };
        let mut processor = BatchSpanProcessor::builder(counted).build();
        processor.set_resource(&self.resource());
        let processor = Arc::new(processor);
        trace::record_with(ToCollector {
            processor: Arc::clone(&processor),
            scope: InstrumentationScope::builder("growth-chat")
                .with_version(env!("CARGO_PKG_VERSION"))
                .build(),
        })?;
        let _ = SENDER.set(processor);
        Ok(())
    }

    fn resource(&self) -> Resource {
        Resource::builder()
            .with_service_name(self.service_name.clone())
            .with_attributes([
                KeyValue::new("service.version", env!("CARGO_PKG_VERSION")),
                KeyValue::new("deployment.environment.name", self.environment.as_str()),
            ])
            .build()
    }

    /// Whether a collector takes what we would send: a batch of nothing.
    pub(crate) async fn try_out(&self) -> anyhow::Result<()> {
        let mut request = http_client()?
            .post(self.url())
            .timeout(TIMEOUT)
            .header("content-type", "application/x-protobuf");
        for (name, value) in &self.headers.0 {
            request = request.header(name, value);
        }
        // Without its address, which may hold a key.
        let response = request.send().await.map_err(reqwest::Error::without_url)?;
        let status = response.status();
        anyhow::ensure!(status.is_success(), "it answered {}", status.as_u16());
        Ok(())
    }
}

/// Sends what is left, for a short while.
pub(super) async fn finish() {
    if let Some(sender) = SENDER.get() {
        let ending = spawn_blocking(|| sender.shutdown_with_timeout(FINISH_LIMIT));
        if !matches!(ending.await, Ok(Ok(()))) {
            tracing::warn!("the last spans were not taken by the collector of traces");
        }
    }
}

/// `name=value,name=value`, as W3C baggage writes lists; values are percent-encoded.
/// `Debug` hides them: they are keys.
#[derive(Default, PartialEq, Eq)]
struct Headers(HashMap<String, String>);

impl fmt::Debug for Headers {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Headers(…)")
    }
}

impl FromStr for Headers {
    type Err = ();

    fn from_str(text: &str) -> Result<Self, ()> {
        let header = |part: &str| {
            let (name, value) = part.split_once('=').ok_or(())?;
            let name: reqwest::header::HeaderName = name.trim().parse().map_err(|_| ())?;
            let value = percent_encoding::percent_decode_str(value.trim());
            let value = value.decode_utf8().map_err(|_| ())?.into_owned();
            reqwest::header::HeaderValue::from_str(&value).map_err(|_| ())?;
            Ok((name.as_str().to_owned(), value))
        };
        text.split(',')
            .map(header)
            .collect::<Result<_, ()>>()
            .map(Self)
    }
}

/// Hands spans to the SDK.
#[derive(Debug)]
struct ToCollector {
    processor: Arc<BatchSpanProcessor>,
    scope: InstrumentationScope,
}

impl Recorder for ToCollector {
    fn record(&self, span: EndedSpan) {
        count("recorded", 1);
        let flags = if span.context.is_sampled() {
            TraceFlags::SAMPLED
        } else {
            TraceFlags::default()
        };
        let parent = span.parent;
        self.processor.on_end(SpanData {
            span_context: SpanContext::new(
                span.context.trace_id().get().get().into(),
                span.context.span_id().get().into(),
                flags,
                false,
                TraceState::default(),
            ),
            parent_span_id: parent.map_or(SpanId::INVALID, |parent| parent.id.get().into()),
            parent_span_is_remote: parent.is_some_and(|parent| parent.is_remote),
            span_kind: span.kind,
            name: span.name.into(),
            start_time: span.started,
            end_time: span.ended,
            attributes: span.attributes,
            dropped_attributes_count: 0,
            events: SpanEvents::default(),
            links: SpanLinks::default(),
            status: span.error.map_or(Status::Unset, Status::error),
            instrumentation_scope: self.scope.clone(),
        });
    }
}

/// Counts what the collector took, and says when it does not.
#[derive(Debug)]
struct Counted {
    exporter: OtlpExporter,
    is_failing: AtomicBool,
}

impl SpanExporter for Counted {
    async fn export(&self, batch: Vec<SpanData>) -> OTelSdkResult {
        let spans = u64::try_from(batch.len()).unwrap_or(u64::MAX);
        let exported = self.exporter.export(batch).await;
        let failed = exported.is_err();
        count(if failed { "failed" } else { "sent" }, spans);
        if self.is_failing.swap(failed, Ordering::Relaxed) != failed {
            if failed {
                tracing::warn!("the collector of traces does not take spans: they are lost");
            } else {
                tracing::info!("the collector of traces takes spans again");
            }
        }
        exported
    }

    fn shutdown_with_timeout(&self, timeout: Duration) -> OTelSdkResult {
        self.exporter.shutdown_with_timeout(timeout)
    }

    fn set_resource(&mut self, resource: &Resource) {
        self.exporter.set_resource(resource);
    }
}

fn count(outcome: &'static str, spans: u64) {
    metrics::counter!("growth_chat_trace_spans_total", "outcome" => outcome).increment(spans);
}

/// The process's HTTP client, for the SDK's thread, which is none of the runtime's.
#[derive(Debug)]
struct Carrier {
    http: reqwest::Client,
    runtime: Handle,
}

#[async_trait]
impl HttpClient for Carrier {
    async fn send_bytes(&self, request: Request<Bytes>) -> Result<Response<Bytes>, HttpError> {
        let mut request = reqwest::Request::try_from(request)?;
        *request.timeout_mut() = Some(TIMEOUT);
        let http = self.http.clone();
        let exchange = async move {
            let mut response = http.execute(request).await?;
            let mut body = Vec::new();
            while let Some(part) = response.chunk().await? {
                if body.len() + part.len() > LARGEST_ANSWER {
                    return Err(ResponseBodyTooLarge::new().into());
                }
                body.extend_from_slice(&part);
            }
            let mut answer = Response::new(Bytes::from(body));
            *answer.status_mut() = response.status();
            *answer.headers_mut() = std::mem::take(response.headers_mut());
            Ok(answer)
        };
        self.runtime.spawn(exchange).await?
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(text: &str) -> Result<Headers, ()> {
        text.parse()
    }

    #[test]
    fn headers_are_a_list_of_names_and_percent_encoded_values() {
        let read = headers("Authorization=Basic%20cGs6c2s=, x-version = 4").unwrap();
        let expected = [("authorization", "Basic cGs6c2s="), ("x-version", "4")];
        let expected = expected.map(|(name, value)| (name.to_owned(), value.to_owned()));
        assert_eq!(read, Headers(expected.into()));
        for wrong in [
            "",
            "authorization",
            "two words=x",
            "a=1,,b=2",
            "a=%0d%0a",
            "a=%ff",
        ] {
            assert_eq!(headers(wrong), Err(()), "{wrong}");
        }
    }
}
