//! Commits what must not be lost because the database is away for a while.

use std::time::Duration;

use jobs::JobError;
use sqlx::error::DatabaseError;
use store::{
    db::{is_temporary, reconnect_waits},
    trace::in_this_trace,
};

/// Repeats a transaction until the database has taken it or refused it. `once` tries it from its begin to
/// its commit, and has to see for itself, by a lease, that it is not done twice. `what` names it in the
/// log. There is no end to this but the dispatcher's, which drops a handler whose job is not this
/// worker's any more.
pub(crate) async fn until_committed<T, F>(
    what: &'static str,
    once: impl Fn() -> F,
) -> Result<T, JobError>
where
    T: Send + 'static,
    F: Future<Output = sqlx::Result<T>> + Send + 'static,
{
    let mut waits = reconnect_waits();
    loop {
        // A task of its own: a transaction must not be abandoned half-way with its handler.
        let work = in_this_trace(once());
        let committed = match tokio::spawn(work).await {
            Ok(committed) => committed,
            Err(stopped) => match stopped.try_into_panic() {
                Ok(panic) => std::panic::resume_unwind(panic),
                Err(_) => return Err(JobError::retry("the process ends")),
            },
        };
        match committed {
            Ok(committed) => return Ok(committed),
            Err(error) if is_transient(&error) => {
                let failure = JobError::from(error);
                tracing::warn!(what, error = %failure, "it could not be committed yet");
                let wait = waits.next().unwrap_or(Duration::from_secs(5));
                tokio::time::sleep(wait).await;
            }
            Err(error) => return Err(error.into()),
        }
    }
}

/// Whether the database may take the same later: it is away, or it undid a conflict.
fn is_transient(error: &sqlx::Error) -> bool {
    let code = error.as_database_error().and_then(DatabaseError::code);
    is_temporary(error) || code.is_some_and(|code| code.starts_with("40"))
}

#[cfg(test)]
mod tests {
    use std::sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    };

    use store::{
        ids::{SharedEntropy, SystemEntropy},
        trace::{Span, TraceContext},
    };

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_database_that_is_away_is_waited_for_and_a_refusal_is_not() {
        let calls = AtomicUsize::new(0);
        let committed = until_committed("a test", || {
            let tried = calls.fetch_add(1, Ordering::SeqCst);
            async move {
                match tried {
                    0..3 => Err(sqlx::Error::PoolTimedOut),
                    _ => Ok(tried),
                }
            }
        });
        assert_eq!(committed.await.unwrap(), 3);
        let refused =
            until_committed::<(), _>("a test", || async { Err(sqlx::Error::RowNotFound) });
        assert!(refused.await.is_err());
    }

    #[tokio::test]
    async fn the_trace_goes_on_in_the_transaction() {
        let trace = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01".parse();
        let trace: TraceContext = trace.unwrap();
        let entropy: SharedEntropy = Arc::new(SystemEntropy);
        let span = Span::of_job("a.test", Some(trace), &entropy);
        let found = until_committed("a test", || async { Ok(TraceContext::current()) });
        assert_eq!(span.scope(found).await.unwrap(), span.context());
    }
}
