//! Runs that failed and may have left something in the bucket: for the next one to clear up, or to find
//! that they had committed.

use sqlx::PgPool;
use uuid::Uuid;

use super::{Made, Run};

/// A run that failed, and of which something may be in the bucket.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LeftOver {
    /// Its name.
    pub token: Uuid,
    /// Where it uploaded to.
    pub object_key: String,
    /// Its upload.
    pub upload_id: String,
}

/// The newest twenty failed backups that may have left something. More than one or two is a bucket
/// that is gone.
pub async fn left_over(pool: &PgPool) -> sqlx::Result<Vec<LeftOver>> {
    sqlx::query_as!(
        LeftOver,
        r#"select token, object_key as "object_key!", upload_id as "upload_id!"
           from backup_runs
           where kind = 'backup' and status = 'failed' and upload_id is not null
             and object_key is not null
           order by run_id desc limit 20"#,
    )
    .fetch_all(pool)
    .await
}

/// Nothing of a failed run is in the bucket any more.
pub async fn cleared_up(pool: &PgPool, token: Uuid) -> sqlx::Result<()> {
    sqlx::query!(
        "update backup_runs set upload_id = null where token = $1 and status = 'failed'",
        token
    )
    .execute(pool)
    .await?;
    Ok(())
}

/// A failed run turns out to have committed: it succeeded. Where it settles the due time of `ours`, that
/// one is no longer needed and goes; true then.
pub async fn adopt(pool: &PgPool, token: Uuid, made: &Made, ours: &Run) -> sqlx::Result<bool> {
    let mut tx = pool.begin().await?;
    let gone = sqlx::query!(
        "delete from backup_runs ours using backup_runs adopted
         where ours.token = $1 and ours.status = 'running' and adopted.token = $2
           and ours.due_local = adopted.due_local and ours.time_zone = adopted.time_zone",
        ours.token,
        token,
    )
    .execute(&mut *tx)
    .await?;
    sqlx::query!(
        // Its due time may have been settled by another run since: it is one more backup then.
        "update backup_runs adopted
         set status = 'succeeded', reason = null, upload_id = null, object_key = $2,
             snapshot_at = $3, bytes = $4, dump_bytes = $5, sha256 = $6,
             due_local = case when settled.yes then null else due_local end,
             time_zone = case when settled.yes then null else time_zone end
         from (select exists (select from backup_runs one join backup_runs other
                                  using (kind, due_local, time_zone)
                              where one.token = $1 and other.token <> $1
                                and other.status in ('running', 'succeeded')) as yes) settled
         where token = $1 and status = 'failed'",
        token,
        made.object_key,
        made.snapshot_at,
        made.bytes,
        made.dump_bytes,
        made.sha256,
    )
    .execute(&mut *tx)
    .await?;
    tx.commit().await?;
    Ok(gone.rows_affected() == 1)
}
