//! `POST /chat/{session}/contact`: the visitor leaves contact details, so that a person can answer.

use axum::{
    Extension, Json,
    extract::{Request, State as StateOf},
    http::StatusCode,
};
use jobs::{QueueError, catalog::session_serial_key, lock_serial_key};
use serde::{Deserialize, Serialize};
use sqlx::Acquire;
use store::{
    bus::Wake,
    handoffs::{self, HandoffStatus, Lead, NewHandoff, Trigger, is_email, is_phone},
    ids::{SessionId, new_handoff_id},
    protocol::ReplyPromise,
    sessions,
};
use utoipa::ToSchema;

use crate::{
    auth::Credentials,
    bodies::{Sender, turn_away},
    edge::ClientNetwork,
    extract::SessionPath,
    limits::{Asking, LimitError},
    message::{MAX_BODY, parse_object},
    problem::{Code, Problem, ProblemDocument},
    state::{State, to_the_end},
};

/// The longest name, company or telephone number, in characters: what the tools of the assistant take.
const LONGEST_NAME: usize = 200;
/// The longest message, in characters. It always fits into the body.
const LONGEST_MESSAGE: usize = 2_000;

/// A visitor's contact details.
#[derive(Deserialize, ToSchema)]
pub(crate) struct ContactBody {
    /// How the visitor is called, at most 200 characters in one line.
    #[schema(max_length = 200)]
    name: Option<String>,
    /// Where mail reaches them.
    #[schema(format = "email", max_length = 254)]
    email: String,
    /// Whom they work for, at most 200 characters in one line.
    #[schema(max_length = 200)]
    company: Option<String>,
    /// Where a call reaches them.
    #[schema(max_length = 200)]
    phone: Option<String>,
    /// What they want to tell us, at most 2,000 characters.
    #[schema(max_length = 2000)]
    message: Option<String>,
    /// That they agree to be contacted: must be `true`.
    #[serde(default)]
    consent: bool,
}

/// A handoff that was made or added to.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct ContactTaken {
    /// The handoff's id: the same as long as it is open.
    handoff_id: String,
    /// How far it is.
    status: ContactStatus,
    /// When the visitor can expect a reply: the same as long as the handoff is open; `null` while no
    /// worker has told of business hours.
    promise: Option<Promise>,
}

/// How far a handoff is.
#[derive(Debug, Clone, Copy, Serialize, ToSchema)]
#[serde(rename_all = "lowercase")]
enum ContactStatus {
    /// It is recorded and on its way to people.
    Pending,
    /// Everybody has it who should.
    Delivered,
    /// Some have it.
    Degraded,
    /// It went by e-mail, because every other way failed.
    Mailed,
    /// It reached nobody.
    Dead,
}

/// When somebody will reply.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct Promise {
    /// What the visitor reads.
    text: String,
    /// The latest time, as RFC 3339.
    by: String,
}

impl From<HandoffStatus> for ContactStatus {
    fn from(status: HandoffStatus) -> Self {
        match status {
            HandoffStatus::Pending => Self::Pending,
            HandoffStatus::Delivered => Self::Delivered,
            HandoffStatus::Degraded => Self::Degraded,
            HandoffStatus::Mailed => Self::Mailed,
            HandoffStatus::Dead => Self::Dead,
        }
    }
}

impl From<ReplyPromise> for Promise {
    fn from(promise: ReplyPromise) -> Self {
        Self {
            text: promise.text,
            by: promise.by,
        }
    }
}

#[derive(Debug, thiserror::Error)]
enum ContactError {
    #[error("the session is not there for this client")]
    NotFound,
    #[error("the details got no token")]
    Limit(#[from] LimitError),
    #[error("the database failed")]
    Database(#[from] sqlx::Error),
    #[error("the handoff's jobs could not be enqueued")]
    Queue(#[from] QueueError),
}

impl From<ContactError> for Problem {
    fn from(error: ContactError) -> Self {
        match error {
            ContactError::NotFound => Self::new(Code::SessionNotFound),
            ContactError::Limit(LimitError::Limited(limited)) => limited.into(),
            ContactError::Limit(_) | ContactError::Database(_) | ContactError::Queue(_) => {
                Self::internal("take contact details", &error)
            }
        }
    }
}

/// Leave contact details
///
/// Makes the handoff of the session, or adds to the one that is open; the same again changes nothing.
/// A closed session takes contact details, too.
#[utoipa::path(
    post,
    path = "/chat/{session}/contact",
    tag = "chat",
    params(("session" = String, Path, description = "The session's id")),
    request_body = ContactBody,
    responses(
        (status = 202, description = "The details are recorded", body = ContactTaken),
        (status = "4XX", description = "The request is refused", body = ProblemDocument, content_type = "application/problem+json"),
        (status = "5XX", description = "The service can't do it now", body = ProblemDocument, content_type = "application/problem+json"),
    ),
    security(("widget_token" = [], "session_secret" = [])),
)]
pub(crate) async fn post(
    StateOf(state): StateOf<State>,
    SessionPath(session_id): SessionPath,
    credentials: Credentials,
    Extension(network): Extension<ClientNetwork>,
    request: Request,
) -> Result<(StatusCode, Json<ContactTaken>), Problem> {
    let asking = Asking {
        network,
        session: &session_id,
        credentials,
        site: None,
    };
    if let Err(limited) = state.limiter().check(asking) {
        return Err(turn_away(request.into_body(), limited.into()));
    }
    let bodies = state.bodies();
    let body = bodies
        .json(Sender::Client(network), request, MAX_BODY)
        .await?;
    let lead = read(parse_object(&body)?)?;
    drop(body);
    let taken = to_the_end(async move {
        take(&state, credentials, network, session_id, lead)
            .await
            .map_err(Problem::from)
    })
    .await?;
    Ok((StatusCode::ACCEPTED, Json(taken)))
}

async fn take(
    state: &State,
    credentials: Credentials,
    network: ClientNetwork,
    session_id: SessionId,
    lead: Lead,
) -> Result<ContactTaken, ContactError> {
    let asking = Asking {
        network,
        session: &session_id,
        credentials,
        site: None,
    };
    state.limiter().check(asking).map_err(LimitError::Limited)?;
    let mut conn = state.pool().acquire().await?;
    state.limiter().take(&mut conn, asking).await?;
    let mut transaction = conn.begin().await?;
    // A turn that ends now may make a handoff of the session as well.
    lock_serial_key(&mut transaction, &session_serial_key(&session_id)).await?;
    let owner = sessions::owner(&mut transaction, &session_id).await?;
    if !owner.is_some_and(|owner| credentials.open(owner.secret_hash.as_deref())) {
        return Err(ContactError::NotFound);
    }
    sessions::hand_off(&mut transaction, &session_id).await?;
    let promise = handoffs::promise(&mut transaction, &session_id).await?;
    let new = NewHandoff {
        handoff_id: new_handoff_id(state.entropy().as_ref()),
        session_id: &session_id,
        turn: None,
        trigger: Trigger::ContactForm,
        lead: &lead,
        summary: None,
        consent: true,
        promise: promise.as_ref(),
    };
    let mut after = Wake::default();
    let waits = &state.config().handoff_waits;
    let (handoff_id, status) =
        jobs::handoffs::open(&mut transaction, &new, waits, &mut after).await?;
    transaction.commit().await?;
    state.bus().publish(&after);
    let promise = promise.as_ref().map(ReplyPromise::from);
    Ok(ContactTaken {
        handoff_id: handoff_id.into(),
        status: status.into(),
        promise: promise.map(Promise::from),
    })
}

/// Checks what the visitor wrote. What is blank was not filled in.
fn read(body: ContactBody) -> Result<Lead, Problem> {
    let email = body.email.trim();
    check_kept(email)?;
    if !is_email(email) {
        return Err(Problem::new(Code::InvalidEmail));
    }
    let lead = Lead {
        name: line("name", body.name)?,
        email: Some(email.to_owned()),
        company: line("company", body.company)?,
        phone: line("phone", body.phone)?,
        message: text("message", body.message, LONGEST_MESSAGE)?,
        ..Lead::default()
    };
    if lead.phone.as_deref().is_some_and(|phone| !is_phone(phone)) {
        return Err(Problem::with_detail(
            Code::InvalidBody,
            "phone must be a telephone number",
        ));
    }
    if body.consent {
        Ok(lead)
    } else {
        Err(Problem::new(Code::ConsentRequired))
    }
}

fn line(field: &'static str, text: Option<String>) -> Result<Option<String>, Problem> {
    let line = self::text(field, text, LONGEST_NAME)?;
    if line
        .as_deref()
        .is_some_and(|line| line.contains(char::is_control))
    {
        // It may become a header or a heading.
        return Err(Problem::with_detail(
            Code::InvalidBody,
            format!("{field} must be one line"),
        ));
    }
    Ok(line)
}

fn text(
    field: &'static str,
    text: Option<String>,
    longest: usize,
) -> Result<Option<String>, Problem> {
    let text = text.unwrap_or_default();
    check_kept(&text)?;
    let text = text.trim();
    if text.chars().count() > longest {
        return Err(Problem::with_detail(
            Code::InvalidBody,
            format!("{field} has at most {longest} characters"),
        ));
    }
    Ok((!text.is_empty()).then(|| text.to_owned()))
}

fn check_kept(text: &str) -> Result<(), Problem> {
    if text.contains('\0') {
        return Err(Problem::new(Code::InvalidText));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn read_json(body: Value) -> Result<Lead, Code> {
        read(serde_json::from_value(body).unwrap()).map_err(|problem| problem.code())
    }

    #[test]
    fn what_is_blank_was_not_filled_in() {
        let lead = read_json(json!({
            "email": " a@b.example ", "name": " Ada ", "company": " ", "message": "a\nb", "consent": true
        }))
        .unwrap();
        let expected = Lead {
            name: Some("Ada".to_owned()),
            email: Some("a@b.example".to_owned()),
            message: Some("a\nb".to_owned()),
            ..Lead::default()
        };
        assert!(lead == expected);
    }

    #[test]
    fn details_that_nobody_could_use_are_refused() {
        let long = |characters| "x".repeat(characters);
        for (body, code) in [
            (json!({"email": "a@b", "consent": true}), Code::InvalidEmail),
            (json!({"email": "", "consent": true}), Code::InvalidEmail),
            (json!({"email": "a@b.example"}), Code::ConsentRequired),
            (
                json!({"email": "a@b.example", "consent": false}),
                Code::ConsentRequired,
            ),
            (
                json!({"email": "a@b.example", "consent": true, "name": long(201)}),
                Code::InvalidBody,
            ),
            (
                json!({"email": "a@b.example", "consent": true, "name": "a\nb"}),
                Code::InvalidBody,
            ),
            (
                json!({"email": "a@b.example", "consent": true, "company": "a\u{1}b"}),
                Code::InvalidBody,
            ),
            (
                json!({"email": "a@b.example", "consent": true, "phone": "call me"}),
                Code::InvalidBody,
            ),
            (
                json!({"email": "a@b.example", "consent": true, "message": long(2_001)}),
                Code::InvalidBody,
            ),
            (
                json!({"email": "a@b.example", "consent": true, "message": "a\0b"}),
                Code::InvalidText,
            ),
        ] {
            assert_eq!(read_json(body.clone()).err(), Some(code), "{body}");
        }
    }
}
