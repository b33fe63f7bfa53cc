//! Why a backup, a verify or a restore failed. Each is told to an operator and kept in a row, so none
//! has a secret or what stands in a row of the database.

use std::{error::Error, io, time::Duration};

use jobs::{JobError, database_failure};
use tokio::task::JoinError;
use uuid::Uuid;

use super::{
    manifest::{Different, ManifestError},
    tools::{ToolError, ToolVersion},
};
use crate::{
    clients::bucket::BucketError,
    privacy::{ledger::KeepError, replay::ReplayError},
};

/// A backup was not made.
#[derive(Debug, thiserror::Error)]
pub enum BackupError {
    /// The database could not be used.
    #[error("the database could not be used")]
    Database(#[from] sqlx::Error),
    /// The bucket could not be used.
    #[error("the bucket could not be used")]
    Bucket(#[from] BucketError),
    /// Whoever was erased would come back with an older backup.
    #[error("the erasures could not be recorded in the bucket")]
    Erasures(#[from] KeepError),
    /// `pg_dump` could not be used, or failed.
    #[error("the dump failed")]
    Tool(#[from] ToolError),
    /// `pg_dump` can't read what a newer server has.
    #[error(
        "pg_dump {tool} is older than the server {server}: install the client programs of \
         PostgreSQL {} or newer, or set PG_BIN_DIR", server.major
    )]
    TooOld {
        /// Of `pg_dump`.
        tool: ToolVersion,
        /// Of the server.
        server: ToolVersion,
    },
    /// `pg_dump` ended well, and what it wrote does not end as a dump does.
    #[error("the dump is not whole: its trailer is missing")]
    NotWhole,
    /// What `pg_dump` writes could not be read or compressed.
    #[error("the dump could not be read")]
    Pump(#[source] io::Error),
    /// The rows of the tables were not counted to the end.
    #[error("counting the tables was ended")]
    Counting(#[source] JoinError),
    /// The store has other parts than were sent.
    #[error("the bucket has other parts than were sent")]
    OtherParts,
    /// The object is not as long as what was sent.
    #[error("the object has {found} bytes of {sent}")]
    OtherLength {
        /// What was sent.
        sent: u64,
        /// What is there.
        found: u64,
    },
    /// 10,000 parts are full.
    #[error("the dump is larger than an upload can be")]
    TooLarge,
    /// Every name that it could have is taken.
    #[error("the bucket has a backup of every name that this one could have")]
    NoName,
    /// Something was put at its key meanwhile.
    #[error("somebody else has put an object at its key")]
    Taken,
    /// Another process took over.
    #[error("another process took over: this one did not renew its lease in time")]
    LeaseLost,
    /// It was told to.
    #[error("stopped by a signal")]
    Stopped,
    /// Another run is under way.
    #[error(
        "another backup is being made, by run {run_id}; if its process is gone, the next one can begin in \
         {t} s", t = .left.as_secs() + 1
    )]
    Busy {
        /// Which.
        run_id: i64,
        /// Until its lease ends, if nobody renews it.
        left: Duration,
    },
}

/// A backup was not restored, or not verified.
#[derive(Debug, thiserror::Error)]
pub enum RestoreError {
    /// The database could not be used.
    #[error("the database could not be used")]
    Database(#[from] sqlx::Error),
    /// The bucket could not be used.
    #[error("the bucket could not be used")]
    Bucket(#[from] BucketError),
    /// psql could not be used, or failed.
    #[error("the restore failed")]
    Tool(#[from] ToolError),
    /// There is no such backup.
    #[error("the bucket has no backup {0}")]
    Missing(String),
    /// Its manifest can't be used.
    #[error("the backup {name} can't be used")]
    Manifest {
        /// Which.
        name: String,
        /// Why.
        source: ManifestError,
    },
    /// A newer version of this program made it, and knows what this one does not: where a person is, too.
    #[error(
        "the backup's schema {backup} is newer than this program's {program}: restore it with the version \
         that made it, or a newer one"
    )]
    NewerSchema {
        /// Of the backup.
        backup: i64,
        /// The newest migration of this build.
        program: i64,
    },
    /// psql does not understand what a newer `pg_dump` wrote.
    #[error(
        "psql {tool} is older than the pg_dump {dump} that made the backup: install newer client \
         programs of PostgreSQL, or set PG_BIN_DIR"
    )]
    TooOld {
        /// Of psql.
        tool: ToolVersion,
        /// Of the dump.
        dump: ToolVersion,
    },
    /// psql would run what a backup says.
    #[error(
        "psql {0} has no restricted mode, and would run commands of the shell that somebody has put into \
         a backup: install the client programs of PostgreSQL 15.14, 16.10, 17.6, 18 or newer, or set \
         PG_BIN_DIR"
    )]
    Unrestricted(ToolVersion),
    /// The target can't have what a newer server had.
    #[error("the target's server {target} is older than the server {source_version} of the backup")]
    OlderServer {
        /// Of the target.
        target: ToolVersion,
        /// Of the backup.
        source_version: ToolVersion,
    },
    /// The target has something.
    #[error("the target database is not empty: it has {0}; restore into a new one")]
    NotEmpty(String),
    /// The backup is encrypted.
    #[error("the backup is encrypted: set BACKUP_AGE_IDENTITY")]
    NoIdentity,
    /// The backup is whole, as far as that can be told, and for somebody else.
    #[error(
        "BACKUP_AGE_IDENTITY does not open the backup: it was encrypted to another recipient; nothing was \
         restored"
    )]
    OtherIdentity,
    /// The bucket has something else in place of what this database made.
    #[error(
        "the object is not the one that run {0} made: somebody has replaced it; nothing was restored"
    )]
    Replaced(Uuid),
    /// The object is not what was written.
    #[error("the object is damaged: {0}; nothing was restored")]
    Damaged(&'static str),
    /// The rows are not those of the manifest.
    #[error("the restored database differs from the manifest")]
    Different(#[from] Different),
    /// The schema could not be brought up to date.
    #[error("the restored database could not be migrated")]
    Migrate(#[from] store::migration::MigrationError),
    /// Whoever was erased since can't be forgotten again.
    #[error("the erasures since the backup can't be repeated")]
    Replay(#[from] ReplayError),
    /// What has become too old since was not forgotten.
    #[error("what is too old could not be forgotten")]
    Retention(#[source] sqlx::Error),
    /// Another process took over.
    #[error("another process took over: this one did not renew its lease in time")]
    LeaseLost,
    /// It was told to.
    #[error("stopped by a signal")]
    Stopped,
    /// Another one is under way.
    #[error("another backup is being verified, by run {0}")]
    Busy(i64),
}

/// An error and its causes in one line, for a row, a log or a person.
pub fn told(error: &(dyn Error + 'static)) -> String {
    let mut line = error.to_string();
    let mut next = error.source();
    while let Some(cause) = next {
        // A database's message can quote a row.
        if let Some(error) = cause.downcast_ref::<sqlx::Error>() {
            return format!("{line}: {}", database_failure(error));
        }
        line = format!("{line}: {cause}");
        next = cause.source();
    }
    line
}

impl From<BackupError> for JobError {
    fn from(error: BackupError) -> Self {
        Self::retry(told(&error))
    }
}

impl From<RestoreError> for JobError {
    fn from(error: RestoreError) -> Self {
        Self::retry(told(&error))
    }
}
