//! The methods of the Web API that growth-chat calls, with Slack's own checks and codes.

use axum::http::{HeaderMap, header};
use serde_json::{Map, Value, json};
use std::time::Duration;

use super::{
    BOT_TOKEN, blocks,
    workspace::{
        APP_ID, BOT_ID, BOT_USER_ID, CHANNEL_ID, CHANNEL_NAME, PostedMessage, State, TEAM_ID,
        USERS, Via,
    },
};

/// The longest text of a message.
const LONGEST_TEXT: usize = 40_000;
/// The most messages of a page.
const MOST_OF_A_PAGE: usize = 999;

/// Why a call is not answered with what was asked for.
pub(super) enum Refused {
    /// `ok: false` with this code.
    Code(&'static str),
    /// The same for blocks, with what is wrong.
    Blocks(String),
    /// 429.
    TooFast(Duration),
}

type Answer = Result<Value, Refused>;

/// The arguments of a call, whether they came as JSON or as a form.
pub(super) struct Arguments(Map<String, Value>);

impl Arguments {
    pub(super) fn read(headers: &HeaderMap, body: &[u8]) -> Result<Self, Refused> {
        let kind = headers.get(header::CONTENT_TYPE);
        let kind = kind.and_then(|kind| kind.to_str().ok()).unwrap_or_default();
        if kind.starts_with("application/json") {
            return serde_json::from_slice(body)
                .map(Self)
                .map_err(|_| Refused::Code("invalid_json"));
        }
        if kind.starts_with("application/x-www-form-urlencoded") || body.is_empty() {
            let pairs = url::form_urlencoded::parse(body);
            return Ok(Self(
                pairs
                    .map(|(name, value)| (name.into_owned(), json!(value)))
                    .collect(),
            ));
        }
        Err(Refused::Code("invalid_post_type"))
    }

    fn text(&self, name: &str) -> Option<&str> {
        self.0
            .get(name)
            .and_then(Value::as_str)
            .filter(|text| !text.is_empty())
    }

    fn needed(&self, name: &str) -> Result<&str, Refused> {
        self.text(name).ok_or(Refused::Code("invalid_arguments"))
    }

    fn flag(&self, name: &str) -> bool {
        match self.0.get(name) {
            Some(Value::Bool(flag)) => *flag,
            Some(Value::String(text)) => text == "true" || text == "1",
            _ => false,
        }
    }

    fn number(&self, name: &str) -> Option<usize> {
        match self.0.get(name)? {
            Value::Number(number) => number.as_u64()?.try_into().ok(),
            Value::String(text) => text.parse().ok(),
            _ => None,
        }
    }

    /// A structure, which may be written as a text.
    fn structure(&self, name: &str) -> Value {
        match self.0.get(name) {
            Some(Value::String(text)) => serde_json::from_str(text).unwrap_or_default(),
            Some(value) => value.clone(),
            None => Value::Null,
        }
    }
}

/// Answers a call.
pub(super) fn call(
    state: &mut State,
    method: &str,
    headers: &HeaderMap,
    arguments: &Arguments,
) -> Answer {
    authenticate(headers)?;
    match method {
        "auth.test" => Ok(
            json!({"ok": true, "url": "https://sandbox.slack.com/", "team": "Sandbox",
            "user": "growth-chat", "team_id": TEAM_ID, "user_id": BOT_USER_ID, "bot_id": BOT_ID}),
        ),
        "chat.postMessage" => post_message(state, arguments),
        "chat.update" => update(state, arguments),
        "chat.delete" => delete(state, arguments),
        "conversations.history" => history(state, arguments),
        "conversations.list" => Ok(
            json!({"ok": true, "response_metadata": {"next_cursor": ""}, "channels": [
            {"id": "C0GENERAL", "name": "general", "is_channel": true, "is_member": false},
            {"id": CHANNEL_ID, "name": CHANNEL_NAME, "is_channel": true, "is_member": true}]}),
        ),
        "conversations.replies" => replies(state, arguments),
        "users.info" => {
            let id = arguments.needed("user")?;
            let user = USERS.iter().find(|user| user.id == id);
            let user = user.ok_or(Refused::Code("user_not_found"))?;
            Ok(
                json!({"ok": true, "user": {"id": user.id, "team_id": TEAM_ID, "name": user.name,
                "real_name": user.display_name, "is_bot": false,
                "profile": {"display_name": user.display_name, "real_name": user.display_name}}}),
            )
        }
        "views.open" => {
            let view = arguments.structure("view");
            blocks::check_view(&view).map_err(Refused::Blocks)?;
            let trigger = arguments.needed("trigger_id")?;
            let open = state.open_view(trigger, view).map_err(Refused::Code)?;
            Ok(json!({"ok": true, "view": shown_view(&open.id, &open.view)}))
        }
        _ => Err(Refused::Code("unknown_method")),
    }
}

/// A modal as Slack shows it to the app.
pub(super) fn shown_view(id: &str, view: &Value) -> Value {
    let mut shown = view.clone();
    shown["id"] = json!(id);
    shown["team_id"] = json!(TEAM_ID);
    shown["app_id"] = json!(APP_ID);
    shown["bot_id"] = json!(BOT_ID);
    shown["hash"] = json!(format!("{id}.hash"));
    for (name, empty) in [("private_metadata", ""), ("callback_id", "")] {
        if shown[name].is_null() {
            shown[name] = json!(empty);
        }
    }
    if shown["state"].is_null() {
        shown["state"] = json!({"values": {}});
    }
    shown
}

fn authenticate(headers: &HeaderMap) -> Result<(), Refused> {
    let token = headers
        .get(header::AUTHORIZATION)
        .and_then(|value| value.to_str().ok())
        .and_then(|value| value.strip_prefix("Bearer "));
    match token {
        // A test may have marked it.
        Some(token) if token.starts_with(BOT_TOKEN) => Ok(()),
        Some(_) => Err(Refused::Code("invalid_auth")),
        None => Err(Refused::Code("not_authed")),
    }
}

fn post_message(state: &mut State, arguments: &Arguments) -> Answer {
    let named = arguments.needed("channel")?;
    if named != CHANNEL_ID && named.trim_start_matches('#') != CHANNEL_NAME {
        return Err(Refused::Code("channel_not_found"));
    }
    let message = content(arguments)?;
    let thread_ts = arguments.text("thread_ts");
    if thread_ts.is_some_and(|ts| state.find(CHANNEL_ID, ts).is_none()) {
        return Err(Refused::Code("thread_not_found"));
    }
    state.meter(CHANNEL_ID).map_err(Refused::TooFast)?;
    let message = PostedMessage {
        ts: state.next_ts(),
        thread_ts: thread_ts.map(ToOwned::to_owned),
        broadcast: thread_ts.is_some() && arguments.flag("reply_broadcast"),
        ..message
    };
    let answer = json!({"ok": true, "channel": CHANNEL_ID, "ts": message.ts,
        "message": message.shown(true)});
    state.keep(message);
    Ok(answer)
}

/// Text, blocks and metadata of a message, checked.
fn content(arguments: &Arguments) -> Result<PostedMessage, Refused> {
    let text = arguments.text("text").unwrap_or_default();
    if text.encode_utf16().count() > LONGEST_TEXT {
        return Err(Refused::Code("msg_too_long"));
    }
    let blocks = arguments.structure("blocks");
    if text.is_empty() && blocks.is_null() {
        return Err(Refused::Code("no_text"));
    }
    let metadata = arguments.structure("metadata");
    let is_whole = metadata["event_type"].is_string() && metadata["event_payload"].is_object();
    if !is_whole && !metadata.is_null() {
        return Err(Refused::Code("invalid_metadata_format"));
    }
    Ok(PostedMessage {
        channel: CHANNEL_ID.to_owned(),
        ts: String::new(),
        thread_ts: None,
        broadcast: false,
        via: Via::Bot,
        user: BOT_USER_ID.to_owned(),
        text: text.to_owned(),
        blocks: checked_blocks(blocks).map_err(Refused::Blocks)?,
        metadata,
        edits: 0,
    })
}

/// The blocks, with ids for those that have none.
pub(super) fn checked_blocks(mut blocks: Value) -> Result<Value, String> {
    if blocks.is_null() {
        return Ok(json!([]));
    }
    blocks::check_message(&blocks)?;
    for (place, block) in blocks.as_array_mut().into_iter().flatten().enumerate() {
        if block["block_id"].is_null() {
            block["block_id"] = json!(format!("b{place}"));
        }
    }
    Ok(blocks)
}

/// The message that a call is about. Only by the channel's id: unlike `chat.postMessage`, the others
/// take no name.
fn addressed(arguments: &Arguments) -> Result<(&str, &str), Refused> {
    let channel = by_id(arguments)?;
    Ok((channel, arguments.needed("ts")?))
}

fn by_id(arguments: &Arguments) -> Result<&str, Refused> {
    let channel = arguments.needed("channel")?;
    if channel == CHANNEL_ID {
        Ok(channel)
    } else {
        Err(Refused::Code("channel_not_found"))
    }
}

fn update(state: &mut State, arguments: &Arguments) -> Answer {
    let (channel, ts) = addressed(arguments)?;
    let new = content(arguments)?;
    let message = state
        .find_mut(channel, ts)
        .ok_or(Refused::Code("message_not_found"))?;
    if message.via == Via::Person {
        return Err(Refused::Code("cant_update_message"));
    }
    message.text = new.text;
    message.blocks = new.blocks;
    if !new.metadata.is_null() {
        message.metadata = new.metadata;
    }
    message.edits += 1;
    Ok(
        json!({"ok": true, "channel": channel, "ts": ts, "text": message.text,
        "message": message.shown(true)}),
    )
}

fn delete(state: &mut State, arguments: &Arguments) -> Answer {
    let (channel, ts) = addressed(arguments)?;
    let message = state
        .find(channel, ts)
        .ok_or(Refused::Code("message_not_found"))?;
    if message.via == Via::Person {
        return Err(Refused::Code("cant_delete_message"));
    }
    state.delete(channel, ts);
    Ok(json!({"ok": true, "channel": channel, "ts": ts}))
}

/// The newest first, without replies that are shown in their thread only.
fn history(state: &State, arguments: &Arguments) -> Answer {
    let channel = by_id(arguments)?;
    let messages = state.messages.iter().rev();
    let found = messages
        .filter(|it| it.channel == channel && (it.thread_ts.is_none() || it.broadcast))
        .filter(|it| within(it, arguments));
    page(found, arguments)
}

/// The thread's first message, then its replies, the oldest first.
fn replies(state: &State, arguments: &Arguments) -> Answer {
    let channel = by_id(arguments)?;
    let ts = arguments.needed("ts")?;
    let parent = state
        .find(channel, ts)
        .ok_or(Refused::Code("thread_not_found"))?;
    let replies = state
        .messages
        .iter()
        .filter(|it| it.channel == channel && it.thread_ts.as_deref() == Some(ts));
    page(
        [parent]
            .into_iter()
            .chain(replies.filter(|it| within(it, arguments))),
        arguments,
    )
}

fn within(message: &PostedMessage, arguments: &Arguments) -> bool {
    let at = |text: &str| text.parse::<f64>().unwrap_or_default();
    let ts = at(&message.ts);
    let inclusive = arguments.flag("inclusive");
    arguments
        .text("oldest")
        .map(at)
        .is_none_or(|oldest| ts > oldest || (inclusive && ts >= oldest))
        && arguments
            .text("latest")
            .map(at)
            .is_none_or(|latest| ts < latest || (inclusive && ts <= latest))
}

fn page<'a>(messages: impl Iterator<Item = &'a PostedMessage>, arguments: &Arguments) -> Answer {
    let limit = arguments.number("limit").unwrap_or(100);
    if limit == 0 || limit > MOST_OF_A_PAGE {
        return Err(Refused::Code("invalid_limit"));
    }
    let from = match arguments.text("cursor") {
        Some(cursor) => cursor
            .strip_prefix("next:")
            .and_then(|from| from.parse::<usize>().ok())
            .ok_or(Refused::Code("invalid_cursor"))?,
        None => 0,
    };
    let all_metadata = arguments.flag("include_all_metadata");
    let mut shown: Vec<Value> = messages
        .skip(from)
        .take(limit + 1)
        .map(|message| message.shown(all_metadata))
        .collect();
    let has_more = shown.len() > limit;
    shown.truncate(limit);
    let next = if has_more {
        format!("next:{}", from + limit)
    } else {
        String::new()
    };
    Ok(json!({"ok": true, "messages": shown, "has_more": has_more,
        "response_metadata": {"next_cursor": next}}))
}
