//! The Slack channel as its people see it: messages with buttons, threads with a field to reply, and
//! the modal that the app has opened.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use serde_json::Value;

use super::{
    blocks,
    html::Html,
    json::{array, text_of},
    log, mrkdwn,
};
use crate::slack::{CHANNEL_NAME, OpenView, PostedMessage, Slack, USERS, Via, display_name};

/// Messages of the channel on a page at most.
const SHOWN: usize = 30;

/// Renders the channel, the newest message first, and the modal.
pub(super) fn render(html: &mut Html, slack: &Slack) {
    let messages = slack.messages();
    html.raw("<section class=\"panel\" id=\"slack\"><header><h2>#")
        .text(CHANNEL_NAME)
        .raw("</h2><span class=\"quiet\">Slack</span><label>You are <select name=\"person\">");
    for user in USERS {
        html.raw("<option")
            .attribute("value", user.id)
            .raw(">")
            .text(user.display_name)
            .raw("</option>");
    }
    html.raw("</select></label></header>");
    let in_channel = messages
        .iter()
        .filter(|message| message.thread_ts.is_none() || message.broadcast);
    let mut shown = 0;
    for message in in_channel.rev().take(SHOWN) {
        channel_message(html, message, &messages);
        shown += 1;
    }
    if shown == 0 {
        html.raw(
            "<p class=\"empty\">Nobody was handed over yet. Leave your details in the chat, or ask for a person.</p>",
        );
    }
    html.raw("</section>");
    let views = slack.workspace().views();
    if let Some(view) = views.iter().rev().find(|view| !view.done) {
        modal(html, view);
    }
}

fn channel_message(html: &mut Html, message: &PostedMessage, all: &[PostedMessage]) {
    // What a thread shows in the channel as well is answered there.
    let thread = message.thread_ts.as_deref().unwrap_or(&message.ts);
    html.raw("<article class=\"message\"")
        .attribute("data-key", format_args!("message-{}", message.ts))
        .raw(">");
    face(html, message);
    html.raw("<div>");
    if message.broadcast {
        html.raw("<p class=\"context\">replied to a thread</p>");
    }
    content(html, message);
    if message.thread_ts.is_none() {
        html.raw("<div class=\"thread\">");
        let replies = all.iter();
        for reply in replies.filter(|reply| reply.thread_ts.as_deref() == Some(thread)) {
            html.raw("<article class=\"message\"")
                .attribute("data-key", format_args!("reply-{}", reply.ts))
                .raw(">");
            face(html, reply);
            html.raw("<div>");
            content(html, reply);
            html.raw("</div></article>");
        }
        html.raw("<form class=\"answer\" method=\"post\" action=\"/slack/reply\" data-key=\"answer\">")
            .hidden("ts", thread)
            .raw(
                "<textarea name=\"text\" rows=\"1\" required data-enter aria-label=\"Reply in the thread\" \
                 placeholder=\"Reply in the thread\"></textarea><button class=\"button\">Send</button></form></div>",
            );
    }
    html.raw("</div></article>");
}

fn face(html: &mut Html, message: &PostedMessage) {
    let (name, _) = author(message);
    let class = match message.via {
        Via::Person => "avatar person",
        Via::Bot | Via::Webhook => "avatar",
    };
    html.raw("<div")
        .attribute("class", class)
        .raw(" aria-hidden=\"true\">")
        .text(name.chars().next().unwrap_or('?'))
        .raw("</div>");
}

fn content(html: &mut Html, message: &PostedMessage) {
    let (name, badge) = author(message);
    html.raw("<div class=\"byline\"><strong>")
        .text(name)
        .raw("</strong>");
    if let Some(badge) = badge {
        html.raw("<span class=\"badge\">")
            .text(badge)
            .raw("</span>");
    }
    html.raw("<span class=\"ago\">").text(ago(&message.ts));
    if message.edits > 0 {
        html.raw(" (edited)");
    }
    html.raw("</span></div>");
    if array(&message.blocks).is_empty() {
        html.raw("<div class=\"section\">");
        mrkdwn::render(html, &message.text);
        html.raw("</div>");
    } else {
        blocks::render(html, &message.blocks, Some(&message.ts));
    }
}

/// Who wrote it, and what is said beside that.
fn author(message: &PostedMessage) -> (&str, Option<&'static str>) {
    match message.via {
        Via::Bot => ("growth-chat", Some("App")),
        Via::Webhook => ("growth-chat", Some("App, by its webhook")),
        Via::Person => (display_name(&message.user), None),
    }
}

/// How long ago a message was written: its name is the time.
#[expect(
    clippy::disallowed_methods,
    reason = "a message of Slack is named after the real time"
)]
fn ago(ts: &str) -> String {
    let seconds = ts.split('.').next().and_then(|text| text.parse().ok());
    let written = UNIX_EPOCH + Duration::from_secs(seconds.unwrap_or_default());
    let since = SystemTime::now().duration_since(written);
    log::how_long_ago(since.unwrap_or_default())
}

fn modal(html: &mut Html, open: &OpenView) {
    let view = &open.view;
    html.raw("<div class=\"modal\"")
        .attribute("data-key", format_args!("view-{}", open.id))
        .raw(" role=\"dialog\" aria-modal=\"true\"><form class=\"view\" method=\"post\" action=\"/slack/submit\">")
        .hidden("view", &open.id)
        .raw("<header><h3>");
    blocks::text(html, &view["title"])
        .raw("</h3><span class=\"quiet\">for ")
        .text(display_name(&open.user))
        .raw("</span></header>");
    blocks::render(html, &view["blocks"], None);
    // The first one is what the Enter key presses.
    html.raw("<div class=\"buttons\"><button class=\"button primary\">")
        .text(label(&view["submit"], "Submit"))
        .raw("</button><button class=\"button\" formaction=\"/slack/close\" formnovalidate>")
        .text(label(&view["close"], "Cancel"))
        .raw("</button></div></form></div>");
}

fn label<'a>(text: &'a Value, otherwise: &'static str) -> &'a str {
    match text_of(text, "text") {
        "" => otherwise,
        label => label,
    }
}
