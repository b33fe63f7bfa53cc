//! `POST /chat`: send a message; the answer is the turn's stream, or 202 with where to find it.

use axum::{
    Extension, Json,
    extract::{OriginalUri, Request, State as StateOf},
    http::{HeaderMap, StatusCode, header},
    response::{IntoResponse, Response},
};
use serde::{Deserialize, Serialize};
use store::events::Cursor;
use utoipa::ToSchema;

use crate::{
    accept::{self, Accepted},
    auth::Credentials,
    bodies::{Sender, turn_away},
    edge::ClientNetwork,
    extract::KnownQuery,
    hub::Takeover,
    message::{self, ChatBody, Form, MAX_SDK_BODY},
    problem::{Problem, ProblemDocument},
    sse::{self, Reset},
    state::{State, to_the_end},
    widget_tokens::SiteKey,
};

#[derive(Debug, Deserialize)]
pub(crate) struct ChatQuery {
    reset: Option<Reset>,
}

/// A message that was accepted.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct AcceptedMessage {
    /// The session.
    session_id: String,
    /// The turn that answers the message.
    turn: i32,
    /// The message's id.
    message_id: String,
    /// Where the answer streams, from its beginning.
    stream_url: String,
}

/// Send a message
///
/// The message, its turn and the job that answers it are stored before the response begins. The
/// same message id with the same text joins the turn that it began.
#[utoipa::path(
    post,
    path = "/chat",
    tag = "chat",
    params(
        ("reset" = Option<Reset>, Query, description = "What a takeover after a crash does to the stream; `cut` by default for bodies in the AI SDK's form, `event` for ours"),
        ("traceparent" = Option<String>, Header, description = "The W3C trace context that the message is part of"),
        ("Idempotency-Key" = Option<String>, Header, description = "Names a message that has no id in the body"),
    ),
    request_body = ChatBody,
    responses(
        (status = 200, description = "The turn's stream, if `text/event-stream` is accepted", content_type = "text/event-stream", body = String),
        (status = 202, description = "The message is accepted, if only `application/json` is accepted", body = AcceptedMessage),
        (status = "4XX", description = "The message is refused", body = ProblemDocument, content_type = "application/problem+json"),
        (status = "5XX", description = "The service can't do it now", body = ProblemDocument, content_type = "application/problem+json"),
    ),
    security(("widget_token" = [], "session_secret" = []), ("widget_token" = [])),
)]
pub(crate) async fn post(
    StateOf(state): StateOf<State>,
    OriginalUri(uri): OriginalUri,
    KnownQuery(query): KnownQuery<ChatQuery>,
    credentials: Credentials,
    client: (Extension<ClientNetwork>, Extension<SiteKey>),
    request: Request,
) -> Result<Response, Problem> {
    let (Extension(network), Extension(site)) = client;
    if let Err(limited) = state.limiter().check_sender(network, site) {
        return Err(turn_away(request.into_body(), limited.into()));
    }
    let headers = request.headers().clone();
    let bodies = state.bodies();
    let body = bodies
        .json(Sender::Client(network), request, MAX_SDK_BODY)
        .await?;
    let message = message::read(&body, &headers, state.entropy().as_ref())?;
    drop(body);
    let form = message.form;

    let accepted = {
        let state = state.clone();
        to_the_end(async move {
            // Some 15 kB, which the stream's task would have room for as long as the client stays.
            Box::pin(accept::accept(
                &state,
                credentials,
                message,
                (network, site),
            ))
            .await
            .map_err(Problem::from)
        })
        .await?
    };
    if wants_json(&headers) {
        return Ok((StatusCode::ACCEPTED, Json(describe(uri.path(), &accepted))).into_response());
    }
    let takeover = query.reset.map_or(
        match form {
            Form::Ours => Takeover::Event,
            Form::Sdk => Takeover::Cut,
        },
        Takeover::from,
    );
    let cursor = Cursor {
        turn: accepted.key.turn,
        attempt: accepted.attempt,
        seq: 0,
    };
    let events = state
        .hub()
        .join(accepted.key, cursor, takeover, accepted.finished);
    Ok(sse::respond(events))
}

fn describe(path: &str, accepted: &Accepted) -> AcceptedMessage {
    let session_id = accepted.key.session_id.to_string();
    let from = Cursor::start_of(accepted.key.turn);
    AcceptedMessage {
        stream_url: format!("{path}/{session_id}/stream?after={from}"),
        session_id,
        turn: accepted.key.turn,
        message_id: accepted.message_id.to_string(),
    }
}

/// JSON is for clients that ask for it and for no stream.
fn wants_json(headers: &HeaderMap) -> bool {
    let listed = |media_type: &str| {
        headers
            .get_all(header::ACCEPT)
            .iter()
            .filter_map(|value| value.to_str().ok())
            .flat_map(|value| value.split(','))
            .filter_map(|item| item.split(';').next())
            .any(|item| item.trim().eq_ignore_ascii_case(media_type))
    };
    listed("application/json") && !listed("text/event-stream")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn json_is_for_clients_that_ask_for_it_and_for_no_stream() {
        let wants = |accept: &'static str| {
            let mut headers = HeaderMap::new();
            headers.insert(header::ACCEPT, accept.parse().unwrap());
            wants_json(&headers)
        };
        assert!(wants("application/json"));
        assert!(wants("application/json, text/plain, */*"));
        assert!(wants("Application/JSON;q=0.9"));
        assert!(!wants("text/event-stream"));
        assert!(!wants("text/event-stream, application/json"));
        assert!(!wants("*/*"));
        assert!(!wants_json(&HeaderMap::new()));
    }
}
