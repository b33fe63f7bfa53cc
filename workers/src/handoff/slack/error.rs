//! What went wrong at Slack, and whether it may heal. Told without a word of the message, the token or
//! the webhook's address.
//!
//! Slack answers most failures with status 200 and a code. The codes are those of
//! <https://docs.slack.dev/reference/methods/chat.postMessage> and its neighbours; one that we don't know
//! is taken as final, because the ones that heal are few and of long standing.

use std::{fmt, time::Duration};

use jobs::{JobError, Retry};

use crate::handoff::SendError;

/// What we ask Slack to do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Call {
    /// `chat.postMessage`.
    PostMessage,
    /// `chat.update`.
    Update,
    /// `chat.delete`.
    Delete,
    /// `conversations.history`.
    History,
    /// `conversations.replies`.
    Replies,
    /// `conversations.list`.
    Channels,
    /// `views.open`.
    OpenView,
    /// `auth.test`.
    AuthTest,
    /// `users.info`.
    UserInfo,
    /// A POST to the incoming webhook.
    Webhook,
}

impl Call {
    /// The method's name, or `webhook`.
    pub const fn name(self) -> &'static str {
        match self {
            Self::PostMessage => "chat.postMessage",
            Self::Update => "chat.update",
            Self::Delete => "chat.delete",
            Self::History => "conversations.history",
            Self::Replies => "conversations.replies",
            Self::Channels => "conversations.list",
            Self::OpenView => "views.open",
            Self::AuthTest => "auth.test",
            Self::UserInfo => "users.info",
            Self::Webhook => "webhook",
        }
    }

    /// Whether doing it twice comes to more than doing it once.
    const fn adds(self) -> bool {
        matches!(self, Self::PostMessage | Self::OpenView | Self::Webhook)
    }
}

/// What happened.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Fault {
    /// Slack refused with this code.
    Code(String),
    /// Slack answered with this status.
    Status(u16),
    /// No connection came about.
    Connect,
    /// No whole answer came in time.
    Timeout,
    /// The connection broke before the answer was complete.
    ConnectionLost,
    /// The answer is not what Slack documents.
    Malformed,
    /// The request can't be made: an address is no URL.
    Unsendable,
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Code(code) => f.write_str(code),
            Self::Status(status) => write!(f, "status {status}"),
            Self::Connect => f.write_str("no connection"),
            Self::Timeout => f.write_str("time-out"),
            Self::ConnectionLost => f.write_str("the connection was lost"),
            Self::Malformed => f.write_str("the answer can't be read"),
            Self::Unsendable => f.write_str("the request can't be made"),
        }
    }
}

/// What a failure means for the next attempt.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Class {
    /// Nothing was done; it may be done later.
    Healable,
    /// Nothing was done, and never will be.
    Final,
    /// The request was sent, and no answer tells what became of it.
    Unknown,
    /// Slack is done with the request and does not know itself what came of it. Whoever looks now sees it.
    Doubtful,
}

/// A call to Slack failed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{}: {fault}", call.name())]
pub struct SlackError {
    call: Call,
    fault: Fault,
    retry_after: Option<Duration>,
}

impl SlackError {
    pub(super) fn new(call: Call, fault: Fault) -> Self {
        Self {
            call,
            fault,
            retry_after: None,
        }
    }

    /// A code as Slack wrote it: anything else than one is not kept.
    pub(super) fn code(call: Call, code: &str) -> Self {
        if is_code(code) {
            Self::new(call, Fault::Code(code.to_owned()))
        } else {
            Self::new(call, Fault::Malformed)
        }
    }

    /// The configured channel is not among those that the bot sees.
    pub(super) fn no_channel() -> Self {
        Self::code(Call::Channels, "channel_not_found")
    }

    /// More messages than are looked through: no code of Slack's.
    pub(super) fn too_many() -> Self {
        Self::code(Call::History, "too_many_messages")
    }

    /// A refusal of the webhook: a status, and mostly a code as text.
    pub(super) fn webhook(status: u16, text: &str) -> Self {
        if (400..500).contains(&status) && is_code(text) {
            Self::code(Call::Webhook, text)
        } else {
            Self::new(Call::Webhook, Fault::Status(status))
        }
    }

    pub(super) fn with_retry_after(mut self, wait: Option<Duration>) -> Self {
        self.retry_after = wait;
        self
    }

    /// What failed.
    pub fn call(&self) -> Call {
        self.call
    }

    /// How.
    pub fn fault(&self) -> &Fault {
        &self.fault
    }

    /// How long Slack asked to be left alone.
    pub fn retry_after(&self) -> Option<Duration> {
        self.retry_after
    }

    /// Whether Slack refused with one of these codes.
    pub fn is_one_of(&self, codes: &[&str]) -> bool {
        matches!(&self.fault, Fault::Code(code) if codes.contains(&code.as_str()))
    }

    /// What it means for the next attempt.
    pub fn class(&self) -> Class {
        let (unanswered, undecided) = if self.call.adds() {
            (Class::Unknown, Class::Doubtful)
        } else {
            (Class::Healable, Class::Healable)
        };
        match &self.fault {
            Fault::Code(code) => match code.as_str() {
                "ratelimited"
                | "rate_limited"
                | "message_limit_exceeded"
                | "service_unavailable"
                | "request_timeout"
                | "team_added_to_org"
                | "org_login_required"
                | "external_channel_migrating"
                | "update_failed" => Class::Healable,
                // "It's possible some aspect of the operation succeeded before the error was raised."
                "internal_error" | "fatal_error" | "rollup_error" => undecided,
                _ => Class::Final,
            },
            // A gateway that had no answer from what stands behind it.
            Fault::Status(502 | 504)
            | Fault::Timeout
            | Fault::ConnectionLost
            | Fault::Malformed => unanswered,
            Fault::Status(408 | 429 | 500..) | Fault::Connect => Class::Healable,
            Fault::Status(_) | Fault::Unsendable => Class::Final,
        }
    }
}

fn is_code(text: &str) -> bool {
    let legal = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'_';
    (1..=64).contains(&text.len()) && text.bytes().all(legal)
}

impl From<SlackError> for SendError {
    fn from(error: SlackError) -> Self {
        let reason = error.to_string();
        match error.class() {
            Class::Healable => Self::Healable {
                reason,
                retry_after: error.retry_after,
            },
            Class::Final => Self::Final { reason },
            Class::Unknown | Class::Doubtful => Self::Unknown { reason },
        }
    }
}

impl From<SlackError> for JobError {
    /// For handlers that look first, so that an unknown outcome is like any other that may heal.
    fn from(error: SlackError) -> Self {
        let retry = match (error.class(), error.retry_after) {
            (Class::Final, _) => Retry::Never,
            (_, Some(wait)) => Retry::NotBefore(wait),
            (_, None) => Retry::AsPlanned,
        };
        Self {
            retry,
            reason: error.to_string(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn class(call: Call, fault: Fault) -> Class {
        SlackError::new(call, fault).class()
    }

    #[test]
    fn every_code_has_its_class() {
        for (code, expected) in [
            ("ratelimited", Class::Healable),
            ("service_unavailable", Class::Healable),
            ("request_timeout", Class::Healable),
            ("team_added_to_org", Class::Healable),
            ("internal_error", Class::Doubtful),
            ("fatal_error", Class::Doubtful),
            ("invalid_auth", Class::Final),
            ("not_authed", Class::Final),
            ("account_inactive", Class::Final),
            ("token_revoked", Class::Final),
            ("missing_scope", Class::Final),
            ("not_in_channel", Class::Final),
            ("channel_not_found", Class::Final),
            ("is_archived", Class::Final),
            ("msg_too_long", Class::Final),
            ("invalid_blocks", Class::Final),
            ("a_code_of_tomorrow", Class::Final),
        ] {
            let error = SlackError::code(Call::PostMessage, code);
            assert_eq!(error.class(), expected, "{code}");
            assert_eq!(error.to_string(), format!("chat.postMessage: {code}"));
        }
    }

    #[test]
    fn what_adds_nothing_twice_may_simply_be_done_again() {
        for fault in [
            Fault::Timeout,
            Fault::ConnectionLost,
            Fault::Status(504),
            Fault::Malformed,
        ] {
            assert_eq!(class(Call::PostMessage, fault.clone()), Class::Unknown);
            assert_eq!(class(Call::Webhook, fault.clone()), Class::Unknown);
            assert_eq!(class(Call::Update, fault.clone()), Class::Healable);
            assert_eq!(class(Call::History, fault), Class::Healable);
        }
        let error = SlackError::code(Call::Update, "internal_error");
        assert_eq!(error.class(), Class::Healable);
    }

    #[test]
    fn statuses_that_heal_are_told_from_those_that_do_not() {
        for status in [408, 429, 500, 503, 599] {
            let class = class(Call::PostMessage, Fault::Status(status));
            assert_eq!(class, Class::Healable, "{status}");
        }
        for status in [301, 400, 403, 404, 410, 413] {
            let class = class(Call::Webhook, Fault::Status(status));
            assert_eq!(class, Class::Final, "{status}");
        }
    }

    #[test]
    fn only_a_code_is_repeated_to_operators() {
        for text in ["", "Somebody's message", "<html>", &"x".repeat(65)] {
            let error = SlackError::code(Call::Webhook, text);
            assert_eq!(error.to_string(), "webhook: the answer can't be read");
            let error = SlackError::webhook(404, text);
            assert_eq!(error.to_string(), "webhook: status 404");
        }
        let error = SlackError::webhook(404, "no_service");
        assert_eq!(error.to_string(), "webhook: no_service");
    }

    #[test]
    fn a_wait_that_slack_asked_for_reaches_the_job() {
        let wait = Duration::from_secs(7);
        let error =
            SlackError::new(Call::PostMessage, Fault::Status(429)).with_retry_after(Some(wait));
        assert_eq!(JobError::from(error.clone()).retry, Retry::NotBefore(wait));
        let expected = SendError::Healable {
            reason: "chat.postMessage: status 429".to_owned(),
            retry_after: Some(wait),
        };
        assert_eq!(SendError::from(error), expected);
    }
}
