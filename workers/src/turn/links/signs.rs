//! Which signs mean what around an address.

/// Where something else than text may begin.
const SPECIAL: [char; 8] = ['[', '!', '<', '(', ':', '.', '@', '\\'];

/// The length of the text up to where something else may begin.
pub(super) fn plain(text: &str) -> usize {
    text.char_indices()
        .skip(1)
        .find(|(_, sign)| SPECIAL.contains(sign))
        .map_or(text.len(), |(at, _)| at)
}

/// Where every renderer ends an address that stands in the text. Not at other white space than ASCII's.
pub(super) fn ends_address(sign: char) -> bool {
    sign.is_ascii_whitespace() || sign == '<'
}

/// Whether an address holds another one behind its host: Markdown's emphasis would cut it in two
/// (`https://good.example/*a*https://evil.example`).
pub(super) fn hides_another(run: &str) -> bool {
    let run = run.trim_start_matches([':', '/', '.']);
    let path = run.find(['/', '?', '#']).map_or("", |host| &run[host..]);
    let path = path.to_ascii_lowercase();
    let emphasised = path.contains(['*', '_', '~']);
    path.contains("://") || path.contains("www.") || (emphasised && path.contains('@'))
}

/// The signs of RFC 3986, without the brackets.
pub(super) fn is_address_sign(sign: char) -> bool {
    sign.is_ascii_alphanumeric() || "-._~:/?#@!$&'()*+,;=%".contains(sign)
}

/// What often stands behind an address, and at worst becomes a part of its path.
pub(super) fn is_harmless_end(sign: char) -> bool {
    matches!(sign, '"' | '`' | '|' | '}')
}

/// What ends a sentence or an emphasis rather than an address.
pub(super) fn is_end_punctuation(sign: char) -> bool {
    !sign.is_alphanumeric() && !matches!(sign, '/' | '=' | '&' | '#' | '%' | '-' | '+' | '$' | '@')
}
