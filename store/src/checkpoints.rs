//! Checkpoints: the conversation's state after its newest finished turn, and the write-ahead log of
//! the turn that runs.
//!
//! A step's output is recorded as the step completes, so that whoever takes the turn over repeats no
//! finished step (nor its bill).

use std::{collections::HashMap, fmt};

use serde::{Deserialize, Serialize, de::DeserializeOwned};
use serde_json::Value;
use sqlx::PgConnection;

use crate::ids::TurnKey;

/// The lease under which a worker may write for a job: worthless once another one has the job.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct JobLease {
    /// The job's number.
    pub job_id: i64,
    /// The number of the lease.
    pub lease: i32,
}

/// The state of a conversation, as the next turn finds it. Fields that came later have defaults, so
/// that a state of an earlier version can be read; what they mean is decided in `workers`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ConversationState {
    /// The stage of the conversation, 1–4.
    pub stage: i16,
    /// Turns that were answered since the conversation was last at stage 3.
    #[serde(default)]
    pub turns_without_proposal: u32,
    /// The turn in which a person was offered because the conversation led nowhere.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stall_offered_turn: Option<i32>,
    /// What was said before the newest exchanges.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub summary: Option<Summary>,
    /// Addresses of the case studies that the visitor was told of unasked, the newest last.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub case_studies_told: Vec<String>,
}

impl Default for ConversationState {
    /// Before the first turn.
    fn default() -> Self {
        Self {
            stage: 1,
            turns_without_proposal: 0,
            stall_offered_turn: None,
            summary: None,
            case_studies_told: Vec::new(),
        }
    }
}

/// The running summary of a conversation.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Summary {
    /// What was said.
    pub text: String,
    /// The newest turn that it covers; it covers all before.
    pub through: i32,
}

impl fmt::Debug for Summary {
    /// Without the words: they don't belong in a log.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Summary")
            .field("through", &self.through)
            .finish_non_exhaustive()
    }
}

/// The outputs of a turn's finished steps, by their names.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Steps(HashMap<String, Value>);

impl Steps {
    pub(crate) fn new(outputs: HashMap<String, Value>) -> Self {
        Self(outputs)
    }

    /// The output of a finished step. One that this version can't read counts as not finished.
    pub fn output<T: DeserializeOwned>(&self, step: &str) -> Option<T> {
        T::deserialize(self.0.get(step)?).ok()
    }
}

/// A step that was finished.
#[derive(Clone, PartialEq)]
pub struct StepOutput {
    /// The step's name, unique in its turn.
    pub step: String,
    /// What whoever takes the turn over needs to go on behind it.
    pub output: Value,
}

/// Records steps that were finished. The first record of each stands.
///
/// Returns whether the lease is still held; if not, nothing was written.
pub async fn record(
    conn: &mut PgConnection,
    lease: JobLease,
    key: &TurnKey,
    attempt: i32,
    finished: &[StepOutput],
) -> sqlx::Result<bool> {
    let (steps, outputs): (Vec<&str>, Vec<&Value>) = finished
        .iter()
        .map(|finished| (finished.step.as_str(), &finished.output))
        .unzip();
    // The row lock makes the fence hold until the commit: whoever claims the job waits for it.
    sqlx::query_scalar!(
        r#"with fence as (
               select 1 from queue.jobs
               where id = $1 and lease = $2 and state = 'running'
               for share
           ), written as (
               insert into checkpoint_writes (session_id, turn, attempt, step, output)
               select $3, $4, $5, s.step, s.output
               from fence, unnest($6::text[], $7::jsonb[]) as s (step, output)
               on conflict on constraint checkpoint_writes_pkey do nothing
           )
           select exists (select 1 from fence) as "held!""#,
        lease.job_id,
        lease.lease,
        key.session_id.as_str(),
        key.turn,
        attempt,
        &steps as _,
        &outputs as _,
    )
    .fetch_one(conn)
    .await
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_state_of_the_first_version_is_read() {
        let state: ConversationState = serde_json::from_value(json!({"stage": 2})).unwrap();
        let expected = ConversationState {
            stage: 2,
            ..ConversationState::default()
        };
        assert_eq!(state, expected);
    }

    #[test]
    fn a_summary_keeps_its_words_out_of_logs() {
        let summary = Summary {
            text: "secret".to_owned(),
            through: 3,
        };
        assert!(!format!("{summary:?}").contains("secret"));
    }
}
