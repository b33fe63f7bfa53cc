//! The text layer of a PDF.

use std::panic::{AssertUnwindSafe, catch_unwind};

use pdf_extract::{Document, PlainTextOutput, decode_text_string, output_doc_page};

use super::{ExtractError, Extracted, one_line};

/// Pages beyond these are passed over.
const MAX_PAGES: usize = 5_000;

/// Reads a PDF page by page, so that a page that can't be read does not take the others along.
pub(super) fn extract(bytes: &[u8]) -> Result<Extracted, ExtractError> {
    let mut document = Document::load_mem(bytes).map_err(|_| ExtractError::Malformed)?;
    if document.is_encrypted() {
        // Most protected files only forbid to change them and open without a password.
        document.decrypt("").map_err(|_| ExtractError::Encrypted)?;
    }
    let pages: Vec<u32> = document.get_pages().into_keys().take(MAX_PAGES).collect();
    let mut text = String::new();
    let mut unreadable = 0;
    for page in &pages {
        match page_text(&document, *page) {
            Some(written) => paragraphs(&written, &mut text),
            None => unreadable += 1,
        }
    }
    let pages = u32::try_from(pages.len()).unwrap_or(u32::MAX);
    if unreadable == pages {
        return Err(ExtractError::Malformed);
    }
    Ok(Extracted {
        text: text.trim().to_owned(),
        title: title(&document),
        unreadable_pages: (unreadable > 0).then_some((unreadable, pages)),
        ..Extracted::default()
    })
}

/// `None` if the page can't be read: the reader says so, or panics over a font that it does not expect.
fn page_text(document: &Document, page: u32) -> Option<String> {
    // It only reads the document, and what it has written is thrown away.
    let read = AssertUnwindSafe(|| {
        let mut text = String::new();
        let mut output = PlainTextOutput::new(&mut text);
        output_doc_page(document, &mut output, page).map(|()| text)
    });
    catch_unwind(read).ok()?.ok()
}

/// Adds the lines of a page as paragraphs. A word that was divided at a line's end becomes whole.
fn paragraphs(page: &str, text: &mut String) {
    text.truncate(text.trim_end().len());
    text.push_str("\n\n");
    for line in page.lines().map(str::trim) {
        if line.is_empty() {
            if !text.ends_with("\n\n") {
                text.push('\n');
            }
            continue;
        }
        let goes_on = line.chars().next().is_some_and(char::is_lowercase);
        if goes_on && let Some(word) = text.strip_suffix("-\n") {
            let is_divided = word.chars().next_back().is_some_and(char::is_alphabetic);
            if is_divided {
                text.truncate(text.len() - "-\n".len());
            }
        }
        text.push_str(line);
        text.push('\n');
    }
}

/// The title in the document's information, unless a word processor wrote it there by itself.
fn title(document: &Document) -> Option<String> {
    let info = document.trailer.get(b"Info").ok()?;
    let info = document.dereference(info).ok()?.1.as_dict().ok()?;
    let title = document.dereference(info.get(b"Title").ok()?).ok()?.1;
    let title = decode_text_string(title).ok()?;
    one_line(&title).filter(|title| !title.starts_with("Microsoft Word - "))
}

#[cfg(test)]
mod tests;
