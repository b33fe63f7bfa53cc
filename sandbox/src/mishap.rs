//! Lets a request meet the trouble that a switch has planned for it, over plain HTTP.

use std::panic;

use axum::{
    http::{HeaderMap, HeaderValue, StatusCode, header},
    response::{IntoResponse, Response},
};
use serde_json::json;

use crate::{
    outside::{Outcome, Recording},
    switch::Trouble,
};

/// What a request came with.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Asked<'a> {
    pub(crate) headers: &'a HeaderMap,
    pub(crate) body: &'a [u8],
}

impl Asked<'_> {
    /// All of it, wherever a service of ours says something about a refusal.
    pub(crate) fn quoted(self) -> String {
        let body = String::from_utf8_lossy(self.body);
        let words = format!("{:?} asked for this: {body}", self.headers);
        json!({
            "ok": false, "status": "error", "category": words, "message": words, "error": words,
            "correlationId": words, "errors": [{"message": words}],
            "response_metadata": {"messages": [words]},
        })
        .to_string()
    }
}

/// Answers a request as the trouble wants it. `take` does what the request asks for and answers;
/// `refuse` is the service's own way to say no to a code.
pub(crate) async fn meet(
    trouble: Option<Trouble>,
    mut recording: Recording,
    asked: Asked<'_>,
    take: impl FnOnce() -> Response,
    refuse: impl FnOnce(&str) -> Response,
) -> Response {
    let response = match trouble {
        None => take(),
        Some(Trouble::Status(status)) => {
            let status = StatusCode::from_u16(status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
            status.into_response()
        }
        Some(Trouble::SlowDown(seconds)) => {
            let mut response = StatusCode::TOO_MANY_REQUESTS.into_response();
            let headers = response.headers_mut();
            headers.insert(header::RETRY_AFTER, HeaderValue::from(seconds));
            response
        }
        Some(Trouble::Refuse(code)) => refuse(&code),
        Some(Trouble::Quote(status)) => {
            let status = StatusCode::from_u16(status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
            let words = asked.quoted();
            recording.answered_text(&words);
            let json = [(header::CONTENT_TYPE, "application/json")];
            (status, json, words).into_response()
        }
        Some(Trouble::TakeAndHang) => {
            take();
            std::future::pending().await
        }
        Some(Trouble::Hang) => std::future::pending().await,
        Some(Trouble::TakeAndCut) => {
            take();
            recording.end(Outcome::Cut);
            // The connection ends with its task, before a byte of an answer. Nobody is told of a panic.
            panic::resume_unwind(Box::new("the connection is cut"))
        }
    };
    recording.end(Outcome::Answered(response.status().as_u16()));
    response
}
