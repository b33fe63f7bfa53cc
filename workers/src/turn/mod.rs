//! A turn: from a visitor's message to an answer that cites what it knows.
//!
//! ```text
//! begin ─▶ retrieve ─▶ ask the model ─▶ first text … last text ─▶ finish (one transaction)
//!   │         │             │                │
//!   │         │             │                └ fails: `broke_off`, the answer starts again, once
//!   │         │             └ fails: nobody saw anything; the queue tries again
//!   │         └ recorded: a takeover repeats neither the call nor its bill
//!   └ the attempt's number: frames of earlier attempts are refused from here on
//!
//! cancelled at any point: the model's connection is closed, what was said is kept and billed
//! ```
//! Every write is fenced by the job's lease. No connection is held while a provider is called.

mod answer;
mod asked;
mod attempt;
mod ending;
mod measure;
mod outbox;
mod prompt;
mod writer;

use jobs::{Fence, JobError};
use sqlx::PgPool;
use store::{bus::Bus, checkpoints::JobLease};

pub use self::{
    asked::{ASKED, Asked},
    attempt::process,
    writer::{Emitter, EventWriter, WriterEnded},
};
use crate::{
    clients::{ProviderError, anthropic::Anthropic},
    knowledge::KnowledgeDeps,
};

/// What answering works with. A clone shares the connections.
#[derive(Debug, Clone)]
pub struct TurnDeps {
    /// The database.
    pub pool: PgPool,
    /// Tells clients and workers after a commit.
    pub bus: Bus,
    /// The process's event writer.
    pub writer: EventWriter,
    /// The model.
    pub model: Anthropic,
    /// The model's name, as the provider knows it.
    pub model_name: String,
    /// The most tokens of an answer.
    pub max_output_tokens: u32,
    /// How many of the newest exchanges the model sees.
    pub window: u16,
    /// The knowledge base.
    pub knowledge: KnowledgeDeps,
}

/// The step whose output is the passages.
const RETRIEVED: &str = "retrieved";
/// The step that says that an answer broke off after its first text.
const BROKE_OFF: &str = "broke_off";

/// The queue's fence in the words of the store, which doesn't know the queue.
pub(crate) fn lease(fence: Fence) -> JobLease {
    JobLease {
        job_id: fence.id.0,
        lease: fence.lease,
    }
}

/// Another worker has the job. Whatever becomes of this failure is refused by the fence as well.
fn lease_lost() -> JobError {
    JobError::retry("the lease was lost")
}

/// A provider's failure as the queue records it.
pub(crate) fn provider_failed(error: &ProviderError) -> JobError {
    JobError {
        retry: error.retry().into(),
        reason: error.to_string(),
    }
}

impl From<WriterEnded> for JobError {
    fn from(ended: WriterEnded) -> Self {
        Self::retry(ended.to_string())
    }
}
