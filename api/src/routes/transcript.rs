//! `GET /chat/{session}`: all that a reload of the page needs.

use axum::{Json, extract::State as StateOf};
use chrono::{DateTime, Utc};
use serde::Serialize;
use store::{
    sessions,
    transcript::{self, Transcript, TranscriptMessage},
};
use utoipa::ToSchema;

use super::contact::Promise;
use crate::{
    auth::Credentials,
    extract::SessionPath,
    problem::{Code, Problem, ProblemDocument},
    state::{State, within_patience},
};

/// A session with its messages.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct SessionTranscript {
    /// The session.
    session: SessionView,
    /// The messages in order, as the AI SDK's `UIMessage`.
    messages: Vec<UiMessage>,
    /// The oldest turn that is queued or running.
    active_turn: Option<i32>,
}

/// A session's state.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct SessionView {
    /// The session's id.
    id: String,
    /// The stage of the conversation, 1–4.
    stage: i16,
    /// `open` or `closed`.
    status: String,
    /// Why it was closed.
    termination_type: Option<String>,
    /// How far the newest handoff is: `pending`, `delivered`, `degraded`, `mailed` or `dead`; `null`:
    /// there is none.
    handoff: Option<String>,
    /// The person who has taken over the conversation.
    agent: Option<String>,
    /// When the visitor of the newest handoff can expect a reply; `null`: nothing was promised.
    promise: Option<Promise>,
}

/// A message in the AI SDK's shape.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct UiMessage {
    /// The message's id; an answer's is the one that its stream's `start` named.
    id: String,
    /// `user` or `assistant`.
    role: String,
    /// The text, and what it cites.
    parts: Vec<UiPart>,
    /// What the SDK has no place for.
    metadata: UiMetadata,
}

/// A part of a message.
#[derive(Debug, PartialEq, Eq, Serialize, ToSchema)]
#[serde(
    tag = "type",
    rename_all = "kebab-case",
    rename_all_fields = "camelCase"
)]
pub(crate) enum UiPart {
    /// Text.
    Text {
        /// The text.
        text: String,
    },
    /// A passage that the answer used.
    SourceUrl {
        /// The source's id, unique in the message.
        source_id: String,
        /// Where it can be read.
        url: String,
        /// Title of the document and heading.
        #[serde(skip_serializing_if = "Option::is_none")]
        title: Option<String>,
    },
}

/// What belongs to a message besides its parts.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct UiMetadata {
    /// The turn that the message belongs to.
    turn: i32,
    /// `visitor`, `assistant`, or the name of the person who wrote it.
    author: String,
    /// When it was accepted or finished.
    created_at: DateTime<Utc>,
    /// `complete` or `cancelled`.
    status: String,
    /// What the visitor thinks of it: `up` or `down`.
    #[serde(skip_serializing_if = "Option::is_none")]
    rating: Option<String>,
}

/// The transcript
///
/// The session's state and its messages; answers that were replaced are left out.
#[utoipa::path(
    get,
    path = "/chat/{session}",
    tag = "chat",
    params(("session" = String, Path, description = "The session's id")),
    responses(
        (status = 200, description = "The session and its messages", body = SessionTranscript),
        (status = "4XX", description = "The request is refused", body = ProblemDocument, content_type = "application/problem+json"),
    ),
    security(("widget_token" = [], "session_secret" = [])),
)]
pub(crate) async fn get(
    StateOf(state): StateOf<State>,
    SessionPath(session_id): SessionPath,
    credentials: Credentials,
) -> Result<Json<SessionTranscript>, Problem> {
    let found = within_patience(async {
        let read = async {
            let mut conn = state.pool().acquire().await?;
            let owner = sessions::owner(&mut conn, &session_id).await?;
            if !owner.is_some_and(|owner| credentials.open(owner.secret_hash.as_deref())) {
                return Ok(None);
            }
            transcript::read(&mut conn, &session_id).await
        };
        read.await
            .map_err(|error: sqlx::Error| Problem::internal("read a transcript", &error))
    })
    .await?;
    let found = found.ok_or_else(|| Problem::new(Code::SessionNotFound))?;
    Ok(Json(show(session_id.into(), found)))
}

fn show(id: String, found: Transcript) -> SessionTranscript {
    SessionTranscript {
        session: SessionView {
            id,
            stage: found.stage,
            status: found.status,
            termination_type: found.termination_type,
            promise: found.promise.map(Promise::from),
            handoff: found.handoff,
            agent: None,
        },
        messages: found.messages.into_iter().map(show_message).collect(),
        active_turn: found.active_turn,
    }
}

fn show_message(message: TranscriptMessage) -> UiMessage {
    let text = (!message.body.is_empty()).then_some(UiPart::Text { text: message.body });
    let sources = message.sources.into_iter().map(|source| UiPart::SourceUrl {
        source_id: source.source_id,
        url: source.url,
        title: source.title,
    });
    let author = message.author.unwrap_or_else(|| {
        let author = if message.role == "user" {
            "visitor"
        } else {
            "assistant"
        };
        author.to_owned()
    });
    UiMessage {
        id: message.message_id,
        role: message.role,
        parts: text.into_iter().chain(sources).collect(),
        metadata: UiMetadata {
            turn: message.turn,
            author,
            created_at: message.created_at,
            status: message.status,
            rating: message.rating,
        },
    }
}
