//! Composes an answer without a model: the sentences of the search results that have most in
//! common with the question, each citing where it stands.

use std::collections::{HashMap, HashSet};

use super::{Citation, Content, request::Request};
use crate::words::stems;

/// Sentences of an answer at most.
const MOST_SENTENCES: usize = 3;
/// A sentence joins the answer when it is at least so good as the best one.
const SHARE_OF_BEST: f64 = 0.6;
/// What a match in the title of the search result counts, of one in the sentence itself.
const TITLE_SHARE: f64 = 0.4;

const NOT_KNOWN: &str = "I don't know: nothing in our documents answers that. \
    I can connect you with a colleague who does.";

#[derive(Debug)]
struct Sentence<'a> {
    citation: Citation,
    text: &'a str,
    stems: HashSet<String>,
    title_stems: HashSet<String>,
}

/// The answer's blocks: citing sentences, or one that says that nothing is known.
pub(super) fn compose(request: &Request) -> Vec<Content> {
    let sentences = sentences(request);
    let best = best_sentences(request.question(), &sentences);
    if best.is_empty() {
        return vec![Content::Text {
            text: NOT_KNOWN.to_owned(),
            citations: Vec::new(),
        }];
    }
    let count = best.len();
    let cited = best.into_iter().enumerate().map(|(number, sentence)| {
        let end = if number + 1 == count { "" } else { " " };
        Content::Text {
            text: format!("{}{end}", sentence.text),
            citations: vec![sentence.citation.clone()],
        }
    });
    cited.collect()
}

fn sentences(request: &Request) -> Vec<Sentence<'_>> {
    let mut sentences = Vec::new();
    for (search_result, result) in request.relevant_results() {
        let title_stems: HashSet<String> = stems(&result.title).collect();
        for (block, content) in result.blocks.iter().enumerate() {
            for text in split(content) {
                sentences.push(Sentence {
                    citation: Citation {
                        search_result,
                        block,
                        cited_text: text.to_owned(),
                    },
                    text,
                    stems: stems(text).collect(),
                    title_stems: title_stems.clone(),
                });
            }
        }
    }
    sentences
}

/// The best sentences, in the order in which they stand.
fn best_sentences<'a, 'b>(question: &str, sentences: &'a [Sentence<'b>]) -> Vec<&'a Sentence<'b>> {
    let asked: HashSet<String> = stems(question).collect();
    let mut occurrences: HashMap<&str, f64> = HashMap::new();
    for stem in sentences.iter().flat_map(|sentence| &sentence.stems) {
        *occurrences.entry(stem).or_default() += 1.0;
    }
    let weight = |stem: &String| {
        let seen = occurrences.get(stem.as_str()).copied().unwrap_or(1.0);
        // A word that every sentence has tells them not apart.
        (1.0 + f64::from(u32::try_from(sentences.len()).unwrap_or(u32::MAX)) / seen).ln()
    };
    let score = |sentence: &Sentence<'_>| -> f64 {
        asked
            .iter()
            .map(|stem| {
                if sentence.stems.contains(stem) {
                    weight(stem)
                } else if sentence.title_stems.contains(stem) {
                    TITLE_SHARE * weight(stem)
                } else {
                    0.0
                }
            })
            .sum()
    };
    // A title alone makes no answer.
    let mut scored: Vec<(f64, usize)> = sentences
        .iter()
        .enumerate()
        .filter(|(_, sentence)| !asked.is_disjoint(&sentence.stems))
        .map(|(index, sentence)| (score(sentence), index))
        .collect();
    scored.sort_by(|one, other| other.0.total_cmp(&one.0).then(one.1.cmp(&other.1)));
    let enough = scored.first().map_or(0.0, |(best, _)| best * SHARE_OF_BEST);
    let mut seen = HashSet::new();
    let mut chosen: Vec<usize> = scored
        .into_iter()
        .filter(|(score, index)| *score >= enough && seen.insert(sentences[*index].text))
        .take(MOST_SENTENCES)
        .map(|(_, index)| index)
        .collect();
    chosen.sort_unstable();
    chosen.into_iter().map(|index| &sentences[index]).collect()
}

/// Sentences of running text; a heading is none, and a line of a list or a table is one.
fn split(text: &str) -> Vec<&str> {
    paragraphs(text)
        .into_iter()
        .flat_map(sentences_of)
        .map(clean)
        .filter(|sentence| stems(sentence).count() >= 2)
        .collect()
}

/// Lines that belong together: a hard-wrapped paragraph or list item.
fn paragraphs(text: &str) -> Vec<&str> {
    let mut paragraphs = Vec::new();
    let mut start: Option<usize> = None;
    let mut offset = 0;
    for line in text.split_inclusive('\n') {
        let trimmed = line.trim();
        let heading = trimmed.starts_with('#');
        let begins = begins_item(trimmed);
        if (trimmed.is_empty() || heading || begins)
            && let Some(start) = start.take()
        {
            paragraphs.push(&text[start..offset]);
        }
        if !trimmed.is_empty() && !heading && start.is_none() {
            start = Some(offset);
        }
        offset += line.len();
    }
    if let Some(start) = start {
        paragraphs.push(&text[start..]);
    }
    paragraphs
}

fn begins_item(line: &str) -> bool {
    let numbered = line.split_once(['.', ')']).is_some_and(|(number, rest)| {
        !number.is_empty()
            && number.bytes().all(|byte| byte.is_ascii_digit())
            && rest.starts_with(' ')
    });
    numbered || line.starts_with(['|', '-', '*', '+', '>'])
}

fn sentences_of(paragraph: &str) -> Vec<&str> {
    let mut sentences = Vec::new();
    let mut start = 0;
    let mut letters = paragraph.char_indices().peekable();
    while let Some((index, letter)) = letters.next() {
        let Some((next, following)) = letters.peek() else {
            break;
        };
        // `e.g. this`, `v. 2` and `3.5` go on; a new sentence begins with a capital letter.
        let ends = matches!(letter, '.' | '!' | '?')
            && following.is_whitespace()
            && paragraph[*next..]
                .trim_start()
                .starts_with(|first: char| first.is_uppercase() || first == '`' || first == '*')
            && index > start;
        if ends {
            sentences.push(&paragraph[start..*next]);
            start = *next;
        }
    }
    sentences.push(&paragraph[start..]);
    sentences
}

/// Without the signs of a list, a table or a quotation around it.
fn clean(sentence: &str) -> &str {
    let sentence = sentence.trim();
    let without_sign = sentence.trim_start_matches(['-', '*', '+', '>', '|', ' ']);
    // `**bold** words` keep their stars.
    let without_sign = if sentence.starts_with("**") {
        sentence
    } else {
        without_sign
    };
    without_sign.trim_end_matches(['|', ' '])
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn ask(question: &str, results: &[(&str, &str)]) -> Vec<Content> {
        let mut content: Vec<Value> = results
            .iter()
            .map(|(title, text)| {
                json!({
                    "type": "search_result",
                    "source": format!("/{title}"),
                    "title": title,
                    "content": [{"type": "text", "text": text}],
                    "citations": {"enabled": true},
                })
            })
            .collect();
        content.push(json!({"type": "text", "text": question}));
        let body = json!({
            "model": "m",
            "max_tokens": 100,
            "messages": [{"role": "user", "content": content}],
        });
        compose(&Request::parse(body.to_string().as_bytes()).unwrap())
    }

    fn text(content: &[Content]) -> String {
        let texts = content.iter().map(|block| match block {
            Content::Text { text, .. } => text.as_str(),
            Content::ToolUse { .. } => "",
        });
        texts.collect()
    }

    const OPERATIONS: &str = "# Operations\n\nThe service restarts by itself. The daily backup \
        runs at 02:00\nBerlin time, e.g. tonight. Alerts go to the operator.\n\n\
        - Logs are kept for a week.\n- Costs are metered per answer.\n\n\
        | what | when |\n|---|---|\n| restore rehearsal | every quarter |\n";

    #[test]
    fn the_sentence_that_answers_is_chosen_and_cited() {
        let answer = ask(
            "When does the daily backup run?",
            &[
                ("pricing", "A week costs 9,000 euros."),
                ("operations", OPERATIONS),
            ],
        );
        assert_eq!(
            answer,
            [Content::Text {
                text: "The daily backup runs at 02:00\nBerlin time, e.g. tonight.".to_owned(),
                citations: vec![Citation {
                    search_result: 1,
                    block: 0,
                    cited_text: "The daily backup runs at 02:00\nBerlin time, e.g. tonight."
                        .to_owned(),
                }],
            }]
        );
    }

    #[test]
    fn a_line_of_a_list_and_a_row_of_a_table_are_sentences() {
        let results = [("operations", OPERATIONS)];
        assert_eq!(
            text(&ask("How long are logs kept?", &results)),
            "Logs are kept for a week."
        );
        assert_eq!(
            text(&ask("How often is a restore rehearsed?", &results)),
            "restore rehearsal | every quarter"
        );
    }

    #[test]
    fn what_no_document_answers_is_not_known() {
        for results in [&[][..], &[("operations", OPERATIONS)][..]] {
            let answer = ask("Do you sell bicycles?", results);
            assert_eq!(text(&answer), NOT_KNOWN);
        }
    }

    #[test]
    fn a_cited_text_stands_in_its_block() {
        for question in ["backup restore alerts", "costs logs service operator"] {
            for block in ask(question, &[("operations", OPERATIONS)]) {
                let Content::Text { citations, .. } = block else {
                    panic!("a tool call");
                };
                assert!(OPERATIONS.contains(&citations[0].cited_text));
            }
        }
    }
}
