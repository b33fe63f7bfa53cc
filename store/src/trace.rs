//! W3C trace context: what joins the log lines of a request, of the job that it enqueued and of the
//! calls that the job makes, across processes. <https://www.w3.org/TR/trace-context/>
//!
//! It comes with a request, travels in the job's row, and is the task's own while an attempt runs, so
//! that the clients of the providers find it without every function in between handing it on. What
//! happens at a place in a trace is a [`Span`]; whether anybody is told of it is the binary's affair.

pub mod attribute;
mod span;

use std::{
    fmt,
    num::{NonZeroU64, NonZeroU128},
    str::FromStr,
};

pub use opentelemetry::{StringValue, Value, trace::SpanKind};

pub use self::span::{
    AlreadyRecording, EndedSpan, Parent, Recorder, Span, following, in_this_trace, record_with,
};
use crate::ids::Entropy;

/// The bit of the flags that says that somebody may record the trace.
const SAMPLED: u8 = 1;

/// The text is no `traceparent` of version 00.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a traceparent is 00-<32 hex digits>-<16 hex digits>-<2 hex digits>, in lower case")]
pub struct BadTraceparent;

/// A place in a trace: which trace, and which span of it is the parent of what follows. It is written
/// as a `traceparent`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TraceContext {
    trace_id: NonZeroU128,
    parent_id: NonZeroU64,
    flags: u8,
}

impl TraceContext {
    /// A new trace, and its first span.
    pub fn root(entropy: &dyn Entropy) -> Self {
        let trace_id = NonZeroU128::new(u128::from_be_bytes(entropy.bytes()));
        Self {
            trace_id: trace_id.unwrap_or(NonZeroU128::MIN),
            parent_id: span_id(entropy),
            flags: SAMPLED,
        }
    }

    /// A new span of the same trace. Of the flags only those travel that this version knows.
    #[must_use]
    pub fn child(&self, entropy: &dyn Entropy) -> Self {
        Self {
            parent_id: span_id(entropy),
            flags: self.flags & SAMPLED,
            ..*self
        }
    }

    /// A new span of the trace that something was begun in elsewhere, or the first of a new trace.
    fn following(remote: Option<Self>, entropy: &dyn Entropy) -> Self {
        remote.map_or_else(|| Self::root(entropy), |remote| remote.child(entropy))
    }

    /// The trace's id, in 32 hex digits.
    pub fn trace_id(&self) -> TraceId {
        TraceId(self.trace_id)
    }

    /// The id of the span that is the parent of what follows.
    pub fn span_id(&self) -> NonZeroU64 {
        self.parent_id
    }

    /// Whether whoever began the trace lets others record it.
    pub fn is_sampled(&self) -> bool {
        self.flags & SAMPLED != 0
    }

    /// The place in the trace that the task's work is at. A task that is spawned has none of its own:
    /// see [`in_this_trace`].
    pub fn current() -> Option<Self> {
        span::here().map(|here| here.context)
    }
}

/// A trace's id, as logs show it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TraceId(NonZeroU128);

impl TraceId {
    /// The number that the digits are of.
    pub fn get(self) -> NonZeroU128 {
        self.0
    }
}

impl fmt::Display for TraceId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:032x}", self.0)
    }
}

impl fmt::Display for TraceContext {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let trace_id = self.trace_id();
        write!(
            f,
            "00-{trace_id}-{:016x}-{:02x}",
            self.parent_id, self.flags
        )
    }
}

impl FromStr for TraceContext {
    type Err = BadTraceparent;

    fn from_str(text: &str) -> Result<Self, BadTraceparent> {
        let mut fields = text.split('-');
        let mut field = |digits| hex(fields.next()?, digits);
        let mut parse = || {
            let version = field(2)?;
            let parsed = Self {
                trace_id: NonZeroU128::new(field(32)?)?,
                parent_id: NonZeroU64::new(field(16)?.try_into().ok()?)?,
                flags: field(2)?.try_into().ok()?,
            };
            (version == 0).then_some(parsed)
        };
        let parsed = parse().ok_or(BadTraceparent)?;
        match fields.next() {
            None => Ok(parsed),
            Some(_) => Err(BadTraceparent),
        }
    }
}

/// Exactly so many digits; no sign, no upper case.
fn hex(text: &str, digits: usize) -> Option<u128> {
    let is_digit = |byte: u8| matches!(byte, b'0'..=b'9' | b'a'..=b'f');
    let well_formed = text.len() == digits && text.bytes().all(is_digit);
    well_formed
        .then(|| u128::from_str_radix(text, 16).ok())
        .flatten()
}

fn span_id(entropy: &dyn Entropy) -> NonZeroU64 {
    // Folded: half of the bytes alone may hold the fixed bits of a UUID.
    let bytes = u128::from_be_bytes(entropy.bytes());
    let [high, low] = [bytes >> 64, bytes & u128::from(u64::MAX)];
    let folded = u64::try_from(high ^ low).unwrap_or_default();
    NonZeroU64::new(folded).unwrap_or(NonZeroU64::MIN)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::ids::SystemEntropy;

    const EXAMPLE: &str = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";

    #[derive(Debug)]
    struct Fixed([u8; 16]);

    impl Entropy for Fixed {
        fn bytes(&self) -> [u8; 16] {
            self.0
        }
    }

    #[test]
    fn the_example_of_the_standard_is_read_and_written() {
        let context: TraceContext = EXAMPLE.parse().unwrap();
        assert_eq!(context.to_string(), EXAMPLE);
        assert_eq!(
            context.trace_id().to_string(),
            "4bf92f3577b34da6a3ce929d0e0e4736"
        );
    }

    #[test]
    fn what_is_not_exactly_a_traceparent_is_none() {
        for text in [
            "",
            "00",
            "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7",
            "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01-",
            "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01-more",
            "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-1",
            "00-4BF92F3577B34DA6A3CE929D0E0E4736-00f067aa0ba902b7-01",
            "00-+bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01",
            "00-00000000000000000000000000000000-00f067aa0ba902b7-01",
            "00-4bf92f3577b34da6a3ce929d0e0e4736-0000000000000000-01",
            "01-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01",
            "ff-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01",
            " 00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01",
            "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-0é",
        ] {
            assert_eq!(text.parse::<TraceContext>(), Err(BadTraceparent), "{text}");
        }
    }

    proptest! {
        #[test]
        fn what_is_written_is_read_again(
            trace_id in 1..=u128::MAX, parent_id in 1..=u64::MAX, flags: u8
        ) {
            let context = TraceContext {
                trace_id: NonZeroU128::new(trace_id).unwrap(),
                parent_id: NonZeroU64::new(parent_id).unwrap(),
                flags,
            };
            prop_assert_eq!(context.to_string().parse(), Ok(context));
        }

        #[test]
        fn any_text_is_read_as_it_would_be_written_or_not_at_all(
            text in "\\PC*|[0-9a-f]{2}-[0-9a-f]{32}-[0-9a-f]{16}-[0-9a-f]{2}(-.*)?"
        ) {
            if let Ok(context) = text.parse::<TraceContext>() {
                prop_assert_eq!(context.to_string(), text);
            }
        }

        #[test]
        fn a_child_is_another_span_of_the_same_trace(
            trace_id in 1..=u128::MAX, parent_id in 1..=u64::MAX, flags: u8, bytes: [u8; 16]
        ) {
            let parent = TraceContext {
                trace_id: NonZeroU128::new(trace_id).unwrap(),
                parent_id: NonZeroU64::new(parent_id).unwrap(),
                flags,
            };
            let child = parent.child(&Fixed(bytes));
            prop_assert_eq!(child.trace_id(), parent.trace_id());
            prop_assert_eq!(child.flags & SAMPLED, flags & SAMPLED);
            prop_assert_eq!(child.flags & !SAMPLED, 0);
            prop_assert_eq!(child.to_string().parse(), Ok(child));
            // Whatever the entropy: an id of zeroes is none.
            let root = TraceContext::root(&Fixed(bytes));
            prop_assert_eq!(root.to_string().parse(), Ok(root));
        }
    }

    #[test]
    fn every_span_has_an_id_of_its_own() {
        let context: TraceContext = EXAMPLE.parse().unwrap();
        let (one, other) = (context.child(&SystemEntropy), context.child(&SystemEntropy));
        assert!(one != other && one != context);
    }
}
