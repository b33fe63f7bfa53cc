//! What people write in Slack, as a visitor reads it.
//!
//! Slack hands texts on as *mrkdwn*: `&`, `<` and `>` are escaped, links and mentions stand in angle
//! brackets (<https://docs.slack.dev/messaging/formatting-message-text>). The visitor gets Markdown.

/// Characters of what one person says at once: as many as Slack takes.
const LONGEST: usize = 40_000;
/// What a reply to the visitor begins with, in lower case.
const MARKS: [&str; 2] = ["reply:", "!reply"];

/// The words behind the mark by which a reply is for the visitor; `None`: it is a note, or there are none.
pub(super) fn marked(text: &str) -> Option<&str> {
    let text = text.trim_start();
    let rest = MARKS.iter().find_map(|mark| {
        let head = text.get(..mark.len())?;
        head.eq_ignore_ascii_case(mark).then(|| &text[mark.len()..])
    })?;
    let is_word = text.starts_with('!') && rest.starts_with(char::is_alphanumeric);
    let words = rest.strip_prefix(':').unwrap_or(rest).trim();
    (!is_word && !words.is_empty()).then_some(words)
}

/// Mrkdwn as Markdown.
pub(super) fn markdown(text: &str) -> String {
    let mut written = String::with_capacity(text.len());
    let mut rest = text;
    while let Some((before, behind)) = rest.split_once('<') {
        written.push_str(&unescaped(before));
        let Some((inside, after)) = behind.split_once('>') else {
            // Not Slack's: it would be escaped.
            rest = behind;
            continue;
        };
        written.push_str(&bracketed(inside));
        rest = after;
    }
    written.push_str(&unescaped(rest));
    plain(&written)
}

/// What was typed into a form: it is kept as it is, as far as it can be.
pub(super) fn plain(text: &str) -> String {
    let kept = text.chars().take(LONGEST);
    kept.map(|sign| if sign == '\0' { '\u{fffd}' } else { sign })
        .collect()
}

/// A link or a mention.
fn bracketed(inside: &str) -> String {
    let (target, label) = match inside.split_once('|') {
        Some((target, label)) => (target, Some(unescaped(label))),
        None => (inside, None),
    };
    match target.chars().next() {
        // Who or which channel that is, is nobody's business outside.
        Some('@') => label.map_or_else(|| "@colleague".to_owned(), |name| format!("@{name}")),
        Some('#') => label.map_or_else(|| "#channel".to_owned(), |name| format!("#{name}")),
        Some('!') => label.unwrap_or_default(),
        _ => {
            let target = unescaped(target);
            match label {
                Some(label) if label != target => {
                    format!("[{}]({target})", label.replace(['[', ']'], ""))
                }
                _ => target,
            }
        }
    }
}

fn unescaped(text: &str) -> String {
    text.replace("&lt;", "<")
        .replace("&gt;", ">")
        .replace("&amp;", "&")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reply_to_the_visitor_begins_with_the_mark() {
        for (text, words) in [
            ("reply: Hello", "Hello"),
            ("Reply:Hello", "Hello"),
            ("  REPLY:  Hello \n there ", "Hello \n there"),
            ("!reply Hello", "Hello"),
            ("!Reply: Hello", "Hello"),
        ] {
            assert_eq!(marked(text), Some(words), "{text}");
        }
    }

    #[test]
    fn everything_else_is_a_note() {
        for text in [
            "",
            "reply",
            "reply:",
            "reply:  ",
            "!reply",
            "!reply:",
            "Hello",
            "my reply: no",
            "reply Hello",
            "!replying is fun",
            "rép",
            "&gt; reply: quoted",
        ] {
            assert_eq!(marked(text), None, "{text}");
        }
    }

    #[test]
    fn links_and_mentions_are_written_as_a_visitor_can_read_them() {
        for (mrkdwn, read) in [
            ("a &lt;b&gt; &amp;amp; c", "a <b> &amp; c"),
            (
                "see <https://a.example/?x=1&amp;y=2>",
                "see https://a.example/?x=1&y=2",
            ),
            (
                "see <https://a.example|our page>!",
                "see [our page](https://a.example)!",
            ),
            (
                "mail <mailto:a@b.example|a@b.example>",
                "mail [a@b.example](mailto:a@b.example)",
            ),
            (
                "ask <@U123> or <@U123|Ada> in <#C1|sales>",
                "ask @colleague or @Ada in #sales",
            ),
            ("<!channel> look <!date^1^x|today>", " look today"),
            ("odd < bracket", "odd  bracket"),
            ("nul \0", "nul \u{fffd}"),
        ] {
            assert_eq!(markdown(mrkdwn), read, "{mrkdwn}");
        }
        assert_eq!(markdown(&"ä".repeat(LONGEST + 1)).chars().count(), LONGEST);
    }
}
