//! What a way to people has to be able to do.

use std::{future::Future, time::Duration};

use serde_json::Value;
use store::handoffs;

use super::dossier::Dossier;

/// A way to people. It holds no connection of the database while it talks to its provider.
pub trait Channel: Send + Sync + 'static {
    /// Which one it is.
    const CHANNEL: handoffs::Channel;

    /// The provider's name, by which the fleet remembers its failures: `slack`, `hubspot`, `webhook`, `smtp`.
    fn provider(&self) -> &'static str;

    /// Whether the provider has the message already: asked before a message is sent again whose fate
    /// nobody knows. A provider that can't be asked says `None`.
    fn reconcile(
        &self,
        dossier: &Dossier,
    ) -> impl Future<Output = Result<Option<Receipt>, SendError>> + Send;

    /// Sends it.
    fn send(&self, dossier: &Dossier) -> impl Future<Output = Result<Receipt, SendError>> + Send;
}

/// What a provider answered when it took a message.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Receipt {
    /// What the provider calls it, for later calls: `{"channel": …, "ts": …}`.
    pub reference: Value,
    /// The same for people and for support, in a word.
    pub provider_id: Option<String>,
    /// Where a person finds it.
    pub url: Option<String>,
}

/// A message was not taken. The reasons are kept with the attempt and shown to operators: a status, a
/// code of the provider, a kind of failure; never what was sent, a secret or an address.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SendError {
    /// It may be taken later.
    #[error("{reason}")]
    Healable {
        /// What happened.
        reason: String,
        /// How long the provider asked to be left alone.
        retry_after: Option<Duration>,
    },
    /// It will never be taken as it is.
    #[error("{reason}")]
    Final {
        /// What happened.
        reason: String,
    },
    /// It was sent, and nobody knows what became of it.
    #[error("{reason}")]
    Unknown {
        /// What happened.
        reason: String,
    },
    /// Nothing is owed: the channel is not configured, or it can't take this lead.
    #[error("{reason}")]
    NothingToSend {
        /// Why.
        reason: &'static str,
    },
}

impl SendError {
    /// A failure that may heal.
    pub fn healable(reason: impl Into<String>) -> Self {
        Self::Healable {
            reason: reason.into(),
            retry_after: None,
        }
    }

    /// A failure that can't heal.
    pub fn fatal(reason: impl Into<String>) -> Self {
        Self::Final {
            reason: reason.into(),
        }
    }

    /// A request whose outcome is not known.
    pub fn unknown(reason: impl Into<String>) -> Self {
        Self::Unknown {
            reason: reason.into(),
        }
    }
}
