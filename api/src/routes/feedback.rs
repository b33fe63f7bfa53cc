//! `POST /chat/{session}/feedback`: what the visitor thinks of an answer.

use axum::{
    Extension,
    extract::{Request, State as StateOf},
    http::StatusCode,
};
use serde::Deserialize;
use store::{
    feedback::{self, Rated, Rating},
    ids::TurnKey,
    sessions,
};
use utoipa::ToSchema;

use crate::{
    auth::Credentials,
    bodies::Sender,
    edge::ClientNetwork,
    extract::SessionPath,
    message::{MAX_BODY, parse_object},
    problem::{Code, Problem, ProblemDocument},
    state::{State, to_the_end},
};

/// The longest comment, in characters. It always fits into the body.
const LONGEST_COMMENT: usize = 1_000;

/// What a visitor thinks of an answer.
#[derive(Deserialize, ToSchema)]
pub(crate) struct FeedbackBody {
    /// The turn's number in the session.
    turn: i32,
    /// `up` or `down`.
    rating: Thumb,
    /// Why, at most 1,000 characters.
    #[schema(max_length = 1000)]
    comment: Option<String>,
}

/// A thumb.
#[derive(Clone, Copy, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Thumb {
    /// The answer helped.
    Up,
    /// It did not.
    Down,
}

impl From<Thumb> for Rating {
    fn from(thumb: Thumb) -> Self {
        match thumb {
            Thumb::Up => Self::Up,
            Thumb::Down => Self::Down,
        }
    }
}

#[derive(Debug, thiserror::Error)]
enum FeedbackError {
    #[error("there is nothing to rate for this client")]
    Refused(Code),
    #[error("the database failed")]
    Database(#[from] sqlx::Error),
}

impl From<FeedbackError> for Problem {
    fn from(error: FeedbackError) -> Self {
        match error {
            FeedbackError::Refused(code) => Self::new(code),
            FeedbackError::Database(_) => Self::internal("keep feedback", &error),
        }
    }
}

/// Rate an answer
///
/// Of a turn that is finished. The newest opinion stands, its comment included.
#[utoipa::path(
    post,
    path = "/chat/{session}/feedback",
    tag = "chat",
    params(("session" = String, Path, description = "The session's id")),
    request_body = FeedbackBody,
    responses(
        (status = 204, description = "The opinion is kept"),
        (status = "4XX", description = "The request is refused", body = ProblemDocument, content_type = "application/problem+json"),
        (status = "5XX", description = "The service can't do it now", body = ProblemDocument, content_type = "application/problem+json"),
    ),
    security(("widget_token" = [], "session_secret" = [])),
)]
pub(crate) async fn post(
    StateOf(state): StateOf<State>,
    SessionPath(session_id): SessionPath,
    credentials: Credentials,
    Extension(network): Extension<ClientNetwork>,
    request: Request,
) -> Result<StatusCode, Problem> {
    let bodies = state.bodies();
    let held = bodies
        .json(Sender::Client(network), request, MAX_BODY)
        .await?;
    let body: FeedbackBody = parse_object(&held)?;
    drop(held);
    let comment = comment(body.comment)?;
    let key = TurnKey {
        session_id,
        turn: body.turn,
    };
    to_the_end(async move {
        rate(&state, credentials, &key, body.rating.into(), comment)
            .await
            .map_err(Problem::from)
    })
    .await?;
    Ok(StatusCode::NO_CONTENT)
}

async fn rate(
    state: &State,
    credentials: Credentials,
    key: &TurnKey,
    rating: Rating,
    comment: Option<String>,
) -> Result<(), FeedbackError> {
    let mut conn = state.pool().acquire().await?;
    let owner = sessions::owner(&mut conn, &key.session_id).await?;
    if !owner.is_some_and(|owner| credentials.open(owner.secret_hash.as_deref())) {
        return Err(FeedbackError::Refused(Code::SessionNotFound));
    }
    match feedback::rate(&mut conn, key, rating, comment.as_deref()).await? {
        Rated::Kept => Ok(()),
        Rated::Unfinished => Err(FeedbackError::Refused(Code::TurnUnfinished)),
        Rated::NoTurn => Err(FeedbackError::Refused(Code::TurnNotFound)),
    }
}

fn comment(comment: Option<String>) -> Result<Option<String>, Problem> {
    let comment = comment.unwrap_or_default();
    let comment = comment.trim();
    if comment.contains('\0') {
        return Err(Problem::new(Code::InvalidText));
    }
    if comment.chars().count() > LONGEST_COMMENT {
        return Err(Problem::with_detail(
            Code::InvalidBody,
            "comment has at most 1,000 characters",
        ));
    }
    Ok((!comment.is_empty()).then(|| comment.to_owned()))
}
