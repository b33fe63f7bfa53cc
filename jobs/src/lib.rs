//! The queue: durable jobs in Postgres, run by apalis workers behind a dispatcher of our own.

pub mod catalog;
pub mod enqueue;
pub mod kind;
pub mod status;

pub use enqueue::{Cancelled, Enqueued, cancel, enqueue, lock_serial_key};
pub use kind::{JobId, JobKind};
pub use status::{JobStatus, statuses};
