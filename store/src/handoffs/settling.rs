//! What settling reads and writes. What becomes of a handoff is decided in `workers`.

use sqlx::PgConnection;

use super::{HandoffKey, HandoffStatus};

/// From here on facts make a new handoff. The caller has locked the record.
pub async fn seal(conn: &mut PgConnection, key: &HandoffKey) -> sqlx::Result<()> {
    sqlx::query!(
        "update handoff_records set sealed_at = now()
         where session_id = $1 and handoff_id = $2 and sealed_at is null",
        key.session_id.as_str(),
        key.handoff_id.as_str(),
    )
    .execute(conn)
    .await?;
    Ok(())
}

/// Marks deliveries as ended whose job is not live any more although nobody said so: its payload could
/// not be read, or somebody deleted it. The caller has locked the record.
pub async fn give_up_lost(conn: &mut PgConnection, key: &HandoffKey) -> sqlx::Result<u64> {
    let lost = sqlx::query!(
        "update handoff_deliveries d
         set status = case when exists (select from queue.history h
                                        where h.id = d.job_id and h.outcome = 'cancelled')
                           then 'cancelled' else 'dead' end,
             updated_at = now()
         where session_id = $1 and handoff_id = $2 and status = 'pending'
           and not exists (select from queue.jobs j where j.id = d.job_id)",
        key.session_id.as_str(),
        key.handoff_id.as_str(),
    )
    .execute(conn)
    .await?;
    Ok(lost.rows_affected())
}

/// Moves a handoff to another status. Returns whether it had another one before.
pub async fn settle(
    conn: &mut PgConnection,
    key: &HandoffKey,
    status: HandoffStatus,
) -> sqlx::Result<bool> {
    let changed = sqlx::query!(
        "update handoff_records
         set status = $3, settled_at = coalesce(settled_at, now()), updated_at = now()
         where session_id = $1 and handoff_id = $2 and status <> $3",
        key.session_id.as_str(),
        key.handoff_id.as_str(),
        status.as_str(),
    )
    .execute(conn)
    .await?;
    Ok(changed.rows_affected() > 0)
}

/// Whether channels owe a handoff anything; none do for one that was made before there were any.
pub async fn has_deliveries(conn: &mut PgConnection, key: &HandoffKey) -> sqlx::Result<bool> {
    sqlx::query_scalar!(
        r#"select exists (select from handoff_deliveries where session_id = $1 and handoff_id = $2) as "there!""#,
        key.session_id.as_str(),
        key.handoff_id.as_str(),
    )
    .fetch_one(conn)
    .await
}
