//! The limits of a conversation.

use store::settings::Settings;

/// The limits of a conversation.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ConversationConfig {
    /// `CONTEXT_WINDOW_TURNS`: how many of the newest exchanges the model sees (EC-13, seed 000).
    pub context_window_turns: u16,
    /// `MAX_TOKENS_PER_SESSION`: what a session may be billed for, all in all (EC-12, seed 000).
    pub max_tokens_per_session: u64,
    /// `MAX_TOOL_CALLS_PER_TURN`: how often the model may search with other words than the visitor's
    /// (§3.3, seed 000). 0: it is offered no search.
    pub max_tool_calls_per_turn: u16,
    /// `STALL_TURN_THRESHOLD`: after so many answered turns without a proposal a person is offered
    /// (EC-06, seed 000).
    pub stall_turn_threshold: u32,
}

impl ConversationConfig {
    /// Reads the conversation's variables.
    pub fn read(settings: &mut Settings) -> Option<Self> {
        let context_window_turns = settings.with_default(
            "CONTEXT_WINDOW_TURNS",
            10,
            "a number of exchanges from 1 to 1000",
            |turns| (1..=1_000).contains(turns),
        );
        let max_tokens_per_session = settings.with_default(
            "MAX_TOKENS_PER_SESSION",
            16_000,
            "a number of tokens from 1 to 1000000000",
            |tokens| (1..=1_000_000_000).contains(tokens),
        );
        // Each search is a call of the embeddings and one more of the model, which the visitor waits for.
        let max_tool_calls_per_turn = settings.with_default(
            "MAX_TOOL_CALLS_PER_TURN",
            1,
            "a number of searches from 0 to 10",
            |calls| (0..=10).contains(calls),
        );
        let stall_turn_threshold = settings.with_default(
            "STALL_TURN_THRESHOLD",
            6,
            "a number of turns from 1 to 1000",
            |turns| (1..=1_000).contains(turns),
        );
        Some(Self {
            context_window_turns,
            max_tokens_per_session,
            max_tool_calls_per_turn,
            stall_turn_threshold,
        })
    }
}
