//! A turn: from a visitor's message to an answer that cites what it knows.
//!
//! ```text
//! begin ─▶ retrieve ─▶ ask the model ─▶ first text … last text ─▶ finish (one transaction)
//!   │         │         ▲     │              │    │
//!   │         │         │     │              │    └ what falls out of the window is summarised beside it
//!   │         │         │     │              └ fails: `broke_off`, the answer starts again, once
//!   │         │         │     └ fails: nobody saw anything; the queue tries again
//!   │         │         └ `called.N`, `found.N`: the model wants a search, and is called again
//!   │         └ recorded: a takeover repeats neither the call nor its bill
//!   └ the attempt's number: frames of earlier attempts are refused from here on
//!
//! a limit before any call: a fixed text answers, and the contact form
//! cancelled at any point: the model's connection is closed, what was said is kept and billed
//! ```
//! Every write is fenced by the job's lease. No connection is held while a provider is called. What
//! may follow from what the model says is decided in [`mod@crate::conversation`].

mod answer;
mod asked;
mod attempt;
mod bill;
mod call;
mod confidential;
mod converse;
mod ending;
pub mod links;
mod measure;
mod outbox;
mod progress;
mod prompt;
pub mod replay;
mod steps;
mod summary;
mod tools;
mod writer;

use jobs::{Fence, JobError};
use sqlx::PgPool;
use store::{bus::Bus, checkpoints::JobLease, ids::SharedEntropy};

pub use self::{
    attempt::process,
    writer::{Emitter, EventWriter, WriterEnded},
};
use crate::{
    budget::Budget,
    clients::{ProviderError, anthropic::Anthropic},
    config::{ConversationConfig, LinkHosts, NoticeConfig},
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
    /// The limits of a conversation.
    pub conversation: ConversationConfig,
    /// What the model may cost.
    pub budget: Budget,
    /// Where links of answers may lead, besides what the knowledge names.
    pub links: LinkHosts,
    /// What every visitor is told.
    pub notice: NoticeConfig,
    /// For the ids of handoffs.
    pub entropy: SharedEntropy,
    /// `HANDOFF_RETRY_BACKOFF_SECONDS`, stored with the jobs of a handoff.
    pub handoff_waits: Vec<i32>,
    /// The knowledge base.
    pub knowledge: KnowledgeDeps,
}

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
