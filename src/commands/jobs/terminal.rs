//! Text of others on an operator's terminal: an error may hold whatever a provider answered.

use std::fmt::Write as _;

/// The text on one line, with whatever could move the cursor, colour the screen or turn the
/// direction of writing escaped.
pub(crate) fn printable(text: &str) -> String {
    let mut safe = String::with_capacity(text.len());
    for character in text.chars() {
        if character.is_control() || rearranges(character) {
            let _ = write!(safe, "{}", character.escape_default());
        } else {
            safe.push(character);
        }
    }
    safe
}

/// Line separators and the marks, embeddings, overrides and isolates of bidirectional text.
fn rearranges(character: char) -> bool {
    matches!(
        character,
        '\u{061c}' | '\u{200e}' | '\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}'
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_could_move_or_colour_the_screen_is_escaped() {
        assert_eq!(
            printable("a\u{1b}[2J\r\nb\tc\u{9b}1m\u{202e}d"),
            "a\\u{1b}[2J\\r\\nb\\tc\\u{9b}1m\\u{202e}d"
        );
    }

    #[test]
    fn other_text_stays_as_it_is() {
        assert_eq!(printable("it's \"übel\" 日本 🦀"), "it's \"übel\" 日本 🦀");
    }
}
