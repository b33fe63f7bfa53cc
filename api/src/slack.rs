//! What people do in Slack, as it comes in: signed requests that are obeyed once (docs/decisions/0019).
//!
//! ```text
//! bytes ──signature──▶ payload ──read──▶ event | interaction ──obey──▶ one transaction ──▶ 200
//!   │ wrong, old: 401    │ not of Slack's form: 4xx                      │ too slow: 503, goes on
//! ```
//! Slack waits for three seconds. Nothing here asks Slack anything: what has to be done there is jobs.

pub(crate) mod event;
pub(crate) mod interaction;
pub(crate) mod obey;
mod signature;
mod text;

use std::{future::Future, time::Duration};

use axum::{extract::Request, http::HeaderMap};
use tokio::time::timeout;

use self::signature::Claim;
use crate::{
    bodies::{Held, Sender, turn_away},
    problem::{Code, Problem},
    state::{State, to_the_end},
};

/// The largest request of Slack's that is read, in bytes: 40,000 characters, the longest message, stand
/// in it twice (text and blocks), each as `\uXXXX` at worst, with room for what is around them.
const MAX_BODY: usize = 512 * 1024;
/// Slack waits three seconds for an answer; the way there and back is part of it.
const PATIENCE: Duration = Duration::from_millis(2_500);
/// The longest id of Slack's that is believed.
const LONGEST_ID: usize = 255;

/// The body of a request that Slack has signed. Without a signing secret there is no such page.
pub(crate) async fn signed_body(state: &State, request: Request) -> Result<Held, Problem> {
    let Some(secret) = &state.config().slack_signing_secret else {
        let no_page = Problem::new(Code::NotFound);
        return Err(turn_away(request.into_body(), no_page));
    };
    let (parts, body) = request.into_parts();
    let header = |name| header(&parts.headers, name);
    let timestamp = header("x-slack-request-timestamp");
    let signature = header("x-slack-signature");
    let now = state.clock().now();
    // What can't be right needs no body.
    let Some(claim) = Claim::read(signature, timestamp, now) else {
        return Err(turn_away(body, Problem::new(Code::InvalidSignature)));
    };
    let body = state.bodies().read(Sender::Slack, body, MAX_BODY).await?;
    if claim.holds(secret, &body) {
        Ok(body)
    } else {
        Err(Problem::new(Code::InvalidSignature))
    }
}

fn header<'h>(headers: &'h HeaderMap, name: &str) -> &'h str {
    let value = headers.get(name).and_then(|value| value.to_str().ok());
    value.unwrap_or_default()
}

/// Does what Slack asks for. What takes too long goes on, and is answered in a way that has Slack ask
/// again; by then it is done.
pub(crate) async fn in_time<T: Send + 'static>(
    work: impl Future<Output = Result<T, Problem>> + Send + 'static,
) -> Result<T, Problem> {
    match timeout(PATIENCE, to_the_end(work)).await {
        Ok(done) => done,
        Err(_) => Err(Problem::new(Code::Unavailable)),
    }
}

/// A name that Slack gave something. What can't be one is refused before it reaches the database.
pub(crate) fn slack_id(text: &str) -> Result<String, Problem> {
    let legal = |byte: u8| byte.is_ascii_alphanumeric() || b"._-:".contains(&byte);
    if (1..=LONGEST_ID).contains(&text.len()) && text.bytes().all(legal) {
        Ok(text.to_owned())
    } else {
        Err(malformed())
    }
}

pub(crate) fn malformed() -> Problem {
    Problem::with_detail(Code::InvalidBody, "The payload is not of Slack's form")
}
