//! The main content of a page as Markdown, and what the page says of itself.
//!
//! The page is parsed as browsers do. Its main content is what it marks as such (`<main>`, a single
//! `<article>`), else its body; navigation, forms, scripts and what is hidden are cut out of that.
//! Headings, lists, tables and code survive as Markdown. Links stay where they lead to http, https or
//! mailto; pictures go.

use encoding_rs::{Encoding, UTF_8, WINDOWS_1252};
use htmd::{
    HtmlToMarkdown, Node,
    options::{BrStyle, BulletListMarker, HrStyle, Options},
};
use markup5ever_rcdom::{Handle, NodeData};
use url::Url;

use super::{ExtractError, Extracted, one_line};
use crate::knowledge::language;

/// How much of a page is searched for the name of its encoding (the HTML standard's figure).
const PRESCAN_BYTES: usize = 1_024;
/// Elements nested deeper than this are passed over. Honest pages have a few dozen levels.
const MAX_DEPTH: usize = 256;
/// Links beyond these are passed over.
const MAX_LINKS: usize = 5_000;

/// Never part of a text.
const NO_TEXT: &[&str] = &[
    "audio", "button", "canvas", "datalist", "dialog", "embed", "iframe", "img", "input", "map",
    "math", "nav", "noscript", "object", "option", "picture", "script", "select", "style", "svg",
    "template", "textarea", "video",
];
/// Not part of it either where a page does not mark its main content.
const AROUND_IT: &[&str] = &["aside", "footer", "header"];
/// The same as roles.
const NO_TEXT_ROLES: &[&str] = &[
    "alertdialog",
    "dialog",
    "menu",
    "menubar",
    "navigation",
    "search",
];
const AROUND_IT_ROLES: &[&str] = &["banner", "complementary", "contentinfo"];

/// Reads a page.
pub(super) fn extract(
    bytes: &[u8],
    charset: Option<&str>,
    base: Option<&Url>,
) -> Result<Extracted, ExtractError> {
    let html = decode(bytes, charset);
    let converter = HtmlToMarkdown::builder()
        .options(Options {
            br_style: BrStyle::Backslash,
            bullet_list_marker: BulletListMarker::Dash,
            hr_style: HrStyle::Asterisks,
            ul_bullet_spacing: 1,
            ol_number_spacing: 1,
            ..Options::default()
        })
        .build();
    let document = converter
        .html_to_tree(&html)
        .map_err(|_| ExtractError::Malformed)?;
    let said = Said::by(&document, base);
    let main = main_content(&document);
    let heading = first_heading(&main.node);
    cut_out(&main, said.base.as_ref());
    let text = converter.tree_to_markdown(&main.node);
    Ok(Extracted {
        text: text.trim().to_owned(),
        title: heading.or(said.title),
        language: said.language.as_deref().and_then(language::primary),
        kind: said.kind.and_then(|kind| kind.trim().parse().ok()),
        canonical: said.canonical,
        noindex: said.noindex,
        links: said.links,
        unreadable_pages: None,
    })
}

/// By its byte order mark, else what the server said, else what the page says, else UTF-8 if it is,
/// else what the web's older pages are written in.
pub(super) fn decode(bytes: &[u8], charset: Option<&str>) -> String {
    let named = || {
        charset
            .and_then(|name| Encoding::for_label(name.as_bytes()))
            .or_else(|| prescan(bytes))
    };
    let encoding = match Encoding::for_bom(bytes) {
        Some((encoding, _)) => encoding,
        None => named().unwrap_or(if str::from_utf8(bytes).is_ok() {
            UTF_8
        } else {
            WINDOWS_1252
        }),
    };
    encoding.decode(bytes).0.into_owned()
}

/// The encoding that a page names in a `<meta>`. One that could not have been read so means UTF-8.
fn prescan(bytes: &[u8]) -> Option<&'static Encoding> {
    let head = &bytes[..bytes.len().min(PRESCAN_BYTES)];
    let head = head.to_ascii_lowercase();
    let head = String::from_utf8_lossy(&head);
    let (_, after) = head.split_once("charset=")?;
    let name = after
        .trim_start_matches(['"', '\'', ' '])
        .split(|sign: char| !(sign.is_ascii_alphanumeric() || matches!(sign, '-' | '_' | ':')))
        .next()?;
    Encoding::for_label(name.as_bytes()).map(Encoding::output_encoding)
}

/// What a page says of itself.
#[derive(Debug, Default)]
struct Said {
    title: Option<String>,
    language: Option<String>,
    kind: Option<String>,
    canonical: Option<String>,
    noindex: bool,
    nofollow: bool,
    base: Option<Url>,
    links: Vec<String>,
}

impl Said {
    fn by(document: &Handle, own: Option<&Url>) -> Self {
        let mut said = Self {
            base: own.cloned(),
            ..Self::default()
        };
        let mut links = Vec::new();
        let mut has_base = false;
        for node in descendants(document) {
            match tag(&node) {
                Some("html") => said.language = attribute(&node, "lang"),
                Some("base") if !has_base => {
                    let base = attribute(&node, "href").and_then(|href| match own {
                        Some(own) => own.join(&href).ok(),
                        None => Url::parse(&href).ok(),
                    });
                    has_base = base.is_some();
                    said.base = base.or(said.base);
                }
                Some("title") if said.title.is_none() => said.title = one_line(&text_of(&node)),
                Some("meta") => said.meta(&node),
                Some("link") if has_word(&node, "rel", "canonical") => {
                    said.canonical = said.canonical.or_else(|| attribute(&node, "href"));
                }
                Some("a" | "area") if !has_word(&node, "rel", "nofollow") => {
                    let href = attribute(&node, "href").filter(|href| !href.starts_with('#'));
                    links.extend(href.filter(|_| links.len() < MAX_LINKS));
                }
                _ => {}
            }
        }
        let base = said.base.clone();
        said.canonical = said
            .canonical
            .and_then(|href| web_address(&href, base.as_ref()));
        if !said.nofollow {
            said.links = links
                .iter()
                .filter_map(|href| web_address(href, base.as_ref()))
                .collect();
        }
        said
    }

    fn meta(&mut self, node: &Handle) {
        let name = attribute(node, "name")
            .unwrap_or_default()
            .to_ascii_lowercase();
        let Some(content) = attribute(node, "content") else {
            return;
        };
        match name.as_str() {
            "robots" | "growth-chat" => {
                let content = content.to_ascii_lowercase();
                let has = |wanted: &str| {
                    let mut words = content.split([',', ' ']).map(str::trim);
                    words.any(|word| word == wanted || word == "none")
                };
                self.noindex |= has("noindex");
                self.nofollow |= has("nofollow");
            }
            "growth-chat:kind" => self.kind = Some(content),
            _ => {}
        }
    }
}

/// An http(s) address without its fragment.
fn web_address(href: &str, base: Option<&Url>) -> Option<String> {
    let mut url = resolve(href, base)?;
    url.set_fragment(None);
    matches!(url.scheme(), "http" | "https").then(|| url.into())
}

fn resolve(href: &str, base: Option<&Url>) -> Option<Url> {
    match base {
        Some(base) => base.join(href.trim()).ok(),
        None => Url::parse(href.trim()).ok(),
    }
}

/// What a page is about.
struct Main {
    node: Handle,
    /// The page says so itself.
    is_marked: bool,
}

fn main_content(document: &Handle) -> Main {
    let mut marked = None;
    let mut articles = Vec::new();
    let mut body = None;
    for node in descendants(document) {
        match tag(&node) {
            Some("main") if marked.is_none() => marked = Some(node),
            Some("article") => articles.push(node),
            Some("body") if body.is_none() => body = Some(node),
            Some(_) if marked.is_none() && has_word(&node, "role", "main") => marked = Some(node),
            _ => {}
        }
    }
    let article = if articles.len() == 1 {
        articles.pop()
    } else {
        None
    };
    let has_text = |node: &Handle| !text_of(node).trim().is_empty();
    match marked.or(article).filter(has_text) {
        Some(node) => Main {
            node,
            is_marked: true,
        },
        None => Main {
            node: body.unwrap_or_else(|| document.clone()),
            is_marked: false,
        },
    }
}

fn first_heading(main: &Handle) -> Option<String> {
    let heading = descendants(main).find(|node| tag(node) == Some("h1"))?;
    one_line(&text_of(&heading))
}

/// Takes out of the main content what is no text, and makes its links ones that lead somewhere from
/// everywhere.
fn cut_out(main: &Main, base: Option<&Url>) {
    let mut open = vec![(main.node.clone(), 0_usize)];
    while let Some((node, depth)) = open.pop() {
        node.children
            .borrow_mut()
            .retain(|child| depth < MAX_DEPTH && is_kept(child, main.is_marked));
        for child in node.children.borrow().iter() {
            if tag(child) == Some("a") {
                mend_link(child, base);
            }
            open.push((child.clone(), depth + 1));
        }
    }
}

fn is_kept(node: &Handle, is_marked: bool) -> bool {
    let Some(tag) = tag(node) else {
        return matches!(node.data, NodeData::Text { .. });
    };
    let role = attribute(node, "role").unwrap_or_default();
    let is_around = AROUND_IT.contains(&tag) || AROUND_IT_ROLES.contains(&role.as_str());
    let is_hidden = attribute(node, "hidden").is_some()
        || attribute(node, "aria-hidden").is_some_and(|hidden| hidden == "true")
        || attribute(node, "style")
            .is_some_and(|style| style.replace(' ', "").contains("display:none"));
    !(NO_TEXT.contains(&tag)
        || NO_TEXT_ROLES.contains(&role.as_str())
        || is_hidden
        || (is_around && !is_marked)
        || is_anchor_sign(node, tag))
}

/// The sign behind a heading that is a link to it.
fn is_anchor_sign(node: &Handle, tag: &str) -> bool {
    tag == "a"
        && attribute(node, "href").is_some_and(|href| href.starts_with('#'))
        && text_of(node).trim().chars().count() <= 1
}

/// Without `href` only the words of a link stay.
fn mend_link(node: &Handle, base: Option<&Url>) {
    let NodeData::Element { attrs, .. } = &node.data else {
        return;
    };
    let mut attrs = attrs.borrow_mut();
    attrs.retain_mut(|attribute| {
        if &*attribute.name.local != "href" || attribute.value.starts_with('#') {
            return false;
        }
        match resolve(&attribute.value, base) {
            Some(url) if matches!(url.scheme(), "http" | "https" | "mailto") => {
                attribute.value = url.as_str().into();
                true
            }
            _ => false,
        }
    });
}

/// A node and everything below it, in the order of the document, without recursion.
fn descendants(node: &Handle) -> impl Iterator<Item = Handle> {
    let mut open = vec![node.clone()];
    std::iter::from_fn(move || {
        let node = open.pop()?;
        open.extend(node.children.borrow().iter().rev().cloned());
        Some(node)
    })
}

fn tag(node: &Node) -> Option<&str> {
    match &node.data {
        NodeData::Element { name, .. } => Some(&name.local),
        _ => None,
    }
}

fn attribute(node: &Node, name: &str) -> Option<String> {
    let NodeData::Element { attrs, .. } = &node.data else {
        return None;
    };
    let attrs = attrs.borrow();
    let found = attrs
        .iter()
        .find(|attribute| &*attribute.name.local == name)?;
    Some(found.value.to_string())
}

fn has_word(node: &Node, name: &str, word: &str) -> bool {
    attribute(node, name).is_some_and(|value| {
        value
            .split_ascii_whitespace()
            .any(|other| other.eq_ignore_ascii_case(word))
    })
}

fn text_of(node: &Handle) -> String {
    let mut text = String::new();
    for node in descendants(node) {
        if let NodeData::Text { contents } = &node.data {
            text.push_str(&contents.borrow());
        }
    }
    text
}

#[cfg(test)]
mod tests;
