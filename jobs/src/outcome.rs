//! What a handler is given besides its payload, and what it may answer.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use store::trace::TraceContext;
use tokio::sync::watch;

use crate::fence::Fence;

/// How an attempt ended well.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// The job is done; the dispatcher records it.
    Done,
    /// The handler ended the job in a transaction of its own, by [`crate::end`].
    Committed,
    /// Not now: run again after this long. Burns no attempt.
    Snooze(Duration),
    /// The job stopped because it was cancelled.
    Cancelled,
}

/// How a job ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ended {
    /// Its work is done.
    Done,
    /// No attempt is left, or none could heal it.
    Dead,
    /// It was cancelled.
    Cancelled,
}

impl Ended {
    /// The word in `queue.history` and in metrics.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Done => "done",
            Self::Dead => "dead",
            Self::Cancelled => "cancelled",
        }
    }
}

/// When a failed attempt is followed by another one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Retry {
    /// After the wait that is stored with the job, while attempts are left.
    AsPlanned,
    /// The same, but not sooner than this: the server's `Retry-After`.
    NotBefore(Duration),
    /// Never: the job is dead.
    Never,
}

/// A failed attempt. The text is stored with the job and shown to operators: it never contains a
/// message's text, contact details or a secret.
#[derive(Debug, thiserror::Error)]
#[error("{reason}")]
pub struct JobError {
    /// When to try again.
    pub retry: Retry,
    /// What failed, for an operator.
    pub reason: String,
}

impl JobError {
    /// A failure that another attempt may heal.
    pub fn retry(reason: impl Into<String>) -> Self {
        Self {
            retry: Retry::AsPlanned,
            reason: reason.into(),
        }
    }

    /// The reason as it is stored: Postgres takes no NUL, and a row is no place for a whole response.
    pub(crate) fn stored(&self) -> String {
        const MAX_CHARS: usize = 2_000;
        self.reason
            .chars()
            .take(MAX_CHARS)
            .map(|char| if char == '\0' { '\u{fffd}' } else { char })
            .collect()
    }

    /// A failure that no attempt can heal.
    pub fn fatal(reason: impl Into<String>) -> Self {
        Self {
            retry: Retry::Never,
            reason: reason.into(),
        }
    }
}

impl From<sqlx::Error> for JobError {
    /// Another attempt may heal it. Only the kind of error is kept: a database's message can quote a row.
    fn from(error: sqlx::Error) -> Self {
        Self::retry(database_failure(&error))
    }
}

/// What may be told of a database's error: its message can quote a row.
pub fn database_failure(error: &sqlx::Error) -> String {
    match error {
        sqlx::Error::Database(error) => {
            format!("database error {}", error.code().unwrap_or_default())
        }
        sqlx::Error::PoolTimedOut => "no database connection was free in time".to_owned(),
        _ => "the database was not reached".to_owned(),
    }
}

/// What a handler returns.
pub type HandlerResult = Result<Outcome, JobError>;

/// Why a handler is to stop.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Stop {
    /// Somebody cancelled the job: the handler may still write what it has.
    Cancelled,
    /// The lease was lost: another worker has the job, nothing can be written.
    Lost,
    /// The process ends: the job is handed back.
    Shutdown,
}

/// The attempt that a handler is making.
#[derive(Debug, Clone)]
pub struct JobContext {
    /// The job and the lease; every write for the job names it.
    pub fence: Fence,
    /// This attempt's number, from 1.
    pub attempt: i16,
    /// How many attempts the job has.
    pub max_attempts: i16,
    /// The W3C `traceparent` that the job was enqueued with.
    pub trace: Option<String>,
    pub(crate) queue: Arc<str>,
    pub(crate) serial_key: Option<String>,
    pub(crate) started: Instant,
    pub(crate) stop: Arc<watch::Sender<Option<Stop>>>,
}

impl JobContext {
    /// Returns when the job was cancelled. The handler then ends it soon, by [`Outcome::Cancelled`] or
    /// in a transaction of its own. A lost lease or a shutdown drops the handler instead.
    pub async fn cancelled(&self) {
        self.stopped(|stop| stop == Stop::Cancelled).await;
    }

    /// Where the job came from, if that is known.
    pub(crate) fn trace(&self) -> Option<TraceContext> {
        self.trace.as_deref()?.parse().ok()
    }

    pub(crate) async fn stopped(&self, which: impl Fn(Stop) -> bool) {
        let mut stop = self.stop.subscribe();
        // The sender lives as long as this context: waiting can't fail.
        let _ = stop.wait_for(|stop| stop.is_some_and(&which)).await;
    }
}
