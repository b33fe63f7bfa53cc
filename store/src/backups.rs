//! The attempts to make backups and to verify them: the fence of a due time, and the history.
//!
//! ```text
//!  claim ──► running ──► succeeded ──► verified
//!               │ lease ended, or an error
//!               └──────► failed (reason)
//! ```
//! Every write of a run names its token and `running`: whoever lost the lease writes nothing. See
//! `docs/decisions/0020-honest-backups.md`.

mod figures;
mod left_over;

use std::{fmt, time::Duration};

use chrono::{DateTime, NaiveDateTime, Utc};
use sqlx::{PgPool, postgres::types::PgInterval};
use uuid::Uuid;

pub use self::{
    figures::{BackupFigures, Ended, Newest, newest},
    left_over::{LeftOver, adopt, cleared_up, left_over},
};

/// How long a run is its process's without a renewal.
pub const LEASE: Duration = Duration::from_mins(1);

/// The reason of a run whose process vanished.
pub const VANISHED: &str = "the process that made it ended or lost the database";

/// What a run does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RunKind {
    /// Makes a backup.
    Backup,
    /// Restores one for a proof.
    Verify,
}

impl RunKind {
    /// The word in the table.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Backup => "backup",
            Self::Verify => "verify",
        }
    }
}

/// A time at which a backup is due, on the clock of a zone.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Due {
    /// What the clock shows.
    pub local: NaiveDateTime,
    /// The zone's IANA name.
    pub zone: String,
}

impl fmt::Display for Due {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.local.format("%Y-%m-%d %H:%M"), self.zone)
    }
}

/// A run that is this process's.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Run {
    /// Its number, for people.
    pub run_id: i64,
    /// Its name, in the bucket as well.
    pub token: Uuid,
    /// When it began, by the database's clock.
    pub started_at: DateTime<Utc>,
}

/// What came of asking for a run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Claim {
    /// It is ours.
    Ours(Run),
    /// Another one runs; which, and for how much longer it is its process's at least.
    Busy {
        /// Its number.
        run_id: i64,
        /// Until its lease ends, if it is not renewed.
        left: Duration,
    },
    /// The backup of the due time was made.
    Done,
}

/// What is asked for.
#[derive(Debug, Clone, Copy)]
pub struct Wanted<'a> {
    /// What to do.
    pub kind: RunKind,
    /// The due time, of a backup that the schedule asks for.
    pub due: Option<&'a Due>,
    /// The object, of a verify.
    pub object_key: Option<&'a str>,
    /// Whether a verify goes through all of `restore`.
    pub drill: bool,
}

/// Asks for a run. Rows whose lease has ended are failed first. Every statement is a transaction of its
/// own: the pool's connection is not held in between.
pub async fn claim(pool: &PgPool, wanted: Wanted<'_>) -> sqlx::Result<Claim> {
    loop {
        fail_ended(pool, wanted.kind).await?;
        // Whoever waits looks every other second: an insert that fails would use up a number each time.
        if let Some(taken) = taken(pool, wanted).await? {
            return Ok(taken);
        }
        let run = sqlx::query_as!(
            Run,
            r#"insert into backup_runs (kind, due_local, time_zone, object_key, drill, lease_until)
               values ($1, $2, $3, $4, $5, now() + $6)
               on conflict do nothing
               returning run_id, token, started_at"#,
            wanted.kind.as_str(),
            wanted.due.map(|due| due.local),
            wanted.due.map(|due| due.zone.as_str()),
            wanted.object_key,
            wanted.drill,
            interval(LEASE),
        )
        .fetch_optional(pool)
        .await?;
        // None: somebody was quicker, and the next look says who.
        if let Some(run) = run {
            return Ok(Claim::Ours(run));
        }
    }
}

/// Why there is nothing to claim, if so.
async fn taken(pool: &PgPool, wanted: Wanted<'_>) -> sqlx::Result<Option<Claim>> {
    if let Some(due) = wanted.due
        && is_done(pool, due).await?
    {
        return Ok(Some(Claim::Done));
    }
    let other = sqlx::query!(
        r#"select run_id,
                  greatest(extract(epoch from lease_until - now()), 0)::float8 as "left!"
           from backup_runs where kind = $1 and status = 'running'"#,
        wanted.kind.as_str(),
    )
    .fetch_optional(pool)
    .await?;
    Ok(other.map(|other| Claim::Busy {
        run_id: other.run_id,
        left: Duration::try_from_secs_f64(other.left).unwrap_or_default(),
    }))
}

/// Whether the backup of a due time was made.
pub async fn is_done(pool: &PgPool, due: &Due) -> sqlx::Result<bool> {
    sqlx::query_scalar!(
        r#"select exists (select from backup_runs
                          where kind = 'backup' and status = 'succeeded'
                            and due_local = $1 and time_zone = $2) as "done!""#,
        due.local,
        due.zone,
    )
    .fetch_one(pool)
    .await
}

/// Fails the run whose process did not renew its lease.
async fn fail_ended(pool: &PgPool, kind: RunKind) -> sqlx::Result<()> {
    sqlx::query!(
        "update backup_runs
         set status = 'failed', reason = $2, lease_until = null, finished_at = now()
         where kind = $1 and status = 'running' and lease_until < now()",
        kind.as_str(),
        VANISHED,
    )
    .execute(pool)
    .await?;
    Ok(())
}

/// Records an attempt that was refused before it began.
pub async fn refuse(
    pool: &PgPool,
    kind: RunKind,
    due: Option<&Due>,
    reason: &str,
) -> sqlx::Result<()> {
    sqlx::query!(
        "insert into backup_runs (kind, due_local, time_zone, status, reason, finished_at)
         values ($1, $2, $3, 'failed', $4, now())",
        kind.as_str(),
        due.map(|due| due.local),
        due.map(|due| due.zone.as_str()),
        reason,
    )
    .execute(pool)
    .await?;
    Ok(())
}

/// Keeps the run for another [`LEASE`]. False: it is somebody else's, nothing may be written any more.
pub async fn renew(pool: &PgPool, token: Uuid) -> sqlx::Result<bool> {
    let renewed = sqlx::query!(
        "update backup_runs set lease_until = now() + $2 where token = $1 and status = 'running'",
        token,
        interval(LEASE),
    )
    .execute(pool)
    .await?;
    Ok(renewed.rows_affected() == 1)
}

/// Records where a run uploads to, before the first part. False: the lease was lost.
pub async fn note_upload(
    pool: &PgPool,
    token: Uuid,
    object_key: &str,
    upload_id: &str,
) -> sqlx::Result<bool> {
    let noted = sqlx::query!(
        "update backup_runs set object_key = $2, upload_id = $3
         where token = $1 and status = 'running'",
        token,
        object_key,
        upload_id,
    )
    .execute(pool)
    .await?;
    Ok(noted.rows_affected() == 1)
}

/// What a backup is, for its row.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Made {
    /// The object.
    pub object_key: String,
    /// The moment that is in it.
    pub snapshot_at: DateTime<Utc>,
    /// Its length in the bucket, in bytes.
    pub bytes: i64,
    /// The length of the SQL, in bytes.
    pub dump_bytes: i64,
    /// Hex SHA-256 of the object.
    pub sha256: String,
}

/// Ends a run whose manifest is in the bucket. False: the lease was lost.
pub async fn succeed(pool: &PgPool, token: Uuid, made: &Made) -> sqlx::Result<bool> {
    let ended = sqlx::query!(
        "update backup_runs
         set status = 'succeeded', lease_until = null, finished_at = now(), upload_id = null,
             object_key = $2, snapshot_at = $3, bytes = $4, dump_bytes = $5, sha256 = $6
         where token = $1 and status = 'running'",
        token,
        made.object_key,
        made.snapshot_at,
        made.bytes,
        made.dump_bytes,
        made.sha256,
    )
    .execute(pool)
    .await?;
    Ok(ended.rows_affected() == 1)
}

/// Ends a run as failed. `left_over`: something of it may still be in the bucket, for the next one to
/// clear up. False: somebody else has ended it.
pub async fn fail(pool: &PgPool, token: Uuid, reason: &str, left_over: bool) -> sqlx::Result<bool> {
    let ended = sqlx::query!(
        "update backup_runs
         set status = 'failed', reason = $2, lease_until = null, finished_at = now(),
             upload_id = case when $3 then upload_id end
         where token = $1 and status = 'running'",
        token,
        reason,
        left_over,
    )
    .execute(pool)
    .await?;
    Ok(ended.rows_affected() == 1)
}

/// The newest backup that this database made.
pub async fn newest_made(pool: &PgPool) -> sqlx::Result<Option<String>> {
    sqlx::query_scalar!(
        r#"select object_key as "object_key!" from backup_runs
           where kind = 'backup' and status = 'succeeded' and object_key is not null
           order by snapshot_at desc limit 1"#
    )
    .fetch_optional(pool)
    .await
}

/// The backup that this database made at a key, as its own row says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Own {
    /// The run.
    pub token: Uuid,
    /// The object's length, in bytes.
    pub bytes: i64,
    /// Hex SHA-256 of the object.
    pub sha256: String,
}

/// What this database has made at a key. None: what is there is another database's, or was made after
/// the moment that this one was restored to.
pub async fn own(pool: &PgPool, object_key: &str) -> sqlx::Result<Option<Own>> {
    sqlx::query_as!(
        Own,
        r#"select token, bytes as "bytes!", sha256 as "sha256!" from backup_runs
           where kind = 'backup' and status = 'succeeded' and object_key = $1
           order by run_id desc limit 1"#,
        object_key
    )
    .fetch_optional(pool)
    .await
}

/// Ends a verify that went well, and marks our own backup that it restored, if it is one. False: the
/// lease was lost.
pub async fn verified(pool: &PgPool, verify: Uuid, made: &Made) -> sqlx::Result<bool> {
    let mut tx = pool.begin().await?;
    let ended = sqlx::query!(
        "update backup_runs
         set status = 'succeeded', lease_until = null, finished_at = now(), verified_at = now(),
             object_key = $2, snapshot_at = $3, bytes = $4, dump_bytes = $5, sha256 = $6
         where token = $1 and status = 'running'",
        verify,
        made.object_key,
        made.snapshot_at,
        made.bytes,
        made.dump_bytes,
        made.sha256,
    )
    .execute(&mut *tx)
    .await?;
    if ended.rows_affected() != 1 {
        return Ok(false);
    }
    // There is none in a database that was restored from it. The hash is of what was restored.
    sqlx::query!(
        "update backup_runs set verified_at = now()
         where kind = 'backup' and status = 'succeeded' and object_key = $1 and sha256 = $2",
        made.object_key,
        made.sha256,
    )
    .execute(&mut *tx)
    .await?;
    tx.commit().await?;
    Ok(true)
}

/// The keys of the newest verified backups of ours, which no retention may touch.
pub async fn newest_verified(pool: &PgPool, count: i64) -> sqlx::Result<Vec<String>> {
    sqlx::query_scalar!(
        r#"select object_key as "object_key!" from backup_runs
           where kind = 'backup' and verified_at is not null and object_key is not null
           group by object_key order by max(snapshot_at) desc limit $1"#,
        count
    )
    .fetch_all(pool)
    .await
}

fn interval(duration: Duration) -> PgInterval {
    PgInterval {
        months: 0,
        days: 0,
        microseconds: i64::try_from(duration.as_micros()).unwrap_or(i64::MAX),
    }
}
