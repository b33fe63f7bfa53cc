//! What a test tells the model to answer, and what to do to it on the way.

use std::time::Duration;

use axum::http::StatusCode;
use serde_json::{Value, json};

use super::ApiError;

/// How fast an answer comes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Pace {
    /// Before the response's headers.
    pub before_headers: Duration,
    /// Between the headers and the first token.
    pub first_token: Duration,
    /// Between two tokens (words).
    pub between_tokens: Duration,
}

/// A passage that a text refers to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Citation {
    /// Which of the request's search results, counted over the whole request from 0.
    pub search_result: usize,
    /// Which of its content blocks, from 0.
    pub block: usize,
    /// The passage; it should occur in that block.
    pub cited_text: String,
}

/// A block of an answer.
#[derive(Debug, Clone, PartialEq)]
pub enum Content {
    /// Text, sent word by word, with the passages it refers to.
    Text {
        /// The text.
        text: String,
        /// Its citations; one of a search result that the request lacks is left out.
        citations: Vec<Citation>,
    },
    /// A call of a tool, its input sent in pieces.
    ToolUse {
        /// The tool's name.
        name: String,
        /// Its input.
        input: Value,
    },
}

/// What goes wrong with an answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Trouble {
    /// No message at all: an HTTP status and an error body.
    Refused(Refusal),
    /// An `error` event after so many tokens.
    ErrorEvent {
        /// Tokens that are sent first.
        after_tokens: usize,
        /// `error.type`, such as `overloaded_error`.
        kind: String,
    },
    /// The connection is cut after so many tokens.
    Cut {
        /// Tokens that are sent first.
        after_tokens: usize,
    },
    /// Nothing comes any more after so many tokens, and the connection stays open.
    Stall {
        /// Tokens that are sent first.
        after_tokens: usize,
    },
}

/// An error before any message.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refusal {
    status: u16,
    kind: String,
    message: String,
    headers: Vec<(&'static str, String)>,
}

impl Refusal {
    pub(super) fn to_error(&self) -> ApiError {
        ApiError {
            status: StatusCode::from_u16(self.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR),
            kind: self.kind.clone(),
            message: self.message.clone(),
            headers: self.headers.clone(),
        }
    }
}

/// An answer of the model. The default is composed from the request's search results.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Reply {
    /// None: composed.
    pub(super) content: Option<Vec<Content>>,
    pub(super) stop_reason: Option<String>,
    pub(super) pace: Option<Pace>,
    pub(super) trouble: Option<Trouble>,
}

impl Reply {
    /// Composed from the request's search results, as without a script.
    pub fn composed() -> Self {
        Self::default()
    }

    /// This text.
    pub fn text(text: impl Into<String>) -> Self {
        Self::content(vec![Content::Text {
            text: text.into(),
            citations: Vec::new(),
        }])
    }

    /// A text of so many numbered words: `word1 word2 …`.
    pub fn words(count: usize) -> Self {
        let words: Vec<String> = (1..=count).map(|number| format!("word{number}")).collect();
        Self::text(words.join(" "))
    }

    /// A call of a tool.
    pub fn tool_call(name: impl Into<String>, input: Value) -> Self {
        Self::content(vec![Content::ToolUse {
            name: name.into(),
            input,
        }])
    }

    /// These blocks.
    pub fn content(content: Vec<Content>) -> Self {
        Self {
            content: Some(content),
            ..Self::default()
        }
    }

    /// An error instead of a message, such as 529 and `overloaded_error`.
    pub fn refused(status: u16, kind: &str) -> Self {
        Self {
            trouble: Some(Trouble::Refused(Refusal {
                status,
                kind: kind.to_owned(),
                message: "The stand-in was told to fail.".to_owned(),
                headers: Vec::new(),
            })),
            ..Self::default()
        }
    }

    /// A header of the error, such as `retry-after` or `x-should-retry`. Only for
    /// [`Self::refused`].
    #[must_use]
    pub fn with_header(mut self, name: &'static str, value: impl Into<String>) -> Self {
        if let Some(Trouble::Refused(refusal)) = &mut self.trouble {
            refusal.headers.push((name, value.into()));
        }
        self
    }

    /// The error's message, such as `enforced_spend_limit_reached`. Only for [`Self::refused`].
    #[must_use]
    pub fn with_message(mut self, message: impl Into<String>) -> Self {
        if let Some(Trouble::Refused(refusal)) = &mut self.trouble {
            refusal.message = message.into();
        }
        self
    }

    /// At this pace.
    #[must_use]
    pub fn paced(mut self, pace: Pace) -> Self {
        self.pace = Some(pace);
        self
    }

    /// With this `stop_reason` instead of the natural one.
    #[must_use]
    pub fn stopping_by(mut self, stop_reason: &str) -> Self {
        self.stop_reason = Some(stop_reason.to_owned());
        self
    }

    /// With an `error` event after so many tokens.
    #[must_use]
    pub fn failing_after(mut self, after_tokens: usize, kind: &str) -> Self {
        self.trouble = Some(Trouble::ErrorEvent {
            after_tokens,
            kind: kind.to_owned(),
        });
        self
    }

    /// With the connection cut after so many tokens.
    #[must_use]
    pub fn cut_after(mut self, after_tokens: usize) -> Self {
        self.trouble = Some(Trouble::Cut { after_tokens });
        self
    }

    /// With silence after so many tokens.
    #[must_use]
    pub fn stalling_after(mut self, after_tokens: usize) -> Self {
        self.trouble = Some(Trouble::Stall { after_tokens });
        self
    }
}

impl Content {
    /// The pieces in which it is sent.
    pub(super) fn tokens(&self) -> Vec<String> {
        match self {
            Self::Text { text, .. } => text
                .split_inclusive(char::is_whitespace)
                .map(str::to_owned)
                .collect(),
            Self::ToolUse { input, .. } => {
                let text = input.to_string();
                let letters: Vec<char> = text.chars().collect();
                letters
                    .chunks(12)
                    .map(|piece| piece.iter().collect())
                    .collect()
            }
        }
    }

    /// As it stands in a whole message, cut to its first `tokens` tokens.
    pub(super) fn to_json(&self, id: &str, citations: &[Value], tokens: usize) -> Value {
        match self {
            Self::Text { .. } => {
                let text: String = self.tokens().into_iter().take(tokens).collect();
                let mut block = json!({"type": "text", "text": text});
                if !citations.is_empty() {
                    block["citations"] = json!(citations);
                }
                block
            }
            Self::ToolUse { name, input } => {
                json!({"type": "tool_use", "id": id, "name": name, "input": input})
            }
        }
    }
}
