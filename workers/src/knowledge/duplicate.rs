//! Texts that say the same in nearly the same words: a page that is on the site twice, a manual's
//! section that did not change between two versions.

use std::{
    collections::HashSet,
    hash::{DefaultHasher, Hash, Hasher},
};

use unicode_segmentation::UnicodeSegmentation;

/// How many words in a row are compared.
const RUN: usize = 3;
/// The least share of runs that near-duplicates have in common. Two chunks of one document share their
/// overlap, an eighth; one changed word in a hundred leaves 94 %.
const ALIKE: f64 = 0.85;

/// All runs of words of a text, hashed. Case and signs don't count.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Shingles(HashSet<u64>);

impl Shingles {
    pub(super) fn of(text: &str) -> Self {
        let words: Vec<String> = text.unicode_words().map(str::to_lowercase).collect();
        // A text of fewer words is one run.
        let runs = words.windows(RUN.min(words.len()).max(1));
        Self(runs.map(hash).collect())
    }
}

/// Within one process only: nothing of it is kept.
fn hash(words: &[String]) -> u64 {
    let mut hasher = DefaultHasher::new();
    words.hash(&mut hasher);
    hasher.finish()
}

/// Whether two texts have nearly all runs in common.
#[expect(clippy::cast_precision_loss, reason = "a chunk has far fewer words")]
pub(super) fn near_duplicates(one: &Shingles, other: &Shingles) -> bool {
    let common = one.0.intersection(&other.0).count();
    let all = one.0.len() + other.0.len() - common;
    common as f64 >= ALIKE * all as f64
}

#[cfg(test)]
mod tests {
    use super::*;

    fn alike(one: &str, other: &str) -> bool {
        near_duplicates(&Shingles::of(one), &Shingles::of(other))
    }

    fn words(count: usize) -> String {
        let words: Vec<String> = (0..count).map(|number| format!("word{number}")).collect();
        words.join(" ")
    }

    #[test]
    fn signs_and_case_and_a_word_in_a_hundred_make_no_difference() {
        let text = words(100);
        assert!(alike(&text, &text));
        assert!(alike(&text, &text.replace("word7 ", "WORD7, ")));
        assert!(alike(&text, &text.replace("word50 ", "another ")));
        assert!(alike("", " \n"));
        assert!(alike("Yes.", "yes"));
    }

    #[test]
    fn a_part_of_a_text_and_a_text_that_overlaps_are_others() {
        let text = words(100);
        assert!(!alike(&text, &words(60)));
        assert!(!alike("Yes.", "No."));
        assert!(!alike("", "No."));
        let (_, end) = text.split_once("word87").unwrap();
        assert!(!alike(
            &text,
            &format!(
                "{end} {}",
                words(88).to_uppercase().replace("WORD", "other")
            )
        ));
    }
}
