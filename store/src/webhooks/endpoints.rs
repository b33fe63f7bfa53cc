//! The endpoints, as an operator sees and changes them: by the views and functions of the schema `ops`.

use std::time::Duration;

use serde::Serialize;
use sqlx::{PgPool, postgres::types::PgInterval};

/// An endpoint, without its secrets. Times are RFC 3339, in UTC.
#[derive(Debug, Clone, Serialize)]
pub struct Endpoint {
    /// Its id.
    pub endpoint_id: String,
    /// Where it is.
    pub url: String,
    /// What it is for.
    pub description: String,
    /// What it is told of.
    pub events: Vec<String>,
    /// `active` or `disabled`.
    pub status: String,
    /// Why it is disabled: `by hand`, `gone` or `failing`.
    pub status_reason: Option<String>,
    /// Since when.
    pub created_at: String,
    /// Since when every attempt has failed.
    pub failing_since: Option<String>,
    /// When something was delivered last.
    pub last_delivered_at: Option<String>,
    /// How many secrets sign.
    pub secrets: i64,
    /// What is still to be delivered.
    pub waiting: i64,
}

/// An endpoint that was registered just now. It has no `Debug`, because of the secret.
pub struct AddedEndpoint {
    /// Its id.
    pub endpoint_id: String,
    /// What its events are signed with: never shown again.
    pub secret: String,
}

/// One attempt to deliver. Times are RFC 3339, in UTC.
#[derive(Debug, Clone, Serialize)]
pub struct Attempt {
    /// The event.
    pub event_id: String,
    /// Its type.
    pub event: String,
    /// The job.
    pub job_id: i64,
    /// The attempt's number, from 1.
    pub attempt: i16,
    /// When it began.
    pub started_at: String,
    /// `delivered` or `failed`; none: it runs, or its worker was lost.
    pub outcome: Option<String>,
    /// The status of the answer.
    pub http_status: Option<i16>,
    /// How long the answer took.
    pub latency_ms: Option<i32>,
    /// Why it failed.
    pub error: Option<String>,
}

/// The endpoints, the oldest first.
pub async fn list(pool: &PgPool) -> sqlx::Result<Vec<Endpoint>> {
    find(pool, None).await
}

/// One endpoint; none: there is no such one.
pub async fn show(pool: &PgPool, endpoint_id: &str) -> sqlx::Result<Option<Endpoint>> {
    Ok(find(pool, Some(endpoint_id)).await?.pop())
}

async fn find(pool: &PgPool, endpoint_id: Option<&str>) -> sqlx::Result<Vec<Endpoint>> {
    sqlx::query_as!(
        Endpoint,
        r#"select endpoint_id as "endpoint_id!", url as "url!", description as "description!", events as "events!",
                  status as "status!", status_reason,
                  to_char(created_at at time zone 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS"Z"') as "created_at!",
                  to_char(failing_since at time zone 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS"Z"') as failing_since,
                  to_char(last_delivered_at at time zone 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS"Z"') as last_delivered_at,
                  secrets as "secrets!", waiting as "waiting!"
           from ops.webhook_endpoints e
           where $1::text is null or endpoint_id = $1
           order by e.created_at, endpoint_id"#,
        endpoint_id,
    )
    .fetch_all(pool)
    .await
}

/// The newest attempts of an endpoint, the newest first.
pub async fn attempts(pool: &PgPool, endpoint_id: &str, limit: i64) -> sqlx::Result<Vec<Attempt>> {
    sqlx::query_as!(
        Attempt,
        r#"select event_id as "event_id!", event as "event!", job_id as "job_id!", attempt as "attempt!",
                  to_char(started_at at time zone 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS"Z"') as "started_at!",
                  outcome, http_status, latency_ms, error
           from ops.webhook_attempts
           where endpoint_id = $1
           order by attempt_id desc limit $2"#,
        endpoint_id,
        limit,
    )
    .fetch_all(pool)
    .await
}

/// Registers an endpoint.
pub async fn add(
    pool: &PgPool,
    url: &str,
    events: &[String],
    description: &str,
) -> sqlx::Result<AddedEndpoint> {
    sqlx::query_as!(
        AddedEndpoint,
        r#"select endpoint_id as "endpoint_id!", secret as "secret!" from ops.add_webhook_endpoint($1, $2, $3)"#,
        url,
        events,
        description,
    )
    .fetch_one(pool)
    .await
}

/// Gives an endpoint a new secret, which is returned and never shown again.
pub async fn rotate(
    pool: &PgPool,
    endpoint_id: &str,
    old_ones_hold: Duration,
) -> sqlx::Result<String> {
    let hold = PgInterval {
        months: 0,
        days: 0,
        microseconds: i64::try_from(old_ones_hold.as_micros()).unwrap_or(i64::MAX),
    };
    sqlx::query_scalar!(
        r#"select ops.rotate_webhook_secret($1, $2) as "secret!""#,
        endpoint_id,
        hold,
    )
    .fetch_one(pool)
    .await
}

/// Disables an endpoint; false: it was already.
pub async fn disable(pool: &PgPool, endpoint_id: &str) -> sqlx::Result<bool> {
    sqlx::query_scalar!(
        r#"select ops.disable_webhook_endpoint($1) as "changed!""#,
        endpoint_id
    )
    .fetch_one(pool)
    .await
}

/// Enables an endpoint; false: it was already.
pub async fn enable(pool: &PgPool, endpoint_id: &str) -> sqlx::Result<bool> {
    sqlx::query_scalar!(
        r#"select ops.enable_webhook_endpoint($1) as "changed!""#,
        endpoint_id
    )
    .fetch_one(pool)
    .await
}

/// Forgets an endpoint.
pub async fn remove(pool: &PgPool, endpoint_id: &str) -> sqlx::Result<()> {
    sqlx::query!("select ops.remove_webhook_endpoint($1)", endpoint_id)
        .execute(pool)
        .await?;
    Ok(())
}

/// What a test of an endpoint needs. It has no `Debug`, because of the secrets.
pub struct TestTarget {
    /// Where to.
    pub url: String,
    /// What to sign with, the newest first.
    pub secrets: Vec<String>,
}

/// An endpoint as a test reaches it, active or not; none: there is no such one.
pub async fn test_target(pool: &PgPool, endpoint_id: &str) -> sqlx::Result<Option<TestTarget>> {
    sqlx::query_as!(
        TestTarget,
        r#"select url, array(select secret from webhook_secrets s
                             where s.endpoint_id = e.endpoint_id and (s.expires_at is null or s.expires_at > now())
                             order by s.secret_id desc) as "secrets!"
           from webhook_endpoints e where endpoint_id = $1"#,
        endpoint_id,
    )
    .fetch_optional(pool)
    .await
}
