//! The file of questions.
//!
//! ```toml
//! name = "Our handbook"            # optional; else the file's name
//!
//! [[questions]]
//! question = "How long is the notice period?"
//! sources = ["handbook/contract.md", "/faq#leaving"]   # any one of them answers it
//!
//! [[questions]]
//! question = "Do you sell bicycles?"
//! answerable = false               # nothing in the corpus answers it
//! ```
//!
//! TOML because people write it by hand, with comments. That nothing answers a question has to be
//! said: a forgotten source would count as a success otherwise.

use std::{collections::HashMap, fmt};

use serde::Deserialize;
use toml::Spanned;

/// The longest question, in characters: that of a visitor's message.
const MAX_CHARS: usize = 4_000;
/// The most questions of a set. Each costs three searches.
const MAX_QUESTIONS: usize = 10_000;

/// Questions, and what answers them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct QuestionSet {
    /// Its name.
    pub name: String,
    /// The questions, as they stand in the file.
    pub questions: Vec<Question>,
}

/// A question, and what answers it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Question {
    /// The line of the file in which it begins, from 1.
    pub line: usize,
    /// Its text, without white space around it.
    pub text: String,
    /// The language of the page it is asked on (`de-AT`), if that matters.
    pub locale: Option<String>,
    /// Documents (by source or url) or sections (with `#heading`), any of which answers it. Empty:
    /// nothing does.
    pub sources: Vec<String>,
}

impl Question {
    /// Whether something in the corpus answers it.
    pub fn is_answerable(&self) -> bool {
        !self.sources.is_empty()
    }
}

/// The file can't be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum QuestionSetError {
    /// It is not what the format asks for.
    #[error("line {line}: {message}")]
    Syntax {
        /// Where, from 1.
        line: usize,
        /// What is wrong.
        message: String,
    },
    /// Some questions make no sense.
    #[error("{}", lines(.0))]
    Questions(Vec<Problem>),
}

/// What is wrong with a question.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Problem {
    /// The line in which the question begins, from 1.
    pub line: usize,
    /// What is wrong with it.
    pub message: String,
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "line {}: {}", self.line, self.message)
    }
}

fn lines(problems: &[Problem]) -> String {
    let lines: Vec<String> = problems.iter().map(ToString::to_string).collect();
    lines.join("\n")
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    name: Option<String>,
    #[serde(default)]
    questions: Vec<Spanned<Entry>>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Entry {
    question: String,
    #[serde(default)]
    sources: Vec<String>,
    answerable: Option<bool>,
    locale: Option<String>,
}

impl QuestionSet {
    /// Reads a file's text. `name` is the set's, if the file does not say one. Every question that
    /// is wrong is named.
    pub fn parse(name: &str, text: &str) -> Result<Self, QuestionSetError> {
        let line = |offset: usize| {
            1 + text[..text.floor_char_boundary(offset)]
                .matches('\n')
                .count()
        };
        let file: File = toml::from_str(text).map_err(|error| QuestionSetError::Syntax {
            line: line(error.span().map_or(0, |span| span.start)),
            message: error.message().to_owned(),
        })?;
        if file.questions.is_empty() || file.questions.len() > MAX_QUESTIONS {
            return Err(QuestionSetError::Syntax {
                line: 1,
                message: format!("a set has 1 to {MAX_QUESTIONS} questions, each in [[questions]]"),
            });
        }
        let mut problems = Vec::new();
        let mut lines: HashMap<String, usize> = HashMap::new();
        let mut questions = Vec::with_capacity(file.questions.len());
        for entry in file.questions {
            let line = line(entry.span().start);
            let question = entry.into_inner().into_question(line);
            let mut problem = |message: String| problems.push(Problem { line, message });
            match question {
                Ok(question) => {
                    if let Some(first) = lines.insert(question.text.to_lowercase(), line) {
                        problem(format!("the same question stands in line {first}"));
                    }
                    questions.push(question);
                }
                Err(message) => problem(message.to_owned()),
            }
        }
        if !problems.is_empty() {
            return Err(QuestionSetError::Questions(problems));
        }
        Ok(Self {
            name: file.name.unwrap_or_else(|| name.to_owned()),
            questions,
        })
    }

    /// How many questions something answers.
    pub fn answerable(&self) -> usize {
        let answerable = self.questions.iter().filter(|one| one.is_answerable());
        answerable.count()
    }
}

impl Entry {
    fn into_question(self, line: usize) -> Result<Question, &'static str> {
        let text = self.question.trim();
        if text.is_empty() {
            return Err("the question is empty");
        }
        if text.chars().count() > MAX_CHARS {
            return Err("the question has more than 4000 characters");
        }
        if self.sources.iter().any(|source| source.trim().is_empty()) {
            return Err("a source is empty");
        }
        match (self.answerable, self.sources.is_empty()) {
            (Some(false), false) => Err("it has sources although it is not answerable"),
            (None | Some(true), true) => {
                Err("it names no sources: add them, or answerable = false if nothing answers it")
            }
            _ => Ok(Question {
                line,
                text: text.to_owned(),
                locale: self.locale,
                sources: self.sources,
            }),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn error(text: &str) -> String {
        QuestionSet::parse("s", text).unwrap_err().to_string()
    }

    #[test]
    fn questions_are_read_with_their_lines() {
        let text = r#"# A comment.
name = "Handbook"

[[questions]]
question = " How long? "
sources = ["a.md", "/b#c"]
locale = "de"

[[questions]]
question = "Bicycles?"
answerable = false
"#;
        let set = QuestionSet::parse("file", text).unwrap();
        assert_eq!(set.name, "Handbook");
        assert_eq!(set.answerable(), 1);
        let question = |line, text: &str, locale: Option<&str>, sources: &[&str]| Question {
            line,
            text: text.into(),
            locale: locale.map(str::to_owned),
            sources: sources.iter().map(|&source| source.into()).collect(),
        };
        assert_eq!(
            set.questions,
            [
                question(4, "How long?", Some("de"), &["a.md", "/b#c"]),
                question(9, "Bicycles?", None, &[]),
            ]
        );
    }

    #[test]
    fn a_set_without_a_name_has_that_of_its_file() {
        let text = "[[questions]]\nquestion = \"q\"\nanswerable = false";
        assert_eq!(QuestionSet::parse("file", text).unwrap().name, "file");
    }

    #[test]
    fn what_is_not_toml_is_named_by_its_line() {
        let told = error("name = \"x\"\n\n[[questions]]\nquestion = \"q\nsources = []\n");
        assert!(told.starts_with("line 4: "), "{told}");
        let told = error("[[questions]]\nquestion = \"q\"\nsource = \"a.md\"\n");
        assert!(told.starts_with("line 3: "), "{told}");
        assert!(told.contains("source"), "{told}");
    }

    #[test]
    fn every_question_that_makes_no_sense_is_named() {
        let text = r#"[[questions]]
question = "a"
[[questions]]
question = "b"
sources = ["x"]
answerable = false
[[questions]]
question = " "
sources = ["x"]
[[questions]]
question = "c"
sources = [""]
[[questions]]
question = "d"
sources = ["x"]
[[questions]]
question = "D"
sources = ["x"]
[[questions]]
question = "e"
sources = []
answerable = true
"#;
        let Err(QuestionSetError::Questions(problems)) = QuestionSet::parse("s", text) else {
            panic!("they are accepted");
        };
        let lines: Vec<usize> = problems.iter().map(|problem| problem.line).collect();
        assert_eq!(lines, [1, 3, 7, 10, 16, 19]);
        assert!(problems[4].message.contains("line 13"), "{problems:?}");
    }

    #[test]
    fn an_empty_set_is_refused() {
        for text in ["", "name = \"x\""] {
            assert!(error(text).contains("1 to 10000 questions"), "{text}");
        }
    }
}
