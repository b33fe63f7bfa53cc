//! A document: its title, url and kind, found in its front matter, its text or its path.
//!
//! This is the seam for other formats: whatever becomes Markdown or plain text with a title can be
//! staged and indexed.

use pulldown_cmark::{Event, Options, Parser, Tag, TagEnd};
use store::knowledge::{DocumentKind, NewDocument};

use super::front_matter;

/// The longest title, in characters; longer ones are cut.
const TITLE_CHARS: usize = 200;

/// How a text is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Format {
    /// Markdown, perhaps with front matter.
    Markdown,
    /// Plain text.
    Text,
}

impl Format {
    /// By the ending of a file's name or a document's source; `None` if it is not one that we read.
    pub fn of(name: &str) -> Option<Self> {
        let (_, ending) = name.rsplit_once('.')?;
        match ending.to_ascii_lowercase().as_str() {
            "md" | "markdown" => Some(Self::Markdown),
            "txt" => Some(Self::Text),
            _ => None,
        }
    }
}

/// Makes a document of a text. `source` is its identity and `path` its path below the indexed root,
/// both with `/`; the path is the url unless the front matter has one.
pub fn describe(source: String, path: &str, format: Format, content: String) -> NewDocument {
    let (front, body) = match format {
        Format::Markdown => front_matter::split(&content),
        Format::Text => (front_matter::FrontMatter::default(), content.as_str()),
    };
    let heading = || match format {
        Format::Markdown => first_heading(body),
        Format::Text => None,
    };
    let title = front
        .title
        .map(str::to_owned)
        .or_else(heading)
        .unwrap_or_else(|| name_of(path));
    NewDocument {
        title: title.chars().take(TITLE_CHARS).collect(),
        url: front.url.unwrap_or(path).to_owned(),
        kind: front
            .kind
            .and_then(|kind| kind.parse().ok())
            .unwrap_or_else(|| kind_of(&source)),
        source,
        content,
    }
}

/// The text without its front matter.
pub fn body(format: Format, content: &str) -> &str {
    match format {
        Format::Markdown => front_matter::split(content).1,
        Format::Text => content,
    }
}

/// What is read as Markdown beyond its core.
pub(super) fn markdown_options() -> Options {
    Options::ENABLE_TABLES | Options::ENABLE_STRIKETHROUGH
}

fn first_heading(body: &str) -> Option<String> {
    let mut text = String::new();
    let events = Parser::new_ext(body, markdown_options())
        .skip_while(|event| !matches!(event, Event::Start(Tag::Heading { .. })));
    for event in events {
        match event {
            Event::Text(part) | Event::Code(part) => text.push_str(&part),
            Event::SoftBreak | Event::HardBreak => text.push(' '),
            Event::End(TagEnd::Heading(_)) if text.trim().is_empty() => text.clear(),
            Event::End(TagEnd::Heading(_)) => return Some(text.trim().to_owned()),
            _ => {}
        }
    }
    None
}

/// `a/year-in_review.md` → `year in review`.
fn name_of(path: &str) -> String {
    let file = path.rsplit('/').next().unwrap_or(path);
    let stem = file.rsplit_once('.').map_or(file, |(stem, _)| stem);
    stem.replace(['-', '_'], " ").trim().to_owned()
}

/// By the names of the folders and of the file.
fn kind_of(source: &str) -> DocumentKind {
    let parts = || source.split('/').map(str::to_ascii_lowercase);
    let stem = |part: &str| {
        part.rsplit_once('.')
            .map_or(part, |(stem, _)| stem)
            .to_owned()
    };
    for part in parts() {
        match stem(&part).as_str() {
            "case-studies" | "case-study" | "case_studies" => return DocumentKind::CaseStudy,
            "faq" | "faqs" => return DocumentKind::Faq,
            "docs" | "doc" => return DocumentKind::Doc,
            _ => {}
        }
    }
    DocumentKind::Page
}

#[cfg(test)]
mod tests {
    use super::*;

    fn markdown(source: &str, content: &str) -> NewDocument {
        describe(source.into(), source, Format::Markdown, content.into())
    }

    #[test]
    fn the_title_is_the_front_matters_else_the_first_headings_else_the_files() {
        let titled = |content| markdown("site/about-us.md", content).title;
        assert_eq!(titled("---\ntitle: Front\n---\n# Heading\n"), "Front");
        assert_eq!(
            titled("Text\n\n## The *first* `code`\n\n# Later\n"),
            "The first code"
        );
        assert_eq!(titled("#\n\n# Second\n"), "Second");
        assert_eq!(titled("```\n# not a heading\n```\n"), "about us");
    }

    #[test]
    fn the_url_is_the_front_matters_else_the_path() {
        assert_eq!(
            markdown("a.md", "---\nurl: https://example.org/a\n---\n").url,
            "https://example.org/a"
        );
        assert_eq!(markdown("a.md", "text").url, "a.md");
    }

    #[test]
    fn the_kind_is_the_front_matters_else_the_paths() {
        let kind = |source, content| markdown(source, content).kind;
        assert_eq!(kind("k/case-studies/x.md", ""), DocumentKind::CaseStudy);
        assert_eq!(
            kind("k/case-studies/x.md", "---\nkind: page\n---\n"),
            DocumentKind::Page
        );
        assert_eq!(
            kind("k/x.md", "---\nkind: novel\n---\n"),
            DocumentKind::Page
        );
        assert_eq!(kind("k/faq.md", ""), DocumentKind::Faq);
        assert_eq!(kind("k/FAQ/prices.md", ""), DocumentKind::Faq);
        assert_eq!(kind("docs/x.md", ""), DocumentKind::Doc);
        assert_eq!(kind("k/faqtory.md", ""), DocumentKind::Page);
    }

    #[test]
    fn plain_text_has_no_front_matter_and_no_headings() {
        let text = "---\ntitle: x\n---\n# y\n";
        let document = describe(
            "n/my_notes.txt".into(),
            "my_notes.txt",
            Format::Text,
            text.into(),
        );
        assert_eq!(document.title, "my notes");
        assert_eq!(body(Format::Text, text), text);
    }

    #[test]
    fn only_markdown_and_text_are_read() {
        assert_eq!(Format::of("a.MD"), Some(Format::Markdown));
        assert_eq!(Format::of("a.b.markdown"), Some(Format::Markdown));
        assert_eq!(Format::of("a.txt"), Some(Format::Text));
        assert_eq!(Format::of("a.pdf"), None);
        assert_eq!(Format::of("md"), None);
    }
}
