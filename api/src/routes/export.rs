//! `GET /chat/{session}/export`: the visitor takes a copy of what is known of them.

use axum::{
    Json,
    extract::State as StateOf,
    http::header,
    response::{Html, IntoResponse, Response},
};
use serde::Deserialize;
use store::{privacy, sessions};
use utoipa::ToSchema;

use crate::{
    auth::Credentials,
    extract::{KnownQuery, SessionPath},
    problem::{Code, Problem, ProblemDocument},
    state::{State, within_patience},
};

#[derive(Debug, Deserialize)]
pub(crate) struct ExportQuery {
    #[serde(default)]
    format: Format,
}

/// How a copy is given.
#[derive(Debug, Default, Clone, Copy, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Format {
    /// For programs.
    #[default]
    Json,
    /// For people.
    Html,
}

/// Copy the visitor's data
///
/// Everything that is known of the session: messages, summary, ratings, contact details and whom they
/// were given to.
#[utoipa::path(
    get,
    path = "/chat/{session}/export",
    tag = "privacy",
    params(
        ("session" = String, Path, description = "The session's id"),
        ("format" = Option<Format>, Query, description = "`json` (default) or `html`"),
    ),
    responses(
        (status = 200, description = "The copy, as a file", content_type = "application/json", body = Object),
        (status = "4XX", description = "The request is refused", body = ProblemDocument, content_type = "application/problem+json"),
    ),
    security(("widget_token" = [], "session_secret" = [])),
)]
pub(crate) async fn get(
    StateOf(state): StateOf<State>,
    SessionPath(session_id): SessionPath,
    KnownQuery(query): KnownQuery<ExportQuery>,
    credentials: Credentials,
) -> Result<Response, Problem> {
    let found = within_patience(async {
        let read = async {
            let mut snapshot = state.begin().await?;
            privacy::hold_still(&mut snapshot).await?;
            let owner = sessions::owner(&mut snapshot, &session_id).await?;
            if !owner.is_some_and(|owner| credentials.open(owner.secret_hash.as_deref())) {
                return Ok(None);
            }
            privacy::export_session(&mut snapshot, &session_id).await
        };
        read.await
            .map_err(|error: sqlx::Error| Problem::internal("export a session", &error))
    })
    .await?;
    let Some(conversation) = found else {
        return Err(Problem::new(Code::SessionNotFound));
    };
    let document = privacy::document(&[conversation]);
    let attachment = |name: &'static str| {
        [
            (header::CONTENT_DISPOSITION, name),
            (header::CACHE_CONTROL, "no-store"),
        ]
    };
    Ok(match query.format {
        Format::Json => (
            attachment("attachment; filename=\"your-data.json\""),
            Json(document),
        )
            .into_response(),
        Format::Html => (
            attachment("attachment; filename=\"your-data.html\""),
            Html(privacy::page(&document)),
        )
            .into_response(),
    })
}
