//! A system in which a visitor has asked for a person, and Slack has the message.

use std::time::Duration;

use reqwest::StatusCode;
use sandbox::slack::{
    ANNA, CHANNEL_ID, PostedMessage, SLACK_SIGNING_SECRET, SlackUser, Workspace, signature,
};
use serde_json::{Value, json};
use sqlx::PgPool;
use store::clock::{Clock, SystemClock};

use crate::support::{
    ApiProcess, TestSystem, client,
    frames::{Frame, Frames},
};

/// Far more than anything takes, on a machine under load too.
pub(super) const PATIENCE: Duration = Duration::from_mins(1);
const LOOK: Duration = Duration::from_millis(10);

/// Somebody waits for something that does not come by itself.
pub(super) async fn until<T>(what: &str, mut look: impl AsyncFnMut() -> Option<T>) -> T {
    let found = async {
        loop {
            if let Some(found) = look().await {
                return found;
            }
            tokio::time::sleep(LOOK).await;
        }
    };
    let found = tokio::time::timeout(PATIENCE, found).await;
    found.unwrap_or_else(|_| panic!("it never came to this: {what}"))
}

/// Slack's secret, and that a person may take longer than three seconds to open a form: machines are slow.
pub(super) fn workspace(system: &TestSystem, api: &ApiProcess) -> Workspace {
    let slack = system.people.slack.workspace().clone();
    slack.set_trigger_life(PATIENCE);
    slack.connect(&api.url(""));
    slack
}

/// The visitor leaves contact details, and the message of it is in Slack.
pub(super) async fn hand_off(slack: &Workspace, api: &ApiProcess, session: &str) -> PostedMessage {
    let details = json!({"email": "visitor@example.org", "name": "A visitor", "consent": true});
    let path = format!("/chat/{session}/contact");
    let left = api.post(&path).json(&details).send().await.unwrap();
    assert_eq!(left.status(), StatusCode::ACCEPTED);
    let button = format!("{session}:");
    slack
        .wait_for(PATIENCE, |messages| {
            let of_session = |message: &&PostedMessage| {
                let button_of = message.button("take_over");
                button_of.is_some_and(|it| {
                    it["value"]
                        .as_str()
                        .is_some_and(|it| it.starts_with(&button))
                })
            };
            messages.iter().find(of_session).cloned()
        })
        .await
        .expect("Slack gets the message")
}

/// The thread of a message is known: replies can be told to be about the session.
pub(super) async fn thread_is_known(pool: &PgPool, message: &PostedMessage) {
    until("the thread is known", async || {
        let known: i64 = sqlx::query_scalar("select count(*) from slack_threads where ts = $1")
            .bind(&message.ts)
            .fetch_one(pool)
            .await
            .unwrap();
        (known > 0).then_some(())
    })
    .await;
}

/// Somebody presses a button of a message, once it is there.
pub(super) async fn press(
    slack: &Workspace,
    message: &PostedMessage,
    action: &str,
    user: SlackUser,
) {
    let (ts, wanted) = (message.ts.clone(), action.to_owned());
    slack
        .wait_for(PATIENCE, |messages| {
            let message = messages.iter().find(|message| message.ts == ts)?;
            message.button(&wanted)
        })
        .await
        .unwrap_or_else(|| panic!("the message never has the button {action}"));
    let answer = slack.press(&message.ts, action, user).await.unwrap();
    assert_eq!(answer.status, Some(200), "{}", answer.body);
}

/// A stream of what comes behind a turn.
pub(super) async fn follow(api: &ApiProcess, session: &str, known: i32) -> Frames {
    let request = api.get(&format!("/chat/{session}/stream?follow={known}"));
    let response = request.send().await.unwrap();
    assert_eq!(response.status(), StatusCode::OK);
    Frames::of(response)
}

/// Reads until people's news are this; other news of them may come before.
pub(super) async fn until_news(frames: &mut Frames, status: &str, name: &str) {
    loop {
        let frame = frames.frame().await;
        assert_eq!(frame.kind(), "data-agent", "{frame:?}");
        if frame.json["data"] == json!({"status": status, "name": name}) {
            return;
        }
    }
}

/// The text of a turn that was played to its end.
pub(super) fn text(frames: &[Frame]) -> String {
    let deltas = frames.iter().filter(|frame| frame.kind() == "text-delta");
    deltas
        .map(|frame| frame.json["delta"].as_str().unwrap())
        .collect()
}

/// Author and text of each message.
pub(super) async fn said(api: &ApiProcess, session: &str) -> Vec<(String, String)> {
    let transcript = api.transcript(session).await;
    let messages = transcript["messages"].as_array().unwrap();
    let pair = |message: &Value| {
        let parts = message["parts"].as_array().unwrap().iter();
        let text = parts.filter_map(|part| part["text"].as_str()).collect();
        (
            message["metadata"]["author"].as_str().unwrap().to_owned(),
            text,
        )
    };
    messages.iter().map(pair).collect()
}

/// Somebody presses *Take over* on a message that the stand-in does not have.
pub(super) async fn take_over(api: &ApiProcess, session: &str, number: usize) -> StatusCode {
    let payload = json!({
        "type": "block_actions", "user": {"id": ANNA.id, "name": ANNA.name},
        "trigger_id": format!("trigger-{number}"),
        "container": {"type": "message", "channel_id": CHANNEL_ID, "message_ts": format!("{number}.1")},
        "actions": [{"action_id": "take_over", "value": format!("{session}:h1"), "type": "button"}]
    });
    let mut form = url::form_urlencoded::Serializer::new(String::new());
    form.append_pair("payload", &payload.to_string());
    send(api, "/slack/interactions", form.finish()).await
}

/// Somebody replies in the thread of that message.
pub(super) async fn reply(api: &ApiProcess, number: usize, text: &str) -> StatusCode {
    let event = json!({
        "type": "event_callback", "event_id": format!("Ev{number}"),
        "event": {"type": "message", "channel": CHANNEL_ID, "thread_ts": format!("{number}.1"),
                  "user": ANNA.id, "text": text}
    });
    send(api, "/slack/events", event.to_string()).await
}

async fn send(api: &ApiProcess, path: &str, body: String) -> StatusCode {
    let at = u64::try_from(SystemClock.now().timestamp()).unwrap();
    let request = client()
        .post(api.url(path))
        .header("x-slack-request-timestamp", at)
        .header(
            "x-slack-signature",
            signature(SLACK_SIGNING_SECRET, at, &body),
        )
        .body(body);
    request.send().await.unwrap().status()
}
