//! The steps of a turn that are recorded as they are finished, and how: under the job's fence, and a
//! call together with its bill. Whoever takes the turn over reads them instead of paying again.

use std::sync::Arc;

use jobs::JobError;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use sqlx::PgPool;
use store::{
    checkpoints::{self, JobLease, StepOutput},
    ids::TurnKey,
    spend::{self, ModelCall},
    trace::in_this_trace,
    turns::TurnUsage,
};

use super::{call::Said, lease_lost};
use crate::{clients::anthropic::StopReason, knowledge::Passage};

/// The passages for the visitor's message: [`Retrieved`].
pub(super) const RETRIEVED: &str = "retrieved";
/// The running summary: a [`store::checkpoints::Summary`].
pub(super) const SUMMARISED: &str = "summarised";
/// The answer broke off after its first text: [`BrokeOff`].
pub(super) const BROKE_OFF: &str = "broke_off";

/// The `number`-th call of the model, from 1, which needed another one: [`Called`].
pub(super) fn called(number: i16) -> String {
    format!("called.{number}")
}

/// The passages of the `number`-th `retrieve_knowledge`, from 1.
pub(super) fn found(number: u16) -> String {
    format!("found.{number}")
}

/// See [`RETRIEVED`].
#[derive(Clone, Serialize, Deserialize)]
#[serde(from = "AnyRetrieved")]
pub(super) struct Retrieved {
    pub(super) passages: Vec<Passage>,
    /// A case study that nobody asked for.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) proactive: Option<Passage>,
}

/// An earlier version recorded only the passages.
#[derive(Deserialize)]
#[serde(untagged)]
enum AnyRetrieved {
    Now {
        passages: Vec<Passage>,
        #[serde(default)]
        proactive: Option<Passage>,
    },
    Earlier(Vec<Passage>),
}

impl From<AnyRetrieved> for Retrieved {
    fn from(any: AnyRetrieved) -> Self {
        let (passages, proactive) = match any {
            AnyRetrieved::Now {
                passages,
                proactive,
            } => (passages, proactive),
            AnyRetrieved::Earlier(passages) => (passages, None),
        };
        Self {
            passages,
            proactive,
        }
    }
}

/// See [`called`].
#[derive(Clone, Serialize, Deserialize)]
pub(super) struct Called {
    pub(super) model: String,
    pub(super) stop_reason: StopReason,
    pub(super) said: Vec<Said>,
    /// The passages that were cited, by their numbers in the request.
    pub(super) cited: Vec<u32>,
    pub(super) usage: Billed,
}

/// See [`BROKE_OFF`].
#[derive(Serialize, Deserialize)]
pub(super) struct BrokeOff {
    pub(super) error: String,
    #[serde(flatten)]
    pub(super) usage: Billed,
}

/// What a call was billed for, in tokens.
#[derive(Clone, Copy, Serialize, Deserialize)]
pub(super) struct Billed {
    input: i64,
    output: i64,
    cache_write: i64,
    cache_read: i64,
}

impl From<TurnUsage> for Billed {
    fn from(usage: TurnUsage) -> Self {
        Self {
            input: usage.input,
            output: usage.output,
            cache_write: usage.cache_write,
            cache_read: usage.cache_read,
        }
    }
}

/// The end, which [`store::turns::finish`] records: [`Answered`].
pub(super) const ANSWERED: &str = "answered";

/// See [`ANSWERED`].
#[derive(Default, Deserialize)]
pub(super) struct Answered {
    /// The calls of tools that came with the model's last words.
    #[serde(default)]
    pub(super) tools: Vec<Said>,
}

/// What [`ANSWERED`] keeps of the calls of tools.
pub(super) fn answered_tools(calls: &[Said]) -> Result<Option<Value>, JobError> {
    if calls.is_empty() {
        return Ok(None);
    }
    serde_json::to_value(calls)
        .map(Some)
        .map_err(|_| JobError::fatal("the calls of tools have no JSON form"))
}

/// The record of a finished step.
pub(super) fn step(
    name: impl Into<String>,
    output: &impl Serialize,
) -> Result<StepOutput, JobError> {
    let step = name.into();
    let output: Value = serde_json::to_value(output)
        .map_err(|_| JobError::fatal(format!("the output of `{step}` has no JSON form")))?;
    Ok(StepOutput { step, output })
}

/// Writes the steps of an attempt.
#[derive(Clone)]
pub(super) struct Recorder {
    pub(super) pool: PgPool,
    pub(super) lease: JobLease,
    pub(super) key: TurnKey,
    pub(super) attempt: i32,
}

impl Recorder {
    /// Records steps that cost nothing, in one statement.
    pub(super) async fn record(&self, steps: &[StepOutput]) -> Result<(), JobError> {
        if steps.is_empty() {
            return Ok(());
        }
        let mut conn = self.pool.acquire().await?;
        let held = checkpoints::record(&mut conn, self.lease, &self.key, self.attempt, steps);
        if held.await? {
            Ok(())
        } else {
            Err(lease_lost())
        }
    }

    /// Records steps and what was paid for them. May be dropped half-way: it is done all the same.
    pub(super) async fn record_with_bill(
        &self,
        steps: Vec<StepOutput>,
        calls: Arc<[ModelCall]>,
    ) -> Result<(), JobError> {
        // A task of its own: a transaction must not be abandoned half-way with its caller.
        let once = in_this_trace(self.clone().once(steps, calls));
        match tokio::spawn(once).await {
            Ok(Ok(true)) => Ok(()),
            Ok(Ok(false)) => Err(lease_lost()),
            Ok(Err(error)) => Err(error.into()),
            Err(stopped) => match stopped.try_into_panic() {
                Ok(panic) => std::panic::resume_unwind(panic),
                Err(_) => Err(JobError::retry("the process ends")),
            },
        }
    }

    async fn once(self, steps: Vec<StepOutput>, calls: Arc<[ModelCall]>) -> sqlx::Result<bool> {
        let mut transaction = self.pool.begin().await?;
        let held = checkpoints::record(
            &mut transaction,
            self.lease,
            &self.key,
            self.attempt,
            &steps,
        );
        if !held.await? {
            transaction.rollback().await?;
            return Ok(false);
        }
        spend::record(&mut transaction, &self.key, self.attempt, &calls).await?;
        transaction.commit().await?;
        Ok(true)
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn passages_of_an_earlier_version_are_read() {
        let passage = json!({
            "chunk_id": 1, "url": "a.md", "title": "A", "heading_path": [], "content": "Text",
            "score": 0.5, "kind": "page",
        });
        let earlier: Retrieved = serde_json::from_value(json!([passage])).unwrap();
        assert_eq!(
            (earlier.passages.len(), earlier.proactive.is_none()),
            (1, true)
        );
        let now = serde_json::to_value(Retrieved {
            proactive: Some(earlier.passages[0].clone()),
            ..earlier
        })
        .unwrap();
        let now: Retrieved = serde_json::from_value(now).unwrap();
        assert_eq!((now.passages.len(), now.proactive.is_some()), (1, true));
    }
}
