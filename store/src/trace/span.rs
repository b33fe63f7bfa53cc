//! What happened at a place in a trace, and for how long: as it is told to a collector of traces.
//!
//! Spans have ids whether or not anybody records them: their ids travel to the jobs and the providers as
//! the parents of what happens there. Without a [`Recorder`] that is all that a span costs.

use std::{
    borrow::Cow,
    fmt,
    num::NonZeroU64,
    sync::{Arc, OnceLock},
    time::SystemTime,
};

use opentelemetry::{KeyValue, Value, trace::SpanKind};
use tokio::{task::futures::TaskLocalFuture, task_local, time::Instant};
use tracing::{Instrument, instrument::Instrumented};

use super::{TraceContext, attribute::ERROR_TYPE};
use crate::ids::{SharedEntropy, SystemEntropy};

task_local! {
    static HERE: Option<Here>;
}

static RECORDER: OnceLock<Box<dyn Recorder>> = OnceLock::new();

/// Is told of every span that has ended. It is called where the span ends, so it must not wait.
pub trait Recorder: fmt::Debug + Send + Sync {
    /// Keeps a span, or drops it when there are too many.
    fn record(&self, span: EndedSpan);
}

/// The process has a recorder already.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the spans of this process are recorded already")]
pub struct AlreadyRecording;

/// Records the spans of the process that begin from now on.
pub fn record_with(recorder: impl Recorder + 'static) -> Result<(), AlreadyRecording> {
    RECORDER
        .set(Box::new(recorder))
        .map_err(|_| AlreadyRecording)
}

/// A span that is over.
#[derive(Debug, Clone, PartialEq)]
pub struct EndedSpan {
    /// Where it stands: its trace, and its own id.
    pub context: TraceContext,
    /// None: the trace begins with it.
    pub parent: Option<Parent>,
    /// Which side of a call it is.
    pub kind: SpanKind,
    /// What was done and to what: one of few names, so without ids in it.
    pub name: String,
    /// When it began.
    pub started: SystemTime,
    /// When it ended, never before it began.
    pub ended: SystemTime,
    /// What is known of it: ids, numbers and names, as in a line of the log.
    pub attributes: Vec<KeyValue>,
    /// Why it failed, in a word; none: it did not.
    pub error: Option<Cow<'static, str>>,
}

/// What a span is part of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Parent {
    /// Its id.
    pub id: NonZeroU64,
    /// Whether another process may have had it.
    pub is_remote: bool,
}

/// A place in a trace, and where the ids of further spans come from.
#[derive(Debug, Clone)]
pub struct Here {
    pub(super) context: TraceContext,
    entropy: SharedEntropy,
}

/// Where the task's work is.
pub(super) fn here() -> Option<Here> {
    HERE.try_with(Clone::clone).ok().flatten()
}

/// The same place in the trace, and in the log, for work that is handed to another task.
pub fn in_this_trace<F: Future>(work: F) -> TaskLocalFuture<Option<Here>, Instrumented<F>> {
    HERE.scope(here(), work.in_current_span())
}

/// Does what follows from a job: where the task is, or else where the job was enqueued.
pub fn following<F: Future>(enqueued: Option<&str>, work: F) -> TaskLocalFuture<Option<Here>, F> {
    let of_job = || {
        Some(Here {
            context: enqueued?.parse().ok()?,
            entropy: Arc::new(SystemEntropy),
        })
    };
    HERE.scope(here().or_else(of_job), work)
}

/// Something that goes on; it ends when it is dropped.
#[must_use = "a span that nobody holds has no length"]
#[derive(Debug)]
pub struct Span {
    here: Option<Here>,
    open: Option<Box<Open>>,
}

/// What is kept of a span that is recorded.
#[derive(Debug)]
struct Open {
    parent: Option<Parent>,
    kind: SpanKind,
    name: String,
    started: SystemTime,
    since: Instant,
    attributes: Vec<KeyValue>,
    error: Option<Cow<'static, str>>,
}

impl Span {
    /// A request of somebody outside, who may have said which trace it is part of. What is ill-formed is
    /// nobody's trace.
    pub fn of_request(
        method: &'static str,
        route: &str,
        traceparent: Option<&str>,
        entropy: &SharedEntropy,
    ) -> Self {
        let caller: Option<TraceContext> = traceparent.and_then(|text| text.parse().ok());
        let context = TraceContext::following(caller, entropy.as_ref());
        Self::elsewhere(SpanKind::Server, (method, route), context, caller, entropy)
    }

    /// An attempt at a job that was enqueued in a trace. One that was enqueued in none begins a trace if
    /// anybody records it.
    pub fn of_job(kind: &str, enqueued: Option<TraceContext>, entropy: &SharedEntropy) -> Self {
        if enqueued.is_none() && RECORDER.get().is_none() {
            return Self::nowhere();
        }
        let context = TraceContext::following(enqueued, entropy.as_ref());
        Self::elsewhere(
            SpanKind::Consumer,
            ("process", kind),
            context,
            enqueued,
            entropy,
        )
    }

    /// A call of something outside, as a part of what the task does. Outside of a trace it is nothing.
    pub fn of_call(operation: &'static str, target: &str) -> Self {
        Self::part(SpanKind::Client, (operation, target))
    }

    /// A part of what the task does. Outside of a trace it is nothing.
    pub fn of_work(operation: &'static str, target: &str) -> Self {
        Self::part(SpanKind::Internal, (operation, target))
    }

    const fn nowhere() -> Self {
        Self {
            here: None,
            open: None,
        }
    }

    fn elsewhere(
        kind: SpanKind,
        name: (&'static str, &str),
        context: TraceContext,
        remote: Option<TraceContext>,
        entropy: &SharedEntropy,
    ) -> Self {
        let here = Here {
            context,
            entropy: Arc::clone(entropy),
        };
        let parent = remote.map(|remote| Parent {
            id: remote.span_id(),
            is_remote: true,
        });
        Self::begin(here, parent, kind, name)
    }

    fn part(kind: SpanKind, name: (&'static str, &str)) -> Self {
        let Some(whole) = here() else {
            return Self::nowhere();
        };
        let parent = Parent {
            id: whole.context.span_id(),
            is_remote: false,
        };
        let here = Here {
            context: whole.context.child(whole.entropy.as_ref()),
            ..whole
        };
        Self::begin(here, Some(parent), kind, name)
    }

    #[expect(
        clippy::disallowed_methods,
        reason = "a collector sorts the spans of many machines by the time of day"
    )]
    fn begin(
        here: Here,
        parent: Option<Parent>,
        kind: SpanKind,
        name: (&'static str, &str),
    ) -> Self {
        let recorded = here.context.is_sampled() && RECORDER.get().is_some();
        let open = recorded.then(|| {
            Box::new(Open {
                parent,
                kind,
                name: format!("{} {}", name.0, name.1),
                started: SystemTime::now(),
                since: Instant::now(),
                attributes: Vec::new(),
                error: None,
            })
        });
        Self {
            here: Some(here),
            open,
        }
    }

    /// Where it stands in its trace; none: outside of any.
    pub fn context(&self) -> Option<TraceContext> {
        self.here.as_ref().map(|here| here.context)
    }

    /// Whether anybody will hear of it.
    pub fn is_recorded(&self) -> bool {
        self.open.is_some()
    }

    /// Says something of it: an id, a number, a name, but nothing that people wrote. What was said before
    /// under the same name is forgotten.
    pub fn set(&mut self, attribute: &'static str, value: impl Into<Value>) {
        if let Some(open) = &mut self.open {
            open.attributes
                .retain(|said| said.key.as_str() != attribute);
            open.attributes.push(KeyValue::new(attribute, value));
        }
    }

    /// It failed, for a reason that has few values.
    pub fn fail(&mut self, error_type: impl Into<Cow<'static, str>>) {
        if let Some(open) = &mut self.open {
            open.error = Some(error_type.into());
        }
    }

    /// Nobody needs to hear of it.
    pub fn forget(&mut self) {
        self.open = None;
    }

    /// Does work as a part of it.
    pub fn scope<F: Future>(&self, work: F) -> TaskLocalFuture<Option<Here>, F> {
        HERE.scope(self.here.clone(), work)
    }
}

impl Drop for Span {
    fn drop(&mut self) {
        if let (Some(here), Some(open), Some(recorder)) =
            (&self.here, self.open.take(), RECORDER.get())
        {
            recorder.record(open.ended(here.context));
        }
    }
}

impl Open {
    fn ended(self, context: TraceContext) -> EndedSpan {
        let mut attributes = self.attributes;
        if let Some(error) = &self.error {
            attributes.push(KeyValue::new(ERROR_TYPE, error.clone()));
        }
        EndedSpan {
            context,
            parent: self.parent,
            kind: self.kind,
            name: self.name,
            started: self.started,
            // By the clock that does not jump.
            ended: self.started + self.since.elapsed(),
            attributes,
            error: self.error,
        }
    }
}

#[cfg(test)]
mod tests {
    use parking_lot::Mutex;

    use super::*;

    const JOB: &str = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";
    const UNSAMPLED: &str = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-00";

    static HEARD: Mutex<Vec<EndedSpan>> = Mutex::new(Vec::new());

    #[derive(Debug)]
    struct Ear;

    impl Recorder for Ear {
        fn record(&self, span: EndedSpan) {
            HEARD.lock().push(span);
        }
    }

    fn entropy() -> SharedEntropy {
        // Whichever test comes first has it recorded.
        let _ = record_with(Ear);
        Arc::new(SystemEntropy)
    }

    fn job(kind: &str, trace: &str) -> Span {
        Span::of_job(kind, Some(trace.parse().unwrap()), &entropy())
    }

    /// What was heard under a name, which is a test's own.
    fn heard(name: &str) -> Vec<EndedSpan> {
        let heard = HEARD.lock();
        heard
            .iter()
            .filter(|span| span.name == name)
            .cloned()
            .collect()
    }

    #[tokio::test]
    async fn parts_are_told_with_their_whole() {
        let whole = job("a.whole", JOB);
        let made = whole.scope(async {
            let mut part = Span::of_call("a", "part");
            part.set("said", 1);
            part.set("said", 2);
            part.fail("broken");
            part.scope(async { TraceContext::current() }).await
        });
        let inside = made.await.unwrap();
        let [part] = &heard("a part")[..] else {
            panic!("{:?}", heard("a part"));
        };
        assert_eq!(part.context, inside);
        let parent = part.parent.unwrap();
        assert_eq!(parent.id, whole.context().unwrap().span_id());
        assert!(!parent.is_remote && part.started <= part.ended);
        let said = [
            KeyValue::new("said", 2),
            KeyValue::new(ERROR_TYPE, "broken"),
        ];
        assert_eq!(part.attributes, said);
        assert_eq!(part.error.as_deref(), Some("broken"));
        assert!(heard("process a.whole").is_empty());
        drop(whole);
        assert!(heard("process a.whole")[0].parent.unwrap().is_remote);
    }

    #[tokio::test]
    async fn outside_of_a_trace_there_are_no_parts() {
        entropy();
        assert_eq!(TraceContext::current(), None);
        let nothing = Span::of_work("no", "whole");
        assert_eq!(nothing.context(), None);
        let inside = nothing.scope(async { TraceContext::current() }).await;
        assert_eq!(inside, None);
        drop(nothing);
        assert!(heard("no whole").is_empty());
    }

    #[tokio::test]
    async fn what_is_not_sampled_has_its_place_and_is_not_told() {
        let span = job("not.sampled", UNSAMPLED);
        let context = span.context().unwrap();
        assert!(!span.is_recorded() && !context.is_sampled());
        assert_eq!(context.trace_id().to_string(), JOB[3..35]);
        drop(span);
        assert!(heard("process not.sampled").is_empty());
    }

    #[tokio::test]
    async fn a_task_that_is_spawned_keeps_its_place_if_it_is_given_it() {
        let span = job("a.task", JOB);
        let place = span.scope(async {
            let kept = tokio::spawn(in_this_trace(async { TraceContext::current() }));
            let lost = tokio::spawn(async { TraceContext::current() });
            (kept.await.unwrap(), lost.await.unwrap())
        });
        assert_eq!(place.await, (span.context(), None));
    }

    #[tokio::test]
    async fn what_follows_is_where_the_task_is_or_where_the_job_was_enqueued() {
        let now = || async { TraceContext::current() };
        assert_eq!(
            following(Some(JOB), now()).await,
            Some(JOB.parse().unwrap())
        );
        assert_eq!(following(Some("nonsense"), now()).await, None);
        let span = job("a.job", JOB);
        let inside = span.scope(async { following(Some(UNSAMPLED), now()).await });
        let inside = inside.await;
        assert_eq!(inside, span.context());
    }

    #[test]
    fn a_request_continues_a_trace_that_is_one_and_begins_one_otherwise() {
        let of = |traceparent| Span::of_request("GET", "/", traceparent, &entropy());
        let trace = |traceparent| of(traceparent).context().unwrap().trace_id();
        assert_eq!(trace(Some(JOB)).to_string(), JOB[3..35]);
        assert_ne!(trace(None), trace(None));
        assert_ne!(trace(Some("nonsense")), trace(None));
    }
}
