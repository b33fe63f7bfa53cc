//! What is measured of every turn.

use std::time::Duration;

use store::{spend::ModelCall, turns::TurnUsage};

/// `growth_chat_turn_first_token_seconds`: from the commit that accepted the message until the first
/// text is handed to the event log; and
/// `growth_chat_turn_overhead_seconds`: our share of it since a worker took the attempt in hand,
/// without the calls of the embeddings and of the model. The wait in the queue is the queue's to
/// measure.
pub(super) fn first_token(since_accepted: Duration, overhead: Duration) {
    metrics::histogram!("growth_chat_turn_first_token_seconds").record(since_accepted);
    metrics::histogram!("growth_chat_turn_overhead_seconds").record(overhead);
}

/// `growth_chat_turn_duration_seconds{outcome}`: from the commit that accepted the message to the one
/// that finished the turn.
pub(super) fn finished(outcome: &'static str, since_accepted: Duration) {
    metrics::histogram!("growth_chat_turn_duration_seconds", "outcome" => outcome)
        .record(since_accepted);
}

/// `growth_chat_llm_requests_total{outcome}`: `ok`, `cancelled`, `empty`, or the code of a
/// [`crate::clients::Failure`]; and `growth_chat_llm_tokens_total{kind}`: what they are billed for.
pub(super) fn model_call(outcome: &'static str, usage: TurnUsage) {
    metrics::counter!("growth_chat_llm_requests_total", "outcome" => outcome).increment(1);
    for (kind, tokens) in [
        ("input", usage.input),
        ("output", usage.output),
        ("cache_write", usage.cache_write),
        ("cache_read", usage.cache_read),
    ] {
        metrics::counter!("growth_chat_llm_tokens_total", "kind" => kind)
            .increment(u64::try_from(tokens).unwrap_or_default());
    }
}

/// The same of a call whose cost is known, and `growth_chat_llm_cost_usd_total`. That is a gauge that
/// only grows, because a counter holds whole numbers only.
pub(super) fn billed(call: &ModelCall) {
    model_call(call.outcome, call.usage);
    metrics::gauge!("growth_chat_llm_cost_usd_total").increment(call.cost.as_f64());
}
