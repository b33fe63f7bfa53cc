//! Counts tokens as the embeddings' models do (`cl100k_base`).
//!
//! The vocabulary is part of the program and takes about 15 MB of memory once it is used, which a
//! process that only answers questions never does.

/// The longest run of white space that the tokenizer gets to see. Its pattern looks ahead from every
/// place in a run, and it panics on one of a million.
const LONGEST_RUN: usize = 256;

/// How many tokens a text has. Takes time linear in its length (a long word: n log n). A run of more
/// than 256 spaces is counted in parts.
pub fn count(text: &str) -> usize {
    let tokenizer = tiktoken_rs::cl100k_base_singleton();
    let mut tokens = 0;
    let mut begin = 0;
    let mut run = 0;
    for (position, sign) in text.char_indices() {
        if !sign.is_whitespace() {
            run = 0;
        } else if run == LONGEST_RUN {
            tokens += tokenizer.count_ordinary(&text[begin..position]);
            begin = position;
            run = 1;
        } else {
            run += 1;
        }
    }
    tokens + tokenizer.count_ordinary(&text[begin..])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tokens_are_counted_as_the_model_does() {
        assert_eq!(count(""), 0);
        assert_eq!(count("An apple a"), 3);
        assert_eq!(count("tiktoken is great!"), 6);
    }

    #[test]
    fn endless_white_space_is_counted() {
        let gap = " ".repeat((1 << 20) + 1);
        assert!(count(&format!("x{gap}x")) > 2);
    }
}
