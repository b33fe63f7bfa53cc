//! Restores a backup into an empty database, and makes that fit to be used.

use std::{sync::Arc, time::Duration};

use chrono::{DateTime, Utc};
use secrecy::SecretString;
use sqlx::PgPool;
use store::{
    db::{Database, DatabaseConfig},
    migration, retention,
};
use tokio::time::Instant;

use super::{
    error::RestoreError,
    hold::PAUSED,
    manifest::{Manifest, compare},
    restricted::is_restrictable,
    snapshot::count_tables,
    tools::{ToolVersion, Tools},
};
use crate::{
    clients::bucket::{Bucket, Patience},
    config::{AgeIdentity, RestoreConfig},
    privacy::{
        replay::{Ledger, Replayed},
        secret::PrivacySecret,
    },
    retention::{Pace, RetentionDeps},
};

/// Hears how far it is.
pub type Say = Arc<dyn Fn(&str) + Send + Sync>;

/// Connections to the target: one works at a time, and a migration takes two.
const CONNECTIONS: u32 = 3;

/// Finds and restores backups; it needs no database but the target.
#[derive(Debug, Clone)]
pub struct Restorer {
    bucket: Bucket,
    tools: Tools,
    identity: Option<AgeIdentity>,
    secret: Option<PrivacySecret>,
    retention_days: Option<i32>,
    without_addresses: bool,
}

/// What a restore did.
#[derive(Debug, Clone, PartialEq)]
pub struct Report {
    /// What was restored.
    pub manifest: Manifest,
    /// Rows of all tables.
    pub rows: i64,
    /// How old the restored moment is: everything after it is lost. The recovery point.
    pub lost: Duration,
    /// How long the restore took. The recovery time.
    pub took: Duration,
    /// Who was forgotten again.
    pub replayed: Replayed,
    /// Who was forgotten by age; none: neither `RETENTION_DAYS` nor the backup says how long texts are kept.
    pub expired: Option<Expired>,
}

/// Who was forgotten by age.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Expired {
    /// So long ago they were closed at least.
    pub days: i32,
    /// How many it were.
    pub sessions: i64,
}

/// What a database is loaded for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Purpose {
    /// To be compared.
    Proof,
    /// To be used: nothing of it may reach outside before somebody has looked.
    Use,
}

impl Restorer {
    /// Connects to nothing yet.
    pub fn new(config: &RestoreConfig, patience: Patience) -> Self {
        Self {
            bucket: Bucket::new(&config.bucket, patience),
            tools: Tools::new(config.tools.clone()),
            identity: config.identity.clone(),
            secret: config.secret.clone(),
            retention_days: config.retention_days,
            without_addresses: false,
        }
    }

    /// The same for whoever has lost `PRIVACY_SECRET`: forgets again the sessions that the ledger names, and
    /// nobody by their address.
    #[must_use]
    pub fn without_addresses(self) -> Self {
        Self {
            without_addresses: true,
            ..self
        }
    }

    /// The bucket.
    pub fn bucket(&self) -> &Bucket {
        &self.bucket
    }

    /// The programs.
    pub fn tools(&self) -> &Tools {
        &self.tools
    }

    pub(super) fn identity(&self) -> Option<&AgeIdentity> {
        self.identity.as_ref()
    }

    /// Restores a backup with everything held that reaches outside, compares every count, brings the schema
    /// up to date, puts the privileges back, and forgets again what was forgotten since. After an error the
    /// database must not be used.
    pub async fn restore(
        &self,
        manifest: &Manifest,
        into: &DatabaseConfig,
        say: &Say,
    ) -> Result<Report, RestoreError> {
        let begun = Instant::now();
        let program = migration::newest();
        if let Some(backup) = manifest.schema_version.filter(|backup| *backup > program) {
            return Err(RestoreError::NewerSchema { backup, program });
        }
        // Before hours of loading: without it the database could not be used.
        say("reading who is to be forgotten again");
        let ledger =
            Ledger::read(&self.bucket, self.secret.clone(), self.without_addresses).await?;
        let target = open(into)?;
        let rows = self
            .load_and_compare(manifest, into, &target, Purpose::Use, say)
            .await?;
        say("bringing the schema up to date");
        target.migrate().await?;
        let pool = target.pool();
        sqlx::query_scalar!("select queue.restore_privileges() is null")
            .fetch_one(pool)
            .await?;
        say("replaying what was to be forgotten");
        let replayed = ledger.replay(pool).await?;
        let expired = self.expire(pool).await.map_err(RestoreError::Retention)?;
        say("collecting the statistics of the tables");
        analyze(&target).await?;
        let now = now(pool).await?;
        pool.close().await;
        Ok(Report {
            manifest: manifest.clone(),
            rows,
            lost: (now - manifest.snapshot_at).to_std().unwrap_or_default(),
            took: begun.elapsed(),
            replayed,
            expired,
        })
    }

    /// Forgets what has become too old, by `RETENTION_DAYS` if it is set here, or else by the rule that came
    /// with the backup. By a default it would forget what the lost database was to keep.
    async fn expire(&self, pool: &PgPool) -> sqlx::Result<Option<Expired>> {
        let days = match self.retention_days {
            Some(days) => Some(days),
            None => retention::load_days(pool).await?,
        };
        let Some(days) = days else {
            return Ok(None);
        };
        let pool = pool.clone();
        let (gone, _) = RetentionDeps { pool, days }
            .sweep(None, Pace::Alone)
            .await?;
        let sessions = gone.sessions;
        Ok(Some(Expired { days, sessions }))
    }

    /// Loads a backup and compares every count with the manifest. Returns the rows of all tables.
    pub(super) async fn load_and_compare(
        &self,
        manifest: &Manifest,
        into: &DatabaseConfig,
        target: &Database,
        purpose: Purpose,
        say: &Say,
    ) -> Result<i64, RestoreError> {
        let tool = self.tools.version("psql").await?;
        if tool < manifest.pg_dump_version {
            return Err(RestoreError::TooOld {
                tool,
                dump: manifest.pg_dump_version,
            });
        }
        if !is_restrictable(tool) {
            return Err(RestoreError::Unrestricted(tool));
        }
        let server = fits(target.pool(), manifest).await?;
        say(&format!("loading {}", manifest.object));
        let url: SecretString = into.url();
        self.load(manifest, &url, server, purpose, say).await?;
        say("comparing every table with the manifest");
        let found = {
            let mut conn = target.own_connection().acquire().await?;
            sqlx::query!("set statement_timeout = '1h'")
                .execute(&mut *conn)
                .await?;
            count_tables(&mut conn).await?
        };
        let mut expected = manifest.tables.clone();
        if purpose == Purpose::Use
            && let Some((paused, held)) = expected.get_mut(PAUSED).zip(found.get(PAUSED))
        {
            // What is held has been added. The proof of every backup compares this one too.
            *paused = *held;
        }
        compare(&expected, &found)?;
        Ok(manifest.tables.values().sum())
    }
}

pub(super) fn open(config: &DatabaseConfig) -> Result<Database, RestoreError> {
    let url = config.url();
    Ok(DatabaseConfig::new(url, CONNECTIONS).open()?)
}

/// Whether the target is empty, and new enough.
async fn fits(pool: &PgPool, manifest: &Manifest) -> Result<ToolVersion, RestoreError> {
    let row = sqlx::query!(
        r#"select current_setting('server_version_num')::integer as "version!",
                  (select format('%I.%I', n.nspname, c.relname)
                   from pg_class c join pg_namespace n on n.oid = c.relnamespace
                   where n.nspname <> 'information_schema' and n.nspname !~ '^pg_'
                     and not exists (select from pg_depend d where d.classid = 'pg_class'::regclass
                                                               and d.objid = c.oid and d.deptype = 'e')
                   order by 1 limit 1) as relation,
                  (select format('schema %I', nspname) from pg_namespace n
                   where nspname not in ('information_schema', 'public') and nspname !~ '^pg_'
                     and not exists (select from pg_depend d where d.classid = 'pg_namespace'::regclass
                                                               and d.objid = n.oid and d.deptype = 'e')
                   order by 1 limit 1) as schema"#
    )
    .fetch_one(pool)
    .await?;
    if let Some(found) = row.relation.or(row.schema) {
        return Err(RestoreError::NotEmpty(found));
    }
    let target = ToolVersion::of_number(row.version.unsigned_abs());
    if target.major < manifest.server_version.major {
        return Err(RestoreError::OlderServer {
            target,
            source_version: manifest.server_version,
        });
    }
    Ok(target)
}

/// Until autovacuum comes by, plans would be made without knowing a thing.
async fn analyze(target: &Database) -> sqlx::Result<()> {
    let mut conn = target.own_connection().acquire().await?;
    sqlx::query!("set statement_timeout = '1h'")
        .execute(&mut *conn)
        .await?;
    sqlx::query!("analyze").execute(&mut *conn).await?;
    Ok(())
}

pub(super) async fn now(pool: &PgPool) -> sqlx::Result<DateTime<Utc>> {
    sqlx::query_scalar!(r#"select clock_timestamp() as "now!""#)
        .fetch_one(pool)
        .await
}
