//! What a visitor told of themselves, as far as it may be kept.

use store::handoffs::Lead;

/// The longest e-mail address, in bytes (RFC 5321).
const LONGEST_EMAIL: usize = 254;

/// Adds what `newer` knows to what was known.
pub(super) fn merge(older: Lead, newer: Lead) -> Lead {
    Lead {
        name: newer.name.or(older.name),
        email: newer.email.or(older.email),
        company: newer.company.or(older.company),
        phone: newer.phone.or(older.phone),
        need: newer.need.or(older.need),
        timeline: newer.timeline.or(older.timeline),
        budget: newer.budget.or(older.budget),
        message: newer.message.or(older.message),
    }
}

/// Whether a text has the form of an e-mail address that mail can be sent to. Whether there is such a
/// mailbox is not looked at.
pub(super) fn is_email(text: &str) -> bool {
    let Some((local, domain)) = text.rsplit_once('@') else {
        return false;
    };
    let local_sign = |sign: char| sign.is_alphanumeric() || "!#$%&'*+-/=?^_`{|}~.".contains(sign);
    let label = |label: &str| {
        (1..=63).contains(&label.len())
            && !label.starts_with('-')
            && !label.ends_with('-')
            && label
                .chars()
                .all(|sign| sign.is_alphanumeric() || sign == '-')
    };
    text.len() <= LONGEST_EMAIL
        && (1..=64).contains(&local.len())
        && local.chars().all(local_sign)
        && !local.starts_with('.')
        && !local.ends_with('.')
        && !local.contains("..")
        && domain.contains('.')
        && domain.split('.').all(label)
}

/// Whether a text may be a telephone number: some digits, and what people write between them.
pub(super) fn is_phone(text: &str) -> bool {
    let digits = text.chars().filter(char::is_ascii_digit).count();
    (5..=20).contains(&digits)
        && text
            .chars()
            .all(|sign| sign.is_ascii_digit() || " +-()/.".contains(sign))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_that_mail_can_be_sent_to_is_told_from_others() {
        for good in ["a@b.de", "first.last+tag@mail.example.org", "jörg@münchen.example"] {
            assert!(is_email(good), "{good}");
        }
        let long = format!("{}@b.de", "a".repeat(65));
        for bad in [
            "", "a", "a@b", "@b.de", "a@.de", "a b@c.de", "a@b..de", ".a@b.de", "a@-b.de",
            "a@b.de\nBcc: c@d.de", "a@b.de>", "a..b@c.de", &long,
        ] {
            assert!(!is_email(bad), "{bad}");
        }
    }

    #[test]
    fn a_number_that_can_be_dialled_is_told_from_others() {
        for good in ["+49 (0)89 123-456", "0033/1.23.45"] {
            assert!(is_phone(good), "{good}");
        }
        for bad in ["", "1234", "call me", "123456 ext", &"1".repeat(21)] {
            assert!(!is_phone(bad), "{bad}");
        }
    }

    #[test]
    fn what_is_newer_goes_before_what_was_known() {
        let of = |name: &str, need: Option<&str>| Lead {
            name: Some(name.to_owned()),
            need: need.map(str::to_owned),
            ..Lead::default()
        };
        let merged = merge(of("Old", Some("an audit")), of("New", None));
        assert!(merged == of("New", Some("an audit")));
    }
}
