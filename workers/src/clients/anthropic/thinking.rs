//! Whether a model thinks before it answers.
//!
//! A visitor waits for the first word, and `LLM_MAX_OUTPUT_TOKENS` is meant for the answer: so models that
//! think unless they are told not to are told. Nor do we keep what was thought, which such a model wants
//! back with a tool's result. What each model takes is from Anthropic's migration guides as of 2026-11-21
//! (<https://platform.claude.com/docs/en/models/overview>); one that always thinks, and one that is not
//! known here, is left to its default.

use serde::Serialize;

use crate::prices::is_snapshot_of;

/// The least thinking that a model can be asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(tag = "type", rename_all = "snake_case")]
pub(super) enum Thinking {
    /// None.
    Disabled,
    /// None before the answer, some between the calls of tools.
    BetweenTools,
}

const LEAST: [(&str, Thinking); 4] = [
    ("claude-haiku-5-5", Thinking::Disabled),
    ("claude-sonnet-5-5", Thinking::BetweenTools),
    ("claude-sonnet-5", Thinking::Disabled),
    ("claude-opus-5", Thinking::Disabled),
];

impl Thinking {
    /// What a request to this model says; `None`: nothing.
    pub(super) fn of(model: &str) -> Option<Self> {
        LEAST
            .iter()
            .find(|(name, _)| is_snapshot_of(model, name))
            .map(|(_, thinking)| *thinking)
    }
}
