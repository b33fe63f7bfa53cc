//! (see below)
use sqlx::PgConnection;
use store::bus::Wake;

use crate::outcome::Fence;

/// How a job ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ended {
    /// Its work is done.
    Done,
    /// No attempt is left, or none could heal it.
    Dead,
    /// It was cancelled.
    Cancelled,
}

/// Ends a running job in the caller's transaction, which already holds the lock of its serial key
/// ([`crate::lock_serial_key`], taken before any row). Returns false when the lease was lost: then the
/// caller rolls back, nothing may be written. After the commit, publish `after`.
pub async fn end(
    _conn: &mut PgConnection,
    _fence: Fence,
    _ended: Ended,
    _after: &mut Wake,
) -> sqlx::Result<bool> {
    Ok(false)
}
