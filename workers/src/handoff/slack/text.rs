//! Makes what somebody else wrote harmless in a message of Slack.
//!
//! Where Slack lets us, such text stands in `plain_text` objects, in which nothing is markup. There it is
//! still cleaned of signs that nobody sees and that turn other text around, escaped as Slack wants it
//! (`&`, `<`, `>`: <https://docs.slack.dev/messaging/formatting-message-text>), and cut. The notification
//! text of a message is the one place that is read as mrkdwn: there the signs of markup are kept from
//! meaning anything as well.

use unicode_segmentation::UnicodeSegmentation;

/// Signs of one letter: the longest emoji families have fewer, stacks of accents more.
const SIGNS_OF_A_LETTER: usize = 16;
/// Breaks up what mrkdwn would read: it has no width, and no line ends there.
const JOINER: char = '\u{2060}';

/// Text on several lines: at most `most` UTF-16 units (as Slack counts) after escaping; an ellipsis says
/// that something is missing.
pub(super) fn plain(text: &str, most: usize) -> String {
    cut(&lines(&cleaned(text)), most, escaped)
}

/// The same on one line.
pub(super) fn line(text: &str, most: usize) -> String {
    cut(&one_line(text), most, escaped)
}

/// The same, inert in mrkdwn: no formatting, no link, no emoji, nobody mentioned.
pub(super) fn inert(text: &str, most: usize) -> String {
    cut(&one_line(text), most, |sign, out| {
        escaped(sign, out);
        if "*_~`@#:/.".contains(sign) {
            out.push(JOINER);
        }
    })
}

/// How long Slack takes a text to be.
pub(super) fn units(text: &str) -> usize {
    text.encode_utf16().count()
}

/// Without signs that have no look of their own or change the direction of others. Line ends are `\n`.
fn cleaned(text: &str) -> String {
    let mut clean = String::with_capacity(text.len().min(64 * 1024));
    let mut after_return = false;
    for sign in text.chars() {
        let after = std::mem::replace(&mut after_return, sign == '\r');
        match sign {
            '\n' if after => {}
            '\n' | '\r' | '\u{b}' | '\u{c}' | '\u{85}' | '\u{2028}' | '\u{2029}' => {
                clean.push('\n');
            }
            '\t' => clean.push(' '),
            sign if sign.is_control() || is_invisible(sign) => {}
            sign => clean.push(sign),
        }
    }
    clean
}

/// Marks and overrides of direction, and signs without a look. The joiners that emoji and Persian are
/// written with stay.
fn is_invisible(sign: char) -> bool {
    matches!(sign,
        '\u{ad}' | '\u{61c}' | '\u{180e}' | '\u{200b}' | '\u{200e}' | '\u{200f}'
        | '\u{202a}'..='\u{202e}' | '\u{2060}'..='\u{206f}' | '\u{feff}' | '\u{fff9}'..='\u{fffb}'
        | '\u{e0000}'..='\u{e0fff}')
}

/// At most one empty line in a row, nothing at the ends.
fn lines(text: &str) -> String {
    let mut kept = String::with_capacity(text.len());
    let mut empty = 0;
    for line in text.trim().lines() {
        let line = line.trim_end();
        empty = if line.is_empty() { empty + 1 } else { 0 };
        if empty > 1 {
            continue;
        }
        if !kept.is_empty() {
            kept.push('\n');
        }
        kept.push_str(line);
    }
    kept
}

fn one_line(text: &str) -> String {
    let clean = cleaned(text);
    let words: Vec<&str> = clean.split_whitespace().collect();
    words.join(" ")
}

fn escaped(sign: char, out: &mut String) {
    match sign {
        '&' => out.push_str("&amp;"),
        '<' => out.push_str("&lt;"),
        '>' => out.push_str("&gt;"),
        sign => out.push(sign),
    }
}

/// Writes letter by letter until there is no room for the next one and an ellipsis.
fn cut(text: &str, most: usize, write: impl Fn(char, &mut String)) -> String {
    let mut out = String::new();
    let mut length = 0;
    let mut letter = String::new();
    let mut letters = text.graphemes(true).peekable();
    while let Some(next) = letters.next() {
        letter.clear();
        for sign in next.chars().take(SIGNS_OF_A_LETTER) {
            write(sign, &mut letter);
        }
        let room = most - usize::from(letters.peek().is_some()).min(most);
        length += units(&letter);
        if length > room {
            if most > 0 {
                out.push('…');
            }
            break;
        }
        out.push_str(&letter);
    }
    out
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn markup_is_escaped_and_hidden_signs_are_gone() {
        assert_eq!(
            plain(
                "<!channel> & <@U1|you>\u{202e}\0\u{7}\r\nnext\t\u{feff}x",
                100
            ),
            "&lt;!channel&gt; &amp; &lt;@U1|you&gt;\nnext x"
        );
        assert_eq!(plain(" a \n\n\n\n b\u{2028}c ", 100), "a\n\n b\nc");
        assert_eq!(line("a\r\n  b\u{200b}", 100), "a b");
    }

    #[test]
    fn a_long_text_ends_in_an_ellipsis_between_letters() {
        assert_eq!(plain("abcdef", 4), "abc…");
        assert_eq!(plain("abcd", 4), "abcd");
        assert_eq!(plain("ab<", 4), "ab…");
        let family = "👨‍👩‍👧‍👦";
        assert_eq!(
            plain(&format!("{family}{family}"), 15),
            format!("{family}…")
        );
        assert_eq!(plain("abc", 0), "");
        assert_eq!(plain("abc", 1), "…");
    }

    #[test]
    fn stacked_accents_are_flattened() {
        let stacked = format!("a{}b", "\u{301}".repeat(5_000));
        assert!(plain(&stacked, 3_000).chars().count() <= SIGNS_OF_A_LETTER + 1);
    }

    #[test]
    fn nothing_is_markup_in_a_notification() {
        let inert = inert(
            "*b* _i_ `c` :tada: @channel https://x.example #general",
            500,
        );
        let seen = inert.replace(JOINER, "");
        assert_eq!(
            seen,
            "*b* _i_ `c` :tada: @channel https://x.example #general"
        );
        for markup in [
            "*b*",
            "_i_",
            "`c`",
            ":tada:",
            "@channel",
            "://",
            "x.example",
        ] {
            assert!(!inert.contains(markup), "{markup}");
        }
    }

    proptest! {
        #[test]
        fn any_text_fits_and_holds_nothing_but_letters(text in "\\PC{0,80}|.{0,80}", most in 0_usize..60) {
            for made in [plain(&text, most), line(&text, most), inert(&text, most)] {
                prop_assert!(units(&made) <= most);
                prop_assert!(!made.contains(['<', '>']));
                for (at, _) in made.match_indices('&') {
                    let rest = &made[at..];
                    prop_assert!(["&amp;", "&lt;", "&gt;"].iter().any(|entity| rest.starts_with(entity)));
                }
                prop_assert!(made.chars().all(|sign| sign == '\n' || !sign.is_control()));
                prop_assert!(!made.replace(JOINER, "").contains(is_invisible));
            }
        }
    }
}
