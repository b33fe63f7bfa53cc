//! Brings the schema up to date while the service runs.
//!
//! A migration waits for locks, and whoever comes after it waits behind it: an `alter table` that waits for
//! a long `pg_dump` would stop every visitor. So it gives up after [`LOCK_TIMEOUT`], lets the others
//! through and tries again. An index that is made concurrently stops nobody and may wait for as long as
//! the oldest transaction lasts; one that was left unfinished is made anew.

use std::{borrow::Cow, collections::BTreeMap, time::Duration};

use backon::{BackoffBuilder, ExponentialBuilder};
use sqlx::{
    AssertSqlSafe, Connection, Executor, PgConnection, PgPool,
    error::DatabaseError,
    migrate::{Migrate, MigrateError, Migration, Migrator},
    postgres::PgConnectOptions,
};
use tokio::time::sleep;

/// The migrations of this build.
static MIGRATOR: Migrator = sqlx::migrate!("../migrations");
/// Where sqlx notes what was applied.
const APPLIED: &str = "_sqlx_migrations";

/// Taken by whoever migrates.
const MIGRATION_LOCK: &str = "growth-chat migrations";
/// Between two tries to take it.
const MIGRATION_LOOK: Duration = Duration::from_millis(200);

/// How long a migration waits for a lock, and everybody else behind it.
const LOCK_TIMEOUT: &str = "1s";
/// How long others are let through: doubled from the first to the last.
const FIRST_REST: Duration = Duration::from_millis(500);
const LAST_REST: Duration = Duration::from_secs(10);
/// How often a migration tries to get its locks: for about four minutes. A platform's release step has a limit
/// as well, at Fly.io five minutes.
const LOCK_TRIES: usize = 25;

/// Why the schema is not up to date.
#[derive(Debug, thiserror::Error)]
pub enum MigrationError {
    /// The database refused a migration.
    #[error("migration {version} failed")]
    Refused {
        /// The migration.
        version: i64,
        /// Why.
        source: sqlx::Error,
    },
    /// The database failed.
    #[error("the database failed")]
    Database(#[from] sqlx::Error),
    /// What was applied under a number is not what this build has there.
    #[error("migration {version} of the database is not the one of this program")]
    Foreign {
        /// The migration.
        version: i64,
    },
    /// What was applied could not be read or noted.
    #[error("the list of what was applied failed")]
    List(#[source] MigrateError),
    /// Somebody kept on using what has to be changed.
    #[error(
        "migration {version} found its tables in use for four minutes, most likely by a backup that runs \
         (`select * from ops.backups`) or a session that is idle in a transaction: migrate again afterwards"
    )]
    InUse {
        /// The migration.
        version: i64,
    },
}

impl From<MigrateError> for MigrationError {
    fn from(error: MigrateError) -> Self {
        match error {
            MigrateError::Execute(error) => Self::Database(error),
            MigrateError::ExecuteMigration(source, version) => Self::Refused { version, source },
            error => Self::List(error),
        }
    }
}

/// Applies the migrations under a lock. Safe to repeat, and from several processes at once.
///
/// sqlx has a lock of its own, for which it waits within a statement. An index that is created
/// concurrently waits for every statement that began before it, so that both would wait for each
/// other. Whoever waits for this lock asks again and again instead.
pub(crate) async fn migrate(options: &PgConnectOptions) -> Result<(), MigrationError> {
    // A statement may take as long as its table is large.
    let options = options.clone().options([("statement_timeout", "0")]);
    let mut conn = PgConnection::connect_with(&options).await?;
    while !sqlx::query_scalar!(
        r#"select pg_try_advisory_lock(hashtextextended($1, 0)) as "locked!""#,
        MIGRATION_LOCK
    )
    .fetch_one(&mut conn)
    .await?
    {
        sleep(MIGRATION_LOOK).await;
    }
    conn.ensure_migrations_table(APPLIED).await?;
    let applied = conn.list_applied_migrations(APPLIED).await?;
    let applied = applied.into_iter().map(|one| (one.version, one.checksum));
    let applied: BTreeMap<_, _> = applied.collect();
    check_history(&applied)?;
    for migration in MIGRATOR.iter() {
        let is_new = !applied.contains_key(&migration.version);
        if is_new {
            let (version, what) = (migration.version, migration.description.as_ref());
            tracing::info!(version, what, "a migration is applied");
        }
        if migration.no_tx {
            set_lock_timeout(&mut conn, "0").await?;
            let was_unfinished = drop_unfinished(&mut conn, migration).await?;
            if is_new {
                conn.apply(APPLIED, migration).await?;
            } else if was_unfinished {
                conn.execute(migration.sql.clone()).await?;
            }
        } else if is_new {
            set_lock_timeout(&mut conn, LOCK_TIMEOUT).await?;
            apply(&mut conn, migration).await?;
        }
    }
    // The lock ends with the connection.
    conn.close().await?;
    Ok(())
}

/// Whether what was applied is what this build would have applied. Later ones are of a newer version, after
/// which this one was rolled out again.
fn check_history(applied: &BTreeMap<i64, Cow<'static, [u8]>>) -> Result<(), MigrationError> {
    for migration in MIGRATOR.iter() {
        let version = migration.version;
        if applied
            .get(&version)
            .is_some_and(|checksum| *checksum != migration.checksum)
        {
            return Err(MigrationError::Foreign { version });
        }
    }
    let newest = MIGRATOR.iter().map(|migration| migration.version).max();
    let unknown = |version: &&i64| !MIGRATOR.version_exists(**version);
    match applied.keys().find(unknown) {
        Some(&version) if Some(version) < newest => Err(MigrationError::Foreign { version }),
        Some(version) => {
            tracing::info!(version, "the schema is of a newer version of this program");
            Ok(())
        }
        None => Ok(()),
    }
}

/// Applies a migration that is one transaction, as soon as it gets its locks.
async fn apply(conn: &mut PgConnection, migration: &Migration) -> Result<(), MigrationError> {
    let version = migration.version;
    let rests = ExponentialBuilder::default()
        .with_min_delay(FIRST_REST)
        .with_max_delay(LAST_REST)
        .with_max_times(LOCK_TRIES)
        .build();
    for rest in rests {
        match conn.apply(APPLIED, migration).await {
            Ok(_) => return Ok(()),
            Err(MigrateError::ExecuteMigration(error, _)) if is_lock_timeout(&error) => {
                tracing::warn!(version, "a migration waits: its tables are in use");
                sleep(rest).await;
            }
            Err(error) => return Err(error.into()),
        }
    }
    Err(MigrationError::InUse { version })
}

async fn set_lock_timeout(conn: &mut PgConnection, limit: &str) -> sqlx::Result<()> {
    sqlx::query_scalar!(
        r#"select set_config('lock_timeout', $1, false) as "set!""#,
        limit
    )
    .fetch_one(conn)
    .await?;
    Ok(())
}

/// Drops the indexes of a migration that nobody finished making, which `if not exists` would take for
/// finished ones. Whether there was one.
async fn drop_unfinished(conn: &mut PgConnection, migration: &Migration) -> sqlx::Result<bool> {
    let unfinished = sqlx::query!(
        r#"select format('%I.%I', n.nspname, c.relname) as "name!", c.relname as "relname!"
           from pg_index i
           join pg_class c on c.oid = i.indexrelid
           join pg_namespace n on n.oid = c.relnamespace
           where not i.indisvalid and n.nspname in ('public', 'queue', 'ops')"#
    )
    .fetch_all(&mut *conn)
    .await?;
    let mut was_unfinished = false;
    for index in unfinished {
        if migration.sql.as_str().contains(&index.relname) {
            let drop = format!("drop index concurrently if exists {}", index.name);
            conn.execute(AssertSqlSafe(drop)).await?;
            was_unfinished = true;
        }
    }
    Ok(was_unfinished)
}

/// The newest migration of this build.
pub fn newest() -> i64 {
    let versions = MIGRATOR.iter().map(|migration| migration.version);
    versions.max().unwrap_or_default()
}

/// Whether every migration of this build was applied. A newer schema is fine: the previous version
/// runs on while the next one is rolled out.
pub async fn is_migrated(pool: &PgPool) -> sqlx::Result<bool> {
    // Not checked at compile time: the table is sqlx's own, and absent before the first migration.
    let newest = sqlx::query_scalar::<_, Option<i64>>(
        "select max(version) from _sqlx_migrations where success",
    )
    .fetch_one(pool)
    .await;
    match newest {
        Ok(newest) => Ok(newest >= MIGRATOR.iter().map(|migration| migration.version).max()),
        Err(error) if is_undefined(&error) => Ok(false),
        Err(error) => Err(error),
    }
}

/// Whether a table or a schema is missing.
fn is_undefined(error: &sqlx::Error) -> bool {
    let code = error.as_database_error().and_then(DatabaseError::code);
    matches!(code.as_deref(), Some("42P01" | "3F000"))
}

/// Whether a statement gave up waiting for a lock.
fn is_lock_timeout(error: &sqlx::Error) -> bool {
    let code = error.as_database_error().and_then(DatabaseError::code);
    code.as_deref() == Some("55P03")
}
