//! `POST /slack/events`: Slack tells of replies in the threads of handoffs.

use axum::{
    Json,
    extract::{Request, State as StateOf},
    http::StatusCode,
    response::{IntoResponse, Response},
};
use serde_json::json;

use crate::{
    problem::{Problem, ProblemDocument},
    slack::{
        event::{self, Event},
        in_time, obey, signed_body,
    },
    state::State,
};

/// Slack's events
///
/// For Slack's Events API only: a reply in a handoff's thread that begins with `reply:` reaches the
/// visitor. Signed with `SLACK_SIGNING_SECRET`, without which there is no such page. A repetition
/// changes nothing.
#[utoipa::path(
    post,
    path = "/slack/events",
    tag = "slack",
    request_body(content = String, content_type = "application/json", description = "An event of Slack's"),
    responses(
        (status = 200, description = "It is taken, or none of our business"),
        (status = "4XX", description = "The request is not signed, too old or not of Slack's form", body = ProblemDocument, content_type = "application/problem+json"),
        (status = "5XX", description = "Slack is to come again", body = ProblemDocument, content_type = "application/problem+json"),
    ),
)]
pub(crate) async fn post(
    StateOf(state): StateOf<State>,
    request: Request,
) -> Result<Response, Problem> {
    let body = signed_body(&state, request).await?;
    match event::read(&body)? {
        Event::Challenge(challenge) => Ok(Json(json!({ "challenge": challenge })).into_response()),
        Event::Other => Ok(StatusCode::OK.into_response()),
        Event::Reply(reply) => {
            in_time(async move { obey::reply(&state, reply).await.map_err(Problem::from) }).await?;
            Ok(StatusCode::OK.into_response())
        }
    }
}
