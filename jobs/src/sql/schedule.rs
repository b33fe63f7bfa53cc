//! The rows of the schedules: what has been settled of each.

use chrono::{DateTime, Utc};
use sqlx::{PgConnection, PgPool};

use crate::{
    fence::JobId,
    schedule::{Fire, Schedule},
};

/// What decides about a fire.
#[derive(Debug)]
pub(crate) struct Row {
    cron: String,
    time_zone: String,
    /// From when on the row's rule counts.
    pub(crate) since: DateTime<Utc>,
    /// Until when every fire has been settled.
    pub(crate) settled: DateTime<Utc>,
}

impl Row {
    pub(crate) fn has_rule_of(&self, schedule: &Schedule) -> bool {
        self.cron == schedule.cron() && self.time_zone == schedule.zone()
    }
}

/// The database's time, and the row if there is one.
pub(crate) async fn look(pool: &PgPool, name: &str) -> sqlx::Result<(DateTime<Utc>, Option<Row>)> {
    let row = sqlx::query!(
        r#"select clock_timestamp() as "now!", cron as "cron?", time_zone as "time_zone?",
                  since as "since?", settled as "settled?"
           from (values ($1)) asked (name) left join queue.schedules using (name)"#,
        name,
    )
    .fetch_one(pool)
    .await?;
    let found = match (row.cron, row.time_zone, row.since, row.settled) {
        (Some(cron), Some(time_zone), Some(since), Some(settled)) => Some(Row {
            cron,
            time_zone,
            since,
            settled,
        }),
        _ => None,
    };
    Ok((row.now, found))
}

/// Makes the row say this rule, from now on. What has been settled stays: it may be another version's.
pub(crate) async fn adopt(
    pool: &PgPool,
    schedule: &Schedule,
    now: DateTime<Utc>,
) -> sqlx::Result<()> {
    sqlx::query!(
        "insert into queue.schedules as known (name, cron, time_zone, since, settled, next_fire_at)
         values ($1, $2, $3, $4, $4, $5)
         on conflict on constraint schedules_pkey do update
         set cron = excluded.cron, time_zone = excluded.time_zone, since = excluded.since,
             next_fire_at = excluded.next_fire_at
         -- Another process of the same version may have been faster.
         where (known.cron, known.time_zone) <> (excluded.cron, excluded.time_zone)",
        schedule.name(),
        schedule.cron(),
        schedule.zone(),
        now,
        schedule.next(now).map(|next| next.at),
    )
    .execute(pool)
    .await?;
    Ok(())
}

/// Locks the row if the fire has not been settled. By the moment, which counts for every rule, and under
/// the same rule by the local time as well: processes may differ in what they know of a zone's offset.
pub(crate) async fn lock_unsettled(
    conn: &mut PgConnection,
    schedule: &Schedule,
    fire: Fire,
) -> sqlx::Result<bool> {
    let row = sqlx::query!(
        "select name from queue.schedules
         where name = $1 and settled < $4
           and not (cron = $2 and time_zone = $3 and last_fire is not null and last_fire >= $5)
         for update",
        schedule.name(),
        schedule.cron(),
        schedule.zone(),
        fire.at,
        fire.local,
    )
    .fetch_optional(conn)
    .await?;
    Ok(row.is_some())
}

/// Records a fire in a row that is locked.
pub(crate) async fn settle(
    conn: &mut PgConnection,
    schedule: &Schedule,
    since: DateTime<Utc>,
    fire: Fire,
    job: JobId,
) -> sqlx::Result<()> {
    sqlx::query!(
        "update queue.schedules
         set cron = $2, time_zone = $3, since = $4, settled = $5, last_fire = $6, last_job_id = $7,
             next_fire_at = $8
         where name = $1",
        schedule.name(),
        schedule.cron(),
        schedule.zone(),
        since,
        fire.at,
        fire.local,
        job.0,
        schedule.next(fire.at).map(|next| next.at),
    )
    .execute(conn)
    .await?;
    Ok(())
}
