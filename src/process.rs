//! What the long-running roles have in common: how they are configured, start and end.

use std::{io::Write, net::SocketAddr, process::ExitCode, sync::Arc, time::Duration};

use anyhow::{Context, Result};
use api::{ApiConfig, Hub};
use jobs::{QueueFigures, Runtime};
use serde_json::json;
use store::{
    backups::BackupFigures,
    bus::Bus,
    clock::SystemClock,
    db::{Database, DatabaseConfig},
    ids::{Entropy, SystemEntropy},
    settings::Settings,
    spend::SpendFigures,
};
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;
use workers::turn::EventWriter;

use crate::{
    lifecycle::{Stage, StopSignals, Supervisor},
    server::{self, Limits, bind},
    telemetry::{self, TelemetryConfig},
    wake_worker::WorkerWake,
};

/// Open connections of the API. Each costs memory; a machine for more has more processes.
const API_CONNECTIONS: usize = 20_000;
/// Open connections of the metrics: a Prometheus, a probe, a person.
const METRICS_CONNECTIONS: usize = 64;
/// How long a scrape may go on after everything else has ended.
const METRICS_DRAIN: Duration = Duration::from_secs(1);

/// What every long-running role is configured with.
#[derive(Debug)]
pub(crate) struct ProcessConfig {
    pub(crate) telemetry: TelemetryConfig,
    pub(crate) database: DatabaseConfig,
    pub(crate) drain: Duration,
}

impl ProcessConfig {
    /// Reads the variables of the database, the log and the traces, and `SHUTDOWN_DRAIN_SECONDS` (default
    /// 20): how long work in progress may go on after the first signal. Fly's `kill_timeout` has to be longer.
    pub(crate) fn read(settings: &mut Settings) -> Option<Self> {
        let telemetry = TelemetryConfig::read(settings);
        let database = DatabaseConfig::read(settings);
        let drain = settings.with_default(
            "SHUTDOWN_DRAIN_SECONDS",
            20,
            "a number of seconds from 0 to 600",
            |seconds| *seconds <= 600,
        );
        Some(Self {
            telemetry,
            database: database?,
            drain: Duration::from_secs(drain),
        })
    }
}

/// A process of a long-running role.
#[derive(Debug)]
pub(crate) struct Process {
    database: Database,
    bus: Bus,
    figures: QueueFigures,
    spend: SpendFigures,
    backups: BackupFigures,
    /// Cancelled once the schema is as this build needs it.
    migrated: CancellationToken,
    drain: Duration,
    supervisor: Supervisor,
    http: Option<SocketAddr>,
    metrics: Option<SocketAddr>,
}

impl Process {
    /// Starts what every role needs. Nothing waits for the database: one that is down delays work,
    /// not the start.
    pub(crate) fn start(config: ProcessConfig) -> Result<Self> {
        config.telemetry.start()?;
        let database = config
            .database
            .open()
            .context("the database's address could not be used")?;
        let signals = StopSignals::listen().context("listening to signals failed")?;
        let bus = Bus::new(fresh_name());
        let mut supervisor = Supervisor::default();
        tokio::spawn(signals.obey(supervisor.shutdown().clone()));
        let (task, of) = (bus.clone(), database.clone());
        supervisor.spawn("bus", Stage::Support, |stop| async move {
            tokio::select! {
                () = task.run(&of, stop) => Ok(()),
                // Nothing is lost by it, and everything is late: better not to start than to poll unseen.
                deaf = task.deaf_from_the_start() => Err(deaf.into()),
            }
        });
        let migrated = CancellationToken::new();
        let (task, of) = (migrated.clone(), database.clone());
        supervisor.spawn("schema check", Stage::Support, |stop| async move {
            let check = async {
                of.wait_until_migrated().await;
                task.cancel();
            };
            stop.run_until_cancelled(check).await;
            // It is checked once, and the process goes on.
            stop.cancelled().await;
            Ok(())
        });
        let figures = QueueFigures::new(database.pool().clone(), &bus);
        let spend = SpendFigures::new(database.pool().clone(), &bus);
        let backups = BackupFigures::new(database.pool().clone(), &bus);
        Ok(Self {
            database,
            bus,
            figures,
            spend,
            backups,
            migrated,
            drain: config.drain,
            supervisor,
            http: None,
            metrics: None,
        })
    }

    pub(crate) fn database(&self) -> &Database {
        &self.database
    }

    pub(crate) fn bus(&self) -> &Bus {
        &self.bus
    }

    /// What was spent, as the metrics show it.
    pub(crate) fn spend(&self) -> &SpendFigures {
        &self.spend
    }

    /// Serves the API.
    pub(crate) fn serve_api(&mut self, config: ApiConfig, listener: TcpListener) -> Result<()> {
        self.http = Some(listener.local_addr().context("the port is not known")?);
        let pool = self.database.pool().clone();
        let shutdown = self.supervisor.shutdown().clone();
        let (hub, reader) = Hub::new(pool.clone(), &self.bus, shutdown);
        self.supervisor
            .spawn("stream hub", Stage::Work, |_| async move {
                reader.run().await;
                Ok(())
            });
        let entropy = Arc::new(SystemEntropy);
        let clock = Arc::new(SystemClock);
        let state = api::State::new(config, pool, self.bus.clone(), hub, entropy, clock);
        let limits = Limits {
            connections: API_CONNECTIONS,
            drain: self.drain,
        };
        self.supervisor
            .spawn("HTTP server", Stage::Work, move |stop| async move {
                server::serve(listener, api::router(state), limits, stop).await;
                Ok(())
            });
        Ok(())
    }

    /// Serves the metrics and the wake-up from outside, and keeps the metrics.
    pub(crate) fn serve_metrics(&mut self, listener: TcpListener) -> Result<()> {
        self.metrics = Some(listener.local_addr().context("the port is not known")?);
        let handle = telemetry::start_metrics()?;
        let bus = self.bus.clone();
        let (queues, spend, backups) = (
            self.figures.clone(),
            self.spend.clone(),
            self.backups.clone(),
        );
        let router = api::metrics_router(handle.clone(), queues, spend, backups, bus);
        let upkeep = telemetry::keep_up(handle);
        self.supervisor
            .spawn("metrics upkeep", Stage::Support, |stop| async move {
                stop.run_until_cancelled(upkeep).await;
                Ok(())
            });
        let limits = Limits {
            connections: METRICS_CONNECTIONS,
            drain: METRICS_DRAIN,
        };
        self.supervisor
            .spawn("metrics server", Stage::Support, move |stop| async move {
                server::serve(listener, router, limits, stop).await;
                Ok(())
            });
        Ok(())
    }

    /// Writes the frames of turns for as long as jobs run.
    pub(crate) fn write_events(&mut self, events: EventWriter) {
        self.supervisor
            .spawn("event writer", Stage::Record, |stop| async move {
                events.run(stop).await;
                Ok(())
            });
    }

    /// Runs the jobs of `runtime` once the schema is there and `prepare` is done.
    pub(crate) fn run_jobs(
        &mut self,
        runtime: Runtime,
        prepare: impl Future<Output = Result<()>> + Send + 'static,
    ) {
        self.figures.include(&runtime);
        let drain = self.drain;
        let migrated = self.migrated.clone();
        self.supervisor
            .spawn("job runtime", Stage::Work, move |stop| async move {
                let prepared = async {
                    migrated.cancelled().await;
                    prepare.await
                };
                if let Some(prepared) = stop.run_until_cancelled(prepared).await {
                    prepared?;
                    runtime.run(stop, drain).await?;
                }
                Ok(())
            });
    }

    /// Ends the process, well, once it has had nothing to do for so long: the platform starts it again
    /// with the next request. A database that is away is no idleness.
    pub(crate) fn stop_when_idle(&mut self, window: Duration) {
        let (bus, migrated) = (self.bus.clone(), self.migrated.clone());
        let shutdown = self.supervisor.shutdown().clone();
        self.supervisor
            .spawn("idle watch", Stage::Support, move |stop| async move {
                let idle = async {
                    migrated.cancelled().await;
                    bus.touch();
                    bus.idle_for(window).await;
                };
                if stop.run_until_cancelled(idle).await.is_some() {
                    tracing::info!(idle_seconds = window.as_secs(), "nothing to do: stopping");
                    shutdown.cancel();
                    stop.cancelled().await;
                }
                Ok(())
            });
    }

    /// Wakes a worker that has stopped, whenever there is work for one.
    pub(crate) fn wake_worker(&mut self, wake: WorkerWake) {
        let subscription = self.bus.subscribe();
        self.supervisor
            .spawn("worker wake", Stage::Support, move |stop| async move {
                stop.run_until_cancelled(wake.run(subscription)).await;
                Ok(())
            });
    }

    /// Says where the process listens, and runs until a signal or a failure ends it.
    pub(crate) async fn run(self) -> Result<ExitCode> {
        announce(self.http, self.metrics).context("standard output could not be written")?;
        tracing::info!(
            version = env!("CARGO_PKG_VERSION"),
            http = self.http.map(|address| address.to_string()),
            metrics = self.metrics.map(|address| address.to_string()),
            "listening"
        );
        Ok(self.supervisor.run(self.drain).await)
    }
}

/// The ports of a role that serves both. Bound first of all: a busy one is the commonest mistake.
pub(crate) async fn bind_both(config: &ApiConfig) -> Result<(TcpListener, TcpListener)> {
    let http = bind((config.bind_address, config.port).into(), "PORT").await?;
    let metrics = (config.bind_address, config.metrics_port).into();
    Ok((http, bind(metrics, "METRICS_PORT").await?))
}

/// A bus's name that no other process of the database has, a restarted one included.
pub(crate) fn fresh_name() -> String {
    format!("{:032x}", u128::from_be_bytes(SystemEntropy.bytes()))
}

/// One line for the program that started this one.
fn announce(http: Option<SocketAddr>, metrics: Option<SocketAddr>) -> std::io::Result<()> {
    let line = json!({ "event": "listening", "http": http, "metrics": metrics });
    let mut out = std::io::stdout().lock();
    writeln!(out, "{line}")?;
    out.flush()
}
