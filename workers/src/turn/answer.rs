//! An answer while it comes: from the model's events to the stream's chunks and to what is kept.
//! Nothing is shown before the first text, so that an attempt that fails before it is not seen.

use std::collections::BTreeSet;

use store::{
    ids::{MessageId, TurnKey},
    protocol::{Chunk, FinishReason, ResetData, SessionData, True},
    transcript::Source,
    turn_control::CANCELLED,
    turns::TurnUsage,
};

use super::prompt;
use crate::{
    clients::anthropic::{ModelEvent, StopReason, Usage},
    knowledge::Passage,
};

/// The one text part of an answer. Citations cut the model's text into blocks in the middle of
/// sentences; a client renders each part as a paragraph, so they are put together again.
const TEXT_PART: &str = "answer";

/// What the visitor reads when the model declines.
const DECLINED: &str = "I'm sorry, I can't help with that. Is there anything else you would like \
    to know about us?";

/// English text has about four characters a token; only an answer that was cut off is estimated.
const CHARACTERS_PER_TOKEN: usize = 4;

/// What the first frames say.
pub(super) struct Opening {
    pub(super) key: TurnKey,
    pub(super) answer_id: MessageId,
    pub(super) stage: i16,
    pub(super) attempt: i32,
    /// Whether clients may have seen an earlier attempt.
    pub(super) reset: bool,
}

impl Opening {
    fn chunks(&self) -> Vec<Chunk> {
        let mut chunks = vec![
            Chunk::Start {
                message_id: self.answer_id.clone(),
            },
            Chunk::DataSession {
                data: SessionData {
                    session_id: self.key.session_id.clone(),
                    turn: self.key.turn,
                    stage: self.stage,
                },
                transient: True,
            },
        ];
        if self.reset {
            chunks.push(Chunk::DataReset {
                data: ResetData {
                    attempt: self.attempt,
                },
                transient: True,
            });
        }
        chunks
    }
}

/// The answer so far. It has no `Debug`, because it holds text.
pub(super) struct Answer {
    opening: Opening,
    text: String,
    /// Numbers of the passages that were cited, in the order of the first citation.
    cited: Vec<u32>,
    model: Option<String>,
    usage: Usage,
    stop_reason: Option<StopReason>,
}

impl Answer {
    pub(super) fn new(opening: Opening) -> Self {
        Self {
            opening,
            text: String::new(),
            cited: Vec::new(),
            model: None,
            usage: Usage::default(),
            stop_reason: None,
        }
    }

    /// Takes an event; gives what the client sees of it.
    pub(super) fn take(&mut self, event: ModelEvent) -> Vec<Chunk> {
        match event {
            ModelEvent::Started { model, usage } => {
                self.model = Some(model);
                self.usage = usage;
                Vec::new()
            }
            ModelEvent::TextDelta { text, .. } => self.add(&text),
            ModelEvent::Citation {
                search_result_index,
                ..
            } => {
                if !self.cited.contains(&search_result_index) {
                    self.cited.push(search_result_index);
                }
                Vec::new()
            }
            // No tool is offered.
            ModelEvent::ToolUse { .. } => Vec::new(),
            ModelEvent::Finished { stop_reason, usage } => {
                self.usage = usage;
                let chunks = match stop_reason {
                    StopReason::Refusal if self.has_text() => self.add(&format!("\n\n{DECLINED}")),
                    StopReason::Refusal => self.add(DECLINED),
                    _ => Vec::new(),
                };
                self.stop_reason = Some(stop_reason);
                chunks
            }
        }
    }

    fn add(&mut self, text: &str) -> Vec<Chunk> {
        // Postgres can't keep a NUL, and no reader misses it.
        let delta = text.replace('\0', "\u{fffd}");
        let mut chunks = Vec::new();
        if !self.has_text() {
            chunks = self.opening.chunks();
            chunks.push(Chunk::StartStep);
            chunks.push(Chunk::TextStart {
                id: TEXT_PART.to_owned(),
            });
        }
        self.text.push_str(&delta);
        chunks.push(Chunk::TextDelta {
            id: TEXT_PART.to_owned(),
            delta,
        });
        chunks
    }

    /// Whether the client has seen something of it.
    pub(super) fn has_text(&self) -> bool {
        !self.text.is_empty()
    }

    /// Whether the model said that it has come to its end.
    pub(super) fn is_finished(&self) -> bool {
        self.stop_reason.is_some()
    }

    pub(super) fn text(&self) -> &str {
        &self.text
    }

    pub(super) fn model(&self) -> Option<&str> {
        self.model.as_deref()
    }

    /// What the call is billed for. Of an answer that was cut off only the input is known; the
    /// output is estimated from its text.
    pub(super) fn usage(&self) -> TurnUsage {
        let mut usage = self.usage;
        if !self.is_finished() {
            let said = self.text.chars().count().div_ceil(CHARACTERS_PER_TOKEN);
            usage.output_tokens = usage
                .output_tokens
                .max(u64::try_from(said).unwrap_or(u64::MAX));
        }
        let count = |tokens: u64| i64::try_from(tokens).unwrap_or(i64::MAX);
        TurnUsage {
            input: count(usage.input_tokens),
            output: count(usage.output_tokens),
            cache_write: count(usage.cache_write_tokens),
            cache_read: count(usage.cache_read_tokens),
        }
    }

    /// Why the answer ended, as clients are told.
    pub(super) fn finish_reason(&self) -> FinishReason {
        match &self.stop_reason {
            Some(StopReason::EndTurn | StopReason::StopSequence) => FinishReason::Stop,
            Some(StopReason::MaxTokens | StopReason::ContextWindowExceeded) => FinishReason::Length,
            Some(StopReason::Refusal) => FinishReason::ContentFilter,
            _ => FinishReason::Other,
        }
    }

    /// The passages that were cited, each address once, in the order of the first citation.
    pub(super) fn sources(&self, passages: &[Passage]) -> Vec<Source> {
        let mut seen = BTreeSet::new();
        self.cited
            .iter()
            .filter_map(|index| passages.get(usize::try_from(*index).ok()?))
            .filter(|passage| seen.insert(passage.url.as_str()))
            .zip(1..)
            .map(|(passage, number)| Source {
                source_id: format!("source-{number}"),
                url: passage.url.clone(),
                title: Some(prompt::title(passage)),
            })
            .collect()
    }

    /// The last frames of an answer that is whole.
    pub(super) fn tail(&self, sources: &[Source]) -> Vec<Chunk> {
        let mut chunks = vec![Chunk::TextEnd {
            id: TEXT_PART.to_owned(),
        }];
        chunks.extend(sources.iter().map(|source| Chunk::SourceUrl {
            source_id: source.source_id.clone(),
            url: source.url.clone(),
            title: source.title.clone(),
        }));
        chunks.push(Chunk::FinishStep);
        chunks.push(Chunk::Finish {
            finish_reason: self.finish_reason(),
        });
        chunks
    }

    /// The last frames of an answer that was stopped; all of them, if there was none yet.
    pub(super) fn aborted_tail(&self) -> Vec<Chunk> {
        let mut chunks = if self.has_text() {
            vec![Chunk::TextEnd {
                id: TEXT_PART.to_owned(),
            }]
        } else {
            self.opening.chunks()
        };
        chunks.push(Chunk::Abort {
            reason: CANCELLED.to_owned(),
        });
        chunks
    }
}

#[cfg(test)]
#[path = "answer_tests.rs"]
mod tests;
