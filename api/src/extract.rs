//! What routes take out of a request, refused with a problem of ours.

use axum::{
    body::{Body, Bytes},
    extract::{FromRequestParts, Path, Query, Request},
    http::{HeaderMap, header, request::Parts},
};
use http_body_util::{BodyExt, LengthLimitError, Limited};
use serde::de::DeserializeOwned;
use std::time::Duration;
use store::ids::{SessionId, TurnKey};
use tokio::time::timeout;

use crate::problem::{Code, Problem};

/// How long a body may take to arrive.
const BODY_LIMIT: Duration = Duration::from_secs(15);

/// How much of a body that is too large is still read and thrown away. A connection that is closed
/// while its client sends is reset, and the answer that says why is lost with it; who sends even more
/// is not there to read it.
const DISCARDED: usize = 16 * 1024 * 1024;

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

/// Reads a JSON body of at most `limit` bytes.
pub(crate) async fn json_bytes(request: Request, limit: usize) -> Result<Bytes, Problem> {
    if !is_json(request.headers()) {
        return Err(Problem::new(Code::UnsupportedMediaType));
    }
    bytes(request.into_body(), limit).await
}

/// Reads a body of at most `limit` bytes.
pub(crate) async fn bytes(mut body: Body, limit: usize) -> Result<Bytes, Problem> {
    let limited = Limited::new(&mut body, limit).collect();
    match timeout(BODY_LIMIT, limited).await {
        Ok(Ok(body)) => Ok(body.to_bytes()),
        Ok(Err(error)) if error.is::<LengthLimitError>() => {
            // Whatever comes of it, the body is too large.
            let _ = timeout(BODY_LIMIT, discard(body)).await;
            Err(Problem::new(Code::BodyTooLarge))
        }
        Ok(Err(_)) => Err(Problem::with_detail(
            Code::InvalidRequest,
            "The body ended early",
        )),
        Err(_) => Err(Problem::new(Code::RequestTimeout)),
    }
}

async fn discard(mut body: Body) {
    let mut left = DISCARDED;
    while let Some(Ok(frame)) = body.frame().await {
        let length = frame.data_ref().map_or(0, Bytes::len);
        let Some(rest) = left.checked_sub(length) else {
            return;
        };
        left = rest;
    }
}

fn is_json(headers: &HeaderMap) -> bool {
    headers
        .get(header::CONTENT_TYPE)
        .and_then(|value| value.to_str().ok())
        .and_then(|value| value.split(';').next())
        .map(|essence| essence.trim().to_ascii_lowercase())
        .is_some_and(|essence| {
            essence == "application/json"
                || (essence.starts_with("application/") && essence.ends_with("+json"))
        })
}
