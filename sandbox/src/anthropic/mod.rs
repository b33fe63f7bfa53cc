//! Anthropic's Messages API: `POST /v1/messages`, whole or streamed, with the real events, the
//! real checks and the real errors; and `GET /v1/models`, which costs nothing and needs the key.
//!
//! ```text
//! request ── Request::parse ──┬── refused: an error body
//!                             └── Reply: scripted, or composed from the request's search results
//!                                   └── plan of frames ── streamed at its pace, cut, stalled, …
//! ```
//! A test scripts replies in order ([`Anthropic::push`]), for messages that contain a marker
//! ([`Anthropic::on`], [`Anthropic::in_turn`]) or for summaries ([`Anthropic::on_summary`]), and reads
//! in the [`OutsideWorld`] what was received and who hung up when. Without a script the model behaves
//! sensibly: it answers from the search results, and calls the tools that it is offered.

mod behave;
mod compose;
mod reply;
mod request;
mod stream;

use std::{collections::VecDeque, io, sync::Arc};

use axum::{
    Router,
    body::{Body, Bytes},
    extract::{DefaultBodyLimit, State},
    http::{HeaderMap, StatusCode, header},
    response::{IntoResponse, Response},
    routing::{get, post},
};
use parking_lot::Mutex;
use serde_json::{Value, json};

pub use self::reply::{Citation, Content, Pace, Reply, Trouble};
use self::request::Request;
use crate::{
    outside::{Outcome, OutsideWorld, Recording, Service},
    serve::Served,
};

/// The largest request, in bytes: 32 MB as documented.
const LARGEST_REQUEST: usize = 32 * 1024 * 1024;

/// How messages with a marker are answered.
#[derive(Debug)]
enum Marked {
    /// Always so.
    Always(Reply),
    /// One after the other; then as if there were no marker.
    InTurn(VecDeque<Reply>),
}

/// The stand-in, served until it is dropped.
#[derive(Debug)]
pub struct Anthropic {
    served: Served,
    state: Shared,
}

#[derive(Debug, Clone)]
struct Shared {
    world: OutsideWorld,
    script: Arc<Mutex<Script>>,
}

#[derive(Debug, Default)]
struct Script {
    next: VecDeque<Reply>,
    marked: Vec<(String, Marked)>,
    summary: Option<Reply>,
    pace: Pace,
}

impl Anthropic {
    /// Serves it on a port, or with 0 on a free one.
    pub async fn start(world: OutsideWorld, port: u16) -> io::Result<Self> {
        let state = Shared {
            world,
            script: Arc::default(),
        };
        let router = Router::new()
            .route("/v1/messages", post(messages))
            .route("/v1/models", get(models))
            .layer(DefaultBodyLimit::max(LARGEST_REQUEST))
            .with_state(state.clone());
        let served = Served::start(router, port).await?;
        Ok(Self { served, state })
    }

    /// For `ANTHROPIC_BASE_URL`: without `/v1`.
    pub fn url(&self) -> String {
        self.served.url()
    }

    /// The next request for which nothing else is scripted is answered so.
    pub fn push(&self, reply: Reply) {
        self.state.script.lock().next.push_back(reply);
    }

    /// Every request whose last question contains `marker` is answered so, from now on; it goes
    /// before what was pushed. A marker that is set again is changed.
    pub fn on(&self, marker: &str, reply: Reply) {
        self.mark(marker, Marked::Always(reply));
    }

    /// The requests whose last question contains `marker` are answered so, one after the other: the
    /// calls that one turn makes, for example. Afterwards they are answered as without the marker.
    pub fn in_turn(&self, marker: &str, replies: impl IntoIterator<Item = Reply>) {
        self.mark(marker, Marked::InTurn(replies.into_iter().collect()));
    }

    fn mark(&self, marker: &str, replies: Marked) {
        let mut script = self.state.script.lock();
        script.marked.retain(|(known, _)| known != marker);
        script.marked.push((marker.to_owned(), replies));
    }

    /// Every request for a summary of a conversation is answered so, from now on. Nothing else that
    /// was scripted is for them.
    pub fn on_summary(&self, reply: Reply) {
        self.state.script.lock().summary = Some(reply);
    }

    /// How fast a reply without a pace of its own comes. At first: at once.
    pub fn set_pace(&self, pace: Pace) {
        self.state.script.lock().pace = pace;
    }

    /// How many requests were received (as far back as the log goes).
    pub fn calls(&self) -> usize {
        self.state.world.received_by(Service::Anthropic).len()
    }
}

impl Script {
    /// The reply for the first marker that the question has.
    fn marked(&mut self, question: &str) -> Option<Reply> {
        self.marked
            .iter_mut()
            .filter(|(marker, _)| question.contains(marker.as_str()))
            .find_map(|(_, marked)| match marked {
                Marked::Always(reply) => Some(reply.clone()),
                Marked::InTurn(replies) => replies.pop_front(),
            })
    }
}

impl Shared {
    fn reply_to(&self, request: &Request) -> (Reply, Pace) {
        let mut script = self.script.lock();
        let reply = if behave::is_summary(request) {
            script.summary.clone().unwrap_or_default()
        } else {
            let marked = script.marked(request.question());
            marked
                .or_else(|| script.next.pop_front())
                .unwrap_or_default()
        };
        let pace = reply.pace.unwrap_or(script.pace);
        (reply, pace)
    }
}

/// An answer that is not a message.
#[derive(Debug)]
pub(crate) struct ApiError {
    pub(crate) status: StatusCode,
    pub(crate) kind: String,
    pub(crate) message: String,
    pub(crate) headers: Vec<(&'static str, String)>,
}

impl ApiError {
    fn new(status: StatusCode, kind: &str, message: impl Into<String>) -> Self {
        Self {
            status,
            kind: kind.to_owned(),
            message: message.into(),
            headers: Vec::new(),
        }
    }

    pub(crate) fn invalid(message: impl Into<String>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, "invalid_request_error", message)
    }

    /// The body, which an `error` event inside a stream has, too.
    pub(crate) fn body(kind: &str, message: &str) -> Value {
        json!({"type": "error", "error": {"type": kind, "message": message}})
    }

    fn into_response(self, request_id: &str) -> Response {
        let mut body = Self::body(&self.kind, &self.message);
        body["request_id"] = json!(request_id);
        let mut response = (self.status, axum::Json(body)).into_response();
        for (name, value) in self.headers {
            if let Ok(value) = value.parse() {
                response.headers_mut().insert(name, value);
            }
        }
        response
    }
}

async fn messages(State(state): State<Shared>, headers: HeaderMap, body: Bytes) -> Response {
    let recording = state
        .world
        .record(Service::Anthropic, "POST /v1/messages", &body);
    recording.came_with(&headers);
    let request_id = format!("req_{:024}", recording.number());
    let mut response = answer(&state, &headers, &body, recording, &request_id).await;
    if let Ok(value) = request_id.parse() {
        response.headers_mut().insert("request-id", value);
    }
    response
}

async fn models(headers: HeaderMap) -> Response {
    match check_headers(&headers) {
        Ok(()) => axum::Json(json!({"data": [], "has_more": false})).into_response(),
        Err(error) => error.into_response("req_models"),
    }
}

async fn answer(
    state: &Shared,
    headers: &HeaderMap,
    body: &[u8],
    mut recording: Recording,
    request_id: &str,
) -> Response {
    let refuse = |error: ApiError, mut recording: Recording| {
        recording.answered_text(&error.message);
        recording.end(Outcome::Answered(error.status.as_u16()));
        error.into_response(request_id)
    };
    let request = match check_headers(headers).and_then(|()| Request::parse(body)) {
        Ok(request) => request,
        Err(error) => return refuse(error, recording),
    };
    let (reply, pace) = state.reply_to(&request);
    tokio::time::sleep(pace.before_headers).await;
    if let Some(Trouble::Refused(refusal)) = &reply.trouble {
        return refuse(refusal.to_error(), recording);
    }
    let message = stream::Message::new(request_id, &request, &reply);
    if !request.stream {
        let whole = message.whole();
        recording.answered_text(&message.text());
        recording.end(Outcome::Answered(200));
        return axum::Json(whole).into_response();
    }
    let frames = stream::frames(message, pace, reply.trouble, recording);
    let content_type = [
        (header::CONTENT_TYPE, "text/event-stream; charset=utf-8"),
        (header::CACHE_CONTROL, "no-cache"),
    ];
    (content_type, Body::from_stream(frames)).into_response()
}

fn check_headers(headers: &HeaderMap) -> Result<(), ApiError> {
    let header = |name: &str| {
        let value = headers.get(name).and_then(|value| value.to_str().ok());
        value.filter(|value| !value.trim().is_empty())
    };
    if header("x-api-key").is_none() {
        return Err(ApiError::new(
            StatusCode::UNAUTHORIZED,
            "authentication_error",
            "x-api-key header is required",
        ));
    }
    match header("anthropic-version") {
        Some("2023-06-01") => Ok(()),
        Some(_) => Err(ApiError::invalid(
            "anthropic-version: it is not a valid version",
        )),
        None => Err(ApiError::invalid("anthropic-version: header is required")),
    }
}
