//! The first step of an erasure: what is in our own database goes, and what is to be done outside is kept.

use sqlx::{PgConnection, PgPool};
use store::{
    bus::Wake,
    ids::SessionId,
    privacy::{self, LedgerEntry, Request, Scope},
};

use super::secret::PrivacySecret;

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
    #[error("PRIVACY_SECRET is needed to erase by an address")]
    NoSecret,
    /// The database failed.
    #[error("the database failed")]
    Database(#[from] sqlx::Error),
}

/// Erases what a request is about, each session in a transaction of its own: so many conversations as a
/// person has never hold a lock for long. Done again it finds what has been added since, or nothing. Publish
/// what it returns.
pub async fn erase_here(
    pool: &PgPool,
    request_id: &str,
    secret: Option<&PrivacySecret>,
) -> Result<Wake, EraseError> {
    let mut after = Wake::default();
    let request = read(pool, request_id).await?;
    match request.status.as_str() {
        "waiting" => return Err(EraseError::Waits),
        "done" => return Ok(after),
        _ => {}
    }
    let email_hash = match &request.email {
        Some(address) => Some(secret.ok_or(EraseError::NoSecret)?.hash_email(address)),
        None => None,
    };
    let mut sessions: Vec<SessionId> = request.session_id.iter().cloned().collect();
    if let Some(address) = &request.email {
        let mut conn = pool.acquire().await?;
        sessions.extend(privacy::sessions_of_email(&mut conn, address).await?);
    }
    // A person of whom nothing is known gets an entry, too: it is what a restored database forgets by.
    if sessions.is_empty() {
        let mut conn = pool.acquire().await?;
        let entry = entry(&request, None, email_hash.as_deref());
        privacy::add_entry(&mut conn, &entry).await?;
    }
    for session_id in sessions {
        let mut transaction = pool.begin().await?;
        erase_one(
            &mut transaction,
            &request,
            &session_id,
            email_hash.as_deref(),
            &mut after,
        )
        .await?;
        transaction.commit().await?;
    }
    Ok(after)
}

async fn read(pool: &PgPool, request_id: &str) -> Result<Request, EraseError> {
    let mut conn = pool.acquire().await?;
    let request = privacy::by_id(&mut conn, request_id).await?;
    request.ok_or(EraseError::Unknown)
}

async fn erase_one(
    conn: &mut PgConnection,
    request: &Request,
    session_id: &SessionId,
    email_hash: Option<&str>,
    after: &mut Wake,
) -> sqlx::Result<()> {
    // The session's locks come before the request's, and what is outside is known when nothing is sent any more.
    jobs::hold_session(conn, session_id, request.scope, after).await?;
    if request.scope == Scope::Person {
        privacy::remember_outside(conn, &request.request_id, session_id).await?;
    }
    let erased = jobs::erase_session(conn, session_id, request.scope, after).await?;
    let mut entry = entry(request, Some(session_id), email_hash);
    entry.erased = erased;
    privacy::add_entry(conn, &entry).await
}

fn entry(
    request: &Request,
    session_id: Option<&SessionId>,
    email_hash: Option<&str>,
) -> LedgerEntry {
    LedgerEntry {
        entry_id: request.request_id.clone(),
        scope: request.scope,
        session_ids: session_id.map(ToString::to_string).into_iter().collect(),
        email_hash: email_hash.map(ToOwned::to_owned),
        requested_by: request.requested_by,
        erased: privacy::Erased::default(),
        erased_at: String::new(),
    }
}
