//! Makes what a visitor wrote harmless in a mail: it can't begin a header, a line of ours or markup,
//! can't turn round how text is read, and is not endless.

/// What stands for the rest of a text that was cut.
const CUT: char = '…';

/// At most `longest` characters in one line: whitespace of any kind is one space, and what is not seen
/// is left out.
pub(super) fn line(text: &str, longest: usize) -> String {
    let words = text.split(|sign: char| sign.is_whitespace() || sign.is_control());
    let mut line = String::new();
    for word in words.filter(|word| !word.is_empty()) {
        if !line.is_empty() {
            line.push(' ');
        }
        line.extend(word.chars().filter(|sign| !is_unseen(*sign)));
    }
    cut(line.trim(), longest)
}

/// At most `longest` characters, with line feeds as the only control characters.
pub(super) fn block(text: &str, longest: usize) -> String {
    let text = text.replace("\r\n", "\n").replace('\r', "\n");
    let kept: String = text
        .chars()
        .map(|sign| match sign {
            '\t' => ' ',
            // The separators of lines and paragraphs.
            '\u{2028}' | '\u{2029}' | '\u{85}' | '\u{b}' | '\u{c}' => '\n',
            other => other,
        })
        .filter(|sign| *sign == '\n' || !(sign.is_control() || is_unseen(*sign)))
        .collect();
    cut(kept.trim(), longest)
}

/// The same where HTML is read, between tags as well as in attributes.
pub(super) fn html(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for sign in text.chars() {
        match sign {
            '&' => escaped.push_str("&amp;"),
            '<' => escaped.push_str("&lt;"),
            '>' => escaped.push_str("&gt;"),
            '"' => escaped.push_str("&quot;"),
            '\'' => escaped.push_str("&#39;"),
            other => escaped.push(other),
        }
    }
    escaped
}

/// Signs that nobody sees and that change how others are read: marks of direction, which can make a
/// word look like another, and what has no width. The joiners of emoji and of Indic scripts stay.
fn is_unseen(sign: char) -> bool {
    matches!(
        sign,
        '\u{ad}' | '\u{61c}' | '\u{180e}' | '\u{200b}' | '\u{200e}' | '\u{200f}' | '\u{202a}'
            ..='\u{202e}' | '\u{2060}'..='\u{2069}' | '\u{feff}' | '\u{fff9}'..='\u{fffb}' | '\u{e0000}'..='\u{e007f}'
    )
}

fn cut(text: &str, longest: usize) -> String {
    if text.chars().nth(longest).is_none() {
        return text.to_owned();
    }
    let kept = text.chars().take(longest.saturating_sub(1));
    kept.chain([CUT]).collect()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_line_has_no_breaks_and_nothing_unseen() {
        assert_eq!(
            line(" Ada\r\nBcc: x@y.example \u{202e}evil\u{0}\u{2028}ok ", 99),
            "Ada Bcc: x@y.example evil ok"
        );
        assert_eq!(line("\u{200b} \u{202e}", 9), "");
    }

    #[test]
    fn a_block_keeps_its_lines() {
        assert_eq!(block(" a\r\nb\rc\u{2028}d\u{1}\te ", 99), "a\nb\nc\nd e");
        assert_eq!(
            block("नमस्\u{200d}ते 👩\u{200d}💻", 99),
            "नमस्\u{200d}ते 👩\u{200d}💻"
        );
    }

    #[test]
    fn what_is_too_long_ends_in_a_sign_of_it() {
        assert_eq!(line("äöü", 3), "äöü");
        assert_eq!(line("äöüß", 3), "äö…");
    }

    proptest! {
        #[test]
        fn whatever_was_written_is_one_line_of_bounded_length(text in any::<String>(), longest in 1_usize..40) {
            let line = line(&text, longest);
            prop_assert!(line.chars().count() <= longest);
            let is_harmless = |sign: char| !sign.is_control() && !is_unseen(sign) && (sign == ' ' || !sign.is_whitespace());
            prop_assert!(line.chars().all(is_harmless));
            let block = block(&text, longest);
            prop_assert!(block.chars().count() <= longest);
            prop_assert!(block.chars().all(|sign| sign == '\n' || !sign.is_control()));
        }

        #[test]
        fn whatever_was_written_is_no_markup(text in any::<String>()) {
            let escaped = html(&text);
            prop_assert!(!escaped.contains(['<', '>', '"', '\'']));
            let entities = ["&amp;", "&lt;", "&gt;", "&quot;", "&#39;"];
            let bare = entities.iter().fold(escaped, |left, entity| left.replace(entity, ""));
            prop_assert!(!bare.contains('&'));
        }
    }
}
