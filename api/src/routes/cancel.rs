//! `POST /chat/{session}/turns/{turn}/cancel`: stop generating, from any process.

use axum::{
    Json,
    extract::State as StateOf,
    http::StatusCode,
    response::{IntoResponse, Response},
};
use jobs::{QueueError, catalog::session_serial_key, lock_serial_key};
use serde::Serialize;
use store::{ids::TurnKey, sessions, turn_control};
use utoipa::ToSchema;

use crate::{
    auth::Credentials,
    extract::TurnPath,
    problem::{Code, Problem, ProblemDocument},
    state::{State, to_the_end},
    stop::{Stopped, Stopping},
};

/// What became of a turn.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct TurnOutcome {
    /// The turn.
    turn: i32,
    /// `answered`, `cancelled`, `failed`, or `cancelling` while its worker is told.
    status: String,
}

#[derive(Debug, thiserror::Error)]
enum CancelError {
    #[error("the turn is not there for this client")]
    NotFound(Code),
    #[error("the database failed")]
    Database(#[from] sqlx::Error),
    #[error("the job could not be cancelled")]
    Queue(#[from] QueueError),
}

impl From<CancelError> for Problem {
    fn from(error: CancelError) -> Self {
        match error {
            CancelError::NotFound(code) => Self::new(code),
            CancelError::Database(_) | CancelError::Queue(_) => {
                Self::internal("cancel a turn", &error)
            }
        }
    }
}

/// Stop generating
///
/// The partial text is kept. A turn that is finished stays as it is.
#[utoipa::path(
    post,
    path = "/chat/{session}/turns/{turn}/cancel",
    tag = "chat",
    params(
        ("session" = String, Path, description = "The session's id"),
        ("turn" = i32, Path, description = "The turn's number in the session"),
    ),
    responses(
        (status = 200, description = "The turn is finished", body = TurnOutcome),
        (status = 202, description = "The worker is told to stop; the stream ends with `abort`", body = TurnOutcome),
        (status = "4XX", description = "The request is refused", body = ProblemDocument, content_type = "application/problem+json"),
    ),
    security(("widget_token" = [], "session_secret" = [])),
)]
pub(crate) async fn post(
    StateOf(state): StateOf<State>,
    TurnPath(key): TurnPath,
    credentials: Credentials,
) -> Result<Response, Problem> {
    let outcome = to_the_end(async move {
        cancel(&state, credentials, key)
            .await
            .map_err(Problem::from)
    })
    .await?;
    let status = if outcome.status == CANCELLING {
        StatusCode::ACCEPTED
    } else {
        StatusCode::OK
    };
    Ok((status, Json(outcome)).into_response())
}

const CANCELLING: &str = "cancelling";

async fn cancel(
    state: &State,
    credentials: Credentials,
    key: TurnKey,
) -> Result<TurnOutcome, CancelError> {
    let number = key.turn;
    let outcome = |status: &str| TurnOutcome {
        turn: number,
        status: status.to_owned(),
    };
    let mut transaction = state.begin().await?;
    lock_serial_key(&mut transaction, &session_serial_key(&key.session_id)).await?;
    let owner = sessions::owner(&mut transaction, &key.session_id).await?;
    if !owner.is_some_and(|owner| credentials.open(owner.secret_hash.as_deref())) {
        return Err(CancelError::NotFound(Code::SessionNotFound));
    }
    let turn = turn_control::turn(&mut transaction, &key)
        .await?
        .ok_or(CancelError::NotFound(Code::TurnNotFound))?;
    if turn.finished {
        return Ok(outcome(&turn.status));
    }
    let mut stopping = Stopping::default();
    let stopped = stopping.stop(&mut transaction, key, turn.job_id).await?;
    transaction.commit().await?;
    stopping.announce(state.bus());
    Ok(outcome(match stopped {
        Stopped::Ended => "cancelled",
        Stopped::Asked => CANCELLING,
    }))
}
