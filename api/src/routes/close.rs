//! `POST /chat/{session}/close`: the visitor ends the conversation.

use axum::{Json, extract::State as StateOf};
use jobs::{QueueError, catalog::session_serial_key, lock_serial_key};
use serde::Serialize;
use store::{
    ids::{SessionId, TurnKey},
    sessions, turn_control,
};
use utoipa::ToSchema;

use crate::{
    auth::Credentials,
    extract::SessionPath,
    problem::{Code, Problem, ProblemDocument},
    state::{State, to_the_end},
    stop::Stopping,
};

/// A session that takes no more messages.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct ClosedSession {
    /// The session's id.
    session_id: String,
    /// `closed`.
    status: &'static str,
}

#[derive(Debug, thiserror::Error)]
enum CloseError {
    #[error("the session is not there for this client")]
    NotFound,
    #[error("the database failed")]
    Database(#[from] sqlx::Error),
    #[error("a job could not be cancelled")]
    Queue(#[from] QueueError),
}

impl From<CloseError> for Problem {
    fn from(error: CloseError) -> Self {
        match error {
            CloseError::NotFound => Self::new(Code::SessionNotFound),
            CloseError::Database(_) | CloseError::Queue(_) => {
                Self::internal("close a session", &error)
            }
        }
    }
}

/// Close the session
///
/// Stops what is queued or running. A session that is closed stays as it is.
#[utoipa::path(
    post,
    path = "/chat/{session}/close",
    tag = "chat",
    params(("session" = String, Path, description = "The session's id")),
    responses(
        (status = 200, description = "The session is closed", body = ClosedSession),
        (status = "4XX", description = "The request is refused", body = ProblemDocument, content_type = "application/problem+json"),
    ),
    security(("widget_token" = [], "session_secret" = [])),
)]
pub(crate) async fn post(
    StateOf(state): StateOf<State>,
    SessionPath(session_id): SessionPath,
    credentials: Credentials,
) -> Result<Json<ClosedSession>, Problem> {
    let closed = ClosedSession {
        session_id: session_id.to_string(),
        status: "closed",
    };
    to_the_end(async move {
        close(&state, credentials, session_id)
            .await
            .map_err(Problem::from)
    })
    .await?;
    Ok(Json(closed))
}

async fn close(
    state: &State,
    credentials: Credentials,
    session_id: SessionId,
) -> Result<(), CloseError> {
    let mut transaction = state.begin().await?;
    lock_serial_key(&mut transaction, &session_serial_key(&session_id)).await?;
    let owner = sessions::owner(&mut transaction, &session_id).await?;
    if !owner.is_some_and(|owner| credentials.open(owner.secret_hash.as_deref())) {
        return Err(CloseError::NotFound);
    }
    let mut stopping = Stopping::default();
    for turn in turn_control::unfinished(&mut transaction, &session_id).await? {
        let key = TurnKey {
            session_id: session_id.clone(),
            turn: turn.turn,
        };
        stopping.stop(&mut transaction, key, turn.job_id).await?;
    }
    if sessions::close_by_visitor(&mut transaction, &session_id).await? {
        stopping.closed(&mut transaction, &session_id).await?;
    }
    transaction.commit().await?;
    stopping.changed(session_id);
    stopping.announce(state.bus());
    Ok(())
}
