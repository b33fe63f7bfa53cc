//! A message as it goes over the wire: whole, or as server-sent events at a pace.

use std::{convert::Infallible, io, time::Duration};

use bytes::Bytes;
use futures::Stream;
use serde_json::{Value, json};

use super::{ApiError, Content, Pace, Reply, Trouble, behave::behave, request::Request};
use crate::outside::{Outcome, Recording};

/// A message that is about to be sent.
#[derive(Debug)]
pub(super) struct Message {
    id: String,
    model: String,
    content: Vec<Content>,
    /// For each block of content, as the wire has them.
    citations: Vec<Vec<Value>>,
    stop_reason: String,
    input_tokens: usize,
    /// `max_tokens` of the request.
    most_tokens: usize,
}

impl Message {
    pub(super) fn new(request_id: &str, request: &Request, reply: &Reply) -> Self {
        let content = reply.content.clone().unwrap_or_else(|| behave(request));
        let citations = content
            .iter()
            .map(|block| citations(block, request))
            .collect();
        let length: usize = content.iter().map(|block| block.tokens().len()).sum();
        let calls_tool = content
            .iter()
            .any(|block| matches!(block, Content::ToolUse { .. }));
        let natural = if length > request.max_tokens {
            "max_tokens"
        } else if calls_tool {
            "tool_use"
        } else {
            "end_turn"
        };
        Self {
            id: request_id.replacen("req_", "msg_", 1),
            model: request.model.clone(),
            content,
            citations,
            stop_reason: reply
                .stop_reason
                .clone()
                .unwrap_or_else(|| natural.to_owned()),
            // Four characters a token is what English text comes to.
            input_tokens: request.bytes.div_ceil(4),
            most_tokens: request.max_tokens,
        }
    }

    /// The answer to a request without `stream`.
    pub(super) fn whole(&self) -> Value {
        let mut room = self.most_tokens;
        let content: Vec<Value> = self
            .content
            .iter()
            .zip(&self.citations)
            .enumerate()
            .map(|(index, (block, citations))| {
                let value = block.to_json(&self.tool_id(index), citations, room);
                room = room.saturating_sub(block.tokens().len());
                value
            })
            .collect();
        let mut message = self.envelope();
        message["content"] = json!(content);
        message["stop_reason"] = json!(self.stop_reason);
        message["usage"] = self.usage(self.most_tokens - room);
        message
    }

    /// Its text, without tool calls.
    pub(super) fn text(&self) -> String {
        let texts = self.content.iter().filter_map(|block| match block {
            Content::Text { text, .. } => Some(text.as_str()),
            Content::ToolUse { .. } => None,
        });
        texts.collect()
    }

    fn tool_id(&self, index: usize) -> String {
        format!("toolu_{}_{index}", self.id.trim_start_matches("msg_"))
    }

    fn envelope(&self) -> Value {
        json!({
            "id": self.id,
            "type": "message",
            "role": "assistant",
            "model": self.model,
            "content": [],
            "stop_reason": null,
            "stop_sequence": null,
            "usage": self.usage(1),
        })
    }

    /// Cumulative, as in `message_delta`.
    fn usage(&self, output_tokens: usize) -> Value {
        json!({
            "input_tokens": self.input_tokens,
            "cache_creation_input_tokens": 0,
            "cache_read_input_tokens": 0,
            "output_tokens": output_tokens,
        })
    }

    /// Everything that is sent, in order.
    fn plan(&self) -> Vec<Step> {
        let mut plan = vec![
            Step::event("message_start", &json!({"message": self.envelope()})),
            Step::event("ping", &json!({})),
        ];
        let mut sent = 0;
        for (index, block) in self.content.iter().enumerate() {
            if sent >= self.most_tokens {
                break;
            }
            let (empty, delta_kind, delta_field) = match block {
                Content::Text { .. } => (json!({"type": "text", "text": ""}), "text_delta", "text"),
                Content::ToolUse { name, .. } => (
                    json!({"type": "tool_use", "id": self.tool_id(index), "name": name, "input": {}}),
                    "input_json_delta",
                    "partial_json",
                ),
            };
            let delta = |delta: Value| json!({"index": index, "delta": delta});
            let start = json!({"index": index, "content_block": empty});
            plan.push(Step::event("content_block_start", &start));
            if matches!(block, Content::ToolUse { .. }) {
                let first = delta(json!({"type": delta_kind, "partial_json": ""}));
                plan.push(Step::event("content_block_delta", &first));
            }
            for token in block.tokens().into_iter().take(self.most_tokens - sent) {
                sent += 1;
                let mut fields = json!({"type": delta_kind});
                fields[delta_field] = json!(token);
                plan.push(Step {
                    token: Some(token),
                    ..Step::event("content_block_delta", &delta(fields))
                });
            }
            for citation in &self.citations[index] {
                let fields = json!({"type": "citations_delta", "citation": citation});
                plan.push(Step::event("content_block_delta", &delta(fields)));
            }
            plan.push(Step::event("content_block_stop", &json!({"index": index})));
        }
        let end = json!({
            "delta": {"stop_reason": self.stop_reason, "stop_sequence": null},
            "usage": self.usage(sent),
        });
        plan.push(Step::event("message_delta", &end));
        plan.push(Step::event("message_stop", &json!({})));
        plan
    }
}

/// The block's citations as the wire has them.
fn citations(block: &Content, request: &Request) -> Vec<Value> {
    let Content::Text { citations, .. } = block else {
        return Vec::new();
    };
    citations
        .iter()
        .filter_map(|citation| {
            let result = request.search_result(citation.search_result)?;
            result.citable.then(|| {
                json!({
                    "type": "search_result_location",
                    "cited_text": citation.cited_text,
                    "source": result.source,
                    "title": result.title,
                    "search_result_index": citation.search_result,
                    "start_block_index": citation.block,
                    "end_block_index": citation.block + 1,
                })
            })
        })
        .collect()
}

/// One event, and the token in it if it has one.
#[derive(Debug)]
struct Step {
    frame: Bytes,
    token: Option<String>,
}

impl Step {
    fn event(name: &str, fields: &Value) -> Self {
        let mut data = fields.clone();
        data["type"] = json!(name);
        Self {
            frame: Bytes::from(format!("event: {name}\ndata: {data}\n\n")),
            token: None,
        }
    }
}

/// The body of a streamed answer. Dropped before its end, it was the client who left.
pub(super) fn frames(
    message: Message,
    pace: Pace,
    trouble: Option<Trouble>,
    mut recording: Recording,
) -> impl Stream<Item = io::Result<Bytes>> {
    async_stream::stream! {
        let mut tokens = 0;
        for step in message.plan() {
            if let Some(token) = &step.token {
                if trouble.as_ref().is_some_and(|trouble| trouble.is_due(tokens)) {
                    break;
                }
                let wait = if tokens == 0 { pace.first_token } else { pace.between_tokens };
                if wait > Duration::ZERO {
                    tokio::time::sleep(wait).await;
                }
                tokens += 1;
                recording.answered_text(token);
            } else if step.is_last() && trouble.as_ref().is_some_and(|trouble| trouble.is_due(tokens)) {
                break;
            }
            yield Ok(step.frame);
        }
        match trouble {
            Some(Trouble::ErrorEvent { kind, .. }) => {
                let body = ApiError::body(&kind, "The stand-in was told to fail.");
                recording.end(Outcome::Answered(200));
                yield Ok(Step::event("error", &body).frame);
            }
            Some(Trouble::Cut { .. }) => {
                // A pending body makes hyper write out what it holds; an error alone makes it
                // throw that away.
                tokio::task::yield_now().await;
                recording.end(Outcome::Cut);
                yield Err(io::Error::from(io::ErrorKind::ConnectionReset));
            }
            Some(Trouble::Stall { .. }) => {
                std::future::pending::<Infallible>().await;
            }
            Some(Trouble::Refused(_)) | None => recording.end(Outcome::Answered(200)),
        }
    }
}

impl Step {
    /// Whether it tells that the answer is whole.
    fn is_last(&self) -> bool {
        self.frame.starts_with(b"event: message_delta")
    }
}

impl Trouble {
    /// Whether it comes before the next token, when `tokens` were sent.
    fn is_due(&self, tokens: usize) -> bool {
        match self {
            Self::Refused(_) => false,
            Self::ErrorEvent { after_tokens, .. }
            | Self::Cut { after_tokens }
            | Self::Stall { after_tokens } => tokens >= *after_tokens,
        }
    }
}
