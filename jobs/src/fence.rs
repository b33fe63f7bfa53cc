//! A job's number, and the right to write for it.

use std::fmt;

use serde::{Deserialize, Serialize};

/// A job's number, unique for ever in its database.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct JobId(pub i64);

impl fmt::Display for JobId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// The right to write for a job: worthless once the lease was taken over.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Fence {
    /// The job.
    pub id: JobId,
    /// The number of the lease under which it was claimed.
    pub lease: i32,
}
