//! The e-mail: what is left when both Slack and the CRM have failed for good.
//!
//! A mail server can't be asked whether it has a message, so one whose fate nobody knows is sent again,
//! under the same `Message-ID`, by which mailboxes can tell. It says the same then: everything in it is
//! made from the record, which takes no facts any more once its mail was begun.
//!
//! | what happens | what it is |
//! |---|---|
//! | no connection, no TLS, no greeting, no authentication, whatever the code | may heal: nothing was said about this mail, and a name, a certificate or a password can be put right while the job's tail of 24 h lasts |
//! | 4xx to the mail | may heal |
//! | 5xx to the mail | is final, except for 530, 534, 535 and 538, which are about the password |
//! | silence or a cut before the text was handed over | may heal |
//! | silence or a cut after that | unknown |

mod connection;
mod inert;
mod letter;
mod page;

use std::fmt;

use lettre::{Address, Message};
use serde_json::json;
use store::handoffs;

use self::{connection::MailServer, letter::Letter};
use super::{Channel, Dossier, Receipt, SendError};
use crate::config::SmtpConfig;

/// The e-mail channel.
pub struct Email {
    server: MailServer,
    from: Address,
    to: Address,
}

impl fmt::Debug for Email {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Email").finish_non_exhaustive()
    }
}

impl Email {
    /// Mail by this server, to `FALLBACK_EMAIL_ADDRESS` and nobody else.
    pub fn new(config: &SmtpConfig) -> Self {
        Self {
            server: MailServer::new(config),
            from: config.from.clone(),
            to: config.fallback_address.clone(),
        }
    }

    /// Whether the mail server takes us: connects, encrypts and authenticates, and sends nothing.
    pub async fn try_out(&self) -> Result<(), SendError> {
        self.server.try_out().await
    }

    /// What the mail of a handoff is called for ever: `<handoff@domain of SMTP_FROM>`, with brackets.
    /// Both parts are of characters that an id may have (RFC 5322, 3.6.4).
    fn message_id(&self, dossier: &Dossier) -> String {
        format!("<{}@{}>", dossier.handoff_id, self.from.domain())
    }

    fn compose(&self, dossier: &Dossier) -> Result<Message, SendError> {
        let letter = Letter::about(dossier);
        let message_id = self.message_id(dossier);
        page::message(
            &letter,
            &dossier.handoff_id,
            &message_id,
            &self.from,
            &self.to,
        )
        .map_err(|_| SendError::fatal("the mail could not be composed"))
    }
}

impl Channel for Email {
    const CHANNEL: handoffs::Channel = handoffs::Channel::Email;

    fn provider(&self) -> &'static str {
        "smtp"
    }

    async fn reconcile(&self, _dossier: &Dossier) -> Result<Option<Receipt>, SendError> {
        Ok(None)
    }

    async fn send(&self, dossier: &Dossier) -> Result<Receipt, SendError> {
        let message = self.compose(dossier)?;
        let message = message.formatted();
        self.server.deliver(&self.from, &self.to, &message).await?;
        let message_id = self.message_id(dossier);
        Ok(Receipt {
            reference: json!({ "message_id": message_id }),
            provider_id: Some(message_id),
            url: None,
        })
    }
}
