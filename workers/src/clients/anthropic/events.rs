//! From the provider's stream events to ours.
//!
//! ```text
//! message_start → ( content_block_start → content_block_delta* → content_block_stop )*
//!               → message_delta+ → message_stop          ping and unknown events anywhere
//! ```
//!
//! A [`Decoder`] is fed one event's data at a time. It keeps what an answer leaves open between two
//! events: the arguments of a tool call, the stop reason, the usage.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::clients::{error::Failure, http::ErrorObject};

/// More tokens than any call has. What is beyond is a peer's mistake, and must not make our sums overflow.
const MOST_TOKENS: u64 = 1_000_000_000;

/// What the provider bills, in tokens.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Usage {
    /// Input that was neither read from nor written to the cache.
    pub input_tokens: u64,
    /// The answer.
    pub output_tokens: u64,
    /// Input that was written to the prompt cache.
    pub cache_write_tokens: u64,
    /// Input that was read from it.
    pub cache_read_tokens: u64,
}

impl Usage {
    /// All input, however it was served.
    pub fn total_input(&self) -> u64 {
        self.input_tokens + self.cache_write_tokens + self.cache_read_tokens
    }

    /// The figures are cumulative: those that are given replace the earlier ones.
    fn replace_by(&mut self, newer: &WireUsage) {
        let take =
            |old: &mut u64, new: Option<u64>| *old = new.map_or(*old, |new| new.min(MOST_TOKENS));
        take(&mut self.input_tokens, newer.input_tokens);
        take(&mut self.output_tokens, newer.output_tokens);
        take(
            &mut self.cache_write_tokens,
            newer.cache_creation_input_tokens,
        );
        take(&mut self.cache_read_tokens, newer.cache_read_input_tokens);
    }
}

/// Why the model stopped.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(from = "String", into = "String")]
pub enum StopReason {
    /// It had nothing more to say.
    EndTurn,
    /// `max_tokens` was reached.
    MaxTokens,
    /// One of the request's stop sequences came.
    StopSequence,
    /// It waits for the result of a tool.
    ToolUse,
    /// A long turn of the provider's own tools was paused.
    PauseTurn,
    /// It declined.
    Refusal,
    /// The conversation and the answer fill the model's window.
    ContextWindowExceeded,
    /// A reason that is newer than this client.
    Other(String),
}

impl From<String> for StopReason {
    fn from(text: String) -> Self {
        match text.as_str() {
            "end_turn" => Self::EndTurn,
            "max_tokens" => Self::MaxTokens,
            "stop_sequence" => Self::StopSequence,
            "tool_use" => Self::ToolUse,
            "pause_turn" => Self::PauseTurn,
            "refusal" => Self::Refusal,
            "model_context_window_exceeded" => Self::ContextWindowExceeded,
            _ => Self::Other(text),
        }
    }
}

impl From<StopReason> for String {
    fn from(reason: StopReason) -> Self {
        match reason {
            StopReason::EndTurn => "end_turn".into(),
            StopReason::MaxTokens => "max_tokens".into(),
            StopReason::StopSequence => "stop_sequence".into(),
            StopReason::ToolUse => "tool_use".into(),
            StopReason::PauseTurn => "pause_turn".into(),
            StopReason::Refusal => "refusal".into(),
            StopReason::ContextWindowExceeded => "model_context_window_exceeded".into(),
            StopReason::Other(text) => text,
        }
    }
}

/// What a caller sees of an answer. `block` is the number of the content block in the answer.
#[derive(Debug, Clone, PartialEq)]
pub enum ModelEvent {
    /// The model has taken the request.
    Started {
        /// The model that answers, as the provider names it.
        model: String,
        /// The input's tokens; the output's are not known yet.
        usage: Usage,
    },
    /// More text.
    TextDelta {
        /// The block it belongs to.
        block: u32,
        /// The text, never empty.
        text: String,
    },
    /// The block's text rests on a passage.
    Citation {
        /// The block.
        block: u32,
        /// The passage's source, as it was given.
        source: String,
        /// Its title, as it was given.
        title: Option<String>,
        /// The words that were used.
        cited_text: String,
        /// The passage's number in the request, from 0.
        search_result_index: u32,
    },
    /// The model calls a tool; the arguments are complete.
    ToolUse {
        /// The call's id, which its result names.
        id: String,
        /// The tool.
        name: String,
        /// Its arguments, a JSON object; null if the model wrote something else, or was cut off: that
        /// is for the tool's result to say.
        input: Value,
    },
    /// The answer is complete. Nothing follows.
    Finished {
        /// Why the model stopped.
        stop_reason: StopReason,
        /// What the whole call is billed for.
        usage: Usage,
    },
}

#[derive(Deserialize)]
#[serde(tag = "type", rename_all = "snake_case")]
enum WireEvent {
    MessageStart {
        message: WireMessage,
    },
    ContentBlockStart {
        index: u32,
        content_block: WireBlock,
    },
    ContentBlockDelta {
        index: u32,
        delta: WireDelta,
    },
    ContentBlockStop {
        index: u32,
    },
    MessageDelta {
        delta: WireMessageDelta,
        #[serde(default)]
        usage: WireUsage,
    },
    MessageStop,
    Error {
        error: ErrorObject,
    },
    /// `ping`, and whatever the provider adds one day.
    #[serde(other)]
    Ignored,
}

#[derive(Deserialize)]
struct WireMessage {
    model: String,
    #[serde(default)]
    usage: WireUsage,
}

#[derive(Deserialize)]
#[serde(tag = "type", rename_all = "snake_case")]
enum WireBlock {
    Text {
        #[serde(default)]
        text: String,
    },
    ToolUse {
        id: String,
        name: String,
        #[serde(default)]
        input: Value,
    },
    #[serde(other)]
    Ignored,
}

#[derive(Deserialize)]
#[serde(tag = "type", rename_all = "snake_case")]
enum WireDelta {
    TextDelta {
        text: String,
    },
    InputJsonDelta {
        partial_json: String,
    },
    CitationsDelta {
        citation: WireCitation,
    },
    /// Thinking, its signature, and what is newer than this client.
    #[serde(other)]
    Ignored,
}

#[derive(Deserialize)]
#[serde(tag = "type", rename_all = "snake_case")]
enum WireCitation {
    SearchResultLocation {
        #[serde(default)]
        source: String,
        #[serde(default)]
        title: Option<String>,
        #[serde(default)]
        cited_text: String,
        search_result_index: u32,
    },
    #[serde(other)]
    Ignored,
}

#[derive(Deserialize)]
struct WireMessageDelta {
    #[serde(default)]
    stop_reason: Option<String>,
}

#[derive(Default, Deserialize)]
#[expect(clippy::struct_field_names, reason = "the names of the wire")]
struct WireUsage {
    #[serde(default)]
    input_tokens: Option<u64>,
    #[serde(default)]
    output_tokens: Option<u64>,
    #[serde(default)]
    cache_creation_input_tokens: Option<u64>,
    #[serde(default)]
    cache_read_input_tokens: Option<u64>,
}

/// What one event meant.
#[derive(Debug, PartialEq)]
pub(super) enum Decoded {
    /// The caller sees this.
    Event(ModelEvent),
    /// The model is at work on content that the caller doesn't see, or not yet.
    Content,
    /// Only a sign of life.
    Nothing,
}

/// A tool call whose arguments are still coming.
struct OpenTool {
    id: String,
    name: String,
    /// What `content_block_start` gave; stands when no delta comes.
    initial: Value,
    json: String,
}

/// Turns the events of one answer into ours.
#[derive(Default)]
pub(super) struct Decoder {
    usage: Usage,
    stop_reason: Option<StopReason>,
    tools: BTreeMap<u32, OpenTool>,
}

impl Decoder {
    /// Takes one event's data.
    pub(super) fn push(&mut self, data: &str) -> Result<Decoded, Failure> {
        let event = serde_json::from_str(data).map_err(|_| Failure::MalformedResponse)?;
        Ok(match event {
            WireEvent::MessageStart { message } => {
                self.usage.replace_by(&message.usage);
                Decoded::Event(ModelEvent::Started {
                    model: message.model,
                    usage: self.usage,
                })
            }
            WireEvent::ContentBlockStart {
                index,
                content_block,
            } => self.open(index, content_block),
            WireEvent::ContentBlockDelta { index, delta } => self.extend(index, delta),
            WireEvent::ContentBlockStop { index } => self.close(index),
            WireEvent::MessageDelta { delta, usage } => {
                self.usage.replace_by(&usage);
                if let Some(reason) = delta.stop_reason {
                    self.stop_reason = Some(reason.into());
                }
                Decoded::Nothing
            }
            WireEvent::MessageStop => self.finish()?,
            // A type that is newer than this client is taken for a failure of the provider's side.
            WireEvent::Error { error } => return Err(error.failure().unwrap_or(Failure::Server)),
            WireEvent::Ignored => Decoded::Nothing,
        })
    }

    fn open(&mut self, index: u32, block: WireBlock) -> Decoded {
        match block {
            WireBlock::Text { text } => text_delta(index, text),
            WireBlock::ToolUse { id, name, input } => {
                let tool = OpenTool {
                    id,
                    name,
                    initial: input,
                    json: String::new(),
                };
                self.tools.insert(index, tool);
                Decoded::Content
            }
            WireBlock::Ignored => Decoded::Nothing,
        }
    }

    fn extend(&mut self, index: u32, delta: WireDelta) -> Decoded {
        match delta {
            WireDelta::TextDelta { text } => text_delta(index, text),
            WireDelta::InputJsonDelta { partial_json } => {
                // A block that is not ours is a tool that the provider runs itself.
                if let Some(tool) = self.tools.get_mut(&index) {
                    tool.json.push_str(&partial_json);
                }
                Decoded::Content
            }
            WireDelta::CitationsDelta {
                citation:
                    WireCitation::SearchResultLocation {
                        source,
                        title,
                        cited_text,
                        search_result_index,
                    },
            } => Decoded::Event(ModelEvent::Citation {
                block: index,
                source,
                title,
                cited_text,
                search_result_index,
            }),
            WireDelta::CitationsDelta {
                citation: WireCitation::Ignored,
            }
            | WireDelta::Ignored => Decoded::Content,
        }
    }

    fn close(&mut self, index: u32) -> Decoded {
        let Some(tool) = self.tools.remove(&index) else {
            return Decoded::Nothing;
        };
        let input = if tool.json.trim().is_empty() {
            match tool.initial {
                Value::Null => Value::Object(serde_json::Map::default()),
                initial => initial,
            }
        } else {
            serde_json::from_str(&tool.json).unwrap_or_default()
        };
        Decoded::Event(ModelEvent::ToolUse {
            id: tool.id,
            name: tool.name,
            input: if input.is_object() {
                input
            } else {
                Value::Null
            },
        })
    }

    fn finish(&mut self) -> Result<Decoded, Failure> {
        match self.stop_reason.take() {
            Some(stop_reason) if self.tools.is_empty() => {
                Ok(Decoded::Event(ModelEvent::Finished {
                    stop_reason,
                    usage: self.usage,
                }))
            }
            _ => Err(Failure::MalformedResponse),
        }
    }
}

fn text_delta(block: u32, text: String) -> Decoded {
    if text.is_empty() {
        Decoded::Nothing
    } else {
        Decoded::Event(ModelEvent::TextDelta { block, text })
    }
}

#[cfg(test)]
mod tests;
