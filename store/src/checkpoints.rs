//! Checkpoints: the conversation's state after its newest finished turn, and the write-ahead log of
//! the turn that runs.
//!
//! A step's output is recorded as the step completes, so that whoever takes the turn over repeats no
//! finished step (nor its bill).

use std::collections::HashMap;

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

/// The state of a conversation, as the next turn finds it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ConversationState {
    /// The stage of the conversation, 1–4.
    pub stage: i16,
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

/// Records the output of a step that was finished. The first record stands.
///
/// Returns whether the lease is still held; if not, nothing was written.
pub async fn record(
    conn: &mut PgConnection,
    lease: JobLease,
    key: &TurnKey,
    attempt: i32,
    step: &str,
    output: &Value,
) -> sqlx::Result<bool> {
    // The row lock makes the fence hold until the commit: whoever claims the job waits for it.
    sqlx::query_scalar!(
        r#"with fence as (
               select 1 from queue.jobs
               where id = $1 and lease = $2 and state = 'running'
               for share
           ), written as (
               insert into checkpoint_writes (session_id, turn, attempt, step, output)
               select $3, $4, $5, $6, $7 from fence
               on conflict on constraint checkpoint_writes_pkey do nothing
           )
           select exists (select 1 from fence) as "held!""#,
        lease.job_id,
        lease.lease,
        key.session_id.as_str(),
        key.turn,
        attempt,
        step,
        output,
    )
    .fetch_one(conn)
    .await
}

/// The conversation's state after its newest finished turn; `None`: no turn was finished.
pub async fn load(
    conn: &mut PgConnection,
    key: &TurnKey,
) -> sqlx::Result<Option<ConversationState>> {
    let state = sqlx::query_scalar!(
        r#"select state as "state: sqlx::types::Json<ConversationState>"
           from checkpoints where session_id = $1"#,
        key.session_id.as_str(),
    )
    .fetch_optional(conn)
    .await?;
    Ok(state.map(|state| state.0))
}
