//! What the process says about itself: logs on standard error, metrics for Prometheus, traces for a
//! collector.
//!
//! Standard output is for programs: one line that says where the process listens.

mod json;
mod traces;

use std::{io::Write, panic, str::FromStr, time::Duration};

use anyhow::{Context, Result};
use metrics_exporter_prometheus::{Matcher, PrometheusBuilder, PrometheusHandle};
use store::settings::Settings;
use tracing::{Level, Metadata, dispatcher};
use tracing_subscriber::{
    EnvFilter, filter::filter_fn, fmt::format::JsonFields, layer::SubscriberExt,
    util::SubscriberInitExt,
};

use self::json::FlatJson;
pub(crate) use self::traces::TraceConfig;

/// Bounds of the histograms of seconds: from what a database answers in to a model's longest answer. What
/// an alert compares with (0.03 and 3) is one of them: between two bounds a quantile is a guess.
const SECONDS: [f64; 17] = [
    0.001, 0.0025, 0.005, 0.01, 0.025, 0.03, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 3.0, 5.0, 10.0, 30.0,
    60.0,
];

/// Bounds of the attempts that a job took: schedules of retries have 4 to some 30.
const ATTEMPTS: [f64; 8] = [1.0, 2.0, 3.0, 4.0, 5.0, 7.0, 10.0, 30.0];

/// Our crates: what they say is tested at every level.
const OURS: [&str; 5] = ["api", "growth_chat", "jobs", "store", "workers"];

/// How often figures that nobody scraped are folded up, so that they do not pile up in memory.
const UPKEEP: Duration = Duration::from_secs(5);

/// How a line of the log looks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum LogFormat {
    /// For machines.
    Json,
    /// For people.
    Text,
}

impl FromStr for LogFormat {
    type Err = ();

    fn from_str(text: &str) -> Result<Self, ()> {
        match text {
            "json" => Ok(Self::Json),
            "text" => Ok(Self::Text),
            _ => Err(()),
        }
    }
}

/// What is logged, and how; where traces go.
#[derive(Debug)]
pub(crate) struct TelemetryConfig {
    format: LogFormat,
    filter: EnvFilter,
    traces: Option<TraceConfig>,
}

impl TelemetryConfig {
    /// Reads `LOG_FORMAT` (default `json`), `RUST_LOG` (default `info`), and where traces go.
    pub(crate) fn read(settings: &mut Settings) -> Self {
        let format = settings.with_default("LOG_FORMAT", LogFormat::Json, "json or text", |_| true);
        let filter = settings.with_default(
            "RUST_LOG",
            EnvFilter::new("info"),
            "a level (error, warn, info, debug, trace), or directives such as info,store=debug",
            |_| true,
        );
        let traces = TraceConfig::read(settings);
        Self {
            format,
            filter,
            traces,
        }
    }

    /// Logs and traces from now on, in a runtime.
    pub(crate) fn start(self) -> Result<()> {
        let log = tracing_subscriber::fmt()
            .with_env_filter(self.filter)
            .with_writer(std::io::stderr);
        let discreet = filter_fn(is_discreet);
        let started = match self.format {
            LogFormat::Json => log
                .fmt_fields(JsonFields::new())
                .event_format(FlatJson)
                .finish()
                .with(discreet)
                .try_init(),
            LogFormat::Text => log.with_ansi(false).finish().with(discreet).try_init(),
        };
        started.context("the log could not be started")?;
        self.traces.map_or(Ok(()), |traces| traces.start())
    }
}

/// Whether a line may be written, whatever `RUST_LOG` says. What other crates say below `warn` is theirs:
/// it quotes what a store answers, the id of its key, addresses, or tells of every kind of job at each start.
fn is_discreet(line: &Metadata<'_>) -> bool {
    let of_crate = line.target().split("::").next().unwrap_or_default();
    *line.level() <= Level::WARN || OURS.contains(&of_crate)
}

/// Tells of a panic by its place only, from now on: its message may quote what a visitor wrote.
pub(crate) fn hide_words_of_panics() {
    panic::set_hook(Box::new(|panic| {
        let place = panic.location().map(ToString::to_string);
        if dispatcher::has_been_set() {
            tracing::error!(place, "a task panicked");
        } else {
            // Nothing is left to be done if this can't be written.
            let place = place.unwrap_or_default();
            let _ = writeln!(std::io::stderr(), "growth-chat: it panicked at {place}");
        }
    }));
}

/// Sends what is left to the collector of traces: the last thing that a process does.
pub(crate) async fn finish() {
    traces::finish().await;
}

/// Keeps figures from now on.
pub(crate) fn start_metrics() -> Result<PrometheusHandle> {
    let handle = PrometheusBuilder::new()
        .set_buckets_for_metric(Matcher::Suffix("_seconds".to_owned()), &SECONDS)
        .and_then(|builder| {
            let attempts = Matcher::Full("growth_chat_job_attempts".to_owned());
            builder.set_buckets_for_metric(attempts, &ATTEMPTS)
        })
        .and_then(PrometheusBuilder::install_recorder)
        .context("the metrics could not be started")?;
    metrics::describe_gauge!("growth_chat_build_info", "The running version; always 1");
    metrics::gauge!("growth_chat_build_info", "version" => env!("CARGO_PKG_VERSION")).set(1.0);
    Ok(handle)
}

/// Folds figures up for ever.
pub(crate) async fn keep_up(handle: PrometheusHandle) {
    let mut rounds = tokio::time::interval(UPKEEP);
    loop {
        rounds.tick().await;
        handle.run_upkeep();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn problems(variables: &[(&str, &str)]) -> Vec<String> {
        let owned = variables
            .iter()
            .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()));
        let mut settings = Settings::new(owned);
        let config = TelemetryConfig::read(&mut settings);
        match settings.finish(Some(config)) {
            Ok(_) => Vec::new(),
            Err(error) => error.problems.into_iter().map(|(name, _)| name).collect(),
        }
    }

    #[test]
    fn the_log_needs_no_configuration() {
        assert!(problems(&[]).is_empty());
        let set = [("LOG_FORMAT", "text"), ("RUST_LOG", "warn,store=debug")];
        assert!(problems(&set).is_empty());
    }

    #[test]
    fn a_log_that_can_not_be_had_is_refused_by_name() {
        let wrong = [("LOG_FORMAT", "xml"), ("RUST_LOG", "info,store=loud")];
        assert_eq!(problems(&wrong), ["LOG_FORMAT", "RUST_LOG"]);
    }
}
