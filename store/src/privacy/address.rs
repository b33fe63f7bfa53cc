//! The address that a person is looked for by.

use crate::handoffs::is_email;

/// An e-mail address in the form that it is compared and hashed in: nothing around it, and in lower case as
/// Unicode has it, whatever the database's locale knows of that. It has no `Debug`: nobody logs one.
#[derive(Clone, PartialEq, Eq)]
pub struct Address(String);

/// How a text names an address.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mention {
    /// As it is.
    Whole,
    /// As a part of a longer one, which is somebody else's.
    InLonger,
}

impl Address {
    /// Reads an address; `None`: it is none.
    pub fn parse(text: &str) -> Option<Self> {
        let normal = normal(text);
        is_email(&normal).then_some(Self(normal))
    }

    /// The address.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Whether a text is this address and nothing else.
    pub fn is(&self, text: &str) -> bool {
        normal(text) == self.0
    }

    /// Whether a text names it. One mention of the whole address is enough.
    pub fn mention(&self, text: &str) -> Option<Mention> {
        let text = text.to_lowercase();
        let mut mention = None;
        for (at, _) in text.match_indices(&self.0) {
            let (before, behind) = (&text[..at], &text[at + self.0.len()..]);
            if !self.goes_on_before(before) && !self.goes_on_behind(behind) {
                return Some(Mention::Whole);
            }
            mention = Some(Mention::InLonger);
        }
        mention
    }

    /// The longest run of ASCII in it. Its capitals are known to every database.
    pub(super) fn ascii_part(&self) -> &str {
        let parts = self.0.split(|sign: char| !sign.is_ascii());
        parts.max_by_key(|part| part.len()).unwrap_or_default()
    }

    /// Whether the text before belongs to the name of a longer address: a letter, or signs behind one that
    /// stand within names. Quotes and list marks stand behind a blank, and two full stops in no name.
    fn goes_on_before(&self, before: &str) -> bool {
        let mut behind = None;
        for sign in before.chars().rev() {
            if self.is_letter(sign) || sign == '@' {
                return true;
            }
            let is_in_names = "._%+'&-".contains(sign);
            if !is_in_names || (sign == '.' && behind == Some('.')) {
                return false;
            }
            behind = Some(sign);
        }
        false
    }

    /// Whether the text behind belongs to a longer host: a full stop that ends a sentence does not.
    fn goes_on_behind(&self, behind: &str) -> bool {
        let rest = match behind.strip_prefix('.') {
            Some(label) => label,
            None => behind.trim_start_matches('-'),
        };
        let next = rest.chars().next();
        next.is_some_and(|sign| self.is_letter(sign)) || behind.starts_with('@')
    }

    /// Letters and digits that an address would go on with. Scripts that are written without blanks, from
    /// Thai to Chinese, may stand right beside one that is all ASCII.
    fn is_letter(&self, sign: char) -> bool {
        let is_of_words = sign < '\u{e00}' || ('\u{1e00}'..='\u{1fff}').contains(&sign);
        sign.is_alphanumeric() && (is_of_words || !self.0.is_ascii())
    }
}

fn normal(text: &str) -> String {
    text.trim().to_lowercase()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn ann() -> Address {
        Address::parse(" Ann@Example.com\n").unwrap()
    }

    #[test]
    fn an_address_is_found_as_people_write_it() {
        for text in [
            "ann@example.com",
            "Write to ANN@example.COM.",
            "ann@example.com. Thanks",
            "ann@example.com...",
            "(ann@example.com)",
            "'ann@example.com'",
            "_ann@example.com_",
            "<mailto:ann@example.com>",
            "-ann@example.com",
            "me...ann@example.com",
            "joann@example.com, ann@example.com",
            "ann@example.com's mailbox",
            "ann@example.com- call me",
            "メールはann@example.comです",
            "我的邮箱是ann@example.com。",
        ] {
            assert_eq!(ann().mention(text), Some(Mention::Whole), "{text}");
        }
    }

    #[test]
    fn an_address_of_somebody_else_is_not_taken_for_it() {
        for text in [
            "joann@example.com",
            "jo.ann@example.com",
            "jo-ann@example.com",
            "o'ann@example.com",
            "x+ann@example.com",
            "x-_ann@example.com",
            "m\u{fc}ann@example.com",
            "ann@example.com.au",
            "ann@example.community",
            "ann@example.com-shop.de",
            "x@ann@example.com",
            "ann@example.com@example.org",
        ] {
            assert_eq!(ann().mention(text), Some(Mention::InLonger), "{text}");
        }
        assert_eq!(ann().mention("ann@exampleXcom"), None);
    }

    #[test]
    fn capitals_beyond_ascii_are_the_same_address() {
        let address = Address::parse("MÜLLER@Bücher.example").unwrap();
        assert!(address.is("müller@BÜCHER.example "));
        assert_eq!(
            address.mention("an MÜLLER@BÜCHER.example"),
            Some(Mention::Whole)
        );
        assert_eq!(address.ascii_part(), "cher.example");
    }

    #[test]
    fn what_is_no_address_is_none() {
        for text in ["", "e@", "Tab User <tab@visitor.example>", "a b@c.de"] {
            assert!(Address::parse(text).is_none(), "{text}");
        }
    }

    proptest! {
        #[test]
        fn whatever_makes_the_name_longer_is_somebody_else(more in "[a-z0-9]{1,4}[._%+'&-]?", sign in "[ ,(<:\"]") {
            let text = format!("see{sign}{more}ann@example.com.");
            prop_assert_eq!(ann().mention(&text), Some(Mention::InLonger));
        }

        #[test]
        fn whatever_makes_the_host_longer_is_somebody_else(more in "[.-]?[a-z0-9]{1,4}") {
            let text = format!("see ann@example.com{more} now");
            prop_assert_eq!(ann().mention(&text), Some(Mention::InLonger));
        }

        #[test]
        fn whatever_stands_around_it_does_not_hide_it(
            before in ".{0,8}", left in "[ ,;:(<\"\n]", right in "[ ,;:!?)>\"\n]|[.][ \n]?", behind in "[ ].{0,8}",
        ) {
            let text = format!("{before}{left}ann@example.com{right}{behind}");
            prop_assert_eq!(ann().mention(&text), Some(Mention::Whole));
        }

        #[test]
        fn any_text_can_be_looked_through(before in ".*", behind in ".*") {
            let text = format!("{before}ann@example.com{behind}");
            prop_assert!(ann().mention(&text).is_some());
        }
    }
}
