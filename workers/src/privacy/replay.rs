//! Forgets again in a restored database what was forgotten since its backup was made.

use std::collections::{BTreeMap, BTreeSet};

use chrono::{DateTime, Utc};
use sqlx::PgPool;
use store::{
    bus::Wake,
    ids::SessionId,
    privacy::{self, Address, LedgerEntry, Scope},
};

use super::{ledger::LEDGER, secret::PrivacySecret};
use crate::clients::bucket::Bucket;

/// What was forgotten again.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Replayed {
    /// Entries of the ledger.
    pub entries: usize,
    /// Sessions of which something was still there.
    pub sessions: usize,
}

/// Why it can't be done: the database must not be used then.
#[derive(Debug, thiserror::Error)]
pub enum ReplayError {
    /// The bucket did not give the ledger.
    #[error("the ledger of erasures could not be read from the bucket")]
    Bucket(#[from] crate::clients::bucket::BucketError),
    /// An entry is not one.
    #[error("the ledger's entry {0} can't be read")]
    Entry(String),
    /// Addresses were erased, and nobody can recognise them.
    #[error(
        "PRIVACY_SECRET is needed: addresses were erased, and are recognised by their hash only"
    )]
    NoSecret,
    /// The database failed.
    #[error("the restored database failed")]
    Database(#[from] sqlx::Error),
}

/// Reads the ledger of the bucket and of the database, and erases whatever of it is there.
pub async fn replay(
    pool: &PgPool,
    bucket: &Bucket,
    secret: Option<&PrivacySecret>,
) -> Result<Replayed, ReplayError> {
    let mut entries = Vec::new();
    for object in bucket.list(LEDGER).await? {
        let Some(body) = bucket.get(&object.key).await? else {
            continue;
        };
        let entry: LedgerEntry =
            serde_json::from_slice(&body).map_err(|_| ReplayError::Entry(object.key.clone()))?;
        entries.push(entry);
    }
    let mut conn = pool.acquire().await?;
    // So that the next backup remembers them as well, and what it has of them is not less.
    for entry in &entries {
        privacy::put_back_entry(&mut conn, entry).await?;
    }
    let entries = privacy::entries(&mut conn).await?;
    privacy::forget_addresses(&mut conn).await?;
    drop(conn);
    let mut replayed = Replayed {
        entries: entries.len(),
        sessions: 0,
    };
    let mut hashes: BTreeMap<&str, DateTime<Utc>> = BTreeMap::new();
    for entry in &entries {
        if let Some(hash) = entry.email_hash.as_deref() {
            let newest = hashes.entry(hash).or_insert(entry.until());
            *newest = entry.until().max(*newest);
        }
    }
    let by_address = recognised(pool, &hashes, secret).await?;
    for entry in &entries {
        let named = entry.session_ids.iter().filter_map(|id| id.parse().ok());
        for session_id in named.collect::<Vec<SessionId>>() {
            replayed.sessions += usize::from(forget(pool, &session_id, entry.scope).await?);
        }
    }
    for session_id in by_address {
        replayed.sessions += usize::from(forget(pool, &session_id, Scope::Person).await?);
    }
    Ok(replayed)
}

/// The sessions of whoever has an address whose hash is in the ledger, as far as they are older than its newest
/// erasure: who came back afterwards has not wished to be forgotten.
async fn recognised(
    pool: &PgPool,
    hashes: &BTreeMap<&str, DateTime<Utc>>,
    secret: Option<&PrivacySecret>,
) -> Result<BTreeSet<SessionId>, ReplayError> {
    let mut found = BTreeSet::new();
    if hashes.is_empty() {
        return Ok(found);
    }
    let secret = secret.ok_or(ReplayError::NoSecret)?;
    let mut conn = pool.acquire().await?;
    for address in privacy::addresses(&mut conn).await? {
        let Some(address) = Address::parse(&address) else {
            continue;
        };
        if let Some(until) = hashes.get(secret.hash_email(address.as_str()).as_str()) {
            let until = Some(*until);
            found.extend(
                privacy::sessions_of_email(&mut conn, &address, until)
                    .await?
                    .theirs,
            );
        }
    }
    Ok(found)
}

/// Forgets one session; false: there was nothing left.
async fn forget(pool: &PgPool, session_id: &SessionId, scope: Scope) -> sqlx::Result<bool> {
    // Nobody works in a database that was just restored: there is nobody to tell.
    let mut after = Wake::default();
    let mut transaction = pool.begin().await?;
    let erased = jobs::erase_session(&mut transaction, session_id, scope, &mut after).await?;
    transaction.commit().await?;
    Ok(!erased.0.is_empty())
}
