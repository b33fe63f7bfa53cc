//! What a restored database has to be told again: what was to be forgotten since the backup was made.
//!
//! The one place for it. It runs in `growth-chat restore` and in every drill, after the schema is up to
//! date and the outward queues are held, and before anybody uses the database.

use sqlx::PgPool;

use super::manifest::Manifest;
use crate::{
    clients::bucket::Bucket, config::PrivacyConfig, handlers::retention_sweep::RetentionDeps,
    privacy::replay::replay,
};

/// A database that was just restored.
#[derive(Debug, Clone, Copy)]
pub struct Restored<'a> {
    /// The database.
    pub pool: &'a PgPool,
    /// The bucket, which holds what outlives the database.
    pub bucket: &'a Bucket,
    /// What was restored; its `snapshot_at` is the moment that the database is back at.
    pub manifest: &'a Manifest,
    /// What is to be forgotten by its age, and what addresses are recognised by.
    pub privacy: &'a PrivacyConfig,
}

/// What was done, one sentence each, for whoever restores.
pub type AfterRestore = Vec<String>;

/// Forgets again who was erased since, and what has become too old. An error says in a sentence what could
/// not be forgotten: the database must not be used then.
pub async fn after_restore(restored: Restored<'_>) -> Result<AfterRestore, String> {
    let Restored {
        pool,
        bucket,
        privacy,
        ..
    } = restored;
    let replayed = replay(pool, bucket, privacy.secret.as_ref())
        .await
        .map_err(|error| error.to_string())?;
    let retention = RetentionDeps {
        pool: pool.clone(),
        days: privacy.retention_days,
    };
    let (gone, _) = retention
        .sweep(None)
        .await
        .map_err(|_| "what is too old could not be forgotten: the restored database failed")?;
    Ok(vec![
        format!(
            "{} erasures of the ledger were replayed: {} sessions were forgotten again",
            replayed.entries, replayed.sessions
        ),
        format!(
            "{} sessions that were closed more than {} days ago were forgotten",
            gone.sessions, privacy.retention_days
        ),
    ])
}
