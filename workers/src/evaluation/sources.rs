//! Which passages a question's sources mean.
//!
//! A source names a document, by its source (`knowledge/pricing.md`) or its url (`/pricing`), and
//! with `#heading` one section of it, spelled as citations spell it.

use std::collections::BTreeSet;

use super::{Question, QuestionSet};
use crate::knowledge::{Ranked, retrieve::fragment};

/// A document that may be expected.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KnownDocument {
    /// What makes it the same document next time.
    pub source: String,
    /// What a citation links to.
    pub url: String,
    /// All headings of its chunks.
    pub headings: Vec<String>,
}

/// A question expects a source that is not indexed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UnknownSource {
    /// The question's line in its file.
    pub line: usize,
    /// What it expects.
    pub source: String,
}

/// The sources of `set` that name nothing which is indexed: questions that could not be answered
/// rightly. In the order of the file.
pub(super) fn unknown_sources(set: &QuestionSet, known: &[KnownDocument]) -> Vec<UnknownSource> {
    let mut names = BTreeSet::new();
    for document in known {
        for name in [&document.source, &document.url] {
            names.insert(name.clone());
            for heading in &document.headings {
                names.insert(format!("{name}#{}", fragment(heading)));
            }
        }
    }
    let mut unknown = Vec::new();
    for question in &set.questions {
        for source in &question.sources {
            if !names.contains(source) {
                unknown.push(UnknownSource {
                    line: question.line,
                    source: source.clone(),
                });
            }
        }
    }
    unknown
}

/// Whether a passage that was found is one that answers the question.
pub(super) fn answers(question: &Question, found: &Ranked) -> bool {
    let passage = &found.passage;
    let url = match passage.heading_path.last() {
        Some(heading) => passage
            .url
            .strip_suffix(&format!("#{}", fragment(heading)))
            .unwrap_or(&passage.url),
        None => &passage.url,
    };
    let names = [found.document_source.as_str(), url];
    question.sources.iter().any(|expected| {
        names.iter().any(|name| {
            expected.strip_prefix(name).is_some_and(|rest| {
                rest.is_empty()
                    || rest.strip_prefix('#').is_some_and(|wanted| {
                        let mut headings = passage.heading_path.iter();
                        headings.any(|heading| fragment(heading) == wanted)
                    })
            })
        })
    })
}

#[cfg(test)]
mod tests {
    use store::knowledge::DocumentKind;

    use super::*;
    use crate::knowledge::{Passage, Verdict};

    fn question(line: usize, sources: &[&str]) -> Question {
        Question {
            line,
            text: "q".into(),
            locale: None,
            sources: sources.iter().map(|&source| source.into()).collect(),
        }
    }

    fn found(source: &str, url: &str, heading_path: &[&str]) -> Ranked {
        Ranked {
            passage: Passage {
                chunk_id: 1,
                url: url.into(),
                title: "T".into(),
                heading_path: heading_path.iter().map(|&heading| heading.into()).collect(),
                content: "c".into(),
                score: 0.5,
                kind: DocumentKind::Page,
            },
            document_id: 1,
            document_source: source.into(),
            cosine: 0.5,
            vector_rank: Some(1),
            text_rank: None,
            text_score: None,
            matched_terms: Vec::new(),
            fused: 1.0,
            verdict: Verdict::Chosen,
        }
    }

    #[test]
    fn a_document_is_meant_by_its_source_or_its_url_and_a_section_by_its_heading() {
        let passage = found("k/a.md", "/a#the-price", &["Costs", "The price"]);
        for (expected, right) in [
            ("k/a.md", true),
            ("/a", true),
            ("/a#the-price", true),
            ("/a#costs", true),
            ("k/a.md#costs", true),
            ("/a#cost", false),
            ("/a#", false),
            ("/", false),
            ("/ab", false),
            ("k/a", false),
            ("k/a.md.old", false),
        ] {
            assert_eq!(
                answers(&question(1, &[expected]), &passage),
                right,
                "{expected}"
            );
        }
        assert!(answers(&question(1, &["/x", "/a"]), &passage));
        assert!(!answers(&question(1, &[]), &passage));
        // The document's own url has a fragment: it is no heading.
        let passage = found("k/b.md", "/b#top", &["Costs"]);
        assert!(answers(&question(1, &["/b#top"]), &passage));
    }

    #[test]
    fn a_source_that_is_not_indexed_is_told_with_its_line() {
        let known = [KnownDocument {
            source: "k/a.md".into(),
            url: "/a".into(),
            headings: vec!["The price".into()],
        }];
        let set = QuestionSet {
            name: "s".into(),
            questions: vec![
                question(3, &["k/a.md", "/a#the-price"]),
                question(7, &["/b", "/a#price"]),
                question(9, &[]),
            ],
        };
        let unknown = |source: &str| UnknownSource {
            line: 7,
            source: source.into(),
        };
        assert_eq!(
            unknown_sources(&set, &known),
            [unknown("/b"), unknown("/a#price")]
        );
    }
}
