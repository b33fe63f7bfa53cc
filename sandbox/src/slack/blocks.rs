//! The limits of Block Kit, as Slack checks them: a message that breaks one is refused whole.
//! <https://docs.slack.dev/reference/block-kit/blocks>

use std::collections::HashSet;

use serde_json::Value;

const MOST_BLOCKS: usize = 50;
const MOST_VIEW_BLOCKS: usize = 100;
const SECTION_TEXT: usize = 3_000;
const MOST_FIELDS: usize = 10;
const FIELD_TEXT: usize = 2_000;
const HEADER_TEXT: usize = 150;
const MOST_CONTEXT: usize = 10;
const CONTEXT_TEXT: usize = 2_000;
const MOST_ACTIONS: usize = 25;
const BUTTON_TEXT: usize = 75;
const BUTTON_VALUE: usize = 2_000;
const URL: usize = 3_000;
const ID: usize = 255;
const VIEW_TITLE: usize = 24;
const PRIVATE_METADATA: usize = 3_000;

/// What is wrong with the blocks of a message.
pub fn check_message(blocks: &Value) -> Result<(), String> {
    check(blocks, MOST_BLOCKS)
}

/// What is wrong with a modal.
pub(super) fn check_view(view: &Value) -> Result<(), String> {
    if view["type"] != "modal" {
        return Err("a view's type is modal".to_owned());
    }
    text(&view["title"], VIEW_TITLE, true)?;
    for label in ["submit", "close"] {
        if !view[label].is_null() {
            text(&view[label], VIEW_TITLE, true)?;
        }
    }
    length(&view["private_metadata"], PRIVATE_METADATA, false)?;
    length(&view["callback_id"], ID, false)?;
    check(&view["blocks"], MOST_VIEW_BLOCKS)
}

fn check(blocks: &Value, most: usize) -> Result<(), String> {
    let blocks = blocks.as_array().ok_or("blocks are no array")?;
    if blocks.is_empty() || blocks.len() > most {
        return Err(format!("{} blocks", blocks.len()));
    }
    let mut ids = HashSet::new();
    for (place, block) in blocks.iter().enumerate() {
        one(block).map_err(|wrong| format!("{wrong} [json-pointer:/blocks/{place}]"))?;
        if let Some(id) = block["block_id"].as_str()
            && !ids.insert(id)
        {
            return Err(format!("block_id twice [json-pointer:/blocks/{place}]"));
        }
    }
    Ok(())
}

fn one(block: &Value) -> Result<(), String> {
    length(&block["block_id"], ID, false)?;
    match block["type"].as_str() {
        Some("header") => text(&block["text"], HEADER_TEXT, true),
        Some("divider") => Ok(()),
        Some("section") => section(block),
        Some("context") => {
            let elements = list(&block["elements"], MOST_CONTEXT)?;
            elements
                .iter()
                .try_for_each(|element| text(element, CONTEXT_TEXT, false))
        }
        Some("actions") => {
            let elements = list(&block["elements"], MOST_ACTIONS)?;
            let mut ids = HashSet::new();
            for element in elements {
                button(element)?;
                if !ids.insert(element["action_id"].as_str()) {
                    return Err("action_id twice".to_owned());
                }
            }
            Ok(())
        }
        Some("input") => {
            text(&block["label"], SECTION_TEXT, true)?;
            length(&block["element"]["action_id"], ID, true)
        }
        other => Err(format!("unsupported type of block: {other:?}")),
    }
}

fn section(block: &Value) -> Result<(), String> {
    if block["text"].is_null() && block["fields"].is_null() {
        return Err("a section has a text or fields".to_owned());
    }
    if !block["text"].is_null() {
        text(&block["text"], SECTION_TEXT, false)?;
    }
    if !block["fields"].is_null() {
        let fields = list(&block["fields"], MOST_FIELDS)?;
        fields
            .iter()
            .try_for_each(|field| text(field, FIELD_TEXT, false))?;
    }
    if block["accessory"].is_null() {
        return Ok(());
    }
    button(&block["accessory"])
}

fn button(element: &Value) -> Result<(), String> {
    if element["type"] != "button" {
        return Err("only buttons are known here".to_owned());
    }
    text(&element["text"], BUTTON_TEXT, true)?;
    length(&element["action_id"], ID, true)?;
    length(&element["value"], BUTTON_VALUE, false)?;
    length(&element["url"], URL, false)?;
    match element["style"].as_str() {
        None | Some("primary" | "danger") => Ok(()),
        Some(_) => Err("unknown style".to_owned()),
    }
}

fn list(value: &Value, most: usize) -> Result<&Vec<Value>, String> {
    let list = value.as_array().ok_or("no array")?;
    if list.is_empty() || list.len() > most {
        return Err(format!("{} elements", list.len()));
    }
    Ok(list)
}

fn text(object: &Value, most: usize, plain_only: bool) -> Result<(), String> {
    match object["type"].as_str() {
        Some("plain_text") => {}
        Some("mrkdwn") if !plain_only => {}
        other => return Err(format!("unsupported type of text: {other:?}")),
    }
    length(&object["text"], most, true)
}

/// A text of 1 to `most` characters, as JavaScript counts them.
fn length(value: &Value, most: usize, needed: bool) -> Result<(), String> {
    let Some(text) = value.as_str() else {
        return if needed || !value.is_null() {
            Err("no text".to_owned())
        } else {
            Ok(())
        };
    };
    let length = text.encode_utf16().count();
    if length > most || (needed && length == 0) {
        return Err(format!("{length} characters, of {most}"));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn section(length: usize) -> Value {
        json!({"type": "section", "text": {"type": "plain_text", "text": "x".repeat(length)}})
    }

    #[test]
    fn a_message_within_the_limits_is_taken_and_one_beyond_is_not() {
        let button = |length: usize| {
            json!({"type": "actions", "elements": [{"type": "button", "action_id": "a", "value": "v",
                "text": {"type": "plain_text", "text": "x".repeat(length)}}]})
        };
        let header = |kind: &str| json!({"type": "header", "text": {"type": kind, "text": "x"}});
        for good in [
            json!([section(3_000)]),
            json!([button(75)]),
            json!([header("plain_text")]),
            json!(vec![section(1); 50]),
        ] {
            assert_eq!(check_message(&good), Ok(()));
        }
        let twice = json!({"type": "divider", "block_id": "b"});
        for bad in [
            json!([]),
            json!([section(3_001)]),
            json!([section(0)]),
            json!([button(76)]),
            json!([header("mrkdwn")]),
            json!(vec![section(1); 51]),
            json!([twice, twice]),
            json!([{"type": "section"}]),
            json!([{"type": "marquee"}]),
            json!("[]"),
        ] {
            assert!(check_message(&bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn a_modal_has_a_title_and_blocks() {
        let mut view = json!({"type": "modal", "title": {"type": "plain_text", "text": "Reply"},
            "blocks": [{"type": "input", "label": {"type": "plain_text", "text": "Text"},
                "element": {"type": "plain_text_input", "action_id": "text"}}]});
        assert_eq!(check_view(&view), Ok(()));
        view["title"]["text"] = json!("x".repeat(25));
        assert!(check_view(&view).is_err());
    }
}
