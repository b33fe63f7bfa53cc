//! The wake-up bus: tells this process and every other one that there is something to look at.
//!
//! A signal carries keys, never content, and is only a hint: whoever gets it reads the tables. It
//! is sent after the commit, by a task of its own that folds what piles up while a NOTIFY is under
//! way into the next one; subscribers in the same process get it at once. The same task pair keeps
//! the process's one LISTEN connection, and tells every subscriber to look at everything whenever
//! that connection was lost and is back.

use std::collections::BTreeSet;

use crate::ids::TurnKey;

/// What a subscriber was told since it last asked.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub struct Wake {
    /// Anything may have happened: look at everything.
    pub rescan: bool,
    /// Queues in which jobs may be ready.
    pub queues: BTreeSet<String>,
    /// Jobs whose handler is to be stopped.
    pub cancelled_jobs: BTreeSet<i64>,
    /// Turns with new events.
    pub turns: BTreeSet<TurnKey>,
}

/// The bus of a process. Clones share it.
#[derive(Debug, Clone, Default)]
pub struct Bus {}

/// One subscriber's end of the bus.
#[derive(Debug)]
pub struct Subscription {}

impl Bus {
    /// Jobs may be ready in `queue`. Call it after the commit.
    pub fn jobs_ready(&self, _queue: &str) {}

    /// The handler of a running job is to be stopped. Call it after the commit.
    pub fn cancel_job(&self, _id: i64) {}

    /// A turn has new events. Call it after the commit.
    pub fn turn_changed(&self, _key: TurnKey) {}

    /// A subscription to everything, from now on.
    pub fn subscribe(&self) -> Subscription {
        Subscription {}
    }
}

impl Subscription {
    /// Waits until there is something to look at, and takes all of it.
    pub async fn wait(&mut self) -> Wake {
        std::future::pending().await
    }
}
