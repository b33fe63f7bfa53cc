//! Forgets again in a restored database what was forgotten since its backup was made.

use std::collections::{BTreeMap, BTreeSet};

use chrono::{DateTime, Utc};
use futures::{StreamExt, TryStreamExt, stream};
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
    /// Addresses were erased, and their hashes are of another secret.
    #[error(
        "addresses were erased under another PRIVACY_SECRET, and are recognised by that one only: set it"
    )]
    OtherSecret,
    /// The database failed.
    #[error("the restored database failed")]
    Database(#[from] sqlx::Error),
}

/// Entries that are fetched at the same time.
const AT_ONCE: usize = 16;

/// The ledger of the bucket, as it is before a restore.
#[derive(Debug)]
pub struct Ledger {
    /// Without their counts, which nobody needs here: some hundred bytes each.
    entries: Vec<LedgerEntry>,
    secret: Option<PrivacySecret>,
}

impl Ledger {
    /// Reads it all, so that what makes it impossible to forget again is known before anything is restored.
    /// `without_addresses`: the secret is lost, and only the sessions that the ledger names are to go.
    pub async fn read(
        bucket: &Bucket,
        secret: Option<PrivacySecret>,
        without_addresses: bool,
    ) -> Result<Self, ReplayError> {
        let keys = bucket
            .list(LEDGER)
            .await?
            .into_iter()
            .map(|object| object.key);
        let entries: Vec<Option<LedgerEntry>> = stream::iter(keys)
            .map(|key| read(bucket, key))
            .buffered(AT_ONCE)
            .try_collect()
            .await?;
        let entries: Vec<LedgerEntry> = entries.into_iter().flatten().collect();
        if !without_addresses {
            recognisable(&entries, secret.as_ref())?;
        }
        Ok(Self { entries, secret })
    }

    /// Erases whatever of it, and of the restored database's own ledger, is there.
    pub async fn replay(self, pool: &PgPool) -> Result<Replayed, ReplayError> {
        let Self { entries, secret } = self;
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
        let by_address = recognised(pool, &hashes, secret.as_ref()).await?;
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
}

/// Whether every address of the ledger can be recognised: whoever can't be would come back.
fn recognisable(
    entries: &[LedgerEntry],
    secret: Option<&PrivacySecret>,
) -> Result<(), ReplayError> {
    let mut hashes = entries.iter().filter_map(|it| it.email_hash.as_deref());
    match secret {
        None if hashes.next().is_some() => Err(ReplayError::NoSecret),
        Some(secret) if hashes.any(|hash| !secret.has_made(hash)) => Err(ReplayError::OtherSecret),
        _ => Ok(()),
    }
}

/// An entry; `None`: somebody has removed it since it was listed.
async fn read(bucket: &Bucket, key: String) -> Result<Option<LedgerEntry>, ReplayError> {
    let Some(body) = bucket.get(&key).await? else {
        return Ok(None);
    };
    let mut entry: LedgerEntry =
        serde_json::from_slice(&body).map_err(|_| ReplayError::Entry(key))?;
    entry.erased = privacy::Erased::default();
    Ok(Some(entry))
}

/// The sessions of whoever has an address whose hash is in the ledger, as far as they are older than its newest
/// erasure: who came back afterwards has not wished to be forgotten.
async fn recognised(
    pool: &PgPool,
    hashes: &BTreeMap<&str, DateTime<Utc>>,
    secret: Option<&PrivacySecret>,
) -> Result<BTreeSet<SessionId>, ReplayError> {
    let mut found = BTreeSet::new();
    // Whether the secret is needed was looked at before anything was restored.
    let Some(secret) = secret.filter(|_| !hashes.is_empty()) else {
        return Ok(found);
    };
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
