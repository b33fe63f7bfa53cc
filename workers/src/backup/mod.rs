//! Backups: made, proved, restored. The design and its failure cases are in
//! `docs/decisions/0020-honest-backups.md`.
//!
//! ```text
//!  Backups::run ── claim ── Snapshot ── Dump ─► gzip ─► parts ─► Bucket ── manifest ── row
//!        │                                                                   (the commit)
//!        └─ enqueues ─► Backups::verify ── Restorer ─► psql ─► scratch database ── counts
//!                                             ▲
//!  growth-chat restore ───────────────────────┘
//! ```

mod attempt;
mod clear;
mod due;
mod dump;
mod error;
mod gzip;
mod hold;
mod keep;
mod list;
mod load;
mod manifest;
mod name;
mod pieces;
mod proof;
mod restore;
mod restricted;
mod retention;
mod run;
mod scratch;
mod snapshot;
mod tools;
mod trailer;
mod upload;
mod verify;

use std::sync::Arc;

use store::{bus::Bus, db::Database};
use tokio_util::sync::CancellationToken;

pub(crate) use self::verify::silently;
pub use self::{
    due::{Ask, due_at, is_daily},
    error::{BackupError, RestoreError, told},
    hold::HELD_QUEUES,
    list::{Found, Which},
    manifest::{Counts, Different, Encryption, Manifest, ManifestError, compare},
    name::{BackupName, PREFIX},
    restore::{Expired, Report, Restorer, Say},
    restricted::is_restrictable,
    run::Ran,
    tools::{ToolError, ToolVersion, Tools},
    verify::Verified,
};
use crate::{
    clients::bucket::{Bucket, Patience},
    config::BackupConfig,
};

/// What makes the backups of a database. Clones share its connections.
#[derive(Debug, Clone)]
pub struct Backups {
    database: Database,
    bus: Bus,
    restorer: Restorer,
    config: Arc<BackupConfig>,
    stop: CancellationToken,
}

impl Backups {
    /// Connects to nothing yet.
    pub fn new(config: BackupConfig, database: Database, bus: Bus, patience: Patience) -> Self {
        Self {
            database,
            bus,
            restorer: Restorer::new(&config.restore, patience),
            config: Arc::new(config),
            stop: CancellationToken::new(),
        }
    }

    /// The same, which ends what it does as failed when it is told to stop, and clears up after it.
    #[must_use]
    pub fn until(self, stop: CancellationToken) -> Self {
        Self { stop, ..self }
    }

    /// The database.
    pub fn database(&self) -> &Database {
        &self.database
    }

    /// What it is configured with.
    pub fn config(&self) -> &BackupConfig {
        &self.config
    }

    /// What restores them.
    pub fn restorer(&self) -> &Restorer {
        &self.restorer
    }

    /// Where they are kept.
    pub fn bucket(&self) -> &Bucket {
        self.restorer.bucket()
    }
}
