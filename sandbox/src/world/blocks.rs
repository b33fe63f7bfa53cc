//! Block Kit, rendered as people see it, with buttons that work.
//! <https://docs.slack.dev/reference/block-kit/blocks>

use serde_json::Value;

use super::{
    html::Html,
    json::{array, text_of},
    mrkdwn, rich_text,
};

/// Renders blocks. Their buttons are those of a message; a modal has none: it is `None` there.
pub(super) fn render(html: &mut Html, blocks: &Value, message_ts: Option<&str>) {
    for block in array(blocks) {
        match text_of(block, "type") {
            "header" => {
                html.raw("<h3>");
                text(html, &block["text"]);
                html.raw("</h3>");
            }
            "section" => section(html, block, message_ts),
            "context" => {
                html.raw("<p class=\"context\">");
                for element in array(&block["elements"]) {
                    html.raw("<span>");
                    match text_of(element, "type") {
                        "image" => html.text(text_of(element, "alt_text")),
                        _ => text(html, element),
                    };
                    html.raw("</span> ");
                }
                html.raw("</p>");
            }
            "divider" => {
                html.raw("<hr>");
            }
            "actions" => {
                html.raw("<div class=\"actions\">");
                for element in array(&block["elements"]) {
                    button(html, element, message_ts);
                }
                html.raw("</div>");
            }
            "input" => input(html, block),
            "rich_text" => rich_text::render(html, block),
            other => {
                html.raw("<p class=\"quiet\">[").text(other).raw("]</p>");
            }
        }
    }
}

/// A text object.
pub(super) fn text<'a>(html: &'a mut Html, object: &Value) -> &'a mut Html {
    let words = text_of(object, "text");
    if text_of(object, "type") == "mrkdwn" {
        mrkdwn::render(html, words);
    } else {
        // Escaped like the other kind, and nothing else is read in it.
        html.text(mrkdwn::unescaped(words));
    }
    html
}

fn section(html: &mut Html, block: &Value, message_ts: Option<&str>) {
    html.raw("<div class=\"section\">");
    if block["text"].is_object() {
        html.raw("<div>");
        text(html, &block["text"]).raw("</div>");
    }
    let fields = array(&block["fields"]);
    if !fields.is_empty() {
        html.raw("<div class=\"fields\">");
        for field in fields {
            html.raw("<div>");
            text(html, field).raw("</div>");
        }
        html.raw("</div>");
    }
    if block["accessory"].is_object() {
        button(html, &block["accessory"], message_ts);
    }
    html.raw("</div>");
}

fn button(html: &mut Html, element: &Value, message_ts: Option<&str>) {
    let label = text_of(&element["text"], "text");
    let style = match text_of(element, "style") {
        "primary" => "button primary",
        "danger" => "button danger",
        _ => "button",
    };
    let url = text_of(element, "url");
    if url.starts_with("http://") || url.starts_with("https://") {
        html.raw("<a target=\"_blank\" rel=\"noreferrer noopener\"")
            .attribute("class", style)
            .attribute("href", url)
            .raw(">")
            .text(label)
            .raw("</a>");
        return;
    }
    let Some(ts) = message_ts else {
        html.raw("<span")
            .attribute("class", style)
            .raw(">")
            .text(label)
            .raw("</span>");
        return;
    };
    html.raw("<form method=\"post\" action=\"/slack/press\">")
        .hidden("ts", ts)
        .hidden("action_id", text_of(element, "action_id"))
        .raw("<button")
        .attribute("class", style);
    let question = text_of(&element["confirm"]["text"], "text");
    if !question.is_empty() {
        html.attribute("data-confirm", question);
    }
    html.raw(">").text(label).raw("</button></form>");
}

/// A field of a modal. It is sent under its block's and its action's ids.
fn input(html: &mut Html, block: &Value) {
    let element = &block["element"];
    let name = format!(
        "{}/{}",
        text_of(block, "block_id"),
        text_of(element, "action_id")
    );
    let optional = block["optional"].as_bool().unwrap_or(false);
    html.raw("<label><span>");
    text(html, &block["label"]).raw("</span>");
    if element["multiline"].as_bool().unwrap_or(false) {
        html.raw("<textarea rows=\"5\"");
    } else {
        html.raw("<input type=\"text\"");
    }
    html.attribute("name", name)
        .attribute("placeholder", text_of(&element["placeholder"], "text"))
        .flag("required", !optional);
    if let Some(most) = element["max_length"].as_u64() {
        html.attribute("maxlength", most);
    }
    let initial = text_of(element, "initial_value");
    if element["multiline"].as_bool().unwrap_or(false) {
        html.raw(">").text(initial).raw("</textarea>");
    } else {
        html.attribute("value", initial).raw(">");
    }
    if block["hint"].is_object() {
        html.raw("<small>");
        text(html, &block["hint"]).raw("</small>");
    }
    html.raw("</label>");
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn rendered(blocks: &Value) -> String {
        let mut html = Html::default();
        render(&mut html, blocks, Some("1.2"));
        html.into_string()
    }

    #[test]
    fn a_button_names_its_message_and_itself() {
        let html = rendered(&json!([{
            "type": "actions", "block_id": "b1",
            "elements": [
                {"type": "button", "style": "primary", "action_id": "take_over", "value": "s1:h1",
                 "text": {"type": "plain_text", "text": "Take over <now>"}},
                {"type": "button", "url": "https://crm.example/1", "text": {"type": "plain_text", "text": "CRM"}},
                {"type": "button", "url": "javascript:alert(1)", "action_id": "x",
                 "text": {"type": "plain_text", "text": "Bad"}},
            ],
        }]));
        assert_eq!(
            html,
            "<div class=\"actions\"><form method=\"post\" action=\"/slack/press\">\
             <input type=\"hidden\" name=\"ts\" value=\"1.2\">\
             <input type=\"hidden\" name=\"action_id\" value=\"take_over\">\
             <button class=\"button primary\">Take over &lt;now&gt;</button></form>\
             <a target=\"_blank\" rel=\"noreferrer noopener\" class=\"button\" href=\"https://crm.example/1\">CRM</a>\
             <form method=\"post\" action=\"/slack/press\">\
             <input type=\"hidden\" name=\"ts\" value=\"1.2\">\
             <input type=\"hidden\" name=\"action_id\" value=\"x\">\
             <button class=\"button\">Bad</button></form></div>"
        );
    }

    #[test]
    fn plain_text_has_no_formats_and_mrkdwn_has() {
        let html = rendered(&json!([
            {"type": "header", "text": {"type": "plain_text", "text": "*A* &lt;b&gt; <c>"}},
            {"type": "section", "text": {"type": "mrkdwn", "text": "*A*"},
             "fields": [{"type": "plain_text", "text": "one"}]},
            {"type": "context", "elements": [{"type": "mrkdwn", "text": "_c_"}]},
            {"type": "divider"},
            {"type": "video"},
        ]));
        assert_eq!(
            html,
            "<h3>*A* &lt;b&gt; &lt;c&gt;</h3><div class=\"section\"><div><strong>A</strong></div>\
             <div class=\"fields\"><div>one</div></div></div>\
             <p class=\"context\"><span><em>c</em></span> </p><hr><p class=\"quiet\">[video]</p>"
        );
    }

    #[test]
    fn a_field_of_a_modal_is_sent_under_its_ids() {
        let html = rendered(&json!([{
            "type": "input", "block_id": "reply", "label": {"type": "plain_text", "text": "Reply"},
            "element": {"type": "plain_text_input", "action_id": "text", "multiline": true, "initial_value": "<hi>"},
        }]));
        assert!(html.contains("name=\"reply/text\""), "{html}");
        assert!(html.contains("required>&lt;hi&gt;</textarea>"), "{html}");
    }
}
