//! Counts tokens as the embeddings' models do (`cl100k_base`).
//!
//! The vocabulary is part of the program and takes about 15 MB of memory once it is used, which a
//! process that only answers questions never does.

/// How many tokens a text has. Takes time linear in its length (a long word: n log n).
pub fn count(text: &str) -> usize {
    tiktoken_rs::cl100k_base_singleton().count_ordinary(text)
}
