//! Reads the parts of a link. Every scan stops at the first sign that decides, so that what it finds
//! does not depend on how much of the text has come.

use super::LONGEST_ADDRESS;

/// The longest words of a link that are taken together with it, in bytes.
const LONGEST_WORDS: usize = 512;

/// What a `[` is the beginning of.
pub(super) enum Bracket {
    /// It depends on what comes.
    Wait,
    /// Its partner ends here.
    Closed {
        /// The length with both brackets.
        end: usize,
    },
    /// No partner in reach.
    Open,
}

/// Looks for the partner of the bracket that `text` begins with, in its line.
pub(super) fn bracket(text: &str) -> Bracket {
    let mut depth = 0_usize;
    let mut escaped = false;
    for (at, sign) in text.bytes().enumerate() {
        if at > LONGEST_WORDS {
            return Bracket::Open;
        }
        match sign {
            b'\n' | b'\r' => return Bracket::Open,
            _ if escaped => escaped = false,
            b'\\' => escaped = true,
            b'[' => depth += 1,
            b']' => {
                depth -= 1;
                if depth == 0 {
                    return Bracket::Closed { end: at + 1 };
                }
            }
            _ => {}
        }
    }
    Bracket::Wait
}

/// What stands where a link's target may stand.
pub(super) enum Target {
    /// It depends on what comes.
    Wait,
    /// A target.
    Found {
        /// The length of all that belongs to it.
        end: usize,
        /// The target itself, as it is written.
        target: String,
    },
    /// Something else.
    Not,
}

/// Reads `(target "title")`.
pub(super) fn target(text: &str, at_end: bool) -> Target {
    let mut depth = 0_usize;
    let mut quote = None;
    let mut escaped = false;
    let mut angle = false;
    let mut before = b'(';
    for (at, sign) in text.bytes().enumerate() {
        if at > LONGEST_ADDRESS {
            return Target::Not;
        }
        let ends_line = sign == b'\n' && before == b'\n';
        match sign {
            _ if ends_line => return Target::Not,
            _ if escaped => escaped = false,
            b'\\' => escaped = true,
            _ if quote == Some(sign) => quote = None,
            _ if quote.is_some() => {}
            b'>' if angle => angle = false,
            _ if angle => {}
            b'<' if depth == 1 && text[1..at].trim().is_empty() => angle = true,
            b'"' | b'\'' if before.is_ascii_whitespace() => quote = Some(sign),
            b'(' => depth += 1,
            b')' => {
                depth -= 1;
                if depth == 0 {
                    return split(&text[1..at], at + 1);
                }
            }
            _ => {}
        }
        if !matches!(sign, b' ' | b'\t' | b'\r') || !before.is_ascii_whitespace() {
            before = sign;
        }
    }
    if at_end { Target::Not } else { Target::Wait }
}

/// Parts a target from its title.
fn split(inner: &str, end: usize) -> Target {
    let inner = inner.trim_matches(|sign: char| sign.is_ascii_whitespace());
    let (target, title) = match inner
        .strip_prefix('<')
        .and_then(|inner| inner.split_once('>'))
    {
        Some((target, title)) => (target, title),
        None => inner
            .split_once(|sign: char| sign.is_ascii_whitespace())
            .unwrap_or((inner, "")),
    };
    let title = title.trim_start_matches(|sign: char| sign.is_ascii_whitespace());
    if title.is_empty() || title.starts_with(['"', '\'', '(']) {
        Target::Found {
            end,
            target: target.to_owned(),
        }
    } else {
        Target::Not
    }
}

/// Reads `: target` of a definition. What may follow is text.
pub(super) fn definition(text: &str, at_end: bool) -> Target {
    let rest = &text[1..];
    let is_space = |sign: char| sign.is_ascii_whitespace();
    let Some(begin) = rest.find(|sign| !is_space(sign)) else {
        return if at_end || rest.len() > LONGEST_ADDRESS {
            Target::Not
        } else {
            Target::Wait
        };
    };
    if begin > LONGEST_ADDRESS {
        return Target::Not;
    }
    let target = &rest[begin..];
    let target = match target.find(is_space) {
        Some(end) if end <= LONGEST_ADDRESS => &target[..end],
        None if target.len() <= LONGEST_ADDRESS && !at_end => return Target::Wait,
        None if target.len() <= LONGEST_ADDRESS => target,
        _ => return Target::Not,
    };
    Target::Found {
        end: 1 + begin + target.len(),
        target: target
            .strip_prefix('<')
            .and_then(|target| target.strip_suffix('>'))
            .unwrap_or(target)
            .to_owned(),
    }
}
