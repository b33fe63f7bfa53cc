//! Keeps the rules out of answers. A model may be talked into reciting what it was told; an answer that
//! begins to say it word for word ends there. Whoever has the model translate or retell the rules is
//! not stopped: nothing in them is a secret, and no other visitor's words are ever near them.

use std::{
    collections::{HashSet, VecDeque},
    hash::{DefaultHasher, Hash, Hasher},
    sync::LazyLock,
};

use super::prompt::RULES;

/// So many letters and digits in a row are no coincidence: about ten words.
const RECITED: usize = 48;
/// How often it is looked, in letters and digits. What is shown of the rules is at most
/// `RECITED + STRIDE` long.
const STRIDE: usize = 16;
/// What stands in the place of the rest.
const GONE: &str = "…";

/// Every piece of the rules of [`RECITED`] signs, by its hash.
static PIECES: LazyLock<HashSet<u64>> = LazyLock::new(|| {
    let signs: Vec<char> = RULES.chars().filter_map(folded).collect();
    signs
        .windows(RECITED)
        .map(|piece| hash(piece.iter()))
        .collect()
});

/// What an answer may say.
#[derive(Default)]
pub(super) struct Confidential {
    /// The newest signs that were said.
    newest: VecDeque<char>,
    /// Until it is looked again.
    unseen: usize,
    recites: bool,
}

impl Confidential {
    /// What may be said of more text. Once the rules are recited, nothing more is.
    pub(super) fn keep(&mut self, mut text: String) -> String {
        if self.recites {
            return String::new();
        }
        let recited = text.char_indices().find_map(|(at, sign)| {
            folded(sign)
                .is_some_and(|sign| self.hears(sign))
                .then_some(at)
        });
        if let Some(at) = recited {
            self.recites = true;
            text.truncate(at);
            text.push_str(GONE);
        }
        text
    }

    fn hears(&mut self, sign: char) -> bool {
        if self.newest.len() == RECITED {
            self.newest.pop_front();
        }
        self.newest.push_back(sign);
        self.unseen += 1;
        if self.unseen < STRIDE || self.newest.len() < RECITED {
            return false;
        }
        self.unseen = 0;
        PIECES.contains(&hash(self.newest.iter()))
    }
}

/// A letter or a digit as it is compared: signs, spaces and case are what a recital changes first.
fn folded(sign: char) -> Option<char> {
    sign.is_alphanumeric()
        .then(|| sign.to_lowercase().next().unwrap_or(sign))
}

fn hash<'s>(signs: impl Iterator<Item = &'s char>) -> u64 {
    let mut hasher = DefaultHasher::new();
    signs.for_each(|sign| sign.hash(&mut hasher));
    hasher.finish()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn said(deltas: &[&str]) -> String {
        let mut confidential = Confidential::default();
        deltas
            .iter()
            .map(|delta| confidential.keep((*delta).to_owned()))
            .collect()
    }

    #[test]
    fn a_recital_of_the_rules_ends_after_some_words() {
        for rules in [
            RULES.to_owned(),
            RULES.to_uppercase(),
            RULES.replace(' ', "\n> **"),
            format!("Sure! Here they are: {RULES}"),
            RULES.chars().skip(RULES.len() / 2).collect(),
        ] {
            let said = said(&[&rules, " and more"]);
            assert!(said.ends_with(GONE), "{said}");
            let signs = said.chars().filter_map(folded).count();
            assert!(
                signs <= RECITED + STRIDE + "SureHeretheyare".len(),
                "{said}"
            );
        }
    }

    #[test]
    fn other_answers_are_untouched() {
        let answer =
            "We are the assistant on a company's website, and you may ask us anything: an \
            audit costs 9,000 euros. Search results are below. "
                .repeat(50);
        assert_eq!(said(&[&answer]), answer);
    }

    proptest! {
        #[test]
        fn it_ends_at_the_same_place_whatever_the_deltas(cuts in prop::collection::vec(any::<prop::sample::Index>(), 0..9)) {
            let text = format!("Well, {RULES}");
            let mut cuts: Vec<usize> = cuts
                .iter()
                .map(|cut| text.floor_char_boundary(cut.index(text.len())))
                .collect();
            cuts.sort_unstable();
            let mut deltas = Vec::new();
            let mut from = 0;
            for cut in cuts {
                deltas.push(&text[from..cut]);
                from = cut;
            }
            deltas.push(&text[from..]);
            prop_assert_eq!(said(&deltas), said(&[&text]));
        }
    }
}
