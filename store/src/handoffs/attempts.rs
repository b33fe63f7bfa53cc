//! The attempts of a delivery, and what came of it.
//!
//! An attempt is written and committed before its provider is called: one without an outcome is the mark
//! by which the next one knows that the provider may have the message already.

use chrono::{DateTime, Utc};
use serde_json::{Value, json};
use sqlx::PgConnection;

use super::{Asked, AttemptOutcome, Channel, DeliveryStatus, HandoffKey};
use crate::{checkpoints::JobLease, ids::BadId};

/// The longest text of a failure that is kept, in characters.
const LONGEST_ERROR: usize = 500;

/// An attempt that has begun.
#[derive(Debug, Clone, Copy)]
pub struct BegunAttempt {
    /// Its number, from 1, over all jobs of the delivery.
    pub number: i32,
    /// When the first attempt of the channel began.
    pub first_at: DateTime<Utc>,
    /// Whether the provider may have the message from an attempt of which nobody knows the outcome.
    pub look_first: bool,
}

/// How an attempt ended.
#[derive(Debug, Clone)]
pub struct AttemptEnd {
    /// What came of it.
    pub outcome: AttemptOutcome,
    /// How long the provider took, in milliseconds.
    pub latency_ms: i32,
    /// What the provider calls what it took.
    pub provider_id: Option<String>,
    /// What happened, redacted.
    pub error: Option<String>,
}

/// Where a channel has put a handoff.
#[derive(Debug, Clone)]
pub struct Told {
    /// `Delivered` or `Skipped`.
    pub status: DeliveryStatus,
    /// The revision of the facts that it told.
    pub revision: i32,
    /// What its provider calls it; added to what it called it before.
    pub reference: Value,
    /// Where a person finds it.
    pub url: Option<String>,
}

/// Holds a job's lease until the transaction ends; false: it was lost, nothing may be written. It comes
/// before every other row that an attempt locks, because whoever ends the job begins with the job.
pub async fn hold_lease(conn: &mut PgConnection, lease: JobLease) -> sqlx::Result<bool> {
    let held = sqlx::query_scalar!(
        "select id from queue.jobs where id = $1 and lease = $2 and worker is not null for update",
        lease.job_id,
        lease.lease,
    )
    .fetch_optional(conn)
    .await?;
    Ok(held.is_some())
}

/// Begins an attempt. `address`: what the CRM is asked with; the caller has locked the record then. `asks`:
/// what an update of the message in Slack is going to cover.
pub async fn begin_attempt(
    conn: &mut PgConnection,
    lease: JobLease,
    key: &HandoffKey,
    channel: Channel,
    address: Option<&str>,
    asks: Option<Asked>,
) -> sqlx::Result<BegunAttempt> {
    set_pending(conn, key, channel, lease.job_id, asks).await?;
    let earlier = sqlx::query!(
        r#"with earlier as (
               select * from handoff_attempts where session_id = $1 and handoff_id = $2 and channel = $3
           ), settled as (
               select coalesce(max(attempt), 0) as attempt from earlier where outcome in ('sent', 'found', 'skipped')
           )
           select coalesce(max(earlier.attempt), 0) + 1 as "number!",
                  coalesce(min(started_at), now()) as "first_at!",
                  coalesce(bool_or((outcome is null or outcome = 'unknown') and earlier.attempt > settled.attempt), false)
                      as "look_first!"
           from settled left join earlier on true"#,
        key.session_id.as_str(),
        key.handoff_id.as_str(),
        channel.as_str(),
    )
    .fetch_one(&mut *conn)
    .await?;
    sqlx::query!(
        "insert into handoff_attempts (session_id, handoff_id, channel, attempt, job_id, lease, started_at)
         values ($1, $2, $3, $4, $5, $6, clock_timestamp())",
        key.session_id.as_str(),
        key.handoff_id.as_str(),
        channel.as_str(),
        earlier.number,
        lease.job_id,
        lease.lease,
    )
    .execute(&mut *conn)
    .await?;
    if let Some(address) = address {
        sqlx::query!(
            "update handoff_records set crm_asked = crm_asked || jsonb_build_object($3::int, $4::text)
             where session_id = $1 and handoff_id = $2",
            key.session_id.as_str(),
            key.handoff_id.as_str(),
            earlier.number,
            address,
        )
        .execute(conn)
        .await?;
    }
    Ok(BegunAttempt {
        number: earlier.number,
        first_at: earlier.first_at,
        look_first: earlier.look_first,
    })
}

/// A job sees to a delivery from now on: a new one, or again.
pub async fn set_pending(
    conn: &mut PgConnection,
    key: &HandoffKey,
    channel: Channel,
    job_id: i64,
    asks: Option<Asked>,
) -> sqlx::Result<()> {
    let asked = asks.map_or_else(
        || json!({}),
        |asks| json!({"asked": {"facts": asks.facts, "crm": asks.crm}}),
    );
    sqlx::query!(
        "insert into handoff_deliveries as d (session_id, handoff_id, channel, job_id, reference)
         values ($1, $2, $3, $4, $5)
         on conflict on constraint handoff_deliveries_pkey do update
         set status = 'pending', job_id = excluded.job_id, reference = d.reference || excluded.reference,
             updated_at = now()",
        key.session_id.as_str(),
        key.handoff_id.as_str(),
        channel.as_str(),
        job_id,
        asked,
    )
    .execute(conn)
    .await?;
    Ok(())
}

/// Ends an attempt.
pub async fn end_attempt(
    conn: &mut PgConnection,
    key: &HandoffKey,
    channel: Channel,
    number: i32,
    end: &AttemptEnd,
) -> sqlx::Result<()> {
    sqlx::query!(
        "update handoff_attempts
         set ended_at = clock_timestamp(), outcome = $5, latency_ms = $6, provider_id = $7, error = $8
         where session_id = $1 and handoff_id = $2 and channel = $3 and attempt = $4",
        key.session_id.as_str(),
        key.handoff_id.as_str(),
        channel.as_str(),
        number,
        end.outcome.as_str(),
        end.latency_ms,
        end.provider_id.as_deref().map(kept),
        end.error.as_deref().map(kept),
    )
    .execute(conn)
    .await?;
    Ok(())
}

/// A text of a provider as it is kept: Postgres takes no NUL, and a row is no place for a whole response.
fn kept(text: &str) -> String {
    text.chars()
        .take(LONGEST_ERROR)
        .map(|sign| if sign == '\0' { '\u{fffd}' } else { sign })
        .collect()
}

/// A channel owes nothing more.
pub async fn told(
    conn: &mut PgConnection,
    key: &HandoffKey,
    channel: Channel,
    told: &Told,
) -> sqlx::Result<()> {
    sqlx::query!(
        "with told as (
             update handoff_deliveries d
             set status = $4, revision = greatest(revision, $5), reference = d.reference || $6,
                 url = coalesce($7, url), updated_at = now(),
                 delivered_at = case when $4 = 'delivered' then now() else delivered_at end
             where session_id = $1 and handoff_id = $2 and channel = $3
             returning session_id, handoff_id, channel, reference
         )
         insert into slack_threads (channel, ts, session_id, handoff_id)
         select reference ->> 'channel', reference ->> 'ts', session_id, handoff_id
         from told
         where channel = 'slack' and reference ->> 'channel' is not null and reference ->> 'ts' is not null
         on conflict on constraint slack_threads_pkey do nothing",
        key.session_id.as_str(),
        key.handoff_id.as_str(),
        channel.as_str(),
        told.status.as_str(),
        told.revision,
        object(&told.reference),
        told.url,
    )
    .execute(conn)
    .await?;
    Ok(())
}

/// A reference is an object; anything else would not be one after it was added to another.
fn object(reference: &Value) -> Value {
    if reference.is_object() {
        reference.clone()
    } else {
        json!({})
    }
}

/// The job of a delivery has ended without its handler: for what is still pending, the delivery has, too.
/// Part of the transaction that ends the job.
pub async fn give_up(
    conn: &mut PgConnection,
    key: &HandoffKey,
    channel: Channel,
    status: DeliveryStatus,
) -> sqlx::Result<()> {
    sqlx::query!(
        "update handoff_deliveries set status = $4, updated_at = now()
         where session_id = $1 and handoff_id = $2 and channel = $3 and status = 'pending'",
        key.session_id.as_str(),
        key.handoff_id.as_str(),
        channel.as_str(),
        status.as_str(),
    )
    .execute(conn)
    .await?;
    Ok(())
}

/// The handoff that a job delivers, by the job's number: for a job whose payload can't be read.
pub async fn of_job(conn: &mut PgConnection, job_id: i64) -> sqlx::Result<Option<HandoffKey>> {
    let row = sqlx::query!(
        "select session_id, handoff_id from handoff_deliveries where job_id = $1",
        job_id
    )
    .fetch_optional(conn)
    .await?;
    row.map(|row| {
        Ok(HandoffKey {
            session_id: row.session_id.parse()?,
            handoff_id: row.handoff_id.parse()?,
        })
    })
    .transpose()
    .map_err(|bad: BadId| sqlx::Error::Decode(Box::new(bad)))
}
