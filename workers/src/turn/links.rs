//! Which links of an answer reach a visitor. A model repeats what it read, so an address in its answer
//! may be anybody's: only those stay that the company's knowledge or its configuration names
//! ([`Allowed`]). Of others the words stay and the target goes, in its place stands `…` where nothing
//! else would.
//!
//! ```text
//! delta ─▶ Unescape ─▶ held ─▶ step ─▶ out
//!                       ▲        │
//!                       └────────┘ the words of a link that went are looked at again
//! ```
//! The filter works on the text while it comes, and its output does not depend on how the text was cut
//! into deltas. It can't know what will render the answer, so it holds on to what is true for every
//! renderer of Markdown:
//! - Behind a `]` that was let through, a target in parentheses is always looked at, whatever stood
//!   before the `]`; and so is the target of a definition (`[id]: target`), so that references
//!   (`[text][id]`) lead nowhere else.
//! - `://` and `www.` begin an address, and `@` behind a word one for mail, in code too: what is code
//!   for one renderer is a link for another.
//! - `![` never passes, and `<` only where no tag can begin: elsewhere it becomes `&lt;`.
//!
//! What may become a link is held back until it is one or not, 2 kB at most; other text passes at once.

mod allowed;
mod scan;
mod signs;
mod tail;
mod unescape;

pub use self::allowed::Allowed;
use self::{
    scan::{Bracket, Target, bracket, definition, target},
    signs::{
        ends_address, hides_another, is_address_sign, is_end_punctuation, is_harmless_end, plain,
    },
    tail::Tail,
    unescape::Unescape,
};

/// The longest address, in bytes. A longer one goes, and a longer target is text.
const LONGEST_ADDRESS: usize = 2_048;
/// The longest domain of a mail address, in bytes (RFC 5321).
const LONGEST_DOMAIN: usize = 255;
/// What stands for an address that went and had no words.
const GONE: &str = "…";
/// The sign that the text uses for a tag's beginning.
const ESCAPED: &str = "&lt;";

/// The filter of one answer. All that is put together to one text has to pass the same filter. It has
/// no `Debug`, because it holds text.
pub struct LinkFilter {
    allowed: Allowed,
    unescape: Unescape,
    /// What is not decided yet.
    held: String,
    tail: Tail,
    /// Whether an endless address is being thrown away.
    swallowing: bool,
}

/// What to do with the beginning of the text that is held.
#[derive(Debug, PartialEq, Eq)]
enum Step {
    /// It depends on what comes.
    Wait,
    /// Let so many bytes pass.
    Pass(usize),
    /// Put this in the place of so many bytes.
    Replace(usize, String),
    /// A link of so many bytes went: look at its words.
    Words { end: usize, words: String },
    /// An address of at least so many bytes goes, with all that belongs to it.
    Swallow(usize),
}

impl LinkFilter {
    /// A filter that lets the links through that are `allowed`.
    pub fn new(allowed: &Allowed) -> Self {
        Self {
            allowed: allowed.clone(),
            unescape: Unescape::default(),
            held: String::new(),
            tail: Tail::default(),
            swallowing: false,
        }
    }

    /// From now on, links to what another passage names are let through as well.
    pub fn allow_passage(&mut self, url: &str, text: &str) {
        self.allowed.allow_passage(url, text);
    }

    /// Takes more of the text; gives what can be shown of it.
    pub fn push(&mut self, delta: &str) -> String {
        self.unescape.push(delta, &mut self.held);
        self.drain(false)
    }

    /// The text has come to its end, or to the end of a block: gives what is left of it. What follows
    /// in the same text is to be pushed into the same filter.
    pub fn finish(&mut self) -> String {
        self.unescape.finish(&mut self.held);
        let rest = self.drain(true);
        self.swallowing = false;
        rest
    }

    fn drain(&mut self, at_end: bool) -> String {
        let mut held = std::mem::take(&mut self.held);
        let mut out = String::with_capacity(held.len());
        let mut at = 0;
        while at < held.len() {
            let rest = &held[at..];
            if self.swallowing {
                let end = rest.find(ends_address);
                self.swallowing = end.is_none();
                at += end.unwrap_or(rest.len());
                continue;
            }
            match self.step(rest, at_end) {
                Step::Wait => break,
                Step::Pass(length) => {
                    let passed = &rest[..length];
                    self.tail.add(passed);
                    out.push_str(passed);
                    at += length;
                }
                Step::Replace(length, text) => {
                    self.tail.add(&text);
                    out.push_str(&text);
                    at += length;
                }
                Step::Words { end, words } => {
                    // What was parted by the link's brackets must not become one word.
                    if !self.tail.at_boundary() {
                        self.tail.add(" ");
                        out.push(' ');
                    }
                    let is_blank = words.trim().is_empty();
                    held.replace_range(at..at + end, if is_blank { GONE } else { &words });
                }
                Step::Swallow(length) => {
                    self.tail.add(GONE);
                    out.push_str(GONE);
                    self.swallowing = true;
                    at += length;
                }
            }
        }
        self.held = held.split_off(at);
        out
    }

    /// Decides on the beginning of `text`, which is not empty. What it decides is the same whatever
    /// follows behind what it looked at.
    fn step(&self, text: &str, at_end: bool) -> Step {
        let step = match text.as_bytes()[0] {
            b'[' => self.at_bracket(text),
            b'!' => at_exclamation(text),
            b'<' => self.at_angle(text, at_end),
            b'(' if self.tail.ends_with("]") => self.at_target(text, at_end),
            b':' => self.at_colon(text, at_end),
            b'.' if self.tail.ends_with_www() => {
                self.address(text, &["https://www", "http://www"], at_end)
            }
            b'@' => self.at_sign(text, at_end),
            b'\\' => at_backslash(text),
            _ => Step::Pass(plain(text)),
        };
        if at_end && step == Step::Wait {
            // Nothing comes that could make it a link.
            return match text.as_bytes()[0] {
                b'!' if text.len() > 1 => Step::Replace(1, "! ".to_owned()),
                _ => Step::Pass(1),
            };
        }
        step
    }

    /// A link that goes is taken as a whole, so that its brackets go as well. Everything else passes:
    /// its target is looked at when it is its turn.
    fn at_bracket(&self, text: &str) -> Step {
        // `![` is an image, and `[[` a link for some.
        if self.tail.ends_with("!") || self.tail.ends_with("[") {
            return Step::Replace(1, " [".to_owned());
        }
        match bracket(text) {
            Bracket::Wait => Step::Wait,
            Bracket::Closed { end } if text[end..].is_empty() => Step::Wait,
            Bracket::Closed { end } if text[end..].starts_with('(') => {
                match target(&text[end..], false) {
                    Target::Wait => Step::Wait,
                    Target::Found {
                        end: length,
                        target,
                    } if !self.allowed.target(&target) => Step::Words {
                        end: end + length,
                        words: text[1..end - 1].to_owned(),
                    },
                    Target::Found { .. } | Target::Not => Step::Pass(1),
                }
            }
            Bracket::Closed { .. } | Bracket::Open => Step::Pass(1),
        }
    }

    /// `(` behind `]`. A target that is not one is kept apart from the bracket, so that no renderer
    /// takes it for one.
    fn at_target(&self, text: &str, at_end: bool) -> Step {
        match target(text, at_end) {
            Target::Wait => Step::Wait,
            Target::Found { end, target } if self.allowed.target(&target) => {
                Step::Replace(end, format!("({target})"))
            }
            Target::Found { end, .. } => Step::Replace(end, String::new()),
            Target::Not => Step::Replace(1, " (".to_owned()),
        }
    }

    /// `<https://…>` and `<name@…>` are links; all else that looks like a tag is none.
    fn at_angle(&self, text: &str, at_end: bool) -> Step {
        // What stands for the sign must not go on with the address before it.
        let apart = if self.tail.ends_in_address() { " " } else { "" };
        let escaped = || Step::Replace(1, format!("{apart}{ESCAPED}"));
        let Some(next) = text.chars().nth(1) else {
            return if at_end { escaped() } else { Step::Wait };
        };
        if next.is_ascii_whitespace() {
            return Step::Pass(1);
        }
        let inner = &text[1..];
        if next.is_ascii_digit() || matches!(next, '=' | '-') {
            // No tag begins so, but an address for mail may.
            return match inner.find(ends_address) {
                Some(end) if end < LONGEST_ADDRESS && !inner[..end].contains('@') => Step::Pass(1),
                None if at_end && !inner.contains('@') => Step::Pass(1),
                None if inner.len() < LONGEST_ADDRESS && !at_end => Step::Wait,
                _ => escaped(),
            };
        }
        match inner.find(|sign: char| ends_address(sign) || sign == '>') {
            Some(end) if end < LONGEST_ADDRESS && inner[end..].starts_with('>') => {
                let inner = &inner[..end];
                if self.allowed.absolute(inner) {
                    Step::Pass(end + 2)
                } else if inner.contains([':', '@']) {
                    Step::Replace(end + 2, GONE.to_owned())
                } else {
                    escaped()
                }
            }
            None if inner.len() < LONGEST_ADDRESS && !at_end => Step::Wait,
            _ => escaped(),
        }
    }

    /// `:` behind `]` may begin a definition's target; before `//` it is in an address.
    fn at_colon(&self, text: &str, at_end: bool) -> Step {
        if self.tail.ends_with("]") && self.tail.definition_possible() {
            return match definition(text, at_end) {
                Target::Wait => Step::Wait,
                Target::Found { end, target } if self.allowed.target(&target) => Step::Pass(end),
                Target::Found { .. } | Target::Not => Step::Replace(1, " :".to_owned()),
            };
        }
        let begins = "://";
        if text.starts_with(begins) {
            let scheme = self.tail.scheme().to_ascii_lowercase();
            self.address(text, &[&scheme], at_end)
        } else if begins.starts_with(text) {
            Step::Wait
        } else {
            Step::Pass(1)
        }
    }

    /// An address without brackets. One of `before` stands in front of it, let through already.
    fn address(&self, text: &str, before: &[&str], at_end: bool) -> Step {
        let run = match text.find(ends_address) {
            Some(end) if end <= LONGEST_ADDRESS => &text[..end],
            None if text.len() <= LONGEST_ADDRESS && !at_end => return Step::Wait,
            None if text.len() <= LONGEST_ADDRESS => text,
            _ => return Step::Swallow(text.floor_char_boundary(LONGEST_ADDRESS)),
        };
        let bare = run.trim_start_matches([':', '/', '.']);
        if bare.is_empty() {
            // The beginning of an address leads nowhere.
            return Step::Pass(run.len());
        }
        if self.begins_allowed(before, run) {
            return Step::Pass(run.len());
        }
        let has_path = |part: &str| part.trim_start_matches([':', '/']).contains('/');
        let known = run.find(|sign| !is_address_sign(sign));
        if let Some(end) = known.filter(|end| self.begins_allowed(before, &run[..*end])) {
            let (address, rest) = run.split_at(end);
            // `https://good.example|@evil.example` and `https://good.example".evil.example` lead to
            // the latter; no host has a `]`.
            let harmless =
                rest.starts_with(']') || (has_path(address) && rest.starts_with(is_harmless_end));
            return if harmless && !rest.contains('@') {
                Step::Pass(end)
            } else {
                Step::Replace(end, format!("{address} "))
            };
        }
        let gone = known.map_or(run, |end| &run[..end]);
        let gone = if has_path(gone) { gone } else { run };
        let least = run.len() - bare.len();
        let length = gone.trim_end_matches(is_end_punctuation).len().max(least);
        Step::Replace(length, GONE.to_owned())
    }

    /// Whether `run` is the rest of an address that is allowed, with or without the punctuation that
    /// ends it.
    fn begins_allowed(&self, before: &[&str], run: &str) -> bool {
        if hides_another(run) {
            return false;
        }
        let mut candidate = run;
        // What ends an address is a few signs; more are not worth the search.
        for _ in 0..8 {
            let allowed = |before: &&str| self.allowed.web(&format!("{before}{candidate}"));
            if before.iter().any(allowed) {
                return true;
            }
            let Some(shorter) = candidate.strip_suffix(is_end_punctuation) else {
                return false;
            };
            candidate = shorter;
        }
        false
    }

    /// `@` behind a word and before a domain is in an address for mail.
    fn at_sign(&self, text: &str, at_end: bool) -> Step {
        let local = self.tail.local_part();
        if self.tail.ends_with(">") {
            // `<https://good.example>@evil.example`, for a renderer that knows no angles.
            return Step::Replace(1, " @".to_owned());
        }
        if local.is_empty() {
            return Step::Pass(1);
        }
        let domain = &text[1..];
        let is_domain = |sign: char| sign.is_alphanumeric() || matches!(sign, '-' | '.' | '_');
        let domain = match domain.find(|sign| !is_domain(sign)) {
            Some(end) if end <= LONGEST_DOMAIN => &domain[..end],
            None if domain.len() <= LONGEST_DOMAIN && !at_end => return Step::Wait,
            None if domain.len() <= LONGEST_DOMAIN => domain,
            _ => return Step::Swallow(1 + domain.floor_char_boundary(LONGEST_DOMAIN)),
        };
        // `name@good.example\-evil.example` is another domain once the escape has been read.
        let goes_on = text[1 + domain.len()..].starts_with('\\');
        let domain = domain.trim_end_matches(['.', '-', '_']);
        let is_allowed = || self.allowed.mail(&format!("{local}@{domain}"));
        if !goes_on && (!domain.contains('.') || is_allowed()) {
            Step::Pass(1 + domain.len())
        } else {
            Step::Replace(1 + domain.len(), GONE.to_owned())
        }
    }
}

/// An image becomes its alternative text; one that is not whole loses its mark.
fn at_exclamation(text: &str) -> Step {
    let link = match text.as_bytes().get(1) {
        None => return Step::Wait,
        Some(b'[') => &text[1..],
        Some(_) => return Step::Pass(1),
    };
    let apart = || Step::Replace(1, "! ".to_owned());
    match bracket(link) {
        Bracket::Wait => Step::Wait,
        Bracket::Closed { end } if link[end..].is_empty() => Step::Wait,
        Bracket::Closed { end } if link[end..].starts_with('(') => {
            match target(&link[end..], false) {
                Target::Wait => Step::Wait,
                Target::Found { end: length, .. } => Step::Words {
                    end: 1 + end + length,
                    words: link[1..end - 1].to_owned(),
                },
                Target::Not => apart(),
            }
        }
        Bracket::Closed { .. } | Bracket::Open => apart(),
    }
}

/// An escaped sign is text. A tag is none for renderers that know no escapes either.
fn at_backslash(text: &str) -> Step {
    match text.as_bytes().get(1) {
        None => Step::Wait,
        Some(b'<') => Step::Replace(2, ESCAPED.to_owned()),
        Some(escaped) if escaped.is_ascii_punctuation() => Step::Pass(2),
        Some(_) => Step::Pass(1),
    }
}

#[cfg(test)]
mod tests;
