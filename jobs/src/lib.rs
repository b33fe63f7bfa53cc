//! The queue: durable jobs in Postgres, run by apalis workers behind a dispatcher of our own.

pub mod catalog;
pub mod end;
pub mod enqueue;
pub mod kind;
pub mod outcome;
pub mod runtime;
pub mod status;

pub use end::{Ended, end};
pub use enqueue::{Cancelled, Enqueued, QueueError, cancel, enqueue, lock_serial_key};
pub use kind::{JobId, JobKind};
pub use outcome::{Fence, HandlerResult, JobContext, JobError, Outcome, Retry};
pub use runtime::{CoreTaskEnded, QueueConfig, Runtime};
pub use status::{JobStatus, statuses};
