//! Chunks and questions out of nothing, the same every time: by number, so that nothing has to be kept.
//!
//! Embeddings of texts fill a few dozen of their dimensions and lie in clusters. So a vector here is
//! that of a topic, moved within a space of [`LATENT`] directions, with a little noise in all 1,536.
//! A text is made of words by Zipf's law, a third of them the topic's own. A question is a chunk's
//! neighbour in both.

use std::fmt::Write as _;

/// As `text-embedding-3-small` gives.
pub(crate) const DIMENSIONS: usize = 1_536;
/// The directions in which texts differ.
const LATENT: usize = 48;
/// Chunks of a topic, on average.
const CHUNKS_PER_TOPIC: u32 = 200;
/// How far chunks are from their topic's middle, where topics are 1 from each other.
const SPREAD: f32 = 0.7;
/// How far a question is from the chunk that it asks for.
const ASKED_FROM: f32 = 0.5;
/// The noise in every dimension, in relation to the whole.
const NOISE: f32 = 0.3;
/// Words of a chunk: with their ends and stops about 500 tokens.
const WORDS: u32 = 260;
/// Words of a question.
const QUESTION_WORDS: u32 = 8;
/// Words that all topics share.
const COMMON_WORDS: u32 = 20_000;
/// Words of a topic's own.
const TOPIC_WORDS: u32 = 150;

/// A corpus.
pub(crate) struct Corpus {
    topics: u32,
    /// [`LATENT`] rows of [`DIMENSIONS`].
    directions: Vec<f32>,
}

impl Corpus {
    pub(crate) fn new(chunks: u32) -> Self {
        let mut random = Random::of(1, 0);
        let directions = (0..LATENT * DIMENSIONS).map(|_| random.normal()).collect();
        Self {
            topics: chunks.div_ceil(CHUNKS_PER_TOPIC),
            directions,
        }
    }

    fn topic(&self, chunk: u32) -> u32 {
        // Neighbours in a document are of one topic.
        (chunk / 20).wrapping_mul(2_654_435_761) % self.topics
    }

    /// The vector of a chunk, of length 1.
    pub(crate) fn vector(&self, chunk: u32) -> Vec<f32> {
        self.moved(&self.place(chunk), &mut Random::of(4, chunk))
    }

    /// The vector of a question that asks for a chunk, of length 1.
    pub(crate) fn question_vector(&self, question: u32, chunk: u32) -> Vec<f32> {
        let mut random = Random::of(5, question);
        let mut place = self.place(chunk);
        for value in &mut place {
            *value += ASKED_FROM * random.normal();
        }
        self.moved(&place, &mut random)
    }

    /// Where a chunk is among the directions.
    fn place(&self, chunk: u32) -> Vec<f32> {
        let mut topic = Random::of(2, self.topic(chunk));
        let mut own = Random::of(3, chunk);
        (0..LATENT)
            .map(|_| topic.normal() + SPREAD * own.normal())
            .collect()
    }

    #[expect(clippy::cast_precision_loss, reason = "small numbers")]
    fn moved(&self, place: &[f32], random: &mut Random) -> Vec<f32> {
        let noise = NOISE * (LATENT as f32).sqrt();
        let mut vector: Vec<f32> = (0..DIMENSIONS).map(|_| noise * random.normal()).collect();
        for (step, direction) in place.iter().zip(self.directions.chunks_exact(DIMENSIONS)) {
            for (value, part) in vector.iter_mut().zip(direction) {
                *value += step * part;
            }
        }
        let length = vector.iter().map(|value| value * value).sum::<f32>().sqrt();
        for value in &mut vector {
            *value /= length;
        }
        vector
    }

    /// The text of a chunk.
    pub(crate) fn text(&self, chunk: u32) -> String {
        let mut random = Random::of(6, chunk);
        let mut text = self.words(&mut random, chunk, WORDS);
        // What only this chunk has, as a product's number.
        let _ = write!(text, " QX{chunk}.");
        text
    }

    /// The words of a question that asks for a chunk; each tenth names it.
    pub(crate) fn question(&self, question: u32, chunk: u32) -> String {
        let mut random = Random::of(7, question);
        let mut text = self.words(&mut random, chunk, QUESTION_WORDS);
        if question.is_multiple_of(10) {
            let _ = write!(text, " QX{chunk}");
        }
        text
    }

    fn words(&self, random: &mut Random, chunk: u32, count: u32) -> String {
        let topic = self.topic(chunk);
        let mut text = String::new();
        for number in 0..count {
            if number > 0 {
                text.push_str(if number % 13 == 0 { ". " } else { " " });
            }
            match random.below(12) {
                0..4 => text.push_str(["the", "of", "and", "is"][random.below(4) as usize]),
                4..8 => word(&mut text, random.zipf(COMMON_WORDS)),
                _ => {
                    let own = topic * TOPIC_WORDS + random.zipf(TOPIC_WORDS);
                    word(&mut text, COMMON_WORDS + own);
                }
            }
        }
        text
    }
}

/// A word that can be spoken: one for each number.
fn word(text: &mut String, number: u32) {
    const SYLLABLES: [&str; 32] = [
        "ba", "ce", "di", "fo", "gu", "ha", "ke", "li", "mo", "nu", "pa", "re", "si", "to", "vu",
        "wa", "ze", "bri", "clo", "dru", "fla", "gre", "pli", "sto", "tru", "ma", "ne", "pi", "ro",
        "su", "ta", "ve",
    ];
    let mut rest = number;
    loop {
        text.push_str(SYLLABLES[(rest % 32) as usize]);
        rest /= 32;
        if rest == 0 {
            break;
        }
        rest -= 1;
    }
    text.push('m');
}

/// `SplitMix64`, by a purpose and a number.
pub(crate) struct Random(u64);

impl Random {
    pub(crate) fn of(purpose: u64, number: u32) -> Self {
        let mut random = Self(purpose << 32 | u64::from(number));
        // Neighbours' sequences have nothing to do with each other.
        Self(random.next().wrapping_mul(purpose | 1))
    }

    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let once = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let twice = (once ^ (once >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        twice ^ (twice >> 31)
    }

    pub(crate) fn below(&mut self, limit: u32) -> u32 {
        let high = (u128::from(self.next()) * u128::from(limit)) >> 64;
        u32::try_from(high).unwrap_or_default()
    }

    /// Between 0 and 1.
    #[expect(clippy::cast_precision_loss, reason = "24 bits fit")]
    fn unit(&mut self) -> f32 {
        (self.next() >> 40) as f32 / (1 << 24) as f32
    }

    /// Normal enough: the sum of six.
    fn normal(&mut self) -> f32 {
        let sum: f32 = (0..6).map(|_| self.unit()).sum();
        // The variance of six is a half.
        (sum - 3.0) * std::f32::consts::SQRT_2
    }

    /// Below `limit`; each as often as its place has it by Zipf's law.
    #[expect(
        clippy::cast_precision_loss,
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "small numbers"
    )]
    fn zipf(&mut self, limit: u32) -> u32 {
        let place = ((limit as f32).ln() * self.unit()).exp();
        (place as u32 - 1).min(limit - 1)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cosine(one: &[f32], other: &[f32]) -> f32 {
        one.iter().zip(other).map(|(a, b)| a * b).sum()
    }

    #[test]
    fn a_question_is_nearer_to_its_chunk_than_to_another_topic() {
        let corpus = Corpus::new(10_000);
        for question in 0..20 {
            let chunk = question * 311;
            let asked = corpus.question_vector(question, chunk);
            assert!((cosine(&asked, &asked) - 1.0).abs() < 1e-3);
            let near = cosine(&asked, &corpus.vector(chunk));
            let far = cosine(&asked, &corpus.vector((chunk + 5_000) % 10_000));
            assert!(near > 0.4 && near > far, "{near} {far}");
        }
    }

    #[test]
    fn the_same_number_gives_the_same_text_and_another_one_another() {
        let corpus = Corpus::new(1_000);
        assert_eq!(corpus.text(7), corpus.text(7));
        assert_ne!(corpus.text(7), corpus.text(8));
        assert!(corpus.text(7).ends_with("QX7."));
    }
}
