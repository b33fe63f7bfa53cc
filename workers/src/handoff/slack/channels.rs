//! The two channels of a handoff that end in Slack: its message, and what is added to it when the CRM has
//! the lead.

use serde_json::{Value, json};
use store::handoffs;

use super::{
    client::{Destination, Place, SlackClient},
    mark::Mark,
    message::{Face, MESSAGE, message},
    notes::{LINK, link_message},
    post::Posted,
};
use crate::{
    config::HandoffConfig,
    handoff::{Channel, Dossier, Receipt, SendError},
};

/// The circuit's name for both.
const PROVIDER: &str = "slack";

/// `chat.update` can't change the message any more; another one can still be posted.
pub const NOT_TO_BE_CHANGED: &[&str] = &[
    "message_not_found",
    "cant_update_message",
    "edit_window_closed",
    "is_inactive",
];

/// `handoff.slack`: posts the handoff's message, in the thread of the session's earlier handoff if there
/// is one.
#[derive(Debug, Clone)]
pub struct SlackMessage {
    client: SlackClient,
}

impl SlackMessage {
    /// The channel that `SLACK_CHANNEL` names.
    pub fn new(config: &HandoffConfig, http: reqwest::Client) -> Self {
        Self::with_client(SlackClient::new(&config.slack, http))
    }

    /// The same by a client that is there.
    pub fn with_client(client: SlackClient) -> Self {
        Self { client }
    }
}

impl Channel for SlackMessage {
    const CHANNEL: handoffs::Channel = handoffs::Channel::Slack;

    fn provider(&self) -> &'static str {
        PROVIDER
    }

    async fn reconcile(&self, dossier: &Dossier) -> Result<Option<Receipt>, SendError> {
        let mark = Mark::new(&dossier.session_id, &dossier.handoff_id, MESSAGE);
        let since = dossier.first_attempt_at;
        if let Some(thread) = earlier_thread(dossier)
            && let Some(place) = self.client.find(&mark, Some(&thread), since).await?
        {
            return Ok(Some(receipt(Posted::Bot(place))));
        }
        // Also where it may have gone by the webhook, which knows no threads.
        let place = self.client.find(&mark, None, since).await?;
        Ok(place.map(|place| receipt(Posted::Bot(place))))
    }

    async fn send(&self, dossier: &Dossier) -> Result<Receipt, SendError> {
        let destination = match earlier_thread(dossier) {
            Some(thread) => Destination::ThreadAndChannel(thread),
            None => Destination::Channel,
        };
        let message = message(dossier, &Face::of(dossier));
        let (since, last) = (dossier.first_attempt_at, dossier.last_attempt);
        let posted = self.client.bring(&destination, &message, since, last);
        posted.await.map(receipt)
    }
}

/// `handoff.slack_update`: adds the CRM's record to the message, or posts a second one where the first
/// can't be changed.
#[derive(Debug, Clone)]
pub struct SlackUpdate {
    client: SlackClient,
}

impl SlackUpdate {
    /// For the messages of [`SlackMessage`].
    pub fn new(config: &HandoffConfig, http: reqwest::Client) -> Self {
        Self::with_client(SlackClient::new(&config.slack, http))
    }

    /// The same by a client that is there.
    pub fn with_client(client: SlackClient) -> Self {
        Self { client }
    }

    /// The second message, unless an earlier update has posted it.
    async fn add(&self, dossier: &Dossier, to: &Destination) -> Result<Receipt, SendError> {
        let before = dossier.reference(handoffs::Channel::SlackUpdate);
        if before.is_some_and(|before| before.reference["part"] == LINK) {
            return Err(SendError::NothingToSend {
                reason: "the CRM's link was told in a second message",
            });
        }
        let message = link_message(dossier).ok_or(SendError::NothingToSend {
            reason: "the CRM gave no link, and the message can't be changed",
        })?;
        let (since, last) = (dossier.first_attempt_at, dossier.last_attempt);
        let posted = self.client.bring(to, &message, since, last).await?;
        Ok(second(receipt(posted)))
    }
}

impl Channel for SlackUpdate {
    const CHANNEL: handoffs::Channel = handoffs::Channel::SlackUpdate;

    fn provider(&self) -> &'static str {
        PROVIDER
    }

    /// Looks for a second message. A change of the first one is simply made again.
    async fn reconcile(&self, dossier: &Dossier) -> Result<Option<Receipt>, SendError> {
        let mark = Mark::new(&dossier.session_id, &dossier.handoff_id, LINK);
        let since = dossier.first_attempt_at;
        if let Some(thread) = posted_at(dossier)
            && let Some(place) = self.client.find(&mark, Some(&thread), since).await?
        {
            return Ok(Some(second(receipt(Posted::Bot(place)))));
        }
        let place = self.client.find(&mark, None, since).await?;
        Ok(place.map(|place| second(receipt(Posted::Bot(place)))))
    }

    async fn send(&self, dossier: &Dossier) -> Result<Receipt, SendError> {
        if dossier.reference(handoffs::Channel::Slack).is_none() {
            return Err(SendError::NothingToSend {
                reason: "there is no message in Slack",
            });
        }
        let Some(place) = posted_at(dossier) else {
            return self.add(dossier, &Destination::Channel).await;
        };
        let message = message(dossier, &Face::of(dossier));
        match self.client.update(&place, &message).await {
            Ok(()) => Ok(receipt(Posted::Bot(place))),
            Err(error) if error.is_one_of(NOT_TO_BE_CHANGED) => {
                self.add(dossier, &Destination::Thread(place)).await
            }
            Err(error) => Err(error.into()),
        }
    }
}

/// Where the handoff's message is, if Slack has said so.
fn posted_at(dossier: &Dossier) -> Option<Place> {
    place(&dossier.reference(handoffs::Channel::Slack)?.reference)
}

/// The place in the reference of a delivery. `None`: the message went by the webhook.
pub fn place(reference: &Value) -> Option<Place> {
    serde_json::from_value(reference.clone()).ok()
}

fn earlier_thread(dossier: &Dossier) -> Option<Place> {
    let (channel, ts) = dossier.earlier_thread.clone()?;
    Some(Place { channel, ts })
}

fn receipt(posted: Posted) -> Receipt {
    match posted {
        Posted::Bot(Place { channel, ts }) => Receipt {
            provider_id: Some(ts.clone()),
            reference: json!({"via": "bot", "channel": channel, "ts": ts}),
            url: None,
        },
        Posted::Webhook => Receipt {
            reference: json!({"via": "webhook"}),
            provider_id: None,
            url: None,
        },
    }
}

/// Remembers that it was a second message: it is posted once.
fn second(mut receipt: Receipt) -> Receipt {
    receipt.reference["part"] = json!(LINK);
    receipt
}
