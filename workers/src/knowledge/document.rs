//! A document: its title, url, kind and language, found in its front matter, its text or its path, or
//! said by the page that it comes from.

use pulldown_cmark::{Event, Options, Parser, Tag, TagEnd};
use store::knowledge::{DocumentKind, NewDocument, TextFormat};
use url::Url;

use super::{
    extract::{Extracted, Foreign},
    front_matter, language,
};

/// The longest title, in characters; longer ones are cut.
const TITLE_CHARS: usize = 200;

/// How a file is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Format {
    /// Text that is cut as it is.
    Text(TextFormat),
    /// Something that text has to be made of.
    Foreign(Foreign),
}

impl Format {
    /// By the ending of a file's name; `None` if it is not one that we read.
    pub fn of(name: &str) -> Option<Self> {
        let (_, ending) = name.rsplit_once('.')?;
        match ending.to_ascii_lowercase().as_str() {
            "md" | "markdown" => Some(Self::Text(TextFormat::Markdown)),
            "txt" => Some(Self::Text(TextFormat::Text)),
            "html" | "htm" | "xhtml" => Some(Self::Foreign(Foreign::Html)),
            "pdf" => Some(Self::Foreign(Foreign::Pdf)),
            _ => None,
        }
    }

    /// By a server's content type, without its parameters; `None` if it is not one that we read.
    pub fn of_content_type(content_type: &str) -> Option<Self> {
        match content_type.trim().to_ascii_lowercase().as_str() {
            "text/html" | "application/xhtml+xml" => Some(Self::Foreign(Foreign::Html)),
            "application/pdf" => Some(Self::Foreign(Foreign::Pdf)),
            "text/markdown" | "text/x-markdown" => Some(Self::Text(TextFormat::Markdown)),
            "text/plain" => Some(Self::Text(TextFormat::Text)),
            _ => None,
        }
    }
}

/// Makes a document of a text. `source` is its identity and `path` its path below the indexed root,
/// both with `/`, or its address; the path is the url unless the front matter has one.
pub fn describe(source: String, path: &str, format: TextFormat, content: String) -> NewDocument {
    let (front, body) = match format {
        TextFormat::Markdown => front_matter::split(&content),
        TextFormat::Text => (front_matter::FrontMatter::default(), content.as_str()),
    };
    let heading = || match format {
        TextFormat::Markdown => first_heading(body),
        TextFormat::Text => None,
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
        language: front
            .language
            .and_then(language::primary)
            .or_else(|| language::detect(body)),
        format,
        source,
        content,
    }
}

/// Makes a document of what was read from a page or a PDF.
pub fn describe_foreign(
    source: String,
    path: &str,
    foreign: Foreign,
    extracted: Extracted,
) -> NewDocument {
    let title = extracted.title.unwrap_or_else(|| name_of(path));
    NewDocument {
        title: title.chars().take(TITLE_CHARS).collect(),
        url: path.to_owned(),
        kind: extracted.kind.unwrap_or_else(|| kind_of(&source)),
        // A template often says another language than its text is in.
        language: language::detect(&extracted.text).or(extracted.language),
        format: match foreign {
            Foreign::Html => TextFormat::Markdown,
            Foreign::Pdf => TextFormat::Text,
        },
        source,
        content: extracted.text,
    }
}

/// The text without its front matter.
pub fn body(format: TextFormat, content: &str) -> &str {
    match format {
        TextFormat::Markdown => front_matter::split(content).1,
        TextFormat::Text => content,
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

/// `a/year-in_review.md` → `year in review`; of a site's first page its host.
fn name_of(path: &str) -> String {
    let below = match Url::parse(path) {
        Ok(url) if url.path() == "/" => return url.host_str().unwrap_or(path).to_owned(),
        Ok(url) => url.path().to_owned(),
        Err(_) => path.to_owned(),
    };
    let file = below
        .trim_end_matches('/')
        .rsplit('/')
        .next()
        .unwrap_or(path);
    let stem = file.rsplit_once('.').map_or(file, |(stem, _)| stem);
    stem.replace(['-', '_'], " ").trim().to_owned()
}

/// By the names of the folders and of the file, in the languages of our customers.
fn kind_of(source: &str) -> DocumentKind {
    let parts = || source.split('/').map(str::to_ascii_lowercase);
    let stem = |part: &str| {
        part.rsplit_once('.')
            .map_or(part, |(stem, _)| stem)
            .replace('_', "-")
    };
    for part in parts() {
        match stem(&part).as_str() {
            "case-studies" | "case-study" | "customer-stories" | "success-stories"
            | "fallstudie" | "fallstudien" | "referenzen" | "erfolgsgeschichten" => {
                return DocumentKind::CaseStudy;
            }
            "faq" | "faqs" | "haeufige-fragen" => return DocumentKind::Faq,
            "docs" | "doc" | "documentation" | "dokumentation" => return DocumentKind::Doc,
            _ => {}
        }
    }
    DocumentKind::Page
}

#[cfg(test)]
mod tests {
    use super::*;

    fn markdown(source: &str, content: &str) -> NewDocument {
        describe(source.into(), source, TextFormat::Markdown, content.into())
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
            TextFormat::Text,
            text.into(),
        );
        assert_eq!(document.title, "my notes");
        assert_eq!(body(TextFormat::Text, text), text);
    }

    #[test]
    fn a_files_ending_and_a_content_type_tell_the_format() {
        let markdown = Some(Format::Text(TextFormat::Markdown));
        let html = Some(Format::Foreign(Foreign::Html));
        assert_eq!(Format::of("a.MD"), markdown);
        assert_eq!(Format::of("a.b.markdown"), markdown);
        assert_eq!(Format::of("a.txt"), Some(Format::Text(TextFormat::Text)));
        assert_eq!(Format::of("a.HTM"), html);
        assert_eq!(Format::of("a.pdf"), Some(Format::Foreign(Foreign::Pdf)));
        assert_eq!(Format::of("a.docx"), None);
        assert_eq!(Format::of("md"), None);
        assert_eq!(Format::of_content_type("Text/HTML "), html);
        assert_eq!(Format::of_content_type("image/png"), None);
    }

    #[test]
    fn a_page_is_described_by_what_it_says() {
        let extracted = Extracted {
            text: "Wir begleiten Unternehmen von der ersten Idee bis zum laufenden Betrieb.".into(),
            title: Some("Referenz".into()),
            language: Some("en".into()),
            ..Extracted::default()
        };
        let address = "https://example.org/referenzen/hafen";
        let page = describe_foreign(address.into(), address, Foreign::Html, extracted.clone());
        assert_eq!(page.title, "Referenz");
        assert_eq!(page.url, address);
        assert_eq!(page.kind, DocumentKind::CaseStudy);
        assert_eq!(page.language.as_deref(), Some("de"));
        assert_eq!(page.format, TextFormat::Markdown);
        let untitled = Extracted {
            title: None,
            kind: Some(DocumentKind::Faq),
            text: "Ja.".into(),
            ..extracted
        };
        let page = describe_foreign(address.into(), address, Foreign::Html, untitled);
        assert_eq!(
            (page.title.as_str(), page.kind),
            ("hafen", DocumentKind::Faq)
        );
        assert_eq!(page.language.as_deref(), Some("en"));
    }

    #[test]
    fn a_page_without_a_title_is_named_by_its_address() {
        for (path, name) in [
            ("https://example.org/", "example.org"),
            ("https://example.org/about-us/?a=b", "about us"),
            ("https://example.org/files/price_list.pdf", "price list"),
        ] {
            assert_eq!(name_of(path), name);
        }
    }

    #[test]
    fn a_new_title_or_language_is_a_change() {
        let page = markdown("a.md", "# A\n");
        let renamed = NewDocument {
            title: "B".into(),
            ..page.clone()
        };
        let translated = NewDocument {
            language: Some("de".into()),
            ..page.clone()
        };
        assert_eq!(page.content_hash(), page.clone().content_hash());
        assert_ne!(page.content_hash(), renamed.content_hash());
        assert_ne!(page.content_hash(), translated.content_hash());
    }
}
