//! (see below)
use std::time::Duration;

use store::{bus::Bus, db::Database, settings::Settings};
use tokio_util::sync::CancellationToken;

use crate::{
    kind::JobKind,
    outcome::{HandlerResult, JobContext},
};

/// How this process works on the queue.
#[derive(Debug, Clone)]
pub struct QueueConfig {
    /// The queues it works on; empty: every queue that has a handler.
    pub queues: Vec<String>,
    /// Jobs of one queue that run at once in this process; `None`: each queue's default.
    pub concurrency: Option<u32>,
    /// How long a claimed job is this process's without a renewal.
    pub lease: Duration,
    /// How often an idle process looks for work that no wake-up told of; `None`: never.
    pub idle_poll: Option<Duration>,
}

impl QueueConfig {
    /// Reads `WORKER_QUEUES`, `WORKER_CONCURRENCY`, `QUEUE_LEASE_SECONDS`, `QUEUE_IDLE_POLL_SECONDS`.
    pub fn read(_settings: &mut Settings) -> Option<Self> {
        None
    }
}

/// The workers of a process, being assembled.
pub struct Runtime {}

/// A core task ended while it should not: the process has to end too.
#[derive(Debug, thiserror::Error)]
#[error("the {0} task ended")]
pub struct CoreTaskEnded(pub &'static str);

impl Runtime {
    /// A runtime without handlers.
    pub fn new(_database: Database, _bus: Bus, _config: QueueConfig) -> Self {
        Self {}
    }

    /// Runs jobs of kind `J` by `handler`.
    #[must_use]
    pub fn register<J, H, F>(self, _handler: H) -> Self
    where
        J: JobKind + Clone,
        H: Fn(J, JobContext) -> F + Clone + Send + Sync + 'static,
        F: Future<Output = HandlerResult> + Send + 'static,
    {
        self
    }

    /// Claims and runs jobs until `shutdown`; then claims no more, lets what runs end for at most `drain`,
    /// hands the rest back without burning an attempt, and returns.
    pub async fn run(
        self,
        _shutdown: CancellationToken,
        _drain: Duration,
    ) -> Result<(), CoreTaskEnded> {
        Ok(())
    }
}
