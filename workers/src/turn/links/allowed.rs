//! Where links of an answer may lead.

use std::collections::HashSet;

use pulldown_cmark::{Event, Parser, Tag};
use store::handoffs::is_email;
use url::Url;

use crate::config::LinkHosts;

/// Where links of an answer may lead: to what the passages that it was given name, by their addresses
/// and in their text, and to the hosts of the configuration. It has no `Debug`, because it may hold a
/// visitor's mail address.
#[derive(Clone, Default)]
pub struct Allowed {
    hosts: LinkHosts,
    /// Addresses on the web, without fragments.
    addresses: HashSet<String>,
    /// Relative addresses, without fragments.
    paths: HashSet<String>,
    /// Mail addresses in lower case.
    mails: HashSet<String>,
}

impl Allowed {
    /// The hosts of the configuration, and nothing else yet.
    pub fn new(hosts: LinkHosts) -> Self {
        Self {
            hosts,
            ..Self::default()
        }
    }

    /// Allows a passage's address, and what its text links to.
    pub fn allow_passage(&mut self, url: &str, text: &str) {
        self.allow(url, None);
        let base = Url::parse(url).ok();
        for event in Parser::new(text) {
            if let Event::Start(Tag::Link { dest_url, .. }) = event {
                self.allow(&dest_url, base.as_ref());
            }
        }
        for word in words(text) {
            if word.contains("://") {
                self.allow(word, None);
            }
        }
        self.allow_mail(text);
    }

    /// Allows the mail addresses that the visitor wrote: an answer may repeat them to be sure. Other
    /// addresses of the visitor are not.
    pub fn allow_mail(&mut self, text: &str) {
        let mails = words(text)
            .map(|word| strip_mailto(word).unwrap_or(word))
            .filter(|word| is_email(word))
            .map(str::to_lowercase);
        self.mails.extend(mails);
    }

    fn allow(&mut self, address: &str, base: Option<&Url>) {
        if let Some(mail) = strip_mailto(address) {
            self.allow_mail(mail);
        } else if let Ok(url) = Url::parse(address) {
            self.allow_url(&url);
        } else if is_relative(address) {
            self.paths.insert(path(address).to_owned());
            if let Some(Ok(url)) = base.map(|base| base.join(address)) {
                self.allow_url(&url);
            }
        }
    }

    fn allow_url(&mut self, url: &Url) {
        if matches!(url.scheme(), "http" | "https") {
            self.addresses.insert(key(url));
        }
    }

    /// Whether a link may lead there.
    pub(super) fn target(&self, target: &str) -> bool {
        self.absolute(target)
            || (is_written_plainly(target)
                && is_relative(target)
                && self.paths.contains(path(target)))
    }

    /// Whether it is an address of the web or of a mailbox that a link may lead to.
    pub(super) fn absolute(&self, target: &str) -> bool {
        self.web(target) || self.mail(strip_mailto(target).unwrap_or(target))
    }

    /// Whether it is an address of the web that a link may lead to.
    pub(super) fn web(&self, address: &str) -> bool {
        // `https:good.example` is one for a browser, but for no reader.
        let begins = |with: &str| {
            let start = address.get(..with.len());
            start.is_some_and(|start| start.eq_ignore_ascii_case(with))
        };
        if !(begins("https://") || begins("http://")) || !is_written_plainly(address) {
            return false;
        }
        let Ok(url) = Url::parse(&address.replace("&amp;", "&")) else {
            return false;
        };
        // `https://good.example@evil.example` shows one name and leads to another.
        url.username().is_empty()
            && url.password().is_none()
            && (self.hosts.contain(&url) || self.addresses.contains(&key(&url)))
    }

    /// Whether it is a mailbox that a link may lead to. What a link adds to it (copies, a text) is not
    /// let through.
    pub(super) fn mail(&self, address: &str) -> bool {
        self.mails.contains(&address.to_lowercase())
    }
}

fn strip_mailto(address: &str) -> Option<&str> {
    let (scheme, mailbox) = address.split_once(':')?;
    scheme.eq_ignore_ascii_case("mailto").then_some(mailbox)
}

fn key(url: &Url) -> String {
    let mut url = url.clone();
    url.set_fragment(None);
    url.as_str().trim_end_matches('/').to_owned()
}

/// Whether a browser looks for it on the site of the page, whatever it resolves it against.
fn is_relative(address: &str) -> bool {
    let first = address.split(['/', '?', '#']).next().unwrap_or_default();
    !path(address).is_empty() && !address.starts_with("//") && !first.contains(':')
}

fn path(address: &str) -> &str {
    let path = address.split('#').next().unwrap_or_default();
    path.trim_start_matches("./").trim_start_matches('/')
}

/// Whether every reader of it sees the same address: nothing in it is an escape, an entity, invisible,
/// or ends a link.
fn is_written_plainly(address: &str) -> bool {
    let plain = |sign: char| {
        if sign.is_ascii() {
            sign.is_ascii_graphic() && !r#"\<>"`{}|^[]"#.contains(sign)
        } else {
            sign.is_alphanumeric()
        }
    };
    let mut open = 0_i32;
    for sign in address.chars() {
        open += match sign {
            '(' => 1,
            ')' => -1,
            _ => 0,
        };
        if open < 0 || !plain(sign) {
            return false;
        }
    }
    open == 0 && !has_entity(address)
}

fn has_entity(address: &str) -> bool {
    address.split('&').skip(1).any(|after| {
        let name = after.split_once(';').map(|(name, _)| name);
        name.is_some_and(|name| {
            let is_name = |sign: char| sign.is_ascii_alphanumeric() || sign == '#';
            name != "amp" && !name.is_empty() && name.chars().all(is_name)
        })
    })
}

/// The words of a text, without the brackets, quotation marks and full stops around them.
fn words(text: &str) -> impl Iterator<Item = &str> {
    text.split(|sign: char| sign.is_whitespace() || r#"[]<>"`|"#.contains(sign))
        .map(|word| word.trim_start_matches(['(', '\'', '*', '_']))
        .map(|mut word| {
            // A bracket that was opened inside belongs to the word.
            let closes_more = |word: &str| word.matches(')').count() > word.matches('(').count();
            loop {
                word = word.trim_end_matches(['.', ',', ';', ':', '!', '?', '\'', '*', '_']);
                match word.strip_suffix(')').filter(|_| closes_more(word)) {
                    Some(shorter) => word = shorter,
                    None => break word,
                }
            }
        })
        .filter(|word| !word.is_empty())
}
