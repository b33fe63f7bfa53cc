//! The span of a call: it begins with the request and ends with the last that is heard of the answer.

use store::trace::{Span, StringValue, Value, attribute};
use tokio::time::Instant;

use super::events::{ModelEvent, Usage};
use crate::clients::gen_ai::{begin, count};

/// A call of a model that answers in text.
#[derive(Debug)]
pub(super) struct Chat {
    pub(super) span: Span,
    since: Instant,
    has_content: bool,
}

impl Chat {
    pub(super) fn begin(provider: &'static str, model: &str, max_tokens: u32) -> Self {
        let mut span = begin("chat", provider, model);
        span.set(attribute::GEN_AI_REQUEST_MAX_TOKENS, i64::from(max_tokens));
        span.set(attribute::GEN_AI_REQUEST_STREAM, true);
        Self {
            span,
            since: Instant::now(),
            has_content: false,
        }
    }

    /// Takes note of what has come.
    pub(super) fn saw(&mut self, event: &ModelEvent) {
        if !self.span.is_recorded() {
            return;
        }
        match event {
            ModelEvent::Started { model, .. } => {
                self.span
                    .set(attribute::GEN_AI_RESPONSE_MODEL, model.clone());
            }
            ModelEvent::TextDelta { .. } | ModelEvent::ToolUse { .. } if !self.has_content => {
                self.has_content = true;
                let waited = self.since.elapsed().as_secs_f64();
                self.span
                    .set(attribute::GEN_AI_RESPONSE_TIME_TO_FIRST_CHUNK, waited);
            }
            ModelEvent::Finished { stop_reason, usage } => {
                let reason = String::from(stop_reason.clone());
                self.span.set(
                    attribute::GEN_AI_RESPONSE_FINISH_REASONS,
                    Value::Array(vec![StringValue::from(reason)].into()),
                );
                self.bill(usage);
            }
            _ => {}
        }
    }

    fn bill(&mut self, usage: &Usage) {
        for (name, tokens) in [
            // The convention counts what came from the cache as well; the provider does not.
            (attribute::GEN_AI_USAGE_INPUT_TOKENS, usage.total_input()),
            (attribute::GEN_AI_USAGE_OUTPUT_TOKENS, usage.output_tokens),
            (
                attribute::GEN_AI_USAGE_CACHE_READ_INPUT_TOKENS,
                usage.cache_read_tokens,
            ),
            (
                attribute::GEN_AI_USAGE_CACHE_CREATION_INPUT_TOKENS,
                usage.cache_write_tokens,
            ),
        ] {
            self.span.set(name, count(tokens));
        }
    }
}
