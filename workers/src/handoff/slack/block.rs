//! The blocks of a message, within Slack's limits
//! (<https://docs.slack.dev/reference/block-kit/blocks>): at most 50 of them.
//!
//! A text that somebody else wrote goes through [`super::text`] first, and only into `plain_text`.

use serde_json::{Value, json};
use url::Url;

/// The longest text of a section, in UTF-16 units.
pub(super) const SECTION: usize = 3_000;
/// The longest URL that we make a link of. Slack takes 3,000.
const LINK: usize = 2_000;

/// Text in which nothing is markup.
pub(super) fn plain_text(text: &str) -> Value {
    // Without `emoji`, `:tada:` stays what it is.
    json!({"type": "plain_text", "text": text, "emoji": false})
}

/// Our own words, with markup.
pub(super) fn markup(text: &str) -> Value {
    json!({"type": "mrkdwn", "text": text, "verbatim": true})
}

pub(super) fn header(text: &str) -> Value {
    json!({"type": "header", "text": plain_text(text)})
}

pub(super) fn section(text: &str) -> Value {
    json!({"type": "section", "text": plain_text(text)})
}

/// Label and text of each, in two columns; 1 to 10 of them, none longer than 2,000.
pub(super) fn fields(fields: &[String]) -> Value {
    let fields: Vec<Value> = fields.iter().map(|field| plain_text(field)).collect();
    json!({"type": "section", "fields": fields})
}

/// Small print: 1 to 10 texts, none longer than 2,000.
pub(super) fn context(elements: &[Value]) -> Value {
    json!({"type": "context", "elements": elements})
}

/// 1 to 25 buttons.
pub(super) fn actions(block_id: &str, buttons: &[Value]) -> Value {
    json!({"type": "actions", "block_id": block_id, "elements": buttons})
}

/// A button that tells us that it was pressed.
pub(super) fn button(action_id: &str, label: &str, value: &str) -> Value {
    json!({"type": "button", "action_id": action_id, "text": plain_text(label), "value": value})
}

/// The same, as the one that is meant.
pub(super) fn primary_button(action_id: &str, label: &str, value: &str) -> Value {
    let mut button = button(action_id, label, value);
    button["style"] = json!("primary");
    button
}

/// A button that opens a page. Slack tells us of it, too.
pub(super) fn link_button(action_id: &str, label: &str, value: &str, link: &Url) -> Value {
    let mut button = button(action_id, label, value);
    button["url"] = json!(link.as_str());
    button
}

/// A URL that may be a link: of the web, of bounded length, and without a user name, which is there to
/// hide the host.
pub(super) fn web_link(text: &str) -> Option<Url> {
    let url = Url::parse(text.trim()).ok()?;
    let plain = url.username().is_empty() && url.password().is_none();
    let web = matches!(url.scheme(), "http" | "https") && url.has_host();
    (plain && web && url.as_str().len() <= LINK).then_some(url)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_addresses_of_the_web_become_links() {
        for good in ["https://a.example/b?c=d#e", " http://a.example "] {
            assert!(web_link(good).is_some(), "{good}");
        }
        let long = format!("https://a.example/{}", "x".repeat(2_000));
        for bad in [
            "javascript:alert(1)",
            "data:text/html,x",
            "slack://open",
            "file:///etc/passwd",
            "/page",
            "https://bank.example@evil.example/",
            "https://a:b@evil.example/",
            "https://",
            &long,
        ] {
            assert!(web_link(bad).is_none(), "{bad}");
        }
    }
}
