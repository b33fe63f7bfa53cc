//! What was let through last: what comes next is judged together with it.

/// How much is remembered: a scheme, or the longest local part of a mail address (64 bytes).
const REMEMBERED: usize = 96;

/// The end of the output.
#[derive(Default)]
pub(super) struct Tail {
    text: String,
    /// Whether the line has more than the marks of a list or a quotation.
    in_line: bool,
    /// Whether a bracket stood at a line's beginning since the last blank line.
    definition: bool,
    /// Whether the line has something at all.
    not_blank: bool,
}

impl Tail {
    pub(super) fn add(&mut self, text: &str) {
        for sign in text.chars() {
            self.track(sign);
        }
        self.text.push_str(text);
        if self.text.len() > 4 * REMEMBERED {
            let from = self.text.ceil_char_boundary(self.text.len() - REMEMBERED);
            self.text.drain(..from);
        }
    }

    fn track(&mut self, sign: char) {
        if sign == '\n' {
            self.definition &= self.not_blank;
            self.not_blank = false;
        }
        if sign == '\n' || sign == '\r' {
            self.in_line = false;
            return;
        }
        self.not_blank |= !sign.is_whitespace();
        if !self.in_line {
            self.definition |= sign == '[';
            let is_mark = sign.is_whitespace()
                || sign.is_ascii_digit()
                || matches!(sign, '>' | '-' | '*' | '+' | '.' | ')');
            self.in_line = !is_mark;
        }
    }

    pub(super) fn ends_with(&self, end: &str) -> bool {
        self.text.ends_with(end)
    }

    /// Whether a `]` before a `:` may end a definition's label.
    pub(super) fn definition_possible(&self) -> bool {
        self.definition
    }

    /// Whether it ends in the word `www`.
    pub(super) fn ends_with_www(&self) -> bool {
        let word = self.ending(char::is_alphanumeric);
        word.eq_ignore_ascii_case("www")
    }

    /// The scheme that it ends in, or what stands in its place.
    pub(super) fn scheme(&self) -> &str {
        self.ending(|sign| sign.is_ascii_alphanumeric() || matches!(sign, '+' | '.' | '-'))
    }

    /// The local part of a mail address that it ends in.
    pub(super) fn local_part(&self) -> &str {
        self.ending(|sign| sign.is_alphanumeric() || matches!(sign, '.' | '_' | '+' | '-'))
    }

    /// Whether it ends in an address of the web or in one for mail.
    pub(super) fn ends_in_address(&self) -> bool {
        let word = self.ending(|sign| !sign.is_whitespace());
        let word = word.to_ascii_lowercase();
        ["://", "www.", "@"]
            .iter()
            .any(|begin| word.contains(begin))
    }

    /// Whether a word that follows stands by itself.
    pub(super) fn at_boundary(&self) -> bool {
        self.text.chars().next_back().is_none_or(|sign| {
            sign.is_whitespace()
                || matches!(
                    sign,
                    '(' | '[' | '*' | '_' | '"' | '“' | '„' | '«' | '>' | '|'
                )
        })
    }

    fn ending(&self, belongs: impl Fn(char) -> bool) -> &str {
        &self.text[self.text.trim_end_matches(belongs).len()..]
    }
}
