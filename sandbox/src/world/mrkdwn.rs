//! Slack's `mrkdwn`, rendered as people see it: formatting, links, mentions. A text that was escaped as
//! Slack wants it shows here as it was written; one that was not shows what it would have done.
//! <https://docs.slack.dev/messaging/formatting-message-text>

use super::html::Html;
use crate::slack::display_name;

/// How deep formats may nest; deeper ones stay text.
const DEPTH: usize = 4;

/// Renders a text.
pub(super) fn render(html: &mut Html, text: &str) {
    let mut rest = text;
    while let Some((before, from)) = rest.split_once("```") {
        let Some((code, after)) = from.split_once("```") else {
            break;
        };
        lines(html, before);
        html.raw("<pre>")
            .text(unescaped(code.trim_matches('\n')))
            .raw("</pre>");
        rest = after;
    }
    lines(html, rest);
}

/// Quotes are lines of their own.
fn lines(html: &mut Html, text: &str) {
    let mut quoted = false;
    for (number, line) in text.split('\n').enumerate() {
        let quote = line.strip_prefix("&gt;").or_else(|| line.strip_prefix('>'));
        match (quoted, quote.is_some()) {
            (false, true) => html.raw("<blockquote>"),
            (true, false) => html.raw("</blockquote>"),
            _ if number > 0 => html.raw("<br>"),
            _ => html,
        };
        quoted = quote.is_some();
        inline(html, quote.map_or(line, str::trim_start), DEPTH);
    }
    if quoted {
        html.raw("</blockquote>");
    }
}

fn inline(html: &mut Html, text: &str, depth: usize) {
    let mut plain = 0;
    let mut at = 0;
    while let Some(letter) = text[at..].chars().next() {
        let before = text[..at].chars().next_back();
        let found = match letter {
            '<' => control(&text[at..]),
            '*' | '_' | '~' | '`' if depth > 0 => formatted(&text[at..], letter, before),
            _ => None,
        };
        let Some((inner, length)) = found else {
            at += letter.len_utf8();
            continue;
        };
        html.text(unescaped(&text[plain..at]));
        match letter {
            '<' => reference(html, inner),
            '`' => {
                html.raw("<code>").text(unescaped(inner)).raw("</code>");
            }
            _ => {
                let (open, close) = match letter {
                    '*' => ("<strong>", "</strong>"),
                    '_' => ("<em>", "</em>"),
                    _ => ("<s>", "</s>"),
                };
                html.raw(open);
                inline(html, inner, depth - 1);
                html.raw(close);
            }
        }
        at += length;
        plain = at;
    }
    html.text(unescaped(&text[plain..]));
}

/// `<…>` at the beginning: what is in it, and the length of all of it.
fn control(text: &str) -> Option<(&str, usize)> {
    let end = text.find('>')?;
    let inner = &text[1..end];
    (!inner.is_empty() && !inner.contains('<')).then_some((inner, end + 1))
}

/// `*…*` at the beginning, if Slack takes it for a format: it stands at a word's edges.
fn formatted(text: &str, mark: char, before: Option<char>) -> Option<(&str, usize)> {
    let at_edge = |letter: Option<char>| {
        letter.is_none_or(|letter| letter.is_whitespace() || letter.is_ascii_punctuation())
    };
    let inner = &text[1..];
    let end = inner.find(mark)?;
    let (content, after) = (&inner[..end], &inner[end + 1..]);
    let is_format = !content.is_empty()
        && !content.starts_with(char::is_whitespace)
        && !content.ends_with(char::is_whitespace)
        && at_edge(before)
        && at_edge(after.chars().next());
    is_format.then_some((content, end + 2))
}

/// What stands between `<` and `>`.
fn reference(html: &mut Html, inner: &str) {
    let (target, label) = match inner.split_once('|') {
        Some((target, label)) => (target, Some(label)),
        None => (inner, None),
    };
    match target.chars().next() {
        Some('@') => {
            let name = label.unwrap_or_else(|| display_name(&target[1..]));
            mention(html, "@", name);
        }
        Some('#') => mention(html, "#", label.unwrap_or(&target[1..])),
        Some('!') if target.starts_with("!date") => {
            html.text(unescaped(label.unwrap_or(target)));
        }
        Some('!') => mention(html, "@", &target[1..]),
        _ => link(
            html,
            &unescaped(target),
            &unescaped(label.unwrap_or(target)),
        ),
    }
}

fn mention(html: &mut Html, mark: &'static str, name: &str) {
    html.raw("<span class=\"mention\">")
        .raw(mark)
        .text(unescaped(name))
        .raw("</span>");
}

/// A link that leads out of this page, if it is one of the web or of mail.
pub(super) fn link(html: &mut Html, target: &str, label: &str) {
    let leads = ["http://", "https://", "mailto:", "tel:"]
        .iter()
        .any(|scheme| target.starts_with(scheme));
    if leads {
        html.raw("<a target=\"_blank\" rel=\"noreferrer noopener\"")
            .attribute("href", target)
            .raw(">")
            .text(label)
            .raw("</a>");
    } else {
        html.text(label);
    }
}

/// Slack knows three entities.
pub(super) fn unescaped(text: &str) -> String {
    text.replace("&lt;", "<")
        .replace("&gt;", ">")
        .replace("&amp;", "&")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rendered(text: &str) -> String {
        let mut html = Html::default();
        render(&mut html, text);
        html.into_string()
    }

    #[test]
    fn formats_links_and_mentions_look_as_in_slack() {
        for (text, html) in [
            ("*Ada* writes", "<strong>Ada</strong> writes"),
            (
                "_so_ ~not~ `code`",
                "<em>so</em> <s>not</s> <code>code</code>",
            ),
            ("*_both_*", "<strong><em>both</em></strong>"),
            ("2*3*4 and a * b *", "2*3*4 and a * b *"),
            (
                "<https://a.example/?b=1&amp;c|there>",
                "<a target=\"_blank\" rel=\"noreferrer noopener\" href=\"https://a.example/?b=1&amp;c\">there</a>",
            ),
            (
                "<!channel> <@U1>",
                "<span class=\"mention\">@channel</span> <span class=\"mention\">@U1</span>",
            ),
            (
                "one\n&gt; two\n> three\nfour",
                "one<blockquote>two<br>three</blockquote>four",
            ),
            ("```a < b```", "<pre>a &lt; b</pre>"),
        ] {
            assert_eq!(rendered(text), html, "{text}");
        }
    }

    #[test]
    fn escaped_text_is_shown_as_it_was_written() {
        assert_eq!(
            rendered("&lt;!channel&gt; &amp;lt;"),
            "&lt;!channel&gt; &amp;lt;"
        );
        assert_eq!(rendered("<javascript:alert(1)|x>"), "x");
        assert_eq!(
            rendered("<<!here>"),
            "&lt;<span class=\"mention\">@here</span>"
        );
    }
}
