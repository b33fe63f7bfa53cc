//! The kinds that follow when a person of the company speaks (docs/decisions/0019).

use std::time::Duration;

use serde::{Deserialize, Serialize};
use sqlx::PgConnection;
use store::{
    bus::Wake,
    ids::{HandoffId, SessionId},
};

use super::handoff::{
    QUEUE as HANDOFF, SLACK_CHANGE, SLACK_CHANGE_KEY, SLACK_POST, SLACK_POST_KEY, TIMEOUT,
};
use crate::{
    agents,
    kind::{JobKind, UniqueFor},
    outcome::Ended,
    rate::Rate,
};

/// The queue of what somebody waits for with a finger on the mouse: it must not wait behind deliveries.
const QUEUE: &str = "people";
/// Before what nobody waits for.
const URGENT: i16 = -10;

/// Takes what a visitor wrote to the person who has taken over, in the thread in Slack.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct HandoffRelay {
    /// The session.
    pub session_id: SessionId,
    /// The visitor's turn.
    pub turn: i32,
}

impl HandoffRelay {
    /// The serial key of a session's relays.
    pub fn serial_key_of(session_id: &SessionId) -> String {
        format!("relay:{session_id}")
    }
}

impl JobKind for HandoffRelay {
    const KIND: &'static str = "handoff.relay";
    const QUEUE: &'static str = HANDOFF;
    const RETRY_WAITS: &'static [i32] = &[1, 3, 9, 60, 300];
    const TIMEOUT: Duration = TIMEOUT;
    const PRIORITY: i16 = URGENT;
    const RATE: Option<Rate> = Some(SLACK_POST);

    fn unique_key(&self) -> Option<String> {
        Some(format!("{}/{}", self.session_id, self.turn))
    }

    /// In the order in which they were written. The key's lock goes behind the session's.
    fn serial_key(&self) -> Option<String> {
        Some(Self::serial_key_of(&self.session_id))
    }

    fn rate_key(&self) -> Option<String> {
        Some(SLACK_POST_KEY.to_owned())
    }

    /// A visitor whose words reach nobody is not left alone.
    async fn ended(
        &self,
        ended: Ended,
        conn: &mut PgConnection,
        after: &mut Wake,
    ) -> sqlx::Result<()> {
        if ended == Ended::Done {
            return Ok(());
        }
        agents::relay_failed(conn, self, after).await
    }
}

/// Hands a conversation back to the assistant whose person can't be reached.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct AgentUnreachable {
    /// The session.
    pub session_id: SessionId,
    /// The visitor's turn that could not be brought to them.
    pub turn: i32,
}

impl JobKind for AgentUnreachable {
    const KIND: &'static str = "agent.unreachable";
    const QUEUE: &'static str = QUEUE;
    const RETRY_WAITS: &'static [i32] = &[1, 3, 9, 60, 300];
    const TIMEOUT: Duration = Duration::from_secs(30);

    fn unique_key(&self) -> Option<String> {
        Some(format!("{}/{}", self.session_id, self.turn))
    }
}

/// Shows on a handoff's messages in Slack who speaks and who takes care.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SlackFace {
    /// The session.
    pub session_id: SessionId,
    /// The handoff in it.
    pub handoff_id: HandoffId,
}

impl JobKind for SlackFace {
    const KIND: &'static str = "slack.face";
    const QUEUE: &'static str = HANDOFF;
    const RETRY_WAITS: &'static [i32] = &[1, 3, 9, 60, 300];
    const TIMEOUT: Duration = TIMEOUT;
    const PRIORITY: i16 = URGENT;
    const RATE: Option<Rate> = Some(SLACK_CHANGE);

    fn rate_key(&self) -> Option<String> {
        Some(SLACK_CHANGE_KEY.to_owned())
    }
}

/// What the thread is told.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "what", rename_all = "snake_case")]
pub enum Notice {
    /// A person has taken over; how they speak to the visitor.
    TakenOver {
        /// Their user in Slack.
        by: String,
    },
    /// The assistant answers again.
    HandedBack {
        /// Who handed back.
        by: String,
    },
    /// A person has replied by the form, which Slack shows to nobody else.
    Said {
        /// Their user in Slack.
        by: String,
        /// The turn in which it was said.
        turn: i32,
    },
    /// The conversation is over: what was to be said was not.
    Closed,
    /// What the visitor wrote could not be brought here, and the assistant answers again.
    Unreachable,
}

/// Posts a notice in the thread of a session.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SlackNote {
    /// The session.
    pub session_id: SessionId,
    /// What the notice follows from, so that it is posted once: Slack's name of the request, or the turn.
    pub cause: String,
    /// What it says.
    pub notice: Notice,
}

impl JobKind for SlackNote {
    const KIND: &'static str = "slack.note";
    const QUEUE: &'static str = HANDOFF;
    const RETRY_WAITS: &'static [i32] = &[1, 3, 9, 60, 300, 1_800, 3_600];
    const TIMEOUT: Duration = TIMEOUT;
    const RATE: Option<Rate> = Some(SLACK_POST);

    fn unique_key(&self) -> Option<String> {
        Some(self.cause.clone())
    }

    fn rate_key(&self) -> Option<String> {
        Some(SLACK_POST_KEY.to_owned())
    }
}

/// Opens the form in which a person writes to the visitor.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SlackOpenReply {
    /// The session.
    pub session_id: SessionId,
    /// The handoff whose button was pressed.
    pub handoff_id: HandoffId,
    /// Who pressed it: their user in Slack.
    pub by: String,
    /// Slack's permission to open a form: it holds for three seconds.
    pub trigger_id: String,
}

impl JobKind for SlackOpenReply {
    const KIND: &'static str = "slack.open_reply";
    const QUEUE: &'static str = QUEUE;
    /// Later is too late; whoever pressed the button presses it again.
    const RETRY_WAITS: &'static [i32] = &[];
    const TIMEOUT: Duration = Duration::from_secs(10);
    const PRIORITY: i16 = URGENT;
}

/// Learns what a user of Slack is called.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SlackPerson {
    /// Their user in Slack.
    pub user_id: String,
}

impl JobKind for SlackPerson {
    const KIND: &'static str = "slack.person";
    const QUEUE: &'static str = QUEUE;
    const RETRY_WAITS: &'static [i32] = &[1, 3, 9, 60];
    const TIMEOUT: Duration = Duration::from_secs(30);
    const UNIQUE: UniqueFor = UniqueFor::Period(Duration::from_hours(24));

    fn unique_key(&self) -> Option<String> {
        Some(self.user_id.clone())
    }
}
