//! The body of a Messages request. Types that hold text of a conversation have no `Debug`, so that
//! none of it can reach a log.

use serde::{Deserialize, Serialize, Serializer};
use serde_json::Value;

use super::thinking::Thinking;

/// One call of the model. Empty text blocks are refused by the provider (400): leave them out.
#[derive(Clone, Serialize)]
pub struct MessageRequest {
    /// The model's id.
    pub model: String,
    /// The most tokens of the answer.
    pub max_tokens: u32,
    /// The instructions, the stable part first: the prompt cache is a cache of prefixes.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub system: Vec<SystemBlock>,
    /// The conversation, the visitor's message last.
    pub messages: Vec<Message>,
    /// What the model may call.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub tools: Vec<Tool>,
    /// Whether it may or must call something; unset: it may.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tool_choice: Option<ToolChoice>,
}

/// What the provider adds to a prompt by itself: some hundred tokens that explain the tools to the model.
const ADDED_TOKENS: u64 = 1_000;

impl MessageRequest {
    /// The most tokens that the prompt can have: no token is shorter than a byte of what is sent.
    pub fn input_tokens_at_most(&self) -> u64 {
        // What can't be written is never sent.
        let bytes = serde_json::to_vec(self).map_or(0, |body| body.len());
        u64::try_from(bytes)
            .unwrap_or(u64::MAX)
            .saturating_add(ADDED_TOKENS)
    }
}

/// Ends a prefix that the provider caches for some minutes. Below the model's least length
/// (1,024–4,096 tokens) it is ignored.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "snake_case")]
pub enum CacheControl {
    /// Five minutes after its last use.
    Ephemeral,
}

/// A part of the instructions.
#[derive(Clone, Serialize)]
#[serde(tag = "type", rename_all = "snake_case")]
pub enum SystemBlock {
    /// Text.
    Text {
        /// The text.
        text: String,
        /// Whether the cached prefix ends here.
        #[serde(skip_serializing_if = "Option::is_none")]
        cache_control: Option<CacheControl>,
    },
}

/// Who said something.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Role {
    /// The visitor; also the results of tools.
    User,
    /// The model.
    Assistant,
}

/// One message of the conversation.
#[derive(Clone, Serialize)]
pub struct Message {
    /// Who said it.
    pub role: Role,
    /// What.
    pub content: Vec<ContentBlock>,
}

/// A part of a message.
#[derive(Clone, Serialize)]
#[serde(tag = "type", rename_all = "snake_case")]
pub enum ContentBlock {
    /// Text.
    Text {
        /// The text.
        text: String,
        /// Whether the cached prefix ends here.
        #[serde(skip_serializing_if = "Option::is_none")]
        cache_control: Option<CacheControl>,
    },
    /// A passage that the model may answer from and cite.
    SearchResult(SearchResult),
    /// A call that the model made earlier in the turn.
    ToolUse {
        /// The call's id.
        id: String,
        /// The tool.
        name: String,
        /// Its arguments. Sent as an object whatever the model had written: the provider takes nothing
        /// else.
        #[serde(serialize_with = "object")]
        input: Value,
    },
    /// What a call gave.
    ToolResult {
        /// The call's id.
        tool_use_id: String,
        /// Text and search results.
        content: Vec<ContentBlock>,
        /// Whether the call failed.
        #[serde(skip_serializing_if = "std::ops::Not::not")]
        is_error: bool,
    },
}

impl ContentBlock {
    /// A text without a cache mark.
    pub fn text(text: impl Into<String>) -> Self {
        Self::Text {
            text: text.into(),
            cache_control: None,
        }
    }
}

/// A passage with citations switched on. The provider numbers the passages of a request from 0 in
/// the order in which they stand; a citation names that number.
#[derive(Clone, Serialize)]
pub struct SearchResult {
    source: String,
    title: String,
    content: [PassageText; 1],
    citations: Citations,
}

#[derive(Clone, Serialize)]
#[serde(tag = "type", rename = "text")]
struct PassageText {
    text: String,
}

#[derive(Clone, Copy, Serialize)]
struct Citations {
    enabled: bool,
}

impl SearchResult {
    /// A passage: where it is from, its document's title and its text.
    pub fn new(
        source: impl Into<String>,
        title: impl Into<String>,
        text: impl Into<String>,
    ) -> Self {
        Self {
            source: source.into(),
            title: title.into(),
            content: [PassageText { text: text.into() }],
            citations: Citations { enabled: true },
        }
    }
}

/// Something that the model may call.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Tool {
    /// Its name.
    pub name: String,
    /// What it does and when to call it.
    pub description: String,
    /// The JSON Schema of its arguments.
    pub input_schema: Value,
    /// Whether the cached prefix ends here.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cache_control: Option<CacheControl>,
}

/// Whether the model may or must call a tool.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(tag = "type", rename_all = "snake_case")]
pub enum ToolChoice {
    /// It may.
    Auto,
    /// It must not.
    None,
    /// It must call this one.
    Tool {
        /// The tool's name.
        name: String,
    },
}

fn object<S: Serializer>(input: &Value, to: S) -> Result<S::Ok, S::Error> {
    match input {
        Value::Object(arguments) => arguments.serialize(to),
        _ => serde_json::Map::default().serialize(to),
    }
}

/// The body as it is sent: streamed, always.
#[derive(Serialize)]
pub(super) struct StreamedRequest<'r> {
    #[serde(flatten)]
    pub(super) request: &'r MessageRequest,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) thinking: Option<Thinking>,
    pub(super) stream: bool,
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_request_has_the_form_that_the_provider_documents() {
        let request = MessageRequest {
            model: "a-model".into(),
            max_tokens: 64,
            system: vec![SystemBlock::Text {
                text: "Be kind.".into(),
                cache_control: Some(CacheControl::Ephemeral),
            }],
            messages: vec![
                Message {
                    role: Role::User,
                    content: vec![
                        ContentBlock::SearchResult(SearchResult::new("a.md", "A", "Passage.")),
                        ContentBlock::text("Question?"),
                    ],
                },
                Message {
                    role: Role::Assistant,
                    content: vec![
                        ContentBlock::ToolUse {
                            id: "toolu_1".into(),
                            name: "find".into(),
                            input: json!({"query": "x"}),
                        },
                        ContentBlock::ToolUse {
                            id: "toolu_2".into(),
                            name: "find".into(),
                            input: Value::Null,
                        },
                    ],
                },
                Message {
                    role: Role::User,
                    content: vec![ContentBlock::ToolResult {
                        tool_use_id: "toolu_1".into(),
                        content: vec![ContentBlock::text("Nothing.")],
                        is_error: false,
                    }],
                },
            ],
            tools: vec![Tool {
                name: "find".into(),
                description: "Finds.".into(),
                input_schema: json!({"type": "object"}),
                cache_control: None,
            }],
            tool_choice: Some(ToolChoice::Auto),
        };
        let body = StreamedRequest {
            request: &request,
            thinking: None,
            stream: true,
        };
        assert_eq!(
            serde_json::to_value(body).unwrap(),
            json!({
                "model": "a-model",
                "max_tokens": 64,
                "system": [{"type": "text", "text": "Be kind.", "cache_control": {"type": "ephemeral"}}],
                "messages": [
                    {"role": "user", "content": [
                        {"type": "search_result", "source": "a.md", "title": "A",
                         "content": [{"type": "text", "text": "Passage."}],
                         "citations": {"enabled": true}},
                        {"type": "text", "text": "Question?"},
                    ]},
                    {"role": "assistant", "content": [
                        {"type": "tool_use", "id": "toolu_1", "name": "find", "input": {"query": "x"}},
                        {"type": "tool_use", "id": "toolu_2", "name": "find", "input": {}},
                    ]},
                    {"role": "user", "content": [
                        {"type": "tool_result", "tool_use_id": "toolu_1",
                         "content": [{"type": "text", "text": "Nothing."}]},
                    ]},
                ],
                "tools": [{"name": "find", "description": "Finds.", "input_schema": {"type": "object"}}],
                "tool_choice": {"type": "auto"},
                "stream": true,
            })
        );
    }
}
