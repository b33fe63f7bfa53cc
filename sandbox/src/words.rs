//! What the stand-ins understand of language: words without endings, and which ones say nothing.

/// Words that carry no topic. Sorted, for a binary search.
const STOP_WORDS: &[&str] = &[
    "a", "about", "after", "all", "also", "am", "an", "and", "any", "are", "as", "at", "be",
    "because", "been", "before", "between", "both", "but", "by", "can", "could", "did", "do",
    "does", "during", "each", "every", "for", "from", "get", "give", "had", "has", "have", "he",
    "her", "here", "his", "how", "i", "if", "in", "into", "is", "it", "its", "just", "like",
    "long", "made", "make", "many", "may", "me", "more", "most", "much", "must", "my", "need",
    "no", "not", "of", "often", "on", "one", "only", "or", "other", "our", "out", "over", "own",
    "please", "she", "should", "so", "some", "such", "tell", "than", "that", "the", "their",
    "them", "then", "there", "these", "they", "this", "those", "to", "too", "up", "us", "use",
    "used", "very", "want", "was", "we", "were", "what", "when", "where", "which", "while", "who",
    "why", "will", "with", "without", "would", "you", "your",
];

/// The words of a text that say something, lower-cased and without endings, in order.
pub(crate) fn stems(text: &str) -> impl Iterator<Item = String> + '_ {
    text.split(|letter: char| !letter.is_alphanumeric())
        .filter(|word| !word.is_empty())
        .map(str::to_lowercase)
        .filter(|word| STOP_WORDS.binary_search(&word.as_str()).is_err())
        .map(|word| stem(&word).to_owned())
}

/// Cuts the commonest English endings, so that `backups`, `backup` and `backing` meet. Crude on
/// purpose: it only has to treat a question and its answer the same way.
fn stem(word: &str) -> &str {
    const ENDINGS: [&str; 9] = [
        "ations", "ation", "ingly", "ings", "ing", "edly", "ies", "ed", "es",
    ];
    let long_enough = |stem: &str| stem.chars().count() >= 3;
    let without_ending = ENDINGS
        .iter()
        .find_map(|ending| word.strip_suffix(ending).filter(|stem| long_enough(stem)));
    let stem = without_ending
        .or_else(|| {
            word.strip_suffix('s')
                .filter(|stem| long_enough(stem) && !stem.ends_with('s'))
        })
        .unwrap_or(word);
    // `pricing` and `price`, `policies` and `policy`.
    stem.strip_suffix(['e', 'y'])
        .filter(|stem| long_enough(stem))
        .unwrap_or(stem)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(text: &str) -> Vec<String> {
        stems(text).collect()
    }

    #[test]
    fn the_list_of_stop_words_can_be_searched() {
        assert!(STOP_WORDS.is_sorted());
    }

    #[test]
    fn forms_of_a_word_meet() {
        for (one, other) in [
            ("backups", "backup"),
            ("pricing", "prices"),
            ("policies", "policy"),
            ("Running", "runnings"),
            ("deployed", "deploying"),
            ("days", "day"),
        ] {
            assert_eq!(of(one), of(other), "{one} and {other}");
        }
        assert_eq!(of("class"), ["class"]);
    }

    #[test]
    fn stop_words_and_signs_are_left_out() {
        assert_eq!(
            of("When does the daily backup run?"),
            ["dail", "backup", "run"]
        );
        assert!(of("what is it?").is_empty());
    }
}
