//! What happens that others may be told of.

use std::fmt::Write as _;

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use crate::{
    handoffs::HandoffStatus,
    ids::{HandoffId, SessionId, TurnKey},
};

/// Something that happened. What is told of it is read when it is announced; see [`super::describe`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Event {
    /// A visitor's first message was accepted.
    SessionStarted(SessionId),
    /// A turn is finished: answered, cancelled or failed.
    TurnCompleted(TurnKey),
    /// A person is to talk to a visitor.
    HandoffCreated(SessionId, HandoffId),
    /// A handoff is settled; the status says how.
    HandoffSettled(SessionId, HandoffId, HandoffStatus),
    /// A session takes no more messages.
    SessionClosed(SessionId),
}

/// The name of a kind of event, as endpoints subscribe to it and are told it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum EventType {
    /// A visitor's first message was accepted.
    #[serde(rename = "session.started")]
    SessionStarted,
    /// A turn is finished.
    #[serde(rename = "turn.completed")]
    TurnCompleted,
    /// A person is to talk to a visitor.
    #[serde(rename = "handoff.created")]
    HandoffCreated,
    /// Somebody has the handoff.
    #[serde(rename = "handoff.delivered")]
    HandoffDelivered,
    /// The handoff has reached nobody.
    #[serde(rename = "handoff.failed")]
    HandoffFailed,
    /// A session takes no more messages.
    #[serde(rename = "session.closed")]
    SessionClosed,
}

impl EventType {
    /// All of them, in the order in which they happen.
    pub const ALL: [Self; 6] = [
        Self::SessionStarted,
        Self::TurnCompleted,
        Self::HandoffCreated,
        Self::HandoffDelivered,
        Self::HandoffFailed,
        Self::SessionClosed,
    ];

    /// The name.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::SessionStarted => "session.started",
            Self::TurnCompleted => "turn.completed",
            Self::HandoffCreated => "handoff.created",
            Self::HandoffDelivered => "handoff.delivered",
            Self::HandoffFailed => "handoff.failed",
            Self::SessionClosed => "session.closed",
        }
    }
}

impl Event {
    /// Its type; none: nobody is told of it.
    pub fn event_type(&self) -> Option<EventType> {
        Some(match self {
            Self::SessionStarted(_) => EventType::SessionStarted,
            Self::TurnCompleted(_) => EventType::TurnCompleted,
            Self::HandoffCreated(..) => EventType::HandoffCreated,
            Self::HandoffSettled(_, _, status) => match status {
                HandoffStatus::Pending => return None,
                HandoffStatus::Delivered | HandoffStatus::Degraded | HandoffStatus::Mailed => {
                    EventType::HandoffDelivered
                }
                HandoffStatus::Dead => EventType::HandoffFailed,
            },
            Self::SessionClosed(_) => EventType::SessionClosed,
        })
    }

    /// The session that it happened in.
    pub fn session_id(&self) -> &SessionId {
        match self {
            Self::TurnCompleted(key) => &key.session_id,
            Self::SessionStarted(session_id)
            | Self::SessionClosed(session_id)
            | Self::HandoffCreated(session_id, _)
            | Self::HandoffSettled(session_id, ..) => session_id,
        }
    }

    /// The handoff that it is about.
    pub fn handoff_id(&self) -> Option<&HandoffId> {
        match self {
            Self::HandoffCreated(_, handoff_id) | Self::HandoffSettled(_, handoff_id, _) => {
                Some(handoff_id)
            }
            _ => None,
        }
    }

    /// The id by which a receiver knows it: made of what happened, so that the same can't have two.
    pub fn id(&self) -> String {
        let mut hash = Sha256::new();
        let mut add = |part: &str| {
            hash.update(part.as_bytes());
            // No part has one in it.
            hash.update([0]);
        };
        add(self.event_type().map_or("", EventType::as_str));
        add(self.session_id().as_str());
        match self {
            Self::TurnCompleted(key) => add(&key.turn.to_string()),
            Self::HandoffCreated(_, handoff_id) => add(handoff_id.as_str()),
            // One that failed may be delivered later, and one that was degraded made whole.
            Self::HandoffSettled(_, handoff_id, status) => {
                add(handoff_id.as_str());
                add(status.as_str());
            }
            Self::SessionStarted(_) | Self::SessionClosed(_) => {}
        }
        let digest = hash.finalize();
        let mut id = "evt_".to_owned();
        for byte in &digest[..16] {
            let _ = write!(id, "{byte:02x}");
        }
        id
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn the_names_are_the_same_everywhere() {
        for event_type in EventType::ALL {
            let name = serde_json::to_value(event_type).unwrap();
            assert_eq!(name, event_type.as_str());
        }
        let migration = include_str!("../../../migrations/0023_webhooks.sql");
        for event_type in EventType::ALL {
            assert!(migration.contains(&format!("'{}'", event_type.as_str())));
        }
    }

    #[test]
    fn the_same_event_has_the_same_id_and_others_have_others() {
        let session: SessionId = "s-1".parse().unwrap();
        let turn = |turn| {
            Event::TurnCompleted(TurnKey {
                session_id: session.clone(),
                turn,
            })
        };
        let handoff: HandoffId = "h".parse().unwrap();
        let settled = |status| Event::HandoffSettled(session.clone(), handoff.clone(), status);
        let events = [
            Event::SessionStarted(session.clone()),
            Event::SessionClosed(session.clone()),
            Event::SessionClosed("s-2".parse().unwrap()),
            turn(1),
            turn(2),
            Event::HandoffCreated(session.clone(), handoff.clone()),
            settled(HandoffStatus::Dead),
            settled(HandoffStatus::Degraded),
            settled(HandoffStatus::Delivered),
        ];
        let ids: BTreeSet<String> = events.iter().map(Event::id).collect();
        assert_eq!(ids.len(), events.len());
        assert_eq!(turn(1).id(), turn(1).id());
        // Receivers keep it: it never changes.
        assert_eq!(turn(1).id(), "evt_17cd09a3857e45b12e3707b52cc78aaf");
        assert_eq!(settled(HandoffStatus::Pending).event_type(), None);
    }
}
