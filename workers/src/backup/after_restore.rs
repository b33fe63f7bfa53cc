//! What a restored database has to be told again: what was to be forgotten since the backup was made.
//!
//! The one place for it. It runs in `growth-chat restore` and in every drill, after the schema is up to
//! date and the outward queues are held, and before anybody uses the database.

use sqlx::PgPool;

use super::manifest::Manifest;
use crate::clients::bucket::Bucket;

/// A database that was just restored.
#[derive(Debug, Clone, Copy)]
pub struct Restored<'a> {
    /// The database.
    pub pool: &'a PgPool,
    /// The bucket, which holds what outlives the database.
    pub bucket: &'a Bucket,
    /// What was restored; its `snapshot_at` is the moment that the database is back at.
    pub manifest: &'a Manifest,
}

/// What was done, one sentence each, for whoever restores.
pub type AfterRestore = Vec<String>;

/// Replays what must not come back. An error says in a sentence what could not be replayed: the database
/// must not be used then.
pub async fn after_restore(_restored: Restored<'_>) -> Result<AfterRestore, String> {
    Ok(AfterRestore::new())
}
