//! What Slack sends to the app: signed requests in the documented form
//! (<https://docs.slack.dev/authentication/verifying-requests-from-slack>). An event that is not
//! answered with 2xx within three seconds is sent again, up to three times; a button is not.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use hmac::{Hmac, KeyInit, Mac};
use parking_lot::Mutex;
use serde_json::{Value, json};
use sha2::Sha256;

use super::{
    Workspace, methods,
    workspace::{APP_ID, BOT_ID, CHANNEL_ID, CHANNEL_NAME, PostedMessage, SlackUser, TEAM_ID, Via},
};

/// What Slack signs its requests with.
pub const SLACK_SIGNING_SECRET: &str = "sandbox-signing-secret";
/// How long Slack waits for an answer.
const PATIENCE: Duration = Duration::from_secs(3);
/// How often an event is repeated.
const REPETITIONS: u32 = 3;

/// The way to the app.
#[derive(Debug, Default)]
pub(super) struct Inbound {
    app: Mutex<Option<App>>,
    last: Mutex<Option<Sending>>,
}

#[derive(Debug, Clone)]
struct App {
    url: String,
    http: reqwest::Client,
}

/// A request as it is made, without its signature, which is of the moment.
#[derive(Debug, Clone)]
struct Sending {
    path: &'static str,
    content_type: &'static str,
    body: String,
}

/// What the app answered in the end.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AppAnswer {
    /// The status; none: it did not answer within three seconds, or was not there.
    pub status: Option<u16>,
    /// The body.
    pub body: String,
    /// How often it was asked.
    pub tries: u32,
}

impl AppAnswer {
    /// Whether Slack is content with it.
    pub fn is_ok(&self) -> bool {
        self.status
            .is_some_and(|status| (200..300).contains(&status))
    }
}

/// What can't be sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum InboundError {
    /// [`Workspace::connect`] was not called.
    #[error("the workspace does not know where the app is")]
    NotConnected,
    /// The message is not there.
    #[error("there is no such message")]
    NoMessage,
    /// It has no such button.
    #[error("the message has no such button")]
    NoButton,
    /// The modal is not open.
    #[error("there is no such open modal")]
    NoView,
    /// Nothing was sent yet.
    #[error("there is nothing to repeat")]
    NothingSent,
}

/// The signature of a request: `v0=` and the HMAC of `v0:timestamp:body` in hex.
pub fn signature(secret: &str, timestamp: u64, body: &str) -> String {
    use std::fmt::Write;

    // An HMAC takes a key of any length.
    let Ok(mut mac) = Hmac::<Sha256>::new_from_slice(secret.as_bytes()) else {
        return String::new();
    };
    mac.update(format!("v0:{timestamp}:{body}").as_bytes());
    let digest = mac.finalize().into_bytes();
    digest.iter().fold("v0=".to_owned(), |mut text, byte| {
        let _ = write!(text, "{byte:02x}");
        text
    })
}

/// What was written as Slack hands it on.
fn escape(text: &str) -> String {
    text.replace('&', "&amp;")
        .replace('<', "&lt;")
        .replace('>', "&gt;")
}

impl Workspace {
    /// Events go to `{base_url}/slack/events` and interactions to `{base_url}/slack/interactions` from
    /// now on.
    pub fn connect(&self, base_url: &str) {
        // Whoever comes first installs it.
        let _ = rustls::crypto::ring::default_provider().install_default();
        *self.inner.inbound.app.lock() = Some(App {
            url: base_url.trim_end_matches('/').to_owned(),
            http: reqwest::Client::new(),
        });
    }

    /// Whether people's doings reach the app.
    pub fn is_connected(&self) -> bool {
        self.inner.inbound.app.lock().is_some()
    }

    /// The check that Slack makes when the events' URL is configured. The app answers the challenge.
    pub async fn verify_url(&self, challenge: &str) -> Result<AppAnswer, InboundError> {
        let body = json!({"type": "url_verification", "token": "sandbox", "challenge": challenge});
        self.send_once(event(body.to_string())).await
    }

    /// Somebody presses a button of a message.
    pub async fn press(
        &self,
        ts: &str,
        action_id: &str,
        user: SlackUser,
    ) -> Result<AppAnswer, InboundError> {
        let message = self.message(ts).ok_or(InboundError::NoMessage)?;
        let mut button = message.button(action_id).ok_or(InboundError::NoButton)?;
        let trigger_id = self.change(|state| state.issue_trigger(user.id));
        button["block_id"] = block_of(&message, action_id);
        button["action_ts"] = json!(now().as_secs_f64().to_string());
        let payload = json!({
            "type": "block_actions",
            "user": {"id": user.id, "username": user.name, "name": user.name, "team_id": TEAM_ID},
            "api_app_id": APP_ID,
            "token": "sandbox",
            "container": {"type": "message", "message_ts": ts, "channel_id": message.channel,
                "is_ephemeral": false},
            "trigger_id": trigger_id,
            "team": {"id": TEAM_ID, "domain": "sandbox"},
            "enterprise": null,
            "is_enterprise_install": false,
            "channel": {"id": message.channel, "name": CHANNEL_NAME},
            "message": message.shown(false),
            "state": {"values": {}},
            "response_url": "https://hooks.slack.example/actions/sandbox",
            "actions": [button],
        });
        self.send_once(interaction(&payload)).await
    }

    /// Somebody writes a reply to a message. It is in the thread, whatever the app answers.
    pub async fn reply_in_thread(
        &self,
        thread_ts: &str,
        text: &str,
        user: SlackUser,
    ) -> Result<AppAnswer, InboundError> {
        self.message(thread_ts).ok_or(InboundError::NoMessage)?;
        let (message, number) = self.change(|state| {
            let message = PostedMessage {
                channel: CHANNEL_ID.to_owned(),
                ts: state.next_ts(),
                thread_ts: Some(thread_ts.to_owned()),
                broadcast: false,
                via: Via::Person,
                user: user.id.to_owned(),
                text: escape(text),
                blocks: json!([]),
                metadata: Value::Null,
                edits: 0,
            };
            state.keep(message.clone());
            (message, state.next_number())
        });
        self.send_event(&message, number).await
    }

    /// The app hears of a message of its own, as Slack tells it of every message in the channel.
    pub async fn echo(&self, ts: &str) -> Result<AppAnswer, InboundError> {
        let message = self.message(ts).ok_or(InboundError::NoMessage)?;
        let number = self.change(super::workspace::State::next_number);
        self.send_event(&message, number).await
    }

    /// Somebody submits a modal. `values`: block, action and what was typed.
    pub async fn submit_view(
        &self,
        view_id: &str,
        values: &[(&str, &str, &str)],
    ) -> Result<AppAnswer, InboundError> {
        let mut payload = self.view_payload("view_submission", view_id)?;
        for (block, action, value) in values {
            payload["view"]["state"]["values"][*block][*action] =
                json!({"type": "plain_text_input", "value": value});
        }
        payload["response_urls"] = json!([]);
        let answer = self.send_once(interaction(&payload)).await?;
        if answer.is_ok() {
            self.finish_view(view_id);
        }
        Ok(answer)
    }

    /// Somebody closes a modal without submitting it. The app hears of it if it asked for that
    /// (`notify_on_close`).
    pub async fn close_view(&self, view_id: &str) -> Result<Option<AppAnswer>, InboundError> {
        let mut payload = self.view_payload("view_closed", view_id)?;
        payload["is_cleared"] = json!(false);
        self.finish_view(view_id);
        if payload["view"]["notify_on_close"] != true {
            return Ok(None);
        }
        self.send_once(interaction(&payload)).await.map(Some)
    }

    /// Sends the newest request once more, as Slack does when an answer was lost.
    pub async fn repeat(&self) -> Result<AppAnswer, InboundError> {
        let last = self.inner.inbound.last.lock().clone();
        let last = last.ok_or(InboundError::NothingSent)?;
        let app = self.app()?;
        Ok(app.post(&last, Some((1, "http_timeout"))).await)
    }

    fn app(&self) -> Result<App, InboundError> {
        let app = self.inner.inbound.app.lock().clone();
        app.ok_or(InboundError::NotConnected)
    }

    fn view_payload(&self, kind: &str, view_id: &str) -> Result<Value, InboundError> {
        let views = self.views();
        let open = views.iter().find(|view| view.id == view_id && !view.done);
        let open = open.ok_or(InboundError::NoView)?;
        let user = super::USERS.iter().find(|user| user.id == open.user);
        let name = user.map_or("somebody", |user| user.name);
        Ok(json!({
            "type": kind,
            "team": {"id": TEAM_ID, "domain": "sandbox"},
            "user": {"id": open.user, "username": name, "name": name, "team_id": TEAM_ID},
            "api_app_id": APP_ID,
            "token": "sandbox",
            "view": methods::shown_view(&open.id, &open.view),
            "is_enterprise_install": false,
            "enterprise": null,
        }))
    }

    fn finish_view(&self, view_id: &str) {
        self.change(|state| {
            if let Some(view) = state.views.iter_mut().find(|view| view.id == view_id) {
                view.done = true;
            }
        });
    }

    async fn send_event(
        &self,
        message: &PostedMessage,
        number: u64,
    ) -> Result<AppAnswer, InboundError> {
        let mut inner = message.shown(false);
        inner["channel"] = json!(message.channel);
        inner["channel_type"] = json!("channel");
        inner["event_ts"] = json!(message.ts);
        if message.via == Via::Person {
            inner["client_msg_id"] = json!(format!("00000000-0000-4000-8000-{number:012}"));
        } else {
            inner["bot_id"] = json!(BOT_ID);
        }
        let body = json!({
            "token": "sandbox",
            "team_id": TEAM_ID,
            "api_app_id": APP_ID,
            "event": inner,
            "type": "event_callback",
            "event_id": format!("Ev0{number}"),
            "event_time": now().as_secs(),
            "authorizations": [{"enterprise_id": null, "team_id": TEAM_ID,
                "user_id": super::BOT_USER_ID, "is_bot": true, "is_enterprise_install": false}],
            "is_ext_shared_channel": false,
            "event_context": "sandbox",
        });
        let sending = event(body.to_string());
        let app = self.app()?;
        *self.inner.inbound.last.lock() = Some(sending.clone());
        let mut answer = app.post(&sending, None).await;
        for number in 1..=REPETITIONS {
            if answer.is_ok() {
                break;
            }
            let reason = if answer.status.is_some() {
                "http_error"
            } else {
                "http_timeout"
            };
            let next = app.post(&sending, Some((number, reason))).await;
            answer = AppAnswer {
                tries: number + 1,
                ..next
            };
        }
        Ok(answer)
    }

    async fn send_once(&self, sending: Sending) -> Result<AppAnswer, InboundError> {
        let app = self.app()?;
        *self.inner.inbound.last.lock() = Some(sending.clone());
        Ok(app.post(&sending, None).await)
    }
}

impl App {
    async fn post(&self, sending: &Sending, repetition: Option<(u32, &str)>) -> AppAnswer {
        let timestamp = now().as_secs();
        let signed = signature(SLACK_SIGNING_SECRET, timestamp, &sending.body);
        let mut request = self
            .http
            .post(format!("{}{}", self.url, sending.path))
            .timeout(PATIENCE)
            .header("content-type", sending.content_type)
            .header("x-slack-request-timestamp", timestamp)
            .header("x-slack-signature", signed)
            .body(sending.body.clone());
        if let Some((number, reason)) = repetition {
            request = request
                .header("x-slack-retry-num", number)
                .header("x-slack-retry-reason", reason);
        }
        let answered = async {
            let response = request.send().await.ok()?;
            let status = response.status().as_u16();
            Some((status, response.text().await.ok()?))
        };
        let (status, body) = answered.await.unzip();
        AppAnswer {
            status,
            body: body.unwrap_or_default(),
            tries: 1,
        }
    }
}

fn event(body: String) -> Sending {
    Sending {
        path: "/slack/events",
        content_type: "application/json",
        body,
    }
}

fn interaction(payload: &Value) -> Sending {
    let mut form = url::form_urlencoded::Serializer::new(String::new());
    form.append_pair("payload", &payload.to_string());
    Sending {
        path: "/slack/interactions",
        content_type: "application/x-www-form-urlencoded",
        body: form.finish(),
    }
}

/// The block in which a button stands.
fn block_of(message: &PostedMessage, action_id: &str) -> Value {
    let blocks = message.blocks.as_array().into_iter().flatten();
    let has = |element: &Value| element["action_id"] == action_id;
    let mut with = blocks.filter(|block| {
        let elements = block["elements"].as_array().into_iter().flatten();
        elements.chain([&block["accessory"]]).any(has)
    });
    with.next()
        .map_or(Value::Null, |block| block["block_id"].clone())
}

#[expect(clippy::disallowed_methods, reason = "a signature is of the real time")]
fn now() -> Duration {
    SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap_or_default()
}
