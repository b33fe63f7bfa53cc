//! Lets a request meet the trouble that a switch has planned for it, over plain HTTP.

use std::panic;

use axum::{
    http::{HeaderValue, StatusCode, header},
    response::{IntoResponse, Response},
};

use crate::{
    outside::{Outcome, Recording},
    switch::Trouble,
};

/// Answers a request as the trouble wants it. `take` does what the request asks for and answers;
/// `refuse` is the service's own way to say no to a code.
pub(crate) async fn meet(
    trouble: Option<Trouble>,
    mut recording: Recording,
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
