//! What a channel owes a handoff, and how it went (docs/decisions/0018).

use serde::{Deserialize, Serialize};

/// A way by which a handoff reaches people.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Channel {
    /// The message in Slack.
    Slack,
    /// The record in the CRM.
    Crm,
    /// The link to that record in the message.
    SlackUpdate,
    /// The e-mail, when both of the first two failed.
    Email,
}

impl Channel {
    /// The name in the database and in metrics.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Slack => "slack",
            Self::Crm => "crm",
            Self::SlackUpdate => "slack_update",
            Self::Email => "email",
        }
    }
}

/// How far a delivery is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum DeliveryStatus {
    /// A job sees to it.
    Pending,
    /// The provider has it.
    Delivered,
    /// Nothing is owed: the channel is not configured, or can't take this lead.
    Skipped,
    /// No attempt is left, or none could heal it.
    Dead,
    /// An operator stopped it.
    Cancelled,
}

impl DeliveryStatus {
    /// The name in the database.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Pending => "pending",
            Self::Delivered => "delivered",
            Self::Skipped => "skipped",
            Self::Dead => "dead",
            Self::Cancelled => "cancelled",
        }
    }
}

/// What came of an attempt that ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AttemptOutcome {
    /// The provider took it.
    Sent,
    /// The provider had it already: an earlier attempt's outcome had not reached us.
    Found,
    /// Nothing was to be sent.
    Skipped,
    /// It failed in a way that may heal.
    Failed,
    /// It failed in a way that can't heal.
    Refused,
    /// The request was sent, and nobody knows what became of it.
    Unknown,
}

impl AttemptOutcome {
    /// The name in the database and in metrics.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Sent => "sent",
            Self::Found => "found",
            Self::Skipped => "skipped",
            Self::Failed => "failed",
            Self::Refused => "refused",
            Self::Unknown => "unknown",
        }
    }
}
