//! What a kind of job is: a payload with a stable name, a queue, and the rules of its attempts.

use std::time::Duration;

use serde::{Serialize, de::DeserializeOwned};
use sqlx::PgConnection;
use store::bus::Wake;

use crate::{outcome::Ended, rate::Rate};

/// A payload that the queue carries. The rules are stored with each job when it is enqueued, so that
/// a job keeps the rules that it was promised.
pub trait JobKind: Serialize + DeserializeOwned + Send + Sync + Unpin + 'static {
    /// The stable name, as operators see it.
    const KIND: &'static str;
    /// Names that the kind had in earlier versions; jobs under them are still run.
    const ALIASES: &'static [&'static str] = &[];
    /// The queue it waits in.
    const QUEUE: &'static str;
    /// Seconds to wait after the first, second, … failed attempt. One attempt more than waits.
    const RETRY_WAITS: &'static [i32];
    /// How long one attempt may take.
    const TIMEOUT: Duration;
    /// Smaller is served first.
    const PRIORITY: i16 = 0;
    /// How long [`JobKind::unique_key`] holds.
    const UNIQUE: UniqueFor = UniqueFor::Live;
    /// How often attempts may start that share a [`JobKind::rate_key`], in the whole fleet.
    const RATE: Option<Rate> = None;

    /// Another job of the kind with the same key is not made while [`JobKind::UNIQUE`] holds. 1 to 512
    /// bytes, without control characters.
    fn unique_key(&self) -> Option<String> {
        None
    }

    /// At most one job with the same key runs at a time, in the order they were enqueued. 1 to 512
    /// bytes, without control characters.
    fn serial_key(&self) -> Option<String> {
        None
    }

    /// Jobs with the same key share the bucket of [`JobKind::RATE`]; without a key, all of the queue
    /// do. 1 to 512 bytes, without control characters.
    fn rate_key(&self) -> Option<String> {
        None
    }

    /// Whether [`JobKind::ended`] does anything for a job that ended well.
    const FOLLOWS_UP: bool = false;

    /// What follows from the end of the job, in the transaction that ends it: by its handler, by a
    /// rescue after a crash, by an operator. Must not fail for a follow-up that was done already.
    fn ended(
        &self,
        _ended: Ended,
        _conn: &mut PgConnection,
        _after: &mut Wake,
    ) -> impl Future<Output = sqlx::Result<()>> + Send {
        async { Ok(()) }
    }
}

/// How long a unique key holds. In each case at least while its job is live.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum UniqueFor {
    /// While its job is live.
    Live,
    /// This long from the enqueue on, whatever becomes of the job.
    Period(Duration),
    /// For ever: the key names something that happens once.
    Ever,
}
