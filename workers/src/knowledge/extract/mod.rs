//! Turns HTML and PDF into text that can be cut into chunks.
//!
//! What is read here was written by anybody, and the libraries that read it are large: a file may take
//! hours, all memory, or the stack. So a document is read by a process of its own (`growth-chat
//! extract`, see [`Extractor::of_program`]) that has no secrets, a limit of time and one of memory, and
//! whose end is nothing but a document that is left out. A page costs a few milliseconds for it.

mod html;
mod pdf;
mod process;

use std::{
    io::{self, Read, Write},
    panic::catch_unwind,
    path::PathBuf,
    thread,
    time::Duration,
};

use serde::{Deserialize, Serialize};
use store::knowledge::DocumentKind;
use tokio::sync::oneshot;
use url::Url;

/// Changes with the rules by which a page becomes a document, so that every page is read again.
pub const VERSION: i16 = 1;
/// How long a document may take.
pub const TIME_LIMIT: Duration = Duration::from_secs(30);
/// The most text of a document, in bytes. Compressed, a small file can hold a large one.
const MAX_TEXT_BYTES: usize = 10 * 1024 * 1024;
/// The parsers recurse as deep as a document is nested.
const STACK_BYTES: usize = 32 * 1024 * 1024;

/// What is to be read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Foreign {
    /// A page: its main content becomes Markdown.
    Html,
    /// A PDF: its text layer becomes plain text.
    Pdf,
}

impl Foreign {
    /// Its name, as `growth-chat extract` is told it.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Html => "html",
            Self::Pdf => "pdf",
        }
    }
}

/// What is known of a document besides its bytes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Input {
    /// What it is.
    pub foreign: Foreign,
    /// The encoding that the server named.
    pub charset: Option<String>,
    /// The page's own address, for its relative links.
    pub base: Option<Url>,
}

/// What was read.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Extracted {
    /// Its text: Markdown from HTML, plain text from PDF.
    pub text: String,
    /// Its own title.
    pub title: Option<String>,
    /// The language that it says it is in, as a primary subtag.
    pub language: Option<String>,
    /// What it says it is (`<meta name="growth-chat:kind">`).
    pub kind: Option<DocumentKind>,
    /// The address that it says is its proper one.
    pub canonical: Option<String>,
    /// It asks not to be found.
    pub noindex: bool,
    /// The http(s) addresses that it leads to, without those that it asks not to follow.
    pub links: Vec<String>,
    /// Pages of a PDF that could not be read, and how many it has.
    pub unreadable_pages: Option<(u32, u32)>,
}

/// Why nothing was read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
pub enum ExtractError {
    /// It is not what its name or its content type says, or damaged.
    #[error("is damaged, or not what it says it is")]
    Malformed,
    /// It can't be read without a password.
    #[error("needs a password")]
    Encrypted,
    /// It has nothing that could be found, such as scanned pages.
    #[error("has no text in it")]
    NoText,
    /// Its text is larger than 10 MB.
    #[error("has more than 10 MB of text in it")]
    TooMuchText,
    /// It takes longer than 30 s.
    #[error("takes too long to read")]
    TooSlow,
    /// Reading it crashed, or took too much memory.
    #[error("can't be read: its reader crashed")]
    Crashed,
    /// The process that reads it could not be started or talked to.
    #[error("can't be read: the process that reads it could not be started")]
    NoProcess,
}

/// The text of something that is no foreign document, in the encoding that its server named or that it
/// looks like.
pub(super) fn decode(bytes: &[u8], charset: Option<&str>) -> String {
    html::decode(bytes, charset)
}

/// Reads documents, each apart from everything else.
#[derive(Debug, Clone, Default)]
pub struct Extractor {
    program: Option<PathBuf>,
}

impl Extractor {
    /// In threads of this process. One that never ends is left behind: for tests only, whose documents
    /// are their own.
    pub fn of_threads() -> Self {
        Self::default()
    }

    /// In processes of this program, whose `extract` command is [`serve`].
    pub fn of_program(program: PathBuf) -> Self {
        Self {
            program: Some(program),
        }
    }

    /// Reads a document.
    pub async fn extract(&self, input: Input, bytes: Vec<u8>) -> Result<Extracted, ExtractError> {
        match &self.program {
            Some(program) => process::extract(program, &input, &bytes).await,
            None => in_a_thread(input, bytes).await,
        }
    }
}

async fn in_a_thread(input: Input, bytes: Vec<u8>) -> Result<Extracted, ExtractError> {
    let (done, result) = oneshot::channel();
    thread::Builder::new()
        .stack_size(STACK_BYTES)
        .spawn(move || {
            // Nobody waits any more once it took too long.
            let _ = done.send(read(&input, &bytes));
        })
        .map_err(|_| ExtractError::NoProcess)?;
    match tokio::time::timeout(TIME_LIMIT, result).await {
        Ok(Ok(result)) => result,
        Ok(Err(_)) => Err(ExtractError::Crashed),
        Err(_) => Err(ExtractError::TooSlow),
    }
}

/// The process that [`Extractor::of_program`] starts: reads a document from `from` and writes what
/// became of it to `to`, as one line of JSON.
pub fn serve(input: Input, mut from: impl Read, mut to: impl Write) -> io::Result<()> {
    let mut bytes = Vec::new();
    from.read_to_end(&mut bytes)?;
    let reader = thread::Builder::new()
        .stack_size(STACK_BYTES)
        .spawn(move || read(&input, &bytes))?;
    let result = reader.join().unwrap_or(Err(ExtractError::Crashed));
    // A reader may have printed something of its own.
    writeln!(to, "\n{}", serde_json::to_string(&result)?)?;
    to.flush()
}

/// Reads a document, whatever its reader does.
fn read(input: &Input, bytes: &[u8]) -> Result<Extracted, ExtractError> {
    let result = catch_unwind(|| match input.foreign {
        Foreign::Html => html::extract(bytes, input.charset.as_deref(), input.base.as_ref()),
        Foreign::Pdf => pdf::extract(bytes),
    });
    let mut extracted = result.unwrap_or(Err(ExtractError::Crashed))?;
    extracted.text.retain(|sign| sign != '\0');
    if extracted.text.trim().is_empty() {
        // A page that is only a step to others is still one.
        if extracted.links.is_empty() {
            return Err(ExtractError::NoText);
        }
        extracted.text.clear();
    }
    if extracted.text.len() > MAX_TEXT_BYTES {
        return Err(ExtractError::TooMuchText);
    }
    Ok(extracted)
}

/// A text in one line, without control characters; `None` if nothing is left.
fn one_line(text: &str) -> Option<String> {
    let words = text
        .split(|sign: char| sign.is_whitespace() || sign.is_control())
        .filter(|word| !word.is_empty());
    let line = words.collect::<Vec<_>>().join(" ");
    (!line.is_empty()).then_some(line)
}

#[cfg(test)]
mod tests;
