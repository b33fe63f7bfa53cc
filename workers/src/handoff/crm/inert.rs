//! Makes what a visitor wrote harmless in a CRM: there it is exported into spreadsheets, which run
//! what begins like a formula, and shown in pages, which run markup.

use store::handoffs::is_phone;

/// A text in one line of at most `longest` characters that no spreadsheet takes for a formula: one that
/// begins like it gets an apostrophe in front. A telephone number stays as it is, because no formula
/// can be written with digits and what stands between them.
pub(super) fn line(text: &str, longest: usize) -> String {
    let words: Vec<&str> = text
        .split(|sign: char| sign.is_whitespace() || sign.is_control())
        .filter(|word| !word.is_empty())
        .collect();
    formula_free(&words.join(" "), longest)
}

/// The same for a text of several lines: its line breaks stay, other control characters go.
pub(super) fn text(text: &str, longest: usize) -> String {
    let kept: String = text
        .chars()
        .filter(|sign| !sign.is_control() || *sign == '\n')
        .collect();
    formula_free(kept.trim(), longest)
}

/// Whether a spreadsheet would take it for a formula.
pub(super) fn is_formula(text: &str) -> bool {
    // The wide forms are read as the narrow ones by some.
    text.starts_with(['=', '+', '-', '@', '\t', '\r', '\n', '＝', '＋', '－', '＠'])
        && !is_phone(text)
}

fn formula_free(text: &str, longest: usize) -> String {
    let text = cut(text, longest);
    if is_formula(&text) {
        cut(&format!("'{text}"), longest)
    } else {
        text
    }
}

/// At most so many characters; what is cut off is told by an ellipsis.
fn cut(text: &str, longest: usize) -> String {
    if text.chars().count() <= longest {
        return text.to_owned();
    }
    let mut kept: String = text.chars().take(longest.saturating_sub(1)).collect();
    kept.push('…');
    kept
}

/// A text as it stands in HTML, with its line breaks.
pub(super) fn html(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for sign in text.chars() {
        match sign {
            '&' => escaped.push_str("&amp;"),
            '<' => escaped.push_str("&lt;"),
            '>' => escaped.push_str("&gt;"),
            '"' => escaped.push_str("&quot;"),
            '\'' => escaped.push_str("&#39;"),
            '\n' => escaped.push_str("<br>"),
            other if other.is_control() => {}
            other => escaped.push(other),
        }
    }
    escaped
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn what_begins_like_a_formula_gets_an_apostrophe() {
        for (text, inert) in [
            ("=1+1", "'=1+1"),
            (" \t=cmd|'/C calc'!A0", "'=cmd|'/C calc'!A0"),
            ("@SUM(A1)", "'@SUM(A1)"),
            ("-2+3+cmd", "'-2+3+cmd"),
            ("＝1", "'＝1"),
            ("Ada", "Ada"),
            ("+49 89 123-456", "+49 89 123-456"),
            ("+49 89 123-456 x", "'+49 89 123-456 x"),
            ("a\r\nb\u{0}c", "a b c"),
        ] {
            assert_eq!(line(text, 100), inert);
        }
    }

    #[test]
    fn markup_is_text_in_html() {
        assert_eq!(
            html("<img src=\"x\" onerror='a'>&\nb\r"),
            "&lt;img src=&quot;x&quot; onerror=&#39;a&#39;&gt;&amp;<br>b"
        );
    }

    proptest! {
        #[test]
        fn whatever_comes_in_is_short_flat_and_no_formula(raw in ".{0,80}", longest in 1_usize..60) {
            let line = line(&raw, longest);
            prop_assert!(line.chars().count() <= longest);
            prop_assert!(!line.contains(char::is_control));
            prop_assert!(!is_formula(&line));
            let html = html(&raw);
            prop_assert!(!html.replace("<br>", "").contains(['<', '>', '"', '\'']));
        }
    }
}
