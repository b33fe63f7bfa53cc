//! What people do in Slack, as signed requests, and a session that they can do it in.

use reqwest::{RequestBuilder, Response, StatusCode};
use sandbox::slack::{SLACK_SIGNING_SECRET, signature};
use serde_json::{Value, json};
use store::clock::{Clock, SystemClock};

use super::support::App;

/// The thread's first message.
pub(crate) const THREAD: (&str, &str) = ("C1", "1700000000.000100");
/// Two people of the company.
pub(crate) const ADA: &str = "U0ADA";
pub(crate) const BOB: &str = "U0BOB";

/// The time that a request is signed with.
pub(crate) fn now() -> u64 {
    u64::try_from(SystemClock.now().timestamp()).unwrap()
}

/// A request that is signed as Slack signs it.
pub(crate) fn signed(app: &App, path: &str, body: String) -> RequestBuilder {
    let at = now();
    app.client
        .post(app.url(path))
        .header("x-slack-request-timestamp", at)
        .header(
            "x-slack-signature",
            signature(SLACK_SIGNING_SECRET, at, &body),
        )
        .body(body)
}

/// A session has been handed off, and Slack has its message.
pub(crate) async fn handed_off(app: &App, session: &str) {
    let mut tx = app.pool.begin().await.unwrap();
    sqlx::query(
        "insert into handoff_records (session_id, handoff_id, trigger, status)
         values ($1, 'h1', 'explicit_wish', 'delivered')",
    )
    .bind(session)
    .execute(&mut *tx)
    .await
    .unwrap();
    sqlx::query(
        "insert into slack_threads (channel, ts, session_id, handoff_id) values ($1, $2, $3, 'h1')",
    )
    .bind(THREAD.0)
    .bind(THREAD.1)
    .bind(session)
    .execute(&mut *tx)
    .await
    .unwrap();
    sqlx::query("insert into slack_people (user_id, name) values ($1, 'Ada'), ($2, 'Bob')")
        .bind(ADA)
        .bind(BOB)
        .execute(&mut *tx)
        .await
        .unwrap();
    tx.commit().await.unwrap();
}

/// The event of a reply in the thread.
pub(crate) fn reply_event(id: &str, user: &str, text: &str) -> Value {
    json!({
        "type": "event_callback", "event_id": id, "team_id": "T1",
        "event": {"type": "message", "channel": THREAD.0, "thread_ts": THREAD.1,
                  "ts": "1700000001.000100", "user": user, "text": text}
    })
}

/// Somebody replies in the thread.
pub(crate) async fn write(app: &App, id: &str, user: &str, text: &str) -> Response {
    let body = reply_event(id, user, text).to_string();
    signed(app, "/slack/events", body).send().await.unwrap()
}

/// The body of an interaction.
pub(crate) fn form(payload: &Value) -> String {
    let mut form = url::form_urlencoded::Serializer::new(String::new());
    form.append_pair("payload", &payload.to_string());
    form.finish()
}

/// A pressed button of the session's message. `trigger` is Slack's name of the press.
pub(crate) fn button(session: &str, action: &str, user: &str, trigger: &str) -> Value {
    json!({
        "type": "block_actions", "user": {"id": user, "name": "login"}, "trigger_id": trigger,
        "container": {"type": "message", "channel_id": THREAD.0, "message_ts": THREAD.1},
        "actions": [{"action_id": action, "value": format!("{session}:h1"), "type": "button"}]
    })
}

/// Somebody presses a button, and all is well.
pub(crate) async fn press(app: &App, session: &str, action: &str, user: &str) {
    let trigger = store::ids::new_message_id(&store::ids::SystemEntropy).to_string();
    let body = form(&button(session, action, user, &trigger));
    let response = signed(app, "/slack/interactions", body)
        .send()
        .await
        .unwrap();
    assert_eq!(response.status(), StatusCode::OK);
}

/// Somebody submits the form, or (none) closes it.
pub(crate) async fn submit(
    app: &App,
    session: &str,
    view: &str,
    user: &str,
    text: Option<&str>,
) -> Response {
    let kind = if text.is_some() {
        "view_submission"
    } else {
        "view_closed"
    };
    let payload = json!({
        "type": kind, "user": {"id": user, "name": "login"},
        "view": {"id": view, "callback_id": "reply", "private_metadata": format!("{session}:h1"),
                 "state": {"values": {"reply": {"text": {"value": text}}}}}
    });
    signed(app, "/slack/interactions", form(&payload))
        .send()
        .await
        .unwrap()
}

/// The transcript.
pub(crate) async fn transcript(app: &App, session: &str) -> Value {
    let response = app.get(&format!("/chat/{session}")).send().await.unwrap();
    super::support::body_of(response, StatusCode::OK).await
}

/// What stands in the transcript: author and text.
pub(crate) async fn said(app: &App, session: &str) -> Vec<(String, String)> {
    let transcript = transcript(app, session).await;
    let messages = transcript["messages"].as_array().unwrap();
    let pair = |message: &Value| {
        let text = message["parts"][0]["text"].as_str().unwrap();
        let author = message["metadata"]["author"].as_str().unwrap();
        (author.to_owned(), text.to_owned())
    };
    messages.iter().map(pair).collect()
}

/// The live jobs of a kind.
pub(crate) async fn jobs(app: &App, kind: &str) -> Vec<Value> {
    sqlx::query_scalar("select payload from queue.jobs where kind = $1 order by id")
        .bind(kind)
        .fetch_all(&app.pool)
        .await
        .unwrap()
}
