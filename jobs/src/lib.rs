//! The queue: durable jobs in Postgres, run by apalis workers behind a dispatcher of our own.
//!
//! # A job's life
//!
//! ```text
//!             enqueue                 claim: attempt + 1, lease + 1
//!    ┌─────────────────────► ready ───────────────────────────────► running
//!    │ key is taken          ▲  ▲ ▲                                  │  │
//!    ▼        its turn comes │  │ └───────── lease ended, ────────────┤  │
//!  blocked ──────────────────┘  │ due       handed back              │  │
//!    │                       scheduled ◄──── failed, snoozed ────────┘  │
//!    │ cancelled               │ cancelled (from ready as well)         │
//!    ▼                         ▼                                        ▼
//!  ───────────────────── ended: done · dead · cancelled ─────────────────
//!                    (leaves queue.jobs for queue.history)
//! ```
//!
//! - **Lease and fence.** A claim gives the job to one process until `lease_until`; a task of its own
//!   renews all the leases of the process. Every later write names (job, lease number) and does
//!   nothing when the number has grown. Whoever sees a lease that ended puts the job back, or ends it
//!   as dead when no attempt is left.
//! - **Retry.** The waits are stored with the job. A failed attempt sets `run_at` and frees its slot.
//! - **Scheduled.** A job that is not due yet stays out of the claim's index until its time has come,
//!   so that a million retries cost a claim nothing. Any process makes due jobs ready.
//! - **Limits of the fleet.** Claims of a queue with a limit happen one after the other, under the
//!   queue's lock: the count of its running jobs and the token buckets are exact.
//! - **Serial key.** A unique index admits one unblocked job of a key; whatever ends a job promotes the
//!   key's oldest blocked one in the same transaction, under the key's advisory lock.
//! - **Ended jobs** leave `queue.jobs` in the statement that ends them: the hot table holds live jobs.
//! - **Time** is the database's: due times and leases never depend on a process's clock.
//!
//! # Who does what in a process
//!
//! ```text
//!  bus ──wake──► claimer ──jobs──► one apalis worker a kind ──verdicts──► settler ──► Postgres
//!  timer ───────►   │                 (tokio task a job)                     │
//!                   └───────────── in flight: fence, stop signal ────────────┘
//!                                            ▲
//!                                         renewer (own connection)
//! ```
//!
//! apalis runs the handlers (workers, extractors, layers); [`backend`](crate::Runtime) is only the
//! receiving end of a bounded channel, so nothing that apalis does can lose, repeat or stop a job.

pub mod agents;
mod backend;
mod cancel;
pub mod catalog;
mod claimer;
mod depth;
mod end;
mod enqueue;
mod erasure;
mod fence;
mod flight;
pub mod handoffs;
mod horizon;
mod kind;
pub mod operator;
mod outcome;
mod prune;
mod rate;
mod renewer;
mod rescuer;
mod runtime;
pub mod schedule;
mod settler;
mod sql;
mod starter;
mod status;
mod sweep;
pub mod webhooks;

pub use cancel::{Cancelled, cancel, withdraw};
pub use catalog::enqueue_raw;
pub use depth::QueueFigures;
pub use end::end;
pub use enqueue::{
    EnqueueOptions, Enqueued, MAX_DELAY, MAX_KEY, MAX_PAYLOAD, MAX_SERIAL_KEYS, QueueError,
    enqueue, enqueue_all, enqueue_locked, enqueue_with, lock_serial_key, try_lock_serial_keys,
};
pub use erasure::{erase_held, erase_session, hold_session, lock_session};
pub use fence::{Fence, JobId};
pub use kind::{JobKind, UniqueFor};
pub use outcome::{Ended, HandlerResult, JobContext, JobError, Outcome, Retry, database_failure};
pub use rate::Rate;
pub use runtime::{Concurrency, CoreTaskEnded, QueueConfig, Runtime};
pub use status::{JobStatus, statuses};
pub use sweep::{NextSweep, sweep_after};
