//! The apalis side: a worker per kind, fed by a bounded channel.
//!
//! apalis 1.0 runs all handlers of a worker in one task, ends the worker on a backend error, and knows
//! nothing of leases. So each handler gets a tokio task of its own, the backend can't fail, and the
//! [`Settle`] layer turns whatever comes back (a result, a panic) into a verdict for the settler.

use std::{
    convert::Infallible,
    task::{Context, Poll},
    time::Duration,
};

use apalis::prelude::{Backend, Data, Task, WorkerBuilder, WorkerContext};
use apalis_core::{
    backend::{BackendConfig, finalize::Ephemeral},
    error::BoxDynError,
    task::task_id::RandomId,
};
use futures::future::BoxFuture;
use serde_json::value::RawValue;
use store::{
    ids::SharedEntropy,
    trace::{Span, attribute},
};
use tokio::sync::mpsc;
use tokio_util::task::AbortOnDropHandle;
use tower::{Layer, Service};
use tracing::Instrument;

use crate::{
    kind::JobKind,
    outcome::{HandlerResult, JobContext, JobError, Outcome, Stop},
    settler::{Settlement, Verdict},
};

/// How long a handler may take to end its job once that was cancelled.
const CANCEL_GRACE: Duration = Duration::from_secs(10);

type Deliver = dyn Fn(&RawValue, JobContext) -> Result<(), Undelivered> + Send + Sync;

/// Where the claimer puts the jobs of one kind.
pub(crate) struct Intake {
    pub(crate) deliver: Box<Deliver>,
}

/// A claimed job that no handler took.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Undelivered {
    #[error("the payload does not decode as this kind's")]
    Undecodable,
    #[error("the worker of this kind has no room")]
    NoRoom,
}

/// Makes the intake of a kind and the worker behind it.
pub(crate) fn worker<J, H, F>(
    capacity: usize,
    settlements: mpsc::UnboundedSender<Settlement>,
    entropy: SharedEntropy,
    handler: H,
) -> (Intake, WorkerContext, BoxFuture<'static, ()>)
where
    J: JobKind + Clone,
    H: Fn(J, JobContext) -> F + Clone + Send + Sync + 'static,
    F: Future<Output = HandlerResult> + Send + 'static,
{
    let (sender, receiver) = mpsc::channel::<(J, JobContext)>(capacity);
    let deliver = move |payload: &RawValue, context: JobContext| {
        let job = serde_json::from_str::<J>(payload.get()).map_err(|_| Undelivered::Undecodable)?;
        sender
            .try_send((job, context))
            .map_err(|_| Undelivered::NoRoom)
    };
    let context = WorkerContext::from(J::KIND);
    let places = Places(entropy);
    let run = move |job: J, context: Data<JobContext>| {
        let (mut span, log) = places.place(J::KIND, &context.0);
        let attempt = attempt(handler.clone(), job, context.0);
        let attempt = async move {
            let verdict = span.scope(attempt).await;
            verdict.tell(&mut span);
            verdict
        };
        // A handler never outlives its worker.
        AbortOnDropHandle::new(tokio::spawn(attempt.instrument(log)))
    };
    let worker = WorkerBuilder::new(context.clone())
        .backend(Channel {
            receiver,
            settle: SettleLayer { settlements },
        })
        .build(run);
    let running = async move {
        if let Err(error) = worker.run().await {
            tracing::error!(kind = J::KIND, error = %error, "a worker ended");
        }
    };
    (
        Intake {
            deliver: Box::new(deliver),
        },
        context,
        Box::pin(running),
    )
}

/// Places attempts in traces. A type of its own: the compiler can't see through a `dyn` in the worker's
/// future that this is `Send`.
#[derive(Clone)]
struct Places(SharedEntropy);

impl Places {
    /// The span of an attempt in the trace that its job came with, and what every line says that is
    /// logged meanwhile.
    fn place(&self, kind: &'static str, context: &JobContext) -> (Span, tracing::Span) {
        let mut span = Span::of_job(kind, context.trace(), &self.0);
        if span.is_recorded() {
            span.set(attribute::MESSAGING_SYSTEM, "growth_chat");
            span.set(attribute::MESSAGING_OPERATION_TYPE, "process");
            span.set(
                attribute::MESSAGING_DESTINATION_NAME,
                context.queue.to_string(),
            );
            span.set(
                attribute::MESSAGING_MESSAGE_ID,
                context.fence.id.0.to_string(),
            );
            span.set(attribute::JOB_KIND, kind);
            span.set(attribute::JOB_ATTEMPT, i64::from(context.attempt));
        }
        let trace = span.context();
        let log = tracing::info_span!(
            "attempt",
            trace_id = trace.map(|trace| tracing::field::display(trace.trace_id())),
            kind,
            job_id = context.fence.id.0,
            attempt = context.attempt,
        );
        (span, log)
    }
}

/// One attempt: the handler, until it ends, takes too long, or must not go on.
async fn attempt<J, H, F>(handler: H, job: J, context: JobContext) -> Verdict
where
    J: JobKind,
    H: Fn(J, JobContext) -> F,
    F: Future<Output = HandlerResult>,
{
    let cancelled_too_long = async {
        context.cancelled().await;
        tokio::time::sleep(CANCEL_GRACE).await;
    };
    tokio::select! {
        biased;
        () = context.stopped(|stop| stop == Stop::Lost) => Verdict::Lost,
        () = context.stopped(|stop| stop == Stop::Shutdown) => Verdict::HandBack,
        result = tokio::time::timeout(J::TIMEOUT, handler(job, context.clone())) => match result {
            Ok(Ok(outcome)) => Verdict::Ended(outcome),
            Ok(Err(error)) => Verdict::Failed(error),
            Err(_) => Verdict::Failed(JobError::retry(format!("took longer than {} s", J::TIMEOUT.as_secs_f64()))),
        },
        () = cancelled_too_long => Verdict::Ended(Outcome::Cancelled),
    }
}

/// The receiving end of a kind's channel, as apalis wants it.
struct Channel<J> {
    receiver: mpsc::Receiver<(J, JobContext)>,
    settle: SettleLayer,
}

impl<J: JobKind + Clone> Backend for Channel<J> {
    type Task = Task<J>;
    type Error = Infallible;

    fn poll_ready(
        &mut self,
        _: &mut Context<'_>,
        _: &WorkerContext,
    ) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn poll_next(
        &mut self,
        cx: &mut Context<'_>,
        _: &WorkerContext,
    ) -> Poll<Option<Result<Task<J>, Infallible>>> {
        self.receiver.poll_recv(cx).map(|received| {
            received.map(|(job, context)| {
                let mut task = Task::new(job);
                task.inject_data(context);
                Ok(task)
            })
        })
    }

    fn poll_close(
        &mut self,
        _: &mut Context<'_>,
        _: &WorkerContext,
    ) -> Poll<Result<(), Infallible>> {
        self.receiver.close();
        Poll::Ready(Ok(()))
    }
}

impl<J: JobKind + Clone> BackendConfig for Channel<J> {
    type Args = J;
    type Id = RandomId;
    type Kind = Ephemeral;
    type Config = ();
    type Layer = SettleLayer;

    fn config(&self) -> &() {
        &()
    }

    fn middleware(&mut self, _: &mut WorkerContext) -> SettleLayer {
        self.settle.clone()
    }
}

/// Hands what became of every attempt to the settler.
#[derive(Debug, Clone)]
struct SettleLayer {
    settlements: mpsc::UnboundedSender<Settlement>,
}

impl<S> Layer<S> for SettleLayer {
    type Service = Settle<S>;

    fn layer(&self, inner: S) -> Settle<S> {
        Settle {
            inner,
            settlements: self.settlements.clone(),
        }
    }
}

#[derive(Debug, Clone)]
struct Settle<S> {
    inner: S,
    settlements: mpsc::UnboundedSender<Settlement>,
}

impl<S, J> Service<Task<J>> for Settle<S>
where
    S: Service<Task<J>, Response = Verdict, Error: Into<BoxDynError>, Future: Send + 'static>,
    J: JobKind,
{
    type Response = ();
    type Error = BoxDynError;
    type Future = BoxFuture<'static, Result<(), BoxDynError>>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), BoxDynError>> {
        self.inner.poll_ready(cx).map_err(Into::into)
    }

    fn call(&mut self, task: Task<J>) -> Self::Future {
        let context = task.ctx().data().get::<JobContext>().cloned();
        let settlements = self.settlements.clone();
        let attempt = self.inner.call(task);
        Box::pin(async move {
            // The only error left is the handler's task: it panicked.
            let verdict = attempt
                .await
                .unwrap_or_else(|_| Verdict::Failed(JobError::retry("the handler panicked")));
            if let Some(context) = context {
                // The settler outlives the workers; without it the process is ending and the lease too.
                let _ = settlements.send(Settlement {
                    kind: J::KIND,
                    follows_up: J::FOLLOWS_UP,
                    context,
                    verdict,
                });
            }
            Ok(())
        })
    }
}
