//! The kinds that tell the endpoints of others what happens (docs/decisions/0022).

use std::time::Duration;

use serde::{Deserialize, Serialize};
use serde_json::Value;
use store::{
    ids::{HandoffId, SessionId},
    webhooks::EventType,
};

use crate::kind::JobKind;

/// The queue of both.
pub(super) const QUEUE: &str = "webhooks";

/// Tells one endpoint of one event. It carries no personal data: what is known of a visitor is read when it
/// is delivered.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct WebhookDeliver {
    /// The endpoint.
    pub endpoint_id: String,
    /// What the receiver knows the event by: the same for all attempts.
    pub event_id: String,
    /// What happened.
    pub event: EventType,
    /// When, as RFC 3339.
    pub at: String,
    /// In which session.
    pub session_id: SessionId,
    /// The handoff that it is about.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub handoff_id: Option<HandoffId>,
    /// What is told of it: ids, a status, a stage, counts.
    pub data: Value,
}

impl WebhookDeliver {
    /// The serial key of everything that an endpoint is told.
    pub fn serial_key_of(endpoint_id: &str) -> String {
        format!("webhook:{endpoint_id}")
    }
}

impl JobKind for WebhookDeliver {
    const KIND: &'static str = "webhook.deliver";
    const QUEUE: &'static str = QUEUE;
    /// Standard Webhooks' example of a schedule, with the waits of other kinds in front: about three days.
    const RETRY_WAITS: &'static [i32] = &[
        1, 3, 9, 60, 300, 1_800, 7_200, 18_000, 36_000, 50_400, 72_000, 86_400,
    ];
    /// The receiver's time-out (20 s) and the database.
    const TIMEOUT: Duration = Duration::from_secs(40);

    /// In the order in which things happened.
    fn serial_key(&self) -> Option<String> {
        Some(Self::serial_key_of(&self.endpoint_id))
    }
}

/// Lets what was added for endpoints run: see [`crate::webhooks`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct WebhookRelease {
    /// The endpoints.
    pub endpoint_ids: Vec<String>,
}

impl JobKind for WebhookRelease {
    const KIND: &'static str = "webhook.release";
    const QUEUE: &'static str = QUEUE;
    /// Only the database can keep it from its work.
    const RETRY_WAITS: &'static [i32] = &[1, 3, 9, 60, 300];
    const TIMEOUT: Duration = Duration::from_secs(30);
    /// Before the deliveries: it takes a moment.
    const PRIORITY: i16 = -1;
}
