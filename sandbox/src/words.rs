//! What the stand-ins understand of language: words without endings, which ones say nothing, and
//! which ones say little.

mod lists;
mod stem;

use std::{collections::HashSet, sync::LazyLock};

use self::{
    lists::{COMMON_WORDS, ENGLISH_STOP_WORDS, GERMAN_STOP_WORDS},
    stem::stem,
};

/// The stems of the common words.
static COMMON_STEMS: LazyLock<HashSet<String>> =
    LazyLock::new(|| COMMON_WORDS.iter().map(|word| stem(word)).collect());

/// The words of a text that say something, lower-cased and without endings, in order.
pub(crate) fn stems(text: &str) -> impl Iterator<Item = String> + '_ {
    text.split(|letter: char| !letter.is_alphanumeric())
        .filter(|word| !word.is_empty())
        .map(str::to_lowercase)
        .filter(|word| !is_stop_word(word))
        .map(|word| stem(&word))
}

/// Whether a stem is that of a word that stands in texts about anything.
pub(crate) fn is_common(stem: &str) -> bool {
    COMMON_STEMS.contains(stem)
}

fn is_stop_word(word: &str) -> bool {
    let lists = [ENGLISH_STOP_WORDS, GERMAN_STOP_WORDS];
    lists.iter().any(|list| list.binary_search(&word).is_ok())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stop_words_and_signs_are_left_out() {
        let of = |text: &str| -> Vec<String> { stems(text).collect() };
        assert_eq!(
            of("When does the daily backup run?"),
            ["dail", "backup", "run"]
        );
        assert_eq!(
            of("Was kostet die Sicherung? Don't!"),
            ["kostet", "sicherung"]
        );
        assert!(of("what is it?").is_empty());
    }

    #[test]
    fn a_common_word_is_known_in_all_its_forms() {
        for word in ["price", "prices", "pricing", "run", "running"] {
            let stem = stems(word).next().unwrap();
            assert!(is_common(&stem), "{word}");
        }
        assert!(!is_common("backup"));
    }
}
