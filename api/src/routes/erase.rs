//! `DELETE /chat/{session}`: the visitor wants the conversation to be forgotten.

use axum::{Json, extract::State as StateOf};
use jobs::{JobKind, QueueError, catalog::PrivacyErase, catalog::session_serial_key};
use serde::Serialize;
use store::{
    bus::Wake,
    handoffs,
    ids::{SessionId, new_request_id},
    privacy::{self, NewEntry, NewRequest, RequestedBy, Scope},
    sessions,
};
use utoipa::ToSchema;

use crate::{
    auth::Credentials,
    extract::SessionPath,
    problem::{Code, Problem, ProblemDocument},
    state::{State, to_the_end},
};

/// A conversation that is forgotten.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct ErasedSession {
    /// The session's id. It opens nothing any more.
    session_id: String,
    /// `erased`.
    status: &'static str,
    /// What the company knows the wish by.
    request_id: String,
    /// Whether contact details were left: they, and what was given to people, go when the company has
    /// approved, because an address may be somebody else's.
    awaits_approval: bool,
}

#[derive(Debug, thiserror::Error)]
enum EraseError {
    #[error("the session is not there for this client")]
    NotFound,
    #[error("the database failed")]
    Database(#[from] sqlx::Error),
    #[error("the job could not be enqueued")]
    Queue(#[from] QueueError),
}

impl From<EraseError> for Problem {
    fn from(error: EraseError) -> Self {
        match error {
            EraseError::NotFound => Self::new(Code::SessionNotFound),
            EraseError::Database(_) | EraseError::Queue(_) => {
                Self::internal("erase a session", &error)
            }
        }
    }
}

/// Erase the conversation
///
/// At once: what is being answered stops, what was said is deleted, and the secret opens nothing any
/// more. The same again finds no session.
#[utoipa::path(
    delete,
    path = "/chat/{session}",
    tag = "privacy",
    params(("session" = String, Path, description = "The session's id")),
    responses(
        (status = 200, description = "The conversation is forgotten", body = ErasedSession),
        (status = "4XX", description = "The request is refused", body = ProblemDocument, content_type = "application/problem+json"),
    ),
    security(("widget_token" = [], "session_secret" = [])),
)]
pub(crate) async fn delete(
    StateOf(state): StateOf<State>,
    SessionPath(session_id): SessionPath,
    credentials: Credentials,
) -> Result<Json<ErasedSession>, Problem> {
    let erased = to_the_end(async move {
        erase(&state, credentials, session_id)
            .await
            .map_err(Problem::from)
    })
    .await?;
    Ok(Json(erased))
}

async fn erase(
    state: &State,
    credentials: Credentials,
    session_id: SessionId,
) -> Result<ErasedSession, EraseError> {
    let mut after = Wake::default();
    let mut transaction = state.begin().await?;
    jobs::lock_serial_key(&mut transaction, &session_serial_key(&session_id)).await?;
    let owner = sessions::owner(&mut transaction, &session_id).await?;
    if !owner.is_some_and(|owner| credentials.open(owner.secret_hash.as_deref())) {
        return Err(EraseError::NotFound);
    }
    let scope = Scope::Conversation;
    let erased = jobs::erase_session(&mut transaction, &session_id, scope, &mut after).await?;
    let request_id = new_request_id(state.entropy().as_ref());
    let mut request = NewRequest {
        request_id: &request_id,
        scope,
        session_id: Some(&session_id),
        email: None,
        requested_by: RequestedBy::Visitor,
        waits: false,
    };
    privacy::add(&mut transaction, &request).await?;
    let entry = NewEntry {
        entry_id: &request_id,
        scope,
        session_id: Some(&session_id),
        email_hash: None,
        requested_by: RequestedBy::Visitor,
        requested_at: None,
        erased: &erased,
    };
    privacy::add_entry(&mut transaction, &entry).await?;
    let job = PrivacyErase {
        request_id: request_id.clone(),
    };
    jobs::enqueue(&mut transaction, &job).await?;
    let awaits_approval = handoffs::any(&mut transaction, &session_id).await?;
    if awaits_approval {
        let of_the_person = new_request_id(state.entropy().as_ref());
        request.request_id = &of_the_person;
        request.scope = Scope::Person;
        request.waits = true;
        privacy::add(&mut transaction, &request).await?;
    }
    transaction.commit().await?;
    after.queues.insert(PrivacyErase::QUEUE.to_owned());
    state.bus().publish(&after);
    tracing::info!(%session_id, "a visitor has erased a conversation");
    Ok(ErasedSession {
        session_id: session_id.into(),
        status: "erased",
        request_id,
        awaits_approval,
    })
}
