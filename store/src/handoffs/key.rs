//! Which handoff.

use crate::ids::{HandoffId, SessionId};

/// A handoff: its session and its id in it.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct HandoffKey {
    /// The session.
    pub session_id: SessionId,
    /// The handoff in it.
    pub handoff_id: HandoffId,
}
