//! The attempts to deliver an event.

use std::time::Duration;

use serde::Deserialize;
use sqlx::{PgPool, types::Json};

use crate::{
    handoffs::Lead,
    ids::{HandoffId, SessionId},
};

/// An endpoint that has failed for so many days without a break is disabled: more than twice as long as
/// one event is tried, and what waits for it must not grow without end.
pub const FAILING_FOR_DAYS: i32 = 7;

/// An attempt that is to begin.
#[derive(Debug)]
pub struct NewAttempt<'a> {
    /// The endpoint.
    pub endpoint_id: &'a str,
    /// The event.
    pub event_id: &'a str,
    /// Its type.
    pub event: &'a str,
    /// The job.
    pub job_id: i64,
    /// The attempt's number, from 1.
    pub attempt: i16,
    /// The handoff that the event is about: what is known of its visitor is told with it.
    pub handoff: Option<(&'a SessionId, &'a HandoffId)>,
}

/// An attempt that has begun. It has no `Debug`, because it may be about a person.
pub struct Begun {
    /// Its row.
    pub attempt_id: i64,
    /// Where to.
    pub url: String,
    /// What to sign with, the newest first.
    pub secrets: Vec<String>,
    /// Who the handoff is about.
    pub lead: Option<Lead>,
    /// What the conversation was about.
    pub summary: Option<String>,
}

/// A row; like [`Begun`], it has no `Debug`.
struct Row {
    url: String,
    attempt_id: i64,
    secrets: Vec<String>,
    told: Option<Json<Told>>,
}

#[derive(Deserialize)]
struct Told {
    lead: Lead,
    summary: Option<String>,
}

/// Begins an attempt; none: the endpoint is disabled or gone, and nothing is owed to it.
pub async fn begin_attempt(pool: &PgPool, new: &NewAttempt<'_>) -> sqlx::Result<Option<Begun>> {
    let (session_id, handoff_id) = new.handoff.unzip();
    let row = sqlx::query_as!(
        Row,
        r#"with endpoint as (
               select url from webhook_endpoints where endpoint_id = $1 and status = 'active'
           ), begun as (
               insert into webhook_attempts (endpoint_id, event_id, event, job_id, attempt)
               select $1, $2, $3, $4, $5 from endpoint
               returning attempt_id
           ), handoff as (
               -- Whoever erases it waits, and then names the endpoint.
               select session_id, handoff_id, lead, summary from handoff_records
               where session_id = $6 and handoff_id = $7
               for key share
           ), told as (
               insert into handoff_told (session_id, handoff_id, endpoint_id)
               select session_id, handoff_id, $1 from handoff, endpoint
               on conflict on constraint handoff_told_pkey do nothing
           )
           select url, attempt_id,
                  array(select secret from webhook_secrets
                        where endpoint_id = $1 and (expires_at is null or expires_at > now())
                        order by secret_id desc) as "secrets!",
                  (select jsonb_build_object('lead', lead, 'summary', summary) from handoff) as "told: Json<Told>"
           from endpoint, begun"#,
        new.endpoint_id,
        new.event_id,
        new.event,
        new.job_id,
        new.attempt,
        session_id.map(SessionId::as_str),
        handoff_id.map(HandoffId::as_str),
    )
    .fetch_optional(pool)
    .await?;
    Ok(row.map(|row| {
        let (lead, summary) = row.told.map(|told| (told.0.lead, told.0.summary)).unzip();
        Begun {
            attempt_id: row.attempt_id,
            url: row.url,
            secrets: row.secrets,
            lead,
            summary: summary.flatten(),
        }
    }))
}

/// How an attempt ended.
#[derive(Debug)]
pub struct AttemptEnd<'a> {
    /// Its row.
    pub attempt_id: i64,
    /// The endpoint.
    pub endpoint_id: &'a str,
    /// The status of the answer, if there was one.
    pub http_status: Option<u16>,
    /// How long the answer took.
    pub latency: Duration,
    /// Why it failed; none: it is delivered.
    pub error: Option<&'a str>,
    /// Whether the endpoint says that it is gone for good.
    pub gone: bool,
}

/// Ends an attempt. An endpoint that is gone, or has failed for [`FAILING_FOR_DAYS`], is disabled;
/// returns whether this call did that.
pub async fn end_attempt(pool: &PgPool, end: &AttemptEnd<'_>) -> sqlx::Result<bool> {
    let disabled = sqlx::query_scalar!(
        r#"with ended as (
               update webhook_attempts
               set ended_at = clock_timestamp(), http_status = $3, latency_ms = $4, error = $5,
                   outcome = case when $5::text is null then 'delivered' else 'failed' end
               where attempt_id = $1
           ), known as (
               select endpoint_id,
                      case when $5::text is null then null
                           when $6 then 'gone'
                           when failing_since < now() - make_interval(days => $7) then 'failing' end as reason
               from webhook_endpoints where endpoint_id = $2 and status = 'active'
               for update
           )
           update webhook_endpoints e
           set failing_since = case when $5::text is not null then coalesce(e.failing_since, now()) end,
               last_delivered_at = case when $5::text is null then now() else e.last_delivered_at end,
               status = case when known.reason is null then 'active' else 'disabled' end,
               status_reason = known.reason,
               updated_at = case when known.reason is null then e.updated_at else now() end
           from known
           where e.endpoint_id = known.endpoint_id
           returning known.reason is not null as "disabled!""#,
        end.attempt_id,
        end.endpoint_id,
        end.http_status.and_then(|status| i16::try_from(status).ok()),
        i32::try_from(end.latency.as_millis()).unwrap_or(i32::MAX),
        end.error,
        end.gone,
        FAILING_FOR_DAYS,
    )
    .fetch_optional(pool)
    .await?;
    Ok(disabled.unwrap_or_default())
}
