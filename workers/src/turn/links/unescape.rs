//! Undoes the spellings by which an address hides: some renderers look for addresses in the text that
//! is left when entities and escapes have been read (`https&colon;//…`, `www\.…`).

/// `&` and `;` with the longest name that HTML has between them.
const LONGEST_ENTITY: usize = 34;

/// Reads entities and escapes of signs that addresses are made of. Others stay as they are, because
/// they may hide what Markdown would read.
#[derive(Default)]
pub(super) struct Unescape {
    /// The beginning of an entity or an escape.
    held: String,
}

impl Unescape {
    pub(super) fn push(&mut self, delta: &str, out: &mut String) {
        self.held.push_str(delta);
        self.drain(out, false);
    }

    pub(super) fn finish(&mut self, out: &mut String) {
        self.drain(out, true);
    }

    fn drain(&mut self, out: &mut String, at_end: bool) {
        let mut rest = self.held.as_str();
        while let Some(at) = rest.find(['&', '\\']) {
            out.push_str(&rest[..at]);
            rest = &rest[at..];
            let read = if rest.starts_with('&') {
                entity(rest)
            } else {
                escape(rest)
            };
            match read {
                Read::As(sign, length) => {
                    out.push(sign);
                    rest = &rest[length..];
                }
                Read::Itself(length) => {
                    out.push_str(&rest[..length]);
                    rest = &rest[length..];
                }
                Read::Wait if at_end => {
                    out.push_str(&rest[..1]);
                    rest = &rest[1..];
                }
                Read::Wait => {
                    self.held = rest.to_owned();
                    return;
                }
            }
        }
        out.push_str(rest);
        self.held.clear();
    }
}

enum Read {
    /// So many bytes are this sign.
    As(char, usize),
    /// So many bytes stay as they are.
    Itself(usize),
    /// It depends on what comes.
    Wait,
}

fn escape(text: &str) -> Read {
    match text.as_bytes().get(1) {
        None => Read::Wait,
        Some(&sign @ (b':' | b'/' | b'.' | b'@')) => Read::As(char::from(sign), 2),
        Some(sign) if sign.is_ascii_punctuation() => Read::Itself(2),
        Some(_) => Read::Itself(1),
    }
}

fn entity(text: &str) -> Read {
    let name = &text[1..];
    let belongs = |sign: char| sign.is_ascii_alphanumeric() || sign == '#';
    let end = match name.find(|sign| !belongs(sign)) {
        Some(end) if end < LONGEST_ENTITY && name[end..].starts_with(';') => end,
        None if name.len() < LONGEST_ENTITY => return Read::Wait,
        _ => return Read::Itself(1),
    };
    match sign(&name[..end]).filter(|sign| is_plain(*sign)) {
        Some(sign) => Read::As(sign, end + 2),
        None => Read::Itself(end + 2),
    }
}

fn sign(name: &str) -> Option<char> {
    let Some(number) = name.strip_prefix('#') else {
        return match name {
            "colon" => Some(':'),
            "sol" => Some('/'),
            "period" => Some('.'),
            "commat" => Some('@'),
            _ => None,
        };
    };
    let code = match number.strip_prefix(['x', 'X']) {
        Some(hex) => u32::from_str_radix(hex, 16),
        None => number.parse(),
    };
    char::from_u32(code.ok()?)
}

/// Whether it means nothing to Markdown.
fn is_plain(sign: char) -> bool {
    sign.is_alphanumeric() || matches!(sign, ':' | '/' | '.' | '@' | '-' | '%' | '?' | '=')
}
