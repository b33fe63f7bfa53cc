//! The front matter of a Markdown file: what stands between two `---` lines at its very top.
//!
//! Only a small part of YAML is read, on purpose: one `key: value` a line at the left margin, the
//! value plain or in single or double quotes, `#` comments. Everything else (lists, nested keys,
//! block text) is skipped without complaint, so that files written for other tools can be indexed.

/// The keys that we use.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct FrontMatter<'t> {
    pub(super) title: Option<&'t str>,
    pub(super) url: Option<&'t str>,
    pub(super) kind: Option<&'t str>,
    pub(super) language: Option<&'t str>,
}

/// Splits a text into its front matter and the rest. A text that begins with `---` and has no second
/// such line has no front matter: the line is a rule.
pub(super) fn split(text: &str) -> (FrontMatter<'_>, &str) {
    let Some(rest) = text.strip_prefix("---\n") else {
        return (FrontMatter::default(), text);
    };
    let mut end = 0;
    for line in rest.split_inclusive('\n') {
        if matches!(line.trim_end(), "---" | "...") {
            return (parse(&rest[..end]), &rest[end + line.len()..]);
        }
        end += line.len();
    }
    (FrontMatter::default(), text)
}

fn parse(block: &str) -> FrontMatter<'_> {
    let mut found = FrontMatter::default();
    for line in block.lines() {
        let Some((key, value)) = line.split_once(':') else {
            continue;
        };
        let place = match key {
            "title" => &mut found.title,
            "url" => &mut found.url,
            "kind" => &mut found.kind,
            "language" | "lang" => &mut found.language,
            _ => continue,
        };
        *place = scalar(value.trim());
    }
    found
}

/// A plain or quoted scalar. Escapes inside quotes are not read.
fn scalar(value: &str) -> Option<&str> {
    let value = match value.chars().next()? {
        quote @ ('"' | '\'') => value[1..].split_once(quote)?.0,
        '|' | '>' | '[' | '{' | '&' | '*' | '#' => return None,
        _ => value.split_once(" #").map_or(value, |(value, _)| value),
    };
    let value = value.trim();
    (!value.is_empty()).then_some(value)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn the_known_keys_are_read_and_the_rest_is_skipped() {
        let text = "---\ntitle: \"A: b\"\nurl: /a/b # comment\nkind: 'faq'\nlanguage: de\ntags:\n  - title: no\n---\nBody\n";
        let (front, body) = split(text);
        assert_eq!(
            front,
            FrontMatter {
                title: Some("A: b"),
                url: Some("/a/b"),
                kind: Some("faq"),
                language: Some("de"),
            }
        );
        assert_eq!(body, "Body\n");
    }

    #[test]
    fn a_rule_at_the_top_is_not_front_matter() {
        let text = "---\nJust text: really.\n";
        assert_eq!(split(text), (FrontMatter::default(), text));
        assert_eq!(split("x\n---\ntitle: t\n---\n").0, FrontMatter::default());
    }

    #[test]
    fn values_that_are_not_scalars_are_skipped() {
        for value in ["|", "[a]", "{a: b}", "", "\"open", "# c"] {
            let text = format!("---\ntitle: {value}\n---\n");
            assert_eq!(split(&text).0.title, None, "{value}");
        }
    }

    proptest! {
        #[test]
        fn what_is_split_off_is_never_more_than_the_block(text in "(---\n)?(.|\n){0,80}(---\n)?(.|\n){0,80}") {
            let (_, body) = split(&text);
            prop_assert!(text.ends_with(body));
        }
    }
}
