//! `GET /chat/{session}/stream`: join or rejoin a turn's stream.
//!
//! With a cursor the stream goes on exactly behind it. Without one it replays the current attempt of
//! the oldest unfinished turn from its first frame, because the AI SDK can't begin in mid-answer. A
//! client that was cut may come back just after the answer was finished: it still shows a part, and
//! 204 would tell it that this is all. So for a moment the finished turn is replayed as well; to a
//! client that has seen it the same message with the same id changes nothing.
//!
//! With `follow` the client has everything up to a turn and waits for the next one, while a person speaks
//! or is expected to: what people say comes without a question.

use std::time::Duration;

use axum::{
    extract::State as StateOf,
    http::{HeaderMap, StatusCode},
    response::{IntoResponse, Response},
};
use serde::Deserialize;
use store::{
    agents,
    events::Cursor,
    ids::{SessionId, TurnKey},
    sessions::{self, StreamTargets},
};

use crate::{
    auth::Credentials,
    extract::{KnownQuery, SessionPath},
    hub::Takeover,
    problem::{Code, Problem, ProblemDocument},
    sse::{self, Reset},
    state::{State, within_patience},
};

/// How long a finished turn is replayed to clients without a cursor. Longer than a lift or a tunnel;
/// short, because a page that is loaded meanwhile is given an answer that it has.
const REPLAY_MOMENT: Duration = Duration::from_mins(1);

#[derive(Debug, Deserialize)]
pub(crate) struct StreamQuery {
    after: Option<String>,
    reset: Option<Reset>,
    follow: Option<i32>,
}

/// Join a turn's stream
///
/// Continues behind the cursor, or replays the oldest unfinished turn, or else the newest one if it
/// was finished within the last minute.
#[utoipa::path(
    get,
    path = "/chat/{session}/stream",
    tag = "chat",
    params(
        ("session" = String, Path, description = "The session's id"),
        ("after" = Option<String>, Query, description = "The id of the last frame that was seen, `<turn>-<attempt>-<seq>`"),
        ("Last-Event-ID" = Option<String>, Header, description = "The same; wins over `after`"),
        ("follow" = Option<i32>, Query, description = "The newest turn that the client has in full, 0: none. The stream waits for the next turn and plays it; meanwhile `data-agent` tells who speaks. It ends after some minutes in which nothing came; 204 while no person speaks or is expected to"),
        ("reset" = Option<Reset>, Query, description = "What a takeover after a crash does to the stream; `event` by default when a cursor is given, else `cut`"),
    ),
    responses(
        (status = 200, description = "The turn's stream", content_type = "text/event-stream", body = String),
        (status = 204, description = "No turn is active and nothing is left to replay"),
        (status = "4XX", description = "The request is refused", body = ProblemDocument, content_type = "application/problem+json"),
    ),
    security(("widget_token" = [], "session_secret" = [])),
)]
pub(crate) async fn get(
    StateOf(state): StateOf<State>,
    SessionPath(session_id): SessionPath,
    KnownQuery(query): KnownQuery<StreamQuery>,
    credentials: Credentials,
    headers: HeaderMap,
) -> Result<Response, Problem> {
    if let Some(known) = query.follow {
        return follow(&state, session_id, known, &credentials, query.reset).await;
    }
    let cursor = cursor(&headers, query.after.as_deref())?;
    let found = within_patience(async {
        let read = async {
            let mut conn = state.pool().acquire().await?;
            sessions::stream_targets(&mut conn, &session_id, cursor, REPLAY_MOMENT).await
        };
        read.await
            .map_err(|error: sqlx::Error| Problem::internal("join a stream", &error))
    })
    .await?;
    let Some(found) = found else {
        return Ok(StatusCode::NO_CONTENT.into_response());
    };
    if !credentials.open(found.secret_hash.as_deref()) {
        return Err(Problem::new(Code::SessionNotFound));
    }
    if cursor.is_some_and(|cursor| cursor.turn > found.last_turn) {
        return Err(invalid_cursor());
    }
    let Some((from, finished)) = target(cursor, &found) else {
        return Ok(StatusCode::NO_CONTENT.into_response());
    };
    let takeover = query.reset.map_or(
        if cursor.is_some() {
            Takeover::Event
        } else {
            Takeover::Cut
        },
        Takeover::from,
    );
    metrics::counter!("growth_chat_sse_resumes_total").increment(1);
    if !finished {
        state.hub().wake_workers();
    }
    let key = TurnKey {
        session_id,
        turn: from.turn,
    };
    Ok(sse::respond(
        state.hub().join(key, from, takeover, finished),
    ))
}

/// Joins what comes behind the turn `known`: the next turn that there is something of, or the one that
/// will be the next.
async fn follow(
    state: &State,
    session_id: SessionId,
    known: i32,
    credentials: &Credentials,
    reset: Option<Reset>,
) -> Result<Response, Problem> {
    let found = within_patience(async {
        let read = async {
            let mut conn = state.pool().acquire().await?;
            sessions::follow_target(&mut conn, &session_id, known, agents::EXPECTED_FOR).await
        };
        read.await
            .map_err(|error: sqlx::Error| Problem::internal("follow a session", &error))
    })
    .await?;
    let Some(found) = found else {
        return Ok(StatusCode::NO_CONTENT.into_response());
    };
    if !credentials.open(found.secret_hash.as_deref()) {
        return Err(Problem::new(Code::SessionNotFound));
    }
    if known < 0 || known > found.last_turn {
        return Err(Problem::with_detail(
            Code::InvalidCursor,
            "follow is the number of a turn of this session, or 0",
        ));
    }
    let takeover = reset.map_or(Takeover::Event, Takeover::from);
    let key = |turn| TurnKey {
        session_id: session_id.clone(),
        turn,
    };
    let events = match (found.next_turn, found.last_turn.checked_add(1)) {
        (Some(turn), _) => {
            let cursor = Cursor {
                turn,
                attempt: found.next_attempt.unwrap_or(0),
                seq: 0,
            };
            let finished = !found.next_unfinished;
            state.hub().join(key(turn), cursor, takeover, finished)
        }
        (None, Some(turn)) if found.expected => state.hub().follow(key(turn), takeover),
        _ => return Ok(StatusCode::NO_CONTENT.into_response()),
    };
    Ok(sse::respond(events))
}

fn cursor(headers: &HeaderMap, after: Option<&str>) -> Result<Option<Cursor>, Problem> {
    let text = match headers.get("last-event-id") {
        Some(value) => Some(value.to_str().map_err(|_| invalid_cursor())?),
        None => after,
    };
    text.filter(|text| !text.is_empty())
        .map(|text| text.parse().map_err(|_| invalid_cursor()))
        .transpose()
}

fn invalid_cursor() -> Problem {
    Problem::with_detail(
        Code::InvalidCursor,
        "A cursor is the id of a frame of this session, <turn>-<attempt>-<seq>",
    )
}

/// Where the stream begins, and whether its turn is finished; `None`: there is nothing to send.
fn target(cursor: Option<Cursor>, found: &StreamTargets) -> Option<(Cursor, bool)> {
    match cursor {
        Some(cursor) if found.cursor_turn_unfinished => Some((cursor, false)),
        Some(cursor) if found.replayable => Some((cursor, true)),
        // Nothing is left of the cursor's turn: its successor is what the client waits for.
        _ => {
            let start = |turn, attempt: Option<i32>| Cursor {
                turn,
                attempt: attempt.unwrap_or(0),
                seq: 0,
            };
            let active = found
                .active_turn
                .map(|turn| (start(turn, found.active_attempt), false));
            let finished = found
                .finished_turn
                .filter(|_| cursor.is_none())
                .map(|turn| (start(turn, found.finished_attempt), true));
            active.or(finished)
        }
    }
}
