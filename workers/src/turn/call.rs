//! One call of the model while its events come, and what is kept of it.

use serde::{Deserialize, Serialize};
use serde_json::Value;
use store::turns::TurnUsage;

use crate::{
    clients::anthropic::{ModelEvent, StopReason, Usage},
    knowledge::Passage,
};

/// English text has about four characters a token; only a call that was cut off is estimated.
const CHARACTERS_PER_TOKEN: usize = 4;

/// Something that the model said. Recorded with its turn's steps, so its JSON is kept stable.
#[derive(Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "snake_case")]
pub(super) enum Said {
    /// Text.
    Text { text: String },
    /// A call of a tool.
    Call {
        id: String,
        name: String,
        /// The arguments; null if they were no JSON object.
        input: Value,
    },
}

impl Said {
    /// Whether it is a call of a tool.
    pub(super) fn is_call(&self) -> bool {
        matches!(self, Self::Call { .. })
    }
}

/// A call of the model that needs another one, and what its tools gave. No results: the answer was
/// paused.
#[derive(Clone)]
pub(super) struct Round {
    pub(super) said: Vec<Said>,
    pub(super) results: Vec<ToolResult>,
}

/// What a call of a tool gave.
#[derive(Clone)]
pub(super) struct ToolResult {
    /// The call's id.
    pub(super) id: String,
    pub(super) answer: ToolAnswer,
    pub(super) is_error: bool,
}

/// See [`ToolResult`].
#[derive(Clone)]
pub(super) enum ToolAnswer {
    Text(String),
    Passages(Vec<Passage>),
}

/// A call while its events come. It has no `Debug`, because it holds text.
#[derive(Default)]
pub(super) struct Call {
    model: Option<String>,
    usage: Usage,
    stop_reason: Option<StopReason>,
    said: Vec<Said>,
    /// The block of the provider's that the newest text belongs to.
    block: Option<u32>,
    cited: Vec<u32>,
    characters: usize,
}

impl Call {
    /// Takes an event; gives the text that it adds.
    pub(super) fn take(&mut self, event: ModelEvent) -> Option<String> {
        match event {
            ModelEvent::Started { model, usage } => {
                self.model = Some(model);
                self.usage = usage;
            }
            ModelEvent::TextDelta { block, text } => return Some(self.text(block, text)),
            ModelEvent::Citation {
                search_result_index,
                ..
            } => {
                if !self.cited.contains(&search_result_index) {
                    self.cited.push(search_result_index);
                }
            }
            ModelEvent::ToolUse { id, name, input } => {
                self.said.push(Said::Call {
                    id: storable(id),
                    name: storable(name),
                    input: storable_value(input),
                });
                self.block = None;
            }
            ModelEvent::Finished { stop_reason, usage } => {
                self.usage = usage;
                self.stop_reason = Some(stop_reason);
            }
        }
        None
    }

    fn text(&mut self, block: u32, delta: String) -> String {
        let delta = storable(delta);
        self.characters += delta.chars().count();
        match self.said.last_mut() {
            Some(Said::Text { text }) if self.block == Some(block) => text.push_str(&delta),
            _ => self.said.push(Said::Text {
                text: delta.clone(),
            }),
        }
        self.block = Some(block);
        delta
    }

    pub(super) fn model(&self) -> Option<&str> {
        self.model.as_deref()
    }

    /// Why the model stopped; `None`: it has not.
    pub(super) fn stop_reason(&self) -> Option<&StopReason> {
        self.stop_reason.as_ref()
    }

    pub(super) fn said(&self) -> &[Said] {
        &self.said
    }

    pub(super) fn into_said(self) -> Vec<Said> {
        self.said
    }

    /// Numbers of the passages that were cited, in the order of the first citation.
    pub(super) fn cited(&self) -> &[u32] {
        &self.cited
    }

    /// What the call is billed for. Of one that was cut off only the input is known; the output is
    /// estimated from its text.
    pub(super) fn usage(&self) -> TurnUsage {
        let mut usage = self.usage;
        if self.stop_reason.is_none() {
            let said = self.characters.div_ceil(CHARACTERS_PER_TOKEN);
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
}

/// Postgres can't keep a NUL, and no reader misses it.
fn storable(text: String) -> String {
    if text.contains('\0') {
        text.replace('\0', "\u{fffd}")
    } else {
        text
    }
}

fn storable_value(value: Value) -> Value {
    match value {
        Value::String(text) => Value::String(storable(text)),
        Value::Array(values) => values.into_iter().map(storable_value).collect(),
        Value::Object(fields) => fields
            .into_iter()
            .map(|(name, value)| (storable(name), storable_value(value)))
            .collect(),
        other => other,
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn text(block: u32, text: &str) -> ModelEvent {
        ModelEvent::TextDelta {
            block,
            text: text.to_owned(),
        }
    }

    fn started() -> ModelEvent {
        ModelEvent::Started {
            model: "m".to_owned(),
            usage: Usage {
                input_tokens: 40,
                output_tokens: 1,
                cache_write_tokens: 2,
                cache_read_tokens: 3,
            },
        }
    }

    #[test]
    fn a_call_that_was_cut_off_is_billed_by_its_length() {
        let mut call = Call::default();
        call.take(started());
        assert_eq!(call.usage().output, 1);
        call.take(text(0, "éé"));
        call.take(text(0, "1234567"));
        assert_eq!(call.usage().output, 3);
        assert_eq!(call.usage().total(), 40 + 3 + 2 + 3);
        call.take(ModelEvent::Finished {
            stop_reason: StopReason::EndTurn,
            usage: Usage {
                input_tokens: 40,
                output_tokens: 9,
                ..Usage::default()
            },
        });
        assert_eq!(call.usage().total(), 49);
    }

    #[test]
    fn blocks_are_kept_apart_and_read_back_as_they_were() {
        let mut call = Call::default();
        for event in [
            text(0, "One "),
            text(0, "block."),
            text(1, "Another\0."),
            ModelEvent::ToolUse {
                id: "t1".to_owned(),
                name: "set_stage".to_owned(),
                input: json!({"stage": ["quali\0fy"]}),
            },
            text(3, "After."),
        ] {
            call.take(event);
        }
        let recorded = serde_json::to_value(call.said()).unwrap();
        assert_eq!(
            recorded,
            json!([
                {"type": "text", "text": "One block."},
                {"type": "text", "text": "Another\u{fffd}."},
                {"type": "call", "id": "t1", "name": "set_stage",
                 "input": {"stage": ["quali\u{fffd}fy"]}},
                {"type": "text", "text": "After."},
            ])
        );
        let read: Vec<Said> = serde_json::from_value(recorded).unwrap();
        assert!(read == call.said());
    }

    #[test]
    fn a_passage_is_cited_once() {
        let mut call = Call::default();
        for passage in [2, 0, 2] {
            call.take(ModelEvent::Citation {
                block: 0,
                source: String::new(),
                title: None,
                cited_text: String::new(),
                search_result_index: passage,
            });
        }
        assert_eq!(call.cited(), [2, 0]);
    }
}
