//! Cuts a text into chunks.
//!
//! A chunk never reaches over a heading, so that its heading path is true of all of it; headings with
//! nothing below them go with what follows. A section that is too long is cut at the best boundary
//! in the second half of what fits: between paragraphs, else between sentences, else at a line's end,
//! else between words, and only inside a word that is itself too long. Each of its chunks repeats the
//! end of the one before it, from a boundary on, up to `overlap` tokens. Nothing but white space at a
//! chunk's ends is lost.
//!
//! What is embedded is the title, the heading path and the chunk's text: a chunk that says "two
//! weeks" is found by a question about the discovery sprint because its heading says so. The hash of
//! a chunk is that of the embedded text, so an unchanged hash means a reusable embedding.
//!
//! Every byte is tokenised about twice. Sizes come from sums over pieces (a piece is at most a
//! sentence); they differ a little from the count of the whole, which decides in the end.

use std::ops::Range;

use pulldown_cmark::{Event, HeadingLevel, Parser, Tag, TagEnd};
use sha2::{Digest, Sha256};
use unicode_segmentation::UnicodeSegmentation;

use store::knowledge::TextFormat;

use super::{document::markdown_options, tokens};

/// Changes with the rules above, and with what the full text search sees of a chunk, so that every
/// document is indexed again.
pub const VERSION: u16 = 2;

/// The most tokens of title and headings that go in front of a chunk's text when it is embedded.
const CONTEXT_TOKENS: usize = 512;
/// A longer word is cut into pieces of this many bytes (or a few less) if it has to be cut at all.
const WORD_PIECE: usize = 32;

/// The sizes, in tokens of `cl100k_base`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ChunkSizes {
    /// The most of a chunk.
    pub size: usize,
    /// The most that a chunk repeats of the one before it; less than `size`.
    pub overlap: usize,
}

/// A piece of a document.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Chunk {
    /// The headings above it, outermost first, without the one that names the document.
    pub heading_path: Vec<String>,
    /// Its text.
    pub content: String,
    /// How many tokens the text has.
    pub token_count: usize,
    /// What is embedded.
    pub embedded_text: String,
    /// SHA-256 of what is embedded.
    pub content_hash: [u8; 32],
}

/// Cuts a document's body (without front matter).
pub fn chunks(title: &str, format: TextFormat, body: &str, sizes: ChunkSizes) -> Vec<Chunk> {
    let sections = match format {
        TextFormat::Markdown => sections(title, body),
        TextFormat::Text => vec![Section {
            heading_path: Vec::new(),
            range: 0..body.len(),
        }],
    };
    let mut chunks = Vec::new();
    for section in sections {
        let context = context(title, &section.heading_path);
        for (content, token_count) in pieces(&body[section.range], sizes) {
            let embedded_text = format!("{context}\n\n{content}");
            chunks.push(Chunk {
                heading_path: section.heading_path.clone(),
                content: content.to_owned(),
                token_count,
                content_hash: Sha256::digest(&embedded_text).into(),
                embedded_text,
            });
        }
    }
    chunks
}

/// Title and headings in one line, no longer than [`CONTEXT_TOKENS`].
fn context(title: &str, heading_path: &[String]) -> String {
    let mut context = title.to_owned();
    for heading in heading_path {
        context.push_str(" > ");
        context.push_str(heading);
    }
    // A token has at least one byte.
    if context.len() > CONTEXT_TOKENS && tokens::count(&context) > CONTEXT_TOKENS {
        context.truncate(context.floor_char_boundary(CONTEXT_TOKENS));
    }
    context
}

/// What stands between two headings, the upper one included.
#[derive(Debug, PartialEq, Eq)]
struct Section {
    heading_path: Vec<String>,
    range: Range<usize>,
}

/// The sections of a Markdown text; their ranges cover it without a gap.
///
/// A first heading that names the whole document is no part of the paths: one that is the title, or
/// the only one of the first level.
fn sections(title: &str, body: &str) -> Vec<Section> {
    let mut sections: Vec<Section> = Vec::new();
    let mut path: Vec<(HeadingLevel, String)> = Vec::new();
    let mut begin = 0;
    // Where the text after the newest heading begins.
    let mut after_heading = 0;
    let mut headings = headings(body);
    let is_top = |heading: &Heading| heading.level == HeadingLevel::H1;
    let tops = headings.iter().filter(|heading| is_top(heading)).count();
    if let Some(first) = headings.first_mut()
        && (first.text.trim() == title || (is_top(first) && tops == 1))
    {
        first.text.clear();
    }
    for heading in headings {
        // A heading that directly follows another one goes on with the same section.
        if !body[after_heading..heading.range.start].trim().is_empty() {
            sections.push(Section {
                heading_path: texts(&path),
                range: begin..heading.range.start,
            });
            begin = heading.range.start;
        }
        after_heading = heading.range.end;
        path.retain(|(level, _)| *level < heading.level);
        path.push((heading.level, heading.text.trim().to_owned()));
    }
    sections.push(Section {
        heading_path: texts(&path),
        range: begin..body.len(),
    });
    sections
}

fn texts(path: &[(HeadingLevel, String)]) -> Vec<String> {
    path.iter()
        .map(|(_, text)| text.clone())
        .filter(|text| !text.is_empty())
        .collect()
}

struct Heading {
    level: HeadingLevel,
    text: String,
    range: Range<usize>,
}

/// The headings that are not inside a list, a quotation or the like, in order.
fn headings(body: &str) -> Vec<Heading> {
    let mut headings = Vec::new();
    let mut open: Option<Heading> = None;
    let mut depth = 0_usize;
    for (event, range) in Parser::new_ext(body, markdown_options()).into_offset_iter() {
        match event {
            Event::Start(Tag::Heading { level, .. }) if depth == 0 => {
                depth += 1;
                open = Some(Heading {
                    level,
                    text: String::new(),
                    range,
                });
            }
            Event::Start(_) => depth += 1,
            Event::End(end) => {
                depth = depth.saturating_sub(1);
                if let (TagEnd::Heading(_), Some(heading)) = (end, open.take_if(|_| depth == 0)) {
                    headings.push(heading);
                }
            }
            Event::Text(text) | Event::Code(text) => {
                if let Some(heading) = &mut open {
                    heading.text.push_str(&text);
                }
            }
            Event::SoftBreak | Event::HardBreak => {
                if let Some(heading) = &mut open {
                    heading.text.push(' ');
                }
            }
            _ => {}
        }
    }
    headings
}

/// How good a place is to cut at, the best last.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Boundary {
    Word,
    Line,
    Sentence,
    Paragraph,
}

/// A stretch of text that is not cut.
#[derive(Debug)]
struct Piece {
    range: Range<usize>,
    tokens: usize,
    /// What ends with it.
    boundary: Boundary,
}

/// Cuts one section; gives each chunk's text with its number of tokens.
fn pieces(section: &str, sizes: ChunkSizes) -> Vec<(&str, usize)> {
    let text = section.trim();
    if text.is_empty() {
        return Vec::new();
    }
    // Only a text with more bytes than that can be too long, but its tokens are to be told anyhow.
    let tokens = tokens::count(text);
    if tokens <= sizes.size {
        return vec![(text, tokens)];
    }
    let pieces = split(text, sizes.size);
    let mut chunks = Vec::new();
    let mut begin = 0;
    // The end of the chunk before: every chunk reaches beyond it.
    let mut covered = 0;
    while covered < pieces.len() {
        let (mut end, mut from) = (best_end(&pieces, begin, covered, sizes.size), begin);
        // The sum of pieces can differ from the count of the whole by a few tokens.
        let (chunk, tokens) = loop {
            let chunk = text[pieces[from].range.start..pieces[end - 1].range.end].trim();
            let tokens = tokens::count(chunk);
            if tokens <= sizes.size || (end == covered + 1 && from == covered) {
                break (chunk, tokens);
            }
            if end > covered + 1 {
                end -= 1;
            } else {
                from += 1;
            }
        };
        if !chunk.is_empty() {
            chunks.push((chunk, tokens));
        }
        covered = end;
        begin = overlap_begin(text, &pieces, from, end, sizes.overlap);
    }
    chunks
}

/// The end (exclusive) of a chunk that begins with piece `begin`: the best boundary in the second
/// half of what fits, the last one of equals. At least one piece beyond `covered`.
fn best_end(pieces: &[Piece], begin: usize, covered: usize, size: usize) -> usize {
    let mut best = covered + 1;
    let mut best_boundary = None;
    let mut sum = 0;
    for (position, piece) in pieces.iter().enumerate().skip(begin) {
        sum += piece.tokens;
        if sum > size {
            return best;
        }
        if position < covered {
            continue;
        }
        if sum * 2 >= size && Some(piece.boundary) >= best_boundary {
            best_boundary = Some(piece.boundary);
            best = position + 1;
        } else if best_boundary.is_none() {
            best = position + 1;
        }
    }
    pieces.len()
}

/// Where the next chunk begins so that it repeats at most `overlap` tokens of the one that ends at
/// `end`: after the best boundary, the earliest of equals.
fn overlap_begin(text: &str, pieces: &[Piece], begin: usize, end: usize, overlap: usize) -> usize {
    let mut best = end;
    let mut best_boundary = None;
    let mut sum = 0;
    for position in (begin + 1..end).rev() {
        sum += pieces[position].tokens;
        if sum > overlap {
            break;
        }
        let boundary = Some(pieces[position - 1].boundary);
        if boundary >= best_boundary {
            best_boundary = boundary;
            best = position;
        }
    }
    let repeats = |from: usize| {
        let repeated = &text[pieces[from].range.start..pieces[end - 1].range.end];
        tokens::count(repeated.trim())
    };
    while best < end && repeats(best) > overlap {
        best += 1;
    }
    best
}

/// Splits a text into pieces of at most `size` tokens: sentences, else words, else parts of words.
fn split(text: &str, size: usize) -> Vec<Piece> {
    let mut pieces = Vec::new();
    for (start, sentence) in text.split_sentence_bound_indices() {
        let end = start + sentence.len();
        let boundary = boundary_after(sentence, &text[end..]);
        // A sentence of which nothing is cut is most of them.
        let tokens = tokens::count(sentence);
        if tokens <= size / 4 {
            pieces.push(Piece {
                range: start..end,
                tokens,
                boundary,
            });
            continue;
        }
        for (offset, word) in sentence.split_word_bound_indices() {
            for (inner, part) in parts(word) {
                let start = start + offset + inner;
                pieces.push(Piece {
                    range: start..start + part.len(),
                    // A space is part of the token that follows it.
                    tokens: if part == " " { 0 } else { tokens::count(part) },
                    boundary: Boundary::Word,
                });
            }
        }
        if let Some(last) = pieces.last_mut() {
            last.boundary = boundary;
        }
    }
    pieces
}

/// What ends with a sentence. Unicode's rules end one at every line's end, which is right for a list
/// and wrong for a paragraph with fixed line breaks: the last sign tells.
fn boundary_after(sentence: &str, rest: &str) -> Boundary {
    let words = sentence.trim_end();
    let breaks = sentence[words.len()..].matches('\n').count();
    let blank_line_follows = breaks > 0
        && rest
            .lines()
            .next()
            .is_some_and(|line| line.trim().is_empty());
    if breaks > 1 || blank_line_follows || words.is_empty() {
        return Boundary::Paragraph;
    }
    let closed = words.trim_end_matches(['"', '\'', ')', ']', '»', '”', '’', '*', '_', '`']);
    if closed.ends_with(['.', '!', '?', '…', '。', '！', '？', ':', ';', '|']) {
        Boundary::Sentence
    } else if breaks == 1 {
        Boundary::Line
    } else {
        Boundary::Sentence
    }
}

/// A word in parts of at most [`WORD_PIECE`] bytes, cut between characters.
fn parts(word: &str) -> impl Iterator<Item = (usize, &str)> {
    let mut start = 0;
    std::iter::from_fn(move || {
        let rest = word.get(start..).filter(|rest| !rest.is_empty())?;
        let part = &rest[..rest.floor_char_boundary(WORD_PIECE)];
        let found = (start, part);
        start += part.len();
        Some(found)
    })
}

#[cfg(test)]
mod tests;
