//! The hours that the newest worker was started with: workers are told of them, and the API makes the
//! same promise.

use chrono::{DateTime, Utc};
use serde_json::Value;
use sqlx::{PgConnection, types::Json};

use super::BusinessHours;

/// Keeps the hours, if they are others than those that are kept.
pub async fn save(conn: &mut PgConnection, hours: &BusinessHours) -> sqlx::Result<()> {
    sqlx::query!(
        "insert into business_hours as kept (hours) values ($1)
         on conflict (only_row) do update set hours = excluded.hours, updated_at = now()
         where kept.hours <> excluded.hours",
        Json(hours) as _,
    )
    .execute(conn)
    .await?;
    Ok(())
}

/// The hours, and the database's time. `None`: no worker was ever started, or a newer version keeps
/// hours that this one does not understand; then nothing is promised.
pub async fn load(conn: &mut PgConnection) -> sqlx::Result<(Option<BusinessHours>, DateTime<Utc>)> {
    let row = sqlx::query!(
        r#"select (select hours from business_hours) as "hours: Value", now() as "now!""#
    )
    .fetch_one(conn)
    .await?;
    let hours = row.hours.and_then(|hours| {
        let read = serde_json::from_value(hours);
        if let Err(error) = &read {
            tracing::warn!(error = %error, "the business hours can't be read: nothing is promised");
        }
        read.ok()
    });
    Ok((hours, row.now))
}
