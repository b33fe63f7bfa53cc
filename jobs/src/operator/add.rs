//! A job that a person enqueues by hand.

use serde_json::{Value, error::Category};
use sqlx::PgPool;

use super::OperatorError;
use crate::{
    catalog,
    catalog::enqueue_raw,
    enqueue::{EnqueueOptions, Enqueued, QueueError},
};

/// What became of a job that was enqueued by hand.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Added {
    /// The job, and whether it is new.
    pub enqueued: Enqueued,
    /// Its queue: wake the workers of it.
    pub queue: &'static str,
    /// Whether the queue is paused: the job waits until it is resumed.
    pub paused: bool,
}

/// Enqueues one job of a kind by its name. Call [`store::bus::Bus::jobs_ready`] when it returns.
///
/// # Errors
///
/// [`OperatorError::Refused`] for whatever the operator can put right. The sentence never repeats a
/// part of the payload.
pub async fn add(
    pool: &PgPool,
    kind: &str,
    payload: Value,
    options: &EnqueueOptions,
) -> Result<Added, OperatorError> {
    let mut tx = pool.begin().await?;
    let (enqueued, queue) = enqueue_raw(&mut tx, kind, payload, options)
        .await
        .map_err(refusal)?;
    let paused = sqlx::query_scalar!(
        r#"select exists (select 1 from queue.paused where queue = $1) as "paused!""#,
        queue
    )
    .fetch_one(&mut *tx)
    .await?;
    tx.commit().await?;
    Ok(Added {
        enqueued,
        queue,
        paused,
    })
}

fn refusal(error: QueueError) -> OperatorError {
    match error {
        QueueError::Database(_) => error.into(),
        QueueError::UnknownKind { kind, .. } => {
            let mut kinds = catalog::KINDS.to_vec();
            kinds.sort_unstable();
            OperatorError::Refused(format!(
                "there is no kind of job {kind:?} that can be enqueued: the kinds are {}",
                kinds.join(", ")
            ))
        }
        QueueError::Payload { ref source, .. } => {
            let hint = hint(source).map(|hint| format!(": {hint}"));
            OperatorError::Refused(format!("{error}{}", hint.unwrap_or_default()))
        }
        refused => OperatorError::Refused(refused.to_string()),
    }
}

/// What a payload lacks, in words of the program only: serde's own sentence may repeat values.
fn hint(error: &serde_json::Error) -> Option<String> {
    if error.classify() != Category::Data {
        return None;
    }
    let said = error.to_string();
    if said.starts_with("missing field ") {
        return Some(said);
    }
    let mismatch = ["invalid type: ", "invalid value: ", "invalid length "];
    if !mismatch.iter().any(|start| said.starts_with(start)) {
        return None;
    }
    // A value may say ", expected " as well: what the program says comes last.
    let (_, expected) = said.rsplit_once(", expected ")?;
    Some(format!("expected {expected}"))
}

#[cfg(test)]
mod tests {
    use serde::Deserialize;
    use serde_json::json;

    use super::*;

    #[derive(Debug, Deserialize)]
    struct Payload {
        #[expect(dead_code, reason = "only its type matters")]
        n: i32,
    }

    fn hint_of(payload: Value) -> Option<String> {
        hint(&Payload::deserialize(payload).unwrap_err())
    }

    #[test]
    fn a_hint_names_what_is_expected_and_repeats_nothing() {
        assert_eq!(hint_of(json!({})).unwrap(), "missing field `n`");
        for secret in ["hush", "a, expected hush"] {
            assert_eq!(hint_of(json!({ "n": secret })).unwrap(), "expected i32");
        }
        assert_eq!(hint_of(json!({ "n": 1e12 })).unwrap(), "expected i32");
        assert_eq!(hint_of(json!("hush")).unwrap(), "expected struct Payload");
    }
}
