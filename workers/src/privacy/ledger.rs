//! The ledger of erasures in the bucket: there it outlives the database, outside the backups and their
//! lifecycle. An entry is an object; one that grew is another object.

use bytes::Bytes;
use futures::{StreamExt, TryStreamExt, stream};
use sha2::{Digest, Sha256};
use sqlx::PgPool;
use store::privacy::{self, LedgerEntry};

use crate::clients::bucket::{Bucket, BucketError};
use crate::hex::hex;

/// Where the entries are in the bucket.
pub const LEDGER: &str = "erasures/";

/// How often an entry is put that grows in the same moment.
const TRIES: usize = 5;
/// Entries that are read at once, and of these how many are put at once.
const BATCH: i64 = 100;
const AT_ONCE: usize = 8;

/// Why the bucket does not have an entry.
#[derive(Debug, thiserror::Error)]
pub enum KeepError {
    /// The bucket did not take it.
    #[error("the bucket did not take an entry of the ledger of erasures")]
    Bucket(#[from] BucketError),
    /// It can't be written.
    #[error("an entry of the ledger of erasures can't be written")]
    Entry(#[from] serde_json::Error),
    /// It changes faster than it is put.
    #[error("an entry of the ledger of erasures keeps growing")]
    Grows,
    /// The database failed.
    #[error("the database failed")]
    Database(#[from] sqlx::Error),
}

/// Sees to it that the bucket has the entry of a request as the database has it.
pub async fn keep(pool: &PgPool, bucket: &Bucket, entry_id: &str) -> Result<(), KeepError> {
    for _ in 0..TRIES {
        let mut conn = pool.acquire().await?;
        let entry = privacy::entry(&mut conn, entry_id).await?;
        // The bucket is asked without a connection in hand.
        drop(conn);
        let Some(entry) = entry.filter(|entry| !entry.kept) else {
            return Ok(());
        };
        put(bucket, &entry).await?;
        let mut conn = pool.acquire().await?;
        if privacy::keep_entry(&mut conn, &entry).await? {
            return Ok(());
        }
    }
    Err(KeepError::Grows)
}

/// The same for every entry that the bucket does not have: those of workers that have no bucket, and those
/// that it did not take. Before a backup is made, so that every older one can be restored.
pub async fn keep_all(pool: &PgPool, bucket: &Bucket) -> Result<(), KeepError> {
    let mut behind = String::new();
    loop {
        let mut conn = pool.acquire().await?;
        let ids = privacy::unkept(&mut conn, &behind, BATCH).await?;
        drop(conn);
        let Some(last) = ids.last() else {
            return Ok(());
        };
        behind.clone_from(last);
        stream::iter(&ids)
            .map(Ok)
            .try_for_each_concurrent(AT_ONCE, async |id| keep(pool, bucket, id).await)
            .await?;
    }
}

async fn put(bucket: &Bucket, entry: &LedgerEntry) -> Result<(), KeepError> {
    let body = serde_json::to_vec(entry)?;
    let hash = hex(&Sha256::digest(&body)[..8]);
    let key = format!("{LEDGER}{}-{hash}.json", entry.entry_id);
    bucket
        .put_new(&key, Bytes::from(body), "application/json")
        .await?;
    Ok(())
}
