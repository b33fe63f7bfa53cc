//! Embeddings without a model: the words of a text, hashed into a vector.
//!
//! Every stem, the beginning of every longer stem and every pair of neighbouring stems adds to the
//! dimensions that its hash names, with the signs that its hash names. Common words count for less,
//! and how often a word is repeated counts for little: a text is near to a question that shares
//! several of its words. That is enough for a question to find the passage that answers it in a few
//! hundred pages, and it is the same on every machine.

use std::collections::BTreeMap;

use crate::words::{is_common, stems};

/// What a word counts for that stands in texts about anything.
const COMMON_WEIGHT: f32 = 0.8;
/// A pair counts less than a word: it is there to prefer the passage that has both in a row.
const PAIR_WEIGHT: f32 = 0.5;
/// How many letters a word begins with, and what they count for: `invest`, `investor` and `investment`
/// are near each other, and German compounds to what they begin with.
const BEGINNING: usize = 4;
const BEGINNING_WEIGHT: f32 = 0.5;
/// The tenth occurrence says hardly more than the first: the exponent of the count.
const REPETITION: f32 = 0.1;

/// In how many dimensions a feature stands: where two features meet in one and cancel each other
/// out, the others still tell them apart.
const PLACES: usize = 2;

/// The text's vector, of length 1, or all zeros for a text without words.
pub(super) fn embed(text: &str, dimensions: usize) -> Vec<f32> {
    let mut vector = vec![0.0; dimensions];
    for (feature, (weight, count)) in features(text) {
        let weight = weight * count.powf(REPETITION);
        let mut hash = fnv1a(feature.as_bytes());
        for _ in 0..PLACES {
            hash = mix(hash);
            let index = usize::try_from(hash % dimensions as u64).unwrap_or_default();
            vector[index] += if hash >> 63 == 0 { weight } else { -weight };
        }
    }
    normalise(&mut vector);
    vector
}

/// What a text consists of: each feature's weight, and how often it occurs. A pair never reaches over
/// the end of a line.
fn features(text: &str) -> BTreeMap<String, (f32, f32)> {
    let mut features: BTreeMap<String, (f32, f32)> = BTreeMap::new();
    let mut add = |feature: String, weight: f32| {
        features.entry(feature).or_insert((weight, 0.0)).1 += 1.0;
    };
    for line in text.lines() {
        let mut previous: Option<(String, f32)> = None;
        for stem in stems(line) {
            let weight = if is_common(&stem) { COMMON_WEIGHT } else { 1.0 };
            if let Some((previous, other)) = previous {
                let pair = format!("{previous} {stem}");
                add(pair, PAIR_WEIGHT * weight.min(other));
            }
            if let Some((end, _)) = stem.char_indices().nth(BEGINNING) {
                add(format!("{}-", &stem[..end]), BEGINNING_WEIGHT * weight);
            }
            add(stem.clone(), weight);
            previous = Some((stem, weight));
        }
    }
    features
}

fn normalise(vector: &mut [f32]) {
    let length = vector.iter().map(|value| value * value).sum::<f32>().sqrt();
    if length > 0.0 {
        for value in vector {
            *value /= length;
        }
    }
}

/// FNV-1a, 64 bits: stable over machines and versions, unlike the standard library's hasher.
fn fnv1a(bytes: &[u8]) -> u64 {
    bytes.iter().fold(0xcbf2_9ce4_8422_2325, |hash, byte| {
        (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3)
    })
}

/// The next number of `SplitMix64`: FNV alone spreads short words badly.
fn mix(hash: u64) -> u64 {
    let sum = hash.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let once = (sum ^ (sum >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let twice = (once ^ (once >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    twice ^ (twice >> 31)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::openai::RELEVANCE_THRESHOLD;

    const BACKUPS: &str = "Operations > Backups\n\
        A full copy of the database is written to the bucket every night. The daily backup runs at \
        two o'clock in the morning, Berlin time, and takes about four minutes. It is encrypted \
        before it leaves the machine, uploaded in parts, and read back once: only a copy that \
        could be restored into an empty database counts. Copies are kept for ninety days; an \
        operator is told when the newest verified copy is older than a day and a half. The list of \
        erasures is applied again after a restore, so that nobody who asked to be forgotten comes \
        back. Restores are rehearsed once a quarter, and the time they take is noted in the log of \
        exercises together with what went wrong. Nobody has to remember any of this, because the \
        schedule lives in the service itself and a machine that sleeps at night is woken for it. \
        Whoever changes the schedule also changes the alert that watches it, in the same commit.";
    const PRICES: &str = "Pricing\n\
        We work at a fixed price per stage. A discovery week costs 9,000 euros and ends in a \
        written plan that belongs to you, whoever builds it. Building is invoiced monthly, by the \
        team's size. There is no success fee, and travel is included within Europe. Larger \
        engagements begin with a pilot of six to eight weeks whose price is agreed before it \
        starts. If the pilot misses the measure that was agreed, its last invoice is not sent.";

    fn similarity(one: &str, other: &str) -> f32 {
        let pairs = embed(one, 1536).into_iter().zip(embed(other, 1536));
        pairs.map(|(a, b)| a * b).sum()
    }

    #[test]
    fn a_question_is_near_to_the_passage_that_answers_it_and_to_no_other() {
        for (question, answer, other) in [
            ("When does the daily backup run?", BACKUPS, PRICES),
            ("How long are backups kept?", BACKUPS, PRICES),
            ("What does a discovery week cost?", PRICES, BACKUPS),
            ("Is there a success fee?", PRICES, BACKUPS),
        ] {
            let (near, far) = (similarity(question, answer), similarity(question, other));
            assert!(near > RELEVANCE_THRESHOLD, "{question}: {near}");
            assert!(far < RELEVANCE_THRESHOLD, "{question}: {far}");
        }
        let far = similarity("Do you sell bicycles?", BACKUPS);
        assert!(far < RELEVANCE_THRESHOLD, "{far}");
    }

    #[test]
    fn a_vector_has_length_one_and_the_same_text_gives_the_same_vector() {
        let vector = embed(PRICES, 256);
        assert_eq!(vector, embed(PRICES, 256));
        let length: f32 = vector.iter().map(|value| value * value).sum();
        assert!((length - 1.0).abs() < 1e-4, "{length}");
        assert!((similarity(PRICES, PRICES) - 1.0).abs() < 1e-4);
    }

    #[test]
    fn a_text_without_words_has_no_direction() {
        assert!(embed("?!", 8).iter().all(|value| *value == 0.0));
    }
}
