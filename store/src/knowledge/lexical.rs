//! What the full text search sees of a text: plain words, in a language's configuration, and names.
//!
//! Postgres cuts a text into words, drops the stop words and keeps the stems, by a *text search
//! configuration* of the language. Its parser has ideas of its own about signs: `Slack/CRM` is one
//! file name to it, `ZX-4711` a word and a negative number. So chunks and questions are both turned
//! into [`plain`] words before it sees them, and no sign of either can mean anything.

/// The configuration for a text whose language is not known: words as they are, lower-cased.
pub(super) const SIMPLE: &str = "simple";

/// The languages that are tried on a text which does not say its own.
pub(super) const DETECTABLE: [&str; 8] = [
    "english",
    "german",
    "spanish",
    "french",
    "italian",
    "portuguese",
    "dutch",
    SIMPLE,
];

/// The most bytes of a text that are looked at; a `tsvector` must stay below 1 MiB.
const LONGEST_TEXT: usize = 256 * 1024;

/// The text search configuration of a language tag such as `en` or `de-AT`. All of them come with
/// every Postgres that we support.
pub(super) fn configuration(language: Option<&str>) -> &'static str {
    let Some(language) = language else {
        return SIMPLE;
    };
    let primary = language.trim().split(['-', '_']).next().unwrap_or_default();
    match primary.to_ascii_lowercase().as_str() {
        "ar" => "arabic",
        "ca" => "catalan",
        "da" => "danish",
        "de" => "german",
        "el" => "greek",
        "en" => "english",
        "es" => "spanish",
        "eu" => "basque",
        "fi" => "finnish",
        "fr" => "french",
        "ga" => "irish",
        "hi" => "hindi",
        "hu" => "hungarian",
        "hy" => "armenian",
        "id" => "indonesian",
        "it" => "italian",
        "lt" => "lithuanian",
        "nb" | "nn" | "no" => "norwegian",
        "ne" => "nepali",
        "nl" => "dutch",
        "pt" => "portuguese",
        "ro" => "romanian",
        "ru" => "russian",
        "sr" => "serbian",
        "sv" => "swedish",
        "ta" => "tamil",
        "tr" => "turkish",
        "yi" => "yiddish",
        _ => SIMPLE,
    }
}

/// Letters and digits, everything else a space; a full stop stays between digits (`1.5`).
pub(super) fn plain(text: &str) -> String {
    let text = &text[..text.floor_char_boundary(LONGEST_TEXT)];
    let mut words = String::with_capacity(text.len());
    let mut signs = text.chars().peekable();
    let mut before = ' ';
    while let Some(sign) = signs.next() {
        let in_number = sign == '.'
            && before.is_ascii_digit()
            && signs.peek().is_some_and(char::is_ascii_digit);
        if sign.is_alphanumeric() || in_number {
            words.push(sign);
        } else if !words.ends_with(' ') {
            words.push(' ');
        }
        before = sign;
    }
    words.truncate(words.trim_end().len());
    words
}

/// The words of a text that look like names and numbers, plain: what has a digit, a capital inside,
/// or a capital in mid-sentence. No language's endings are cut off them.
pub(super) fn names(text: &str) -> String {
    let mut names = String::new();
    for line in text.lines() {
        let mut in_sentence = false;
        for word in line.split_whitespace() {
            let inner = word.trim_matches(|sign: char| !sign.is_alphanumeric());
            if is_name(inner, in_sentence) {
                names.push_str(inner);
                names.push(' ');
            }
            in_sentence = (in_sentence || !inner.is_empty())
                && !word.ends_with(['.', '!', '?', ':', '…', '。', '！', '？']);
        }
    }
    plain(&names)
}

fn is_name(word: &str, in_sentence: bool) -> bool {
    let mut signs = word.chars();
    let first = signs.next();
    word.contains(|sign: char| sign.is_ascii_digit())
        || (in_sentence && first.is_some_and(char::is_uppercase))
        || signs.any(char::is_uppercase)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_language_tag_names_its_configuration() {
        for (language, expected) in [
            (Some("en"), "english"),
            (Some("de-AT"), "german"),
            (Some("PT_br"), "portuguese"),
            (Some("tlh"), SIMPLE),
            (Some(""), SIMPLE),
            (Some("'; drop table"), SIMPLE),
            (None, SIMPLE),
        ] {
            assert_eq!(configuration(language), expected, "{language:?}");
        }
    }

    #[test]
    fn only_words_are_left() {
        for (text, expected) in [
            ("Slack/CRM, e-mail & more!", "Slack CRM e mail more"),
            (
                "ZX-4711 costs 1.5 (or 2.) euros.",
                "ZX 4711 costs 1.5 or 2 euros",
            ),
            ("l'été — Größe", "l été Größe"),
            ("a\0b 'c' | !d <-> e:*", "a b c d e"),
            (" ?! ", ""),
        ] {
            assert_eq!(plain(text), expected);
        }
    }

    #[test]
    fn names_are_what_is_capital_in_mid_sentence_or_has_a_digit() {
        assert_eq!(
            names("The team uses Grafana. It runs v2.\n# Heading of GitHub: RAG with 9,000 euros"),
            "Grafana v2 GitHub RAG 9 000"
        );
        assert_eq!(names("It works. Nothing here.\n- Not here either"), "");
    }

    proptest! {
        #[test]
        fn nothing_but_letters_digits_and_single_spaces_is_left(text in "\\PC{0,200}|[a-z1-9. '&|!<>()\\\\:*\0-]{0,200}") {
            let plain = plain(&text);
            prop_assert!(!plain.contains("  ") && !plain.ends_with(' '));
            prop_assert!(plain.chars().all(|sign| sign.is_alphanumeric() || sign == ' ' || sign == '.'));
        }
    }
}
