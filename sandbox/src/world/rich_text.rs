//! The `rich_text` block: formats that are data and not marks in a text.
//! <https://docs.slack.dev/reference/block-kit/blocks/rich-text-block>

use serde_json::Value;

use super::{
    html::Html,
    json::{array, text_of},
    mrkdwn,
};

/// Renders the block.
pub(super) fn render(html: &mut Html, block: &Value) {
    for part in array(&block["elements"]) {
        match text_of(part, "type") {
            "rich_text_preformatted" => within(html, "<pre>", part, "</pre>"),
            "rich_text_quote" => within(html, "<blockquote>", part, "</blockquote>"),
            "rich_text_list" => {
                html.raw("<ul>");
                for item in array(&part["elements"]) {
                    within(html, "<li>", item, "</li>");
                }
                html.raw("</ul>");
            }
            _ => within(html, "<div class=\"lines\">", part, "</div>"),
        }
    }
}

fn within(html: &mut Html, open: &'static str, part: &Value, close: &'static str) {
    html.raw(open);
    for element in array(&part["elements"]) {
        inline(html, element);
    }
    html.raw(close);
}

fn inline(html: &mut Html, element: &Value) {
    let style = &element["style"];
    let marks = [
        ("bold", "<strong>", "</strong>"),
        ("italic", "<em>", "</em>"),
        ("strike", "<s>", "</s>"),
        ("code", "<code>", "</code>"),
    ];
    let marks = marks.map(|(name, open, close)| style[name].as_bool().map(|_| (open, close)));
    for (open, _) in marks.iter().flatten() {
        html.raw(open);
    }
    match text_of(element, "type") {
        "link" => {
            let url = text_of(element, "url");
            mrkdwn::link(html, url, element["text"].as_str().unwrap_or(url));
        }
        "user" => {
            html.raw("<span class=\"mention\">@")
                .text(text_of(element, "user_id"))
                .raw("</span>");
        }
        "broadcast" => {
            html.raw("<span class=\"mention\">@")
                .text(text_of(element, "range"))
                .raw("</span>");
        }
        "emoji" => {
            html.raw(":").text(text_of(element, "name")).raw(":");
        }
        _ => {
            html.text(text_of(element, "text"));
        }
    }
    for (_, close) in marks.iter().rev().flatten() {
        html.raw(close);
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn text_is_text_whatever_is_in_it() {
        let mut html = Html::default();
        render(
            &mut html,
            &json!({"elements": [
                {"type": "rich_text_section", "elements": [
                    {"type": "text", "text": "Ada", "style": {"bold": true, "italic": true}},
                    {"type": "text", "text": " <!channel> *x*"},
                ]},
                {"type": "rich_text_quote", "elements": [{"type": "broadcast", "range": "here"}]},
            ]}),
        );
        assert_eq!(
            html.into_string(),
            "<div class=\"lines\"><strong><em>Ada</em></strong> &lt;!channel&gt; *x*</div>\
             <blockquote><span class=\"mention\">@here</span></blockquote>"
        );
    }
}
