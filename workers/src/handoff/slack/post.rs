//! Brings a new message to Slack by whichever way is left: the bot's token, or else the webhook.
//!
//! ```text
//! bot ──▶ taken                                             ──▶ done, with the message's name
//!     ──▶ refused for good                      ─┐
//!     ──▶ may heal, and this is the last attempt ┼─▶ webhook ──▶ done, without a name
//!     ──▶ Slack doubts, the last attempt: look ──┘            ──▶ what both say together
//!     ──▶ may heal ──▶ the next attempt
//!     ──▶ unknown  ──▶ the next attempt, which looks first: never the webhook behind it
//! ```

use chrono::{DateTime, Utc};

use super::{
    client::{Destination, Place, SlackClient},
    error::{Class, SlackError},
    message::Message,
};
use crate::handoff::SendError;

/// Where a message was taken.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Posted {
    /// By the bot.
    Bot(Place),
    /// By the webhook, which does not say where.
    Webhook,
}

/// The thread is gone, or takes no replies.
const NO_THREAD: &[&str] = &[
    "thread_not_found",
    "message_not_found",
    "cannot_reply_to_message",
    "invalid_thread_ts",
    "restricted_action_thread_locked",
];

impl SlackClient {
    /// Posts a message; without its thread, if that is gone. `since`: when it may have been sent first.
    pub async fn bring(
        &self,
        to: &Destination,
        message: &Message,
        since: DateTime<Utc>,
        last_attempt: bool,
    ) -> Result<Posted, SendError> {
        let mut posted = self.post(to, message).await;
        if posted
            .as_ref()
            .is_err_and(|error| error.is_one_of(NO_THREAD))
        {
            posted = self.post(&Destination::Channel, message).await;
        }
        let error = match posted {
            Ok(place) => return Ok(Posted::Bot(place)),
            Err(error) => error,
        };
        match error.class() {
            Class::Final => {}
            Class::Healable if last_attempt => {}
            Class::Doubtful if last_attempt => {
                if let Some(place) = self.look_again(to, message, since, &error).await? {
                    return Ok(Posted::Bot(place));
                }
            }
            Class::Healable | Class::Doubtful | Class::Unknown => return Err(error.into()),
        }
        match self.post_by_webhook(message).await {
            Ok(()) => {
                tracing::warn!(%error, "a message went to Slack by the webhook");
                Ok(Posted::Webhook)
            }
            Err(by_webhook) => Err(both(&error, &by_webhook)),
        }
    }

    /// Slack is done with the request: what it took is there by now.
    async fn look_again(
        &self,
        to: &Destination,
        message: &Message,
        since: DateTime<Utc>,
        error: &SlackError,
    ) -> Result<Option<Place>, SendError> {
        let thread = match to {
            Destination::Channel => None,
            Destination::Thread(place) | Destination::ThreadAndChannel(place) => Some(place),
        };
        let found = self.find(message.mark(), thread, since).await;
        found.map_err(|look| SendError::unknown(format!("{error}; {look}")))
    }
}

/// Both ways failed. It is unknown if the webhook's answer is; it may heal if one of them may.
fn both(bot: &SlackError, webhook: &SlackError) -> SendError {
    let reason = format!("{bot}; {webhook}");
    match (bot.class(), webhook.class()) {
        (_, Class::Unknown | Class::Doubtful) => SendError::Unknown { reason },
        (Class::Final, Class::Final) => SendError::Final { reason },
        (_, Class::Healable) => SendError::Healable {
            reason,
            retry_after: webhook.retry_after(),
        },
        _ => SendError::Healable {
            reason,
            retry_after: bot.retry_after(),
        },
    }
}
