//! What routes take out of a request, refused with a problem of ours.

use axum::{
    extract::{FromRequestParts, Path, Query},
    http::request::Parts,
};
use serde::de::DeserializeOwned;
use store::ids::{SessionId, TurnKey};

use crate::problem::{Code, Problem};

/// The session that the path names. An id that can't exist is an id that does not exist.
#[derive(Debug)]
pub(crate) struct SessionPath(pub(crate) SessionId);

impl<S: Send + Sync> FromRequestParts<S> for SessionPath {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Problem> {
        let not_found = || Problem::new(Code::SessionNotFound);
        let Path(session) = Path::<String>::from_request_parts(parts, state)
            .await
            .map_err(|_| not_found())?;
        session.parse().map(Self).map_err(|_| not_found())
    }
}

/// The turn that the path names.
#[derive(Debug)]
pub(crate) struct TurnPath(pub(crate) TurnKey);

impl<S: Send + Sync> FromRequestParts<S> for TurnPath {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Problem> {
        let Path((session, turn)) = Path::<(String, String)>::from_request_parts(parts, state)
            .await
            .map_err(|_| Problem::new(Code::SessionNotFound))?;
        let session_id = session
            .parse()
            .map_err(|_| Problem::new(Code::SessionNotFound))?;
        let digits = turn.bytes().all(|byte| byte.is_ascii_digit());
        match turn.parse() {
            Ok(turn) if digits => Ok(Self(TurnKey { session_id, turn })),
            _ => Err(Problem::new(Code::TurnNotFound)),
        }
    }
}

/// The query, in a documented form.
#[derive(Debug)]
pub(crate) struct KnownQuery<T>(pub(crate) T);

impl<S: Send + Sync, T: DeserializeOwned> FromRequestParts<S> for KnownQuery<T> {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Problem> {
        Query::from_request_parts(parts, state)
            .await
            .map(|Query(query)| Self(query))
            .map_err(|_| {
                Problem::with_detail(
                    Code::InvalidRequest,
                    "The query is not of the documented form",
                )
            })
    }
}
