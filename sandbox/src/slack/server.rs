//! The two doors that growth-chat comes through: the Web API and the incoming webhook.

use std::io;

use axum::{
    Router,
    body::{Body, Bytes},
    extract::{Path, State as Shared},
    http::{HeaderMap, HeaderName, StatusCode, header},
    response::{IntoResponse, Response},
    routing::post,
};
use serde_json::{Value, json};

use super::{
    PostedMessage, Via, Workspace,
    methods::{self, Arguments, Refused},
    workspace::{BOT_USER_ID, CHANNEL_ID, State},
};
use crate::{
    mishap::Asked,
    outside::{Outcome, Recording, Service},
    switch::Trouble,
};

pub(super) fn router(workspace: Workspace) -> Router {
    Router::new()
        .route("/api/{method}", post(call))
        .route("/webhook", post(webhook))
        .with_state(workspace)
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
    let asked = Asked {
        headers: &headers,
        body: &body,
    };
    meet(
        trouble,
        recording,
        asked,
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
    let asked = Asked {
        headers: &headers,
        body: &body,
    };
    meet(trouble, recording, asked, take, refused, limited).await
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
    asked: Asked<'_>,
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
        Some(Trouble::Quote(status)) => Reply::text(status, &asked.quoted()).send(recording),
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
