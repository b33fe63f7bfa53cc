//! The spans of calls of models, by the semantic conventions for generative AI.
//! <https://opentelemetry.io/docs/specs/semconv/gen-ai/gen-ai-spans/>
//!
//! They have the names of models, numbers of tokens and times. What is asked and answered is never in
//! them: a collector is no place for what a visitor wrote.

use store::trace::{Span, attribute};

/// A call of a model that embeds texts.
pub(super) fn embeddings(provider: &'static str, model: &str, dimensions: u16) -> Span {
    let mut span = begin("embeddings", provider, model);
    span.set(
        attribute::GEN_AI_EMBEDDINGS_DIMENSION_COUNT,
        i64::from(dimensions),
    );
    span
}

/// What a call that embeds is billed for.
pub(super) fn embedded(span: &mut Span, tokens: u64) {
    span.set(attribute::GEN_AI_USAGE_INPUT_TOKENS, count(tokens));
}

/// A call of a model, which does one of few things.
pub(super) fn begin(operation: &'static str, provider: &'static str, model: &str) -> Span {
    let mut span = Span::of_call(operation, model);
    if span.is_recorded() {
        span.set(attribute::GEN_AI_OPERATION_NAME, operation);
        span.set(attribute::GEN_AI_PROVIDER_NAME, provider);
        span.set(attribute::GEN_AI_REQUEST_MODEL, model.to_owned());
    }
    span
}

/// A number of tokens, as a span has it.
pub(super) fn count(tokens: u64) -> i64 {
    i64::try_from(tokens).unwrap_or(i64::MAX)
}
