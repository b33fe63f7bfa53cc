//! Slack: its Web API below `/api`, an incoming webhook at `/webhook`, and what it sends to the app
//! when people press buttons and write in threads.
//!
//! ```text
//! growth-chat ──▶ /api/chat.postMessage, … ──▶ ┌───────────┐ ◀── messages(), views(): tests, dev's page
//!             ──▶ /webhook ──────────────────▶ │ Workspace │
//!             ◀── /slack/events ────────────── │           │ ◀── reply_in_thread()
//!             ◀── /slack/interactions ──────── └───────────┘ ◀── press(), submit_view(), close_view()
//! ```

mod blocks;
mod inbound;
mod methods;
mod rate;
mod workspace;

use std::{collections::HashMap, io, sync::Arc, time::Duration};

use axum::{
    Router,
    body::{Body, Bytes},
    extract::{Path, State as Shared},
    http::{HeaderMap, HeaderName, StatusCode, header},
    response::{IntoResponse, Response},
    routing::post,
};
use parking_lot::Mutex;
use serde_json::{Value, json};
use tokio::sync::watch;

use self::{
    inbound::Inbound,
    methods::{Arguments, Refused},
    workspace::State,
};
pub use self::{
    inbound::{AppAnswer, InboundError, signature},
    rate::PostRate,
    workspace::{
        ANNA, APP_ID, BEN, BOT_ID, BOT_USER_ID, CHANNEL_ID, CHANNEL_NAME, OpenView, PostedMessage,
        SlackUser, TEAM_ID, USERS, Via,
    },
};
use crate::{
    outside::{Outcome, OutsideWorld, Recording, Service},
    serve::Served,
    switch::{Switch, Trouble},
};

/// The app's token.
pub const BOT_TOKEN: &str = "xoxb-sandbox";

/// The stand-in, which serves until it is dropped.
#[derive(Debug)]
pub struct Slack {
    served: Served,
    workspace: Workspace,
}

impl Slack {
    /// Serves on a port, or with 0 on a free one.
    pub async fn start(world: OutsideWorld, port: u16) -> io::Result<Self> {
        let workspace = Workspace::new(world);
        let router = Router::new()
            .route("/api/{method}", post(call))
            .route("/webhook", post(webhook))
            .with_state(workspace.clone());
        let served = Served::start(router, port).await?;
        Ok(Self { served, workspace })
    }

    /// Its address, without a slash at its end.
    pub fn url(&self) -> String {
        self.served.url()
    }

    /// What is in it. A clone is the same workspace, and may outlive the server.
    pub fn workspace(&self) -> &Workspace {
        &self.workspace
    }

    /// How the Web API fails.
    pub fn switch(&self) -> &Switch {
        &self.workspace.inner.api
    }

    /// How the incoming webhook fails.
    pub fn webhook_switch(&self) -> &Switch {
        &self.workspace.inner.webhook
    }

    /// Every request to the Web API and to the webhook meets this from now on; `None`: they work again.
    pub fn set_trouble(&self, trouble: Option<Trouble>) {
        self.switch().set(trouble.clone());
        self.webhook_switch().set(trouble);
    }

    /// [`Workspace::messages`].
    pub fn messages(&self) -> Vec<PostedMessage> {
        self.workspace.messages()
    }
}

/// The workspace. Clones are the same one.
#[derive(Debug, Clone)]
pub struct Workspace {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    world: OutsideWorld,
    state: Mutex<State>,
    changed: watch::Sender<()>,
    api: Switch,
    webhook: Switch,
    methods: Mutex<HashMap<String, Switch>>,
    inbound: Inbound,
}

impl Workspace {
    fn new(world: OutsideWorld) -> Self {
        Self {
            inner: Arc::new(Inner {
                world,
                state: Mutex::default(),
                changed: watch::Sender::new(()),
                api: Switch::default(),
                webhook: Switch::default(),
                methods: Mutex::default(),
                inbound: Inbound::default(),
            }),
        }
    }

    /// How one method of the Web API fails, such as `chat.postMessage`. It goes before the switch of all.
    pub fn switch_of(&self, method: &str) -> Switch {
        let mut methods = self.inner.methods.lock();
        methods.entry(method.to_owned()).or_default().clone()
    }

    /// All messages that are there, in the order in which they came; of many the newest.
    pub fn messages(&self) -> Vec<PostedMessage> {
        self.inner.state.lock().messages.iter().cloned().collect()
    }

    /// One message.
    pub fn message(&self, ts: &str) -> Option<PostedMessage> {
        self.inner.state.lock().find(CHANNEL_ID, ts).cloned()
    }

    /// The replies to a message, the oldest first.
    pub fn thread(&self, ts: &str) -> Vec<PostedMessage> {
        let state = self.inner.state.lock();
        let replies = state.messages.iter();
        replies
            .filter(|message| message.thread_ts.as_deref() == Some(ts))
            .cloned()
            .collect()
    }

    /// The names of messages that were deleted.
    pub fn deleted(&self) -> Vec<String> {
        self.inner.state.lock().deleted.iter().cloned().collect()
    }

    /// The modals that were opened, the newest last.
    pub fn views(&self) -> Vec<OpenView> {
        self.inner.state.lock().views.iter().cloned().collect()
    }

    /// How fast messages may come.
    pub fn set_rate(&self, rate: PostRate) {
        self.inner.state.lock().rate = rate;
    }

    /// How many messages came faster than the rate allows, whether they were refused or not.
    pub fn too_fast(&self) -> u64 {
        self.inner.state.lock().too_fast
    }

    /// How long after a button was pressed a modal may be opened: Slack's three seconds, or what a test
    /// on a slow machine wants.
    pub fn set_trigger_life(&self, life: Duration) {
        self.inner.state.lock().set_trigger_life(life);
    }

    /// Waits until `condition` finds what it looks for among the messages; none: not within `patience`.
    pub async fn wait_for<T>(
        &self,
        patience: Duration,
        condition: impl Fn(&[PostedMessage]) -> Option<T>,
    ) -> Option<T> {
        let mut changes = self.inner.changed.subscribe();
        let search = async {
            loop {
                changes.mark_unchanged();
                if let Some(found) = condition(&self.messages()) {
                    return Some(found);
                }
                changes.changed().await.ok()?;
            }
        };
        tokio::time::timeout(patience, search).await.ok().flatten()
    }

    /// The same for the newest modal that is open.
    pub async fn wait_for_view(&self, patience: Duration) -> Option<OpenView> {
        let mut changes = self.inner.changed.subscribe();
        let search = async {
            loop {
                changes.mark_unchanged();
                let open = self.views().into_iter().rev().find(|view| !view.done);
                if open.is_some() {
                    return open;
                }
                changes.changed().await.ok()?;
            }
        };
        tokio::time::timeout(patience, search).await.ok().flatten()
    }

    fn trouble_of(&self, method: &str) -> Option<Trouble> {
        let of_method = self.inner.methods.lock().get(method).and_then(Switch::take);
        of_method.or_else(|| self.inner.api.take())
    }

    fn change<T>(&self, change: impl FnOnce(&mut State) -> T) -> T {
        let result = change(&mut self.inner.state.lock());
        self.inner.changed.send_replace(());
        result
    }
}

/// What a request is answered with when nothing is in the way.
struct Reply {
    status: u16,
    headers: Vec<(HeaderName, String)>,
    body: String,
}

impl Reply {
    fn json(body: &Value) -> Self {
        Self {
            status: 200,
            headers: vec![(
                header::CONTENT_TYPE,
                "application/json; charset=utf-8".to_owned(),
            )],
            body: body.to_string(),
        }
    }

    fn code(code: &str) -> Self {
        Self::json(&json!({"ok": false, "error": code}))
    }

    fn text(status: u16, text: &str) -> Self {
        Self {
            status,
            headers: vec![(header::CONTENT_TYPE, "text/html".to_owned())],
            body: text.to_owned(),
        }
    }

    fn slow_down(seconds: u64, body: Self) -> Self {
        let mut reply = Self {
            status: 429,
            ..body
        };
        reply
            .headers
            .push((header::RETRY_AFTER, seconds.to_string()));
        reply
    }

    fn send(self, mut recording: Recording) -> Response {
        recording.answered_text(&self.body);
        recording.end(Outcome::Answered(self.status));
        let status = StatusCode::from_u16(self.status).unwrap_or(StatusCode::OK);
        let mut response = (status, self.body).into_response();
        for (name, value) in self.headers {
            if let Ok(value) = value.parse() {
                response.headers_mut().insert(name, value);
            }
        }
        response
    }
}

async fn call(
    Shared(workspace): Shared<Workspace>,
    Path(method): Path<String>,
    headers: HeaderMap,
    body: Bytes,
) -> Response {
    let line = format!("POST /api/{method}");
    let recording = workspace.inner.world.record(Service::Slack, &line, &body);
    recording.came_with(&headers);
    let trouble = workspace.trouble_of(&method);
    let take = || {
        let arguments = Arguments::read(&headers, &body);
        let answer = arguments.and_then(|arguments| {
            workspace.change(|state| methods::call(state, &method, &headers, &arguments))
        });
        match answer {
            Ok(answer) => Reply::json(&answer),
            Err(Refused::Code(code)) => Reply::code(code),
            Err(Refused::Blocks(wrong)) => Reply::json(&json!({"ok": false,
                "error": "invalid_blocks", "response_metadata": {"messages": [wrong]}})),
            Err(Refused::TooFast(wait)) => {
                let seconds = wait.as_millis().div_ceil(1_000).try_into().unwrap_or(1);
                Reply::slow_down(seconds, Reply::code("ratelimited"))
            }
        }
    };
    meet(
        trouble,
        recording,
        take,
        Reply::code,
        Reply::code("ratelimited"),
    )
    .await
}

async fn webhook(
    Shared(workspace): Shared<Workspace>,
    headers: HeaderMap,
    body: Bytes,
) -> Response {
    let world = &workspace.inner.world;
    let recording = world.record(Service::Slack, "POST /webhook", &body);
    recording.came_with(&headers);
    let trouble = workspace.inner.webhook.take();
    let refused = |code: &str| Reply::text(webhook_status(code), code);
    let limited = Reply::text(429, "rate_limited");
    let take = || match workspace.change(|state| receive(state, &body)) {
        Ok(()) => Reply::text(200, "ok"),
        Err(Refused::Code(code)) => refused(code),
        Err(Refused::Blocks(_)) => refused("invalid_blocks"),
        Err(Refused::TooFast(wait)) => {
            let seconds = wait.as_millis().div_ceil(1_000).try_into().unwrap_or(1);
            Reply::slow_down(seconds, Reply::text(429, "rate_limited"))
        }
    };
    meet(trouble, recording, take, refused, limited).await
}

/// The statuses that incoming webhooks give to their codes:
/// <https://docs.slack.dev/messaging/sending-messages-using-incoming-webhooks>.
fn webhook_status(code: &str) -> u16 {
    match code {
        "action_prohibited" | "posting_to_general_channel_denied" | "invalid_token" => 403,
        "channel_not_found" | "user_not_found" | "no_service" | "no_team" | "no_active_hooks" => {
            404
        }
        "channel_is_archived" | "team_disabled" => 410,
        "rollup_error" => 500,
        _ => 400,
    }
}

fn receive(state: &mut State, body: &[u8]) -> Result<(), Refused> {
    let payload: Value =
        serde_json::from_slice(body).map_err(|_| Refused::Code("invalid_payload"))?;
    let text = payload["text"].as_str().unwrap_or_default();
    if text.is_empty() && payload["blocks"].is_null() {
        return Err(Refused::Code("no_text"));
    }
    let blocks = methods::checked_blocks(payload["blocks"].clone()).map_err(Refused::Blocks)?;
    state.meter(CHANNEL_ID).map_err(Refused::TooFast)?;
    let message = PostedMessage {
        channel: CHANNEL_ID.to_owned(),
        ts: state.next_ts(),
        thread_ts: None,
        broadcast: false,
        via: Via::Webhook,
        user: BOT_USER_ID.to_owned(),
        text: text.to_owned(),
        blocks,
        // A webhook knows no metadata.
        metadata: Value::Null,
        edits: 0,
    };
    state.keep(message);
    Ok(())
}

/// Does what the switch says, or what was asked for.
async fn meet(
    trouble: Option<Trouble>,
    mut recording: Recording,
    take: impl FnOnce() -> Reply,
    refuse: impl FnOnce(&str) -> Reply,
    limited: Reply,
) -> Response {
    match trouble {
        None => take().send(recording),
        Some(Trouble::Status(status)) => Reply::text(status, "").send(recording),
        Some(Trouble::SlowDown(seconds)) => {
            Reply::slow_down(seconds.into(), limited).send(recording)
        }
        Some(Trouble::Refuse(code)) => refuse(&code).send(recording),
        Some(Trouble::TakeAndHang) => {
            take();
            std::future::pending().await
        }
        Some(Trouble::TakeAndCut) => {
            take();
            recording.end(Outcome::Cut);
            let cut = futures::stream::once(async { Err::<Bytes, _>(io::Error::other("cut")) });
            Response::new(Body::from_stream(cut))
        }
        Some(Trouble::Hang) => std::future::pending().await,
    }
}

#[cfg(test)]
mod tests;
