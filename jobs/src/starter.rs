//! Hands claimed jobs to the workers of their kinds.

use std::{sync::Arc, time::Duration};

use tokio_util::sync::CancellationToken;

use crate::{
    backend::Undelivered,
    claimer::Claimer,
    fence::{Fence, JobId},
    outcome::{JobContext, JobError, Outcome, Stop},
    settler::{Settlement, Verdict},
    sql::Claimed,
};

/// A job of a kind that this version does not know waits for a newer one: a rolling deployment.
const UNKNOWN_KIND_AGAIN: Duration = Duration::from_secs(30);
/// A rolling deployment is over by then: the kind is retired, or its name is wrong.
const UNKNOWN_KIND_PATIENCE: Duration = Duration::from_hours(24);
/// A worker without room has ended and takes the process with it.
const NO_ROOM_AGAIN: Duration = Duration::from_secs(1);

impl Claimer {
    /// Hands a claimed job to the worker of its kind.
    pub(crate) fn start(&self, queue: &Arc<str>, job: Claimed, shutdown: &CancellationToken) {
        let fence = Fence {
            id: JobId(job.id),
            lease: job.lease,
        };
        let stop = self.in_flight.add(fence, queue);
        if job.cancel_requested {
            self.in_flight.stop(fence, Stop::Cancelled);
        }
        metrics::histogram!("growth_chat_job_wait_seconds", "queue" => Arc::clone(queue))
            .record(job.waited.max(0.0));
        let context = JobContext {
            fence,
            attempt: job.attempt,
            max_attempts: job.max_attempts,
            trace: job.trace,
            queue: Arc::clone(queue),
            serial_key: job.serial_key,
            started: std::time::Instant::now(),
            stop,
        };
        let (kind, verdict) = match self.intakes.get(job.kind.as_str()) {
            // The claim was under way when the shutdown began. In flight already: if the shutdown
            // begins after this line, the hand-back at its end finds the job.
            Some((kind, _)) if shutdown.is_cancelled() => (*kind, Verdict::HandBack),
            Some((kind, intake)) => match (intake.deliver)(&job.payload, context.clone()) {
                Ok(()) => return,
                Err(reason @ Undelivered::Undecodable) => {
                    let error = JobError::fatal(reason.to_string());
                    (*kind, Verdict::Failed(error))
                }
                Err(Undelivered::NoRoom) => (*kind, Verdict::Ended(Outcome::Snooze(NO_ROOM_AGAIN))),
            },
            None if self.retired.contains(job.kind.as_str()) => {
                let error = JobError::fatal("the job's kind was retired");
                ("retired", Verdict::Failed(error))
            }
            None if job.age > UNKNOWN_KIND_PATIENCE.as_secs_f64() => {
                let error = JobError::fatal("no version in a day has known the job's kind");
                ("unknown", Verdict::Failed(error))
            }
            None => {
                tracing::warn!(
                    job = job.id,
                    kind = job.kind,
                    "no handler of this version knows the job's kind"
                );
                (
                    "unknown",
                    Verdict::Ended(Outcome::Snooze(UNKNOWN_KIND_AGAIN)),
                )
            }
        };
        // The settler outlives the claimer.
        let _ = self.settlements.send(Settlement {
            kind,
            follows_up: true,
            context,
            verdict,
        });
    }
}
