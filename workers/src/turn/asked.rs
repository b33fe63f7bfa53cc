//! What a turn was asked with, as references: with the turn's other steps it is all that a replay needs.
//!
//! Nothing is written down twice: the words of the conversation stay in `messages`, the passages in the
//! steps `retrieved` and `found.N`, and the rules in the program, known by their hash.

use std::fmt::Write;

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use store::checkpoints::ConversationState;

/// The step's name.
pub(super) const ASKED: &str = "asked";

/// The output of the step `asked`. Its JSON is kept stable: later versions replay the turns of earlier ones.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Asked {
    /// The conversation's state before the turn.
    pub(super) state: ConversationState,
    /// The ids of the messages that the model saw of the conversation, the oldest first.
    pub(super) window: Vec<String>,
    /// The page that the visitor was on.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) page_url: Option<String>,
    /// The visitor's language, as BCP 47.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) locale: Option<String>,
    /// The model that was asked for.
    pub(super) model: String,
    /// Which rules the model was given: [`version`] of their text.
    pub(super) rules: String,
    /// What the model was told for this turn alone, by name.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(super) directives: Vec<String>,
}

/// A short name of a version of the rules: the first 16 hex digits of the text's SHA-256.
pub(super) fn version(rules: &str) -> String {
    let hash = Sha256::digest(rules.as_bytes());
    hash.iter().take(8).fold(String::new(), |mut name, byte| {
        let _ = write!(name, "{byte:02x}");
        name
    })
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn what_was_recorded_is_read_back_as_it_was() {
        let recorded = json!({
            "state": {"stage": 2},
            "window": ["m1", "a1"],
            "locale": "de",
            "model": "m",
            "rules": version("Be kind."),
        });
        let asked: Asked = serde_json::from_value(recorded.clone()).unwrap();
        assert_eq!(asked.window, ["m1", "a1"]);
        let again = serde_json::to_value(&asked).unwrap();
        assert_eq!(again["rules"], recorded["rules"]);
        assert_eq!(serde_json::from_value::<Asked>(again).unwrap(), asked);
    }

    #[test]
    fn rules_that_differ_have_other_names() {
        assert_eq!(version("Be kind.").len(), 16);
        assert_ne!(version("Be kind."), version("Be kind"));
    }
}
