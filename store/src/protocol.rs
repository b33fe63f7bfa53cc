//! The stream protocol: the AI SDK's *UI message stream v1* as far as we speak it, and our own data
//! parts in its legal shape. One [`Chunk`] is one SSE frame.
//!
//! Checked against npm `ai` majors 6 and 7: an unknown `type` is fatal in 6, so what is ours is
//! always a `data-…` part.

use chrono::{DateTime, SecondsFormat, Utc};
use serde::{Deserialize, Serialize};

use crate::ids::{MessageId, SessionId};

/// One frame of a turn's stream.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(
    tag = "type",
    rename_all = "kebab-case",
    rename_all_fields = "camelCase"
)]
pub enum Chunk {
    /// The answer begins; the id is the transcript's.
    Start {
        /// The id of the answer's message.
        message_id: MessageId,
    },
    /// The answer begins, of however many calls of the model.
    StartStep,
    /// A text part begins.
    TextStart {
        /// The part's id, unique in the stream.
        id: String,
    },
    /// More text of a part.
    TextDelta {
        /// The part that grows.
        id: String,
        /// The text to append.
        delta: String,
    },
    /// A text part is whole.
    TextEnd {
        /// The part that ended.
        id: String,
    },
    /// A passage that the answer used.
    SourceUrl {
        /// The source's id, unique in the message.
        source_id: String,
        /// Where it can be read.
        url: String,
        /// Title of the document and heading.
        #[serde(skip_serializing_if = "Option::is_none")]
        title: Option<String>,
    },
    /// The answer is over.
    FinishStep,
    /// The answer is whole.
    Finish {
        /// Why the model stopped.
        finish_reason: FinishReason,
    },
    /// The visitor stopped the answer; what was streamed stays.
    Abort {
        /// Who or what stopped it.
        reason: String,
    },
    /// The turn failed for good. The text is meant for the visitor.
    Error {
        /// A sentence without internals.
        error_text: String,
    },
    /// Where the conversation is.
    DataSession {
        /// The figures.
        data: SessionData,
        /// Not kept in the client's history.
        transient: True,
    },
    /// Drop what was streamed of this answer: it starts again.
    DataReset {
        /// Why.
        data: ResetData,
        /// Not kept in the client's history.
        transient: True,
    },
    /// A session, rate or budget limit, with a friendly text.
    DataLimit {
        /// The limit.
        data: LimitData,
        /// Not kept in the client's history.
        transient: True,
    },
    /// The conversation's stage has changed.
    DataStage {
        /// The new one.
        data: StageData,
    },
    /// The visitor is offered the contact form.
    DataContactForm {
        /// Why.
        data: ContactFormData,
    },
    /// A person is to talk to the visitor.
    DataHandoff {
        /// How far it is.
        data: HandoffData,
    },
    /// What a visitor has to be told: that this is an AI, what becomes of the data.
    DataNotice {
        /// The text.
        data: NoticeData,
    },
    /// A person of the company speaks in the conversation, or types.
    DataAgent {
        /// Who.
        data: AgentData,
        /// Not kept in the client's history.
        transient: True,
    },
}

impl Chunk {
    /// Whether nothing follows it in its stream.
    pub fn is_terminal(&self) -> bool {
        matches!(
            self,
            Self::Finish { .. } | Self::Abort { .. } | Self::Error { .. }
        )
    }

    /// The JSON that a client gets.
    pub fn to_json(&self) -> String {
        serde_json::to_string(self).expect("strings and numbers always have a JSON form")
    }
}

/// Why an answer ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum FinishReason {
    /// The model came to its end.
    Stop,
    /// The output limit was reached.
    Length,
    /// The model refused.
    ContentFilter,
    /// The provider failed.
    Error,
    /// Anything else.
    Other,
}

/// The session as the widget needs it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct SessionData {
    /// The session's id, for clients that did not mint one.
    pub session_id: SessionId,
    /// The turn of this stream.
    pub turn: i32,
    /// The stage of the conversation, 1–4.
    pub stage: i16,
}

/// Why an answer starts again.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ResetData {
    /// The attempt that begins, from 2.
    pub attempt: i32,
}

/// A limit that was reached.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LimitData {
    /// `session`, `rate` or `budget`.
    pub scope: String,
    /// What the visitor reads.
    pub text: String,
}

/// Where the conversation is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct StageData {
    /// The stage of the conversation, 1–4.
    pub stage: i16,
}

/// The contact form, as the widget needs it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ContactFormData {
    /// Why it is offered.
    pub reason: ContactReason,
    /// What the visitor reads above it, when the answer does not say it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub text: Option<String>,
}

/// Why the contact form is offered.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ContactReason {
    /// The conversation leads nowhere.
    Stall,
    /// A person is to take over, who needs to know how to reach the visitor.
    Handoff,
    /// A limit was reached.
    Limit,
    /// The turn failed for good.
    Failure,
}

/// A handoff, as the visitor may know it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct HandoffData {
    /// How far it is.
    pub status: HandoffStatus,
    /// When the visitor can expect a reply; absent while business hours are unknown.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub promise: Option<ReplyPromise>,
}

/// How far a handoff is. The names are those of `handoff_records.status`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum HandoffStatus {
    /// It is recorded and on its way to people.
    Pending,
    /// Everybody has it who should.
    Delivered,
    /// Some have it.
    Degraded,
    /// It went by e-mail, because every other way failed.
    Mailed,
    /// It reached nobody.
    Dead,
}

impl HandoffStatus {
    /// The name in the database and in metrics.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Pending => "pending",
            Self::Delivered => "delivered",
            Self::Degraded => "degraded",
            Self::Mailed => "mailed",
            Self::Dead => "dead",
        }
    }
}

/// When somebody will reply.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ReplyPromise {
    /// What the visitor reads.
    pub text: String,
    /// The latest time, as RFC 3339.
    pub by: String,
}

impl ReplyPromise {
    /// A promise in these words, for this time.
    pub fn new(text: &str, by: DateTime<Utc>) -> Self {
        Self {
            text: text.to_owned(),
            by: by.to_rfc3339_opts(SecondsFormat::Secs, true),
        }
    }
}

/// A text that a visitor has to be told.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct NoticeData {
    /// What it is about.
    pub kind: NoticeKind,
    /// What the visitor reads.
    pub text: String,
}

/// What a notice is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum NoticeKind {
    /// What becomes of the visitor's data.
    Privacy,
    /// That an AI answers.
    Ai,
}

/// A person of the company in the conversation.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct AgentData {
    /// The name that the visitor reads.
    pub name: String,
    /// What the person does.
    pub status: AgentStatus,
}

/// What a person of the company does.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum AgentStatus {
    /// Takes part in the conversation.
    Joined,
    /// Types.
    Typing,
    /// Has left.
    Left,
}

/// The JSON value `true`: parts that carry it are transient.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct True;

impl Serialize for True {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_bool(true)
    }
}

impl<'de> Deserialize<'de> for True {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        if bool::deserialize(deserializer)? {
            Ok(Self)
        } else {
            Err(serde::de::Error::custom("expected true"))
        }
    }
}
