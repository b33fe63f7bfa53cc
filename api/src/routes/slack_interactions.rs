//! `POST /slack/interactions`: Slack tells of buttons and forms.

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
        in_time,
        interaction::{self, REPLY_BLOCK},
        obey::{self, Obeyed},
        signed_body,
    },
    state::State,
};

/// Slack's interactions
///
/// For Slack only: the buttons of a handoff's message, and the form in which a person writes to the
/// visitor. Signed with `SLACK_SIGNING_SECRET`, without which there is no such page. A repetition changes
/// nothing.
#[utoipa::path(
    post,
    path = "/slack/interactions",
    tag = "slack",
    request_body(content = String, content_type = "application/x-www-form-urlencoded", description = "An interaction of Slack's"),
    responses(
        (status = 200, description = "It is taken, or none of our business; a form that can't be sent is told why"),
        (status = "4XX", description = "The request is not signed, too old or not of Slack's form", body = ProblemDocument, content_type = "application/problem+json"),
        (status = "5XX", description = "Whoever acted is to try again", body = ProblemDocument, content_type = "application/problem+json"),
    ),
)]
pub(crate) async fn post(
    StateOf(state): StateOf<State>,
    request: Request,
) -> Result<Response, Problem> {
    let body = signed_body(&state, request).await?;
    let Some(asked) = interaction::read(&body)? else {
        return Ok(StatusCode::OK.into_response());
    };
    let is_form = matches!(asked.deed, interaction::Deed::Say(_));
    let obeyed = in_time(async move {
        let obeyed = obey::interaction(&state, asked).await;
        obeyed.map_err(Problem::from)
    })
    .await?;
    let complaint = match obeyed {
        Obeyed::Empty => "Write something first.",
        Obeyed::Closed => "The conversation is over: the visitor can't be reached here any more.",
        Obeyed::Done => return Ok(StatusCode::OK.into_response()),
    };
    if !is_form {
        // The thread is told.
        return Ok(StatusCode::OK.into_response());
    }
    let errors = json!({ "response_action": "errors", "errors": { REPLY_BLOCK: complaint } });
    Ok(Json(errors).into_response())
}
