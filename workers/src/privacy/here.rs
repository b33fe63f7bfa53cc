//! The first step of an erasure: what is in our own database goes, and what is to be done outside is kept.

use std::collections::BTreeSet;

use jobs::{JobKind, QueueError, catalog::PrivacyErase};
use sqlx::{PgConnection, PgPool};
use store::{
    bus::Wake,
    ids::SessionId,
    privacy::{self, Address, Erased, NewEntry, Request, Scope, Status},
};

use super::secret::PrivacySecret;

/// What an operator reads of a request that is in the way of [`EraseError::NoSecret`].
pub const NO_SECRET: &str = "PRIVACY_SECRET is not set: an erasure by address needs it";

/// Why nothing was erased.
#[derive(Debug, thiserror::Error)]
pub enum EraseError {
    /// There is no such request.
    #[error("there is no such request")]
    Unknown,
    /// An operator has to approve it first.
    #[error("the request waits for an operator's approval")]
    Waits,
    /// The request names an address, which can't be kept as a hash.
    #[error("{NO_SECRET}")]
    NoSecret,
    /// What the request names is no address.
    #[error("what the request names is no e-mail address")]
    NoAddress,
    /// The database failed.
    #[error("the database failed")]
    Database(#[from] sqlx::Error),
}

/// Erases what a request is about, each session in a transaction of its own: so many conversations as a
/// person has never hold a lock for long. Done again it finds what is left of it, and nothing that was written
/// after the wish. Publish what it returns.
pub async fn erase_here(
    pool: &PgPool,
    request_id: &str,
    secret: Option<&PrivacySecret>,
) -> Result<Wake, EraseError> {
    let mut after = Wake::default();
    let request = read(pool, request_id).await?;
    match request.status {
        Status::Waiting => return Err(EraseError::Waits),
        Status::Done => return Ok(after),
        Status::Pending => {}
    }
    let mut sessions: BTreeSet<SessionId> = request.session_id.iter().cloned().collect();
    let mut email_hash = None;
    if let Some(text) = &request.email {
        let address = Address::parse(text).ok_or(EraseError::NoAddress)?;
        let secret = secret.ok_or(EraseError::NoSecret)?;
        email_hash = Some(secret.hash_email(address.as_str()));
        let mut conn = pool.acquire().await?;
        let until = Some(request.created_at);
        let found = privacy::sessions_of_email(&mut conn, &address, until).await?;
        for session_id in &found.of_others {
            privacy::ask_about(&mut conn, request_id, session_id).await?;
        }
        sessions.extend(found.theirs);
    }
    let email_hash = email_hash.as_deref();
    // A person of whom nothing is known gets an entry, too: it is what a restored database forgets by.
    if sessions.is_empty() {
        let mut transaction = pool.begin().await?;
        if privacy::lock(&mut transaction, request_id).await? {
            record(
                &mut transaction,
                &request,
                None,
                email_hash,
                &Erased::default(),
            )
            .await?;
        }
        transaction.commit().await?;
    }
    for session_id in sessions {
        let mut transaction = pool.begin().await?;
        if !erase_one(
            &mut transaction,
            &request,
            &session_id,
            email_hash,
            &mut after,
        )
        .await?
        {
            break;
        }
        transaction.commit().await?;
    }
    Ok(after)
}

async fn read(pool: &PgPool, request_id: &str) -> Result<Request, EraseError> {
    let mut conn = pool.acquire().await?;
    let request = privacy::by_id(&mut conn, request_id).await?;
    request.ok_or(EraseError::Unknown)
}

/// False, and the caller rolls back: somebody else has done it, and finished the request.
async fn erase_one(
    conn: &mut PgConnection,
    request: &Request,
    session_id: &SessionId,
    email_hash: Option<&str>,
    after: &mut Wake,
) -> sqlx::Result<bool> {
    // The session's locks come before every row, the request's as well.
    jobs::lock_session(conn, session_id).await?;
    if !privacy::lock(conn, &request.request_id).await? {
        return Ok(false);
    }
    jobs::hold_session(conn, session_id, request.scope, after).await?;
    if request.scope == Scope::Person {
        privacy::remember_outside(conn, &request.request_id, session_id).await?;
        privacy::close_waiting(conn, session_id, &request.request_id).await?;
    }
    let erased = jobs::erase_held(conn, session_id, request.scope, after).await?;
    record(conn, request, Some(session_id), email_hash, &erased).await?;
    Ok(true)
}

async fn record(
    conn: &mut PgConnection,
    request: &Request,
    session_id: Option<&SessionId>,
    email_hash: Option<&str>,
    erased: &Erased,
) -> sqlx::Result<()> {
    let entry = NewEntry {
        entry_id: &request.request_id,
        scope: request.scope,
        session_id,
        email_hash,
        requested_by: request.requested_by,
        requested_at: Some(request.created_at),
        erased,
    };
    privacy::add_entry(conn, &entry).await
}

/// Enqueues the jobs of the requests again that could not be seen to without `PRIVACY_SECRET`, now that it is
/// there. Whoever starts with it calls this.
pub async fn unblock(pool: &PgPool) -> sqlx::Result<Wake> {
    let mut after = Wake::default();
    let mut transaction = pool.begin().await?;
    for request_id in privacy::unblock(&mut transaction, NO_SECRET).await? {
        let job = PrivacyErase { request_id };
        jobs::enqueue(&mut transaction, &job)
            .await
            .map_err(failed)?;
        after.queues.insert(PrivacyErase::QUEUE.to_owned());
    }
    transaction.commit().await?;
    Ok(after)
}

/// The job is ours: nothing in it can be wrong but what the database says.
fn failed(error: QueueError) -> sqlx::Error {
    match error {
        QueueError::Database(error) => error,
        other => sqlx::Error::Encode(Box::new(other)),
    }
}
