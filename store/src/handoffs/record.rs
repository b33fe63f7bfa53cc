//! A handoff as it is kept: what is known of the visitor, what was said, and where each channel has put
//! it.

use std::time::Duration;

use chrono::{DateTime, Utc};
use serde::{Deserialize, de::DeserializeOwned};
use serde_json::Value;
use sqlx::{PgConnection, postgres::types::PgInterval, types::Json};

use super::{Channel, DeliveryStatus, HandoffKey, HandoffStatus, Lead, Trigger};

/// For so long after it was made a handoff waits for a provider that is left alone.
pub const PATIENCE_WITH_CIRCUITS: Duration = Duration::from_mins(10);

/// A handoff. It has no `Debug`, because it is about a person.
#[derive(Clone)]
pub struct Record {
    /// How far it is.
    pub status: HandoffStatus,
    /// Which state of the facts this is, from 1.
    pub revision: i32,
    /// Why somebody is to talk to the visitor.
    pub trigger: Trigger,
    /// What is known of them.
    pub lead: Lead,
    /// Whether they agreed to be contacted, in the contact form.
    pub consent: bool,
    /// What the conversation was about.
    pub summary: Option<String>,
    /// What was said, the oldest first.
    pub transcript: Vec<Said>,
    /// The page that they were on.
    pub page_url: Option<String>,
    /// Their language, as BCP 47.
    pub locale: Option<String>,
    /// What they were promised, and by when.
    pub promise: Option<(String, DateTime<Utc>)>,
    /// Who takes care of it.
    pub taken_by: Option<String>,
    /// The stage of the conversation, 1–4; 4 when the session is gone.
    pub stage: i16,
    /// When it was made.
    pub created_at: DateTime<Utc>,
    /// Whether that is longer ago than [`PATIENCE_WITH_CIRCUITS`], by the database's clock.
    pub is_out_of_patience: bool,
    /// The message in Slack of the session's first handoff before this one: `(channel, ts)`.
    pub earlier_thread: Option<(String, String)>,
}

/// One message, as it is kept with the handoff.
#[derive(Clone, Deserialize)]
pub struct Said {
    /// `user` or `assistant`.
    pub role: String,
    /// The person of the company who said it.
    pub author: Option<String>,
    /// What.
    pub text: String,
    /// When.
    pub at: DateTime<Utc>,
}

/// What a channel owes a handoff.
#[derive(Debug, Clone)]
pub struct Delivery {
    /// The channel.
    pub channel: Channel,
    /// How far it is.
    pub status: DeliveryStatus,
    /// The revision of the facts that the channel has told; 0: none.
    pub revision: i32,
    /// Whether its provider ever took it, whatever becomes of what is to be told now.
    pub was_delivered: bool,
    /// What its provider calls it.
    pub reference: Value,
    /// Where a person finds it.
    pub url: Option<String>,
    /// What the newest `slack_update` was asked to tell: the revision of the facts, and that of the CRM.
    pub asked: Asked,
}

/// What an update of the message in Slack covers.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub struct Asked {
    /// The revision of the facts.
    pub facts: i32,
    /// The revision that the CRM had told; 0: none.
    pub crm: i32,
}

impl Asked {
    /// Whether nothing of `needed` is missing.
    pub fn covers(self, needed: Self) -> bool {
        self.facts >= needed.facts && self.crm >= needed.crm
    }
}

/// Reads a handoff; `None`: there is none, it was erased. With `lock`, nobody adds to it or settles it
/// until the transaction ends.
pub async fn read(
    conn: &mut PgConnection,
    key: &HandoffKey,
    lock: bool,
) -> sqlx::Result<Option<Record>> {
    if lock {
        self::lock(conn, key).await?;
    }
    let row = sqlx::query!(
        r#"select r.status, r.revision, r.trigger, r.lead,
                  r.consent_at is not null as "consent!", r.summary,
                  r.transcript, r.page_url, r.locale,
                  r.promise_text, r.promise_by, r.taken_by, coalesce(s.stage, 4::smallint) as "stage!", r.created_at,
                  r.created_at < clock_timestamp() - $3::interval as "is_out_of_patience!",
                  earlier.channel as "thread_channel?", earlier.ts as "thread_ts?"
           from handoff_records r
           left join sessions s on s.session_id = r.session_id
           left join lateral (
               select d.reference ->> 'channel' as channel, d.reference ->> 'ts' as ts
               from handoff_deliveries d
               where d.session_id = r.session_id and d.handoff_id <> r.handoff_id and d.channel = 'slack'
                 and d.created_at < r.created_at and d.reference ->> 'ts' is not null
               order by d.created_at
               limit 1
           ) earlier on true
           where r.session_id = $1 and r.handoff_id = $2"#,
        key.session_id.as_str(),
        key.handoff_id.as_str(),
        interval(PATIENCE_WITH_CIRCUITS),
    )
    .fetch_optional(conn)
    .await?;
    let Some(row) = row else {
        return Ok(None);
    };
    Ok(Some(Record {
        status: super::status(&row.status)?,
        revision: row.revision,
        trigger: by_name(&row.trigger)?,
        lead: read_json(row.lead)?,
        consent: row.consent,
        summary: row.summary,
        transcript: read_json(row.transcript)?,
        page_url: row.page_url,
        locale: row.locale,
        promise: row.promise_text.zip(row.promise_by),
        taken_by: row.taken_by,
        stage: row.stage,
        created_at: row.created_at,
        is_out_of_patience: row.is_out_of_patience,
        earlier_thread: row.thread_channel.zip(row.thread_ts),
    }))
}

/// Keeps everybody else from adding to a handoff or settling it, until the transaction ends.
async fn lock(conn: &mut PgConnection, key: &HandoffKey) -> sqlx::Result<()> {
    sqlx::query!(
        "select from handoff_records where session_id = $1 and handoff_id = $2 for update",
        key.session_id.as_str(),
        key.handoff_id.as_str(),
    )
    .execute(conn)
    .await?;
    Ok(())
}

/// What each channel owes a handoff.
pub async fn deliveries(conn: &mut PgConnection, key: &HandoffKey) -> sqlx::Result<Vec<Delivery>> {
    let rows = sqlx::query!(
        r#"select channel, status, revision, delivered_at is not null as "was_delivered!", reference, url,
                  coalesce(reference -> 'asked', '{}') as "asked!: Json<Asked>"
           from handoff_deliveries where session_id = $1 and handoff_id = $2
           order by channel"#,
        key.session_id.as_str(),
        key.handoff_id.as_str(),
    )
    .fetch_all(conn)
    .await?;
    rows.into_iter()
        .map(|row| {
            Ok(Delivery {
                channel: by_name(&row.channel)?,
                status: by_name(&row.status)?,
                revision: row.revision,
                was_delivered: row.was_delivered,
                reference: row.reference,
                url: row.url,
                asked: row.asked.0,
            })
        })
        .collect()
}

/// A value by its name in the database.
fn by_name<T: DeserializeOwned>(name: &str) -> sqlx::Result<T> {
    read_json(name.into())
}

fn read_json<T: DeserializeOwned>(value: Value) -> sqlx::Result<T> {
    serde_json::from_value(value).map_err(|error| sqlx::Error::Decode(Box::new(error)))
}

pub(super) fn interval(duration: Duration) -> PgInterval {
    PgInterval {
        months: 0,
        days: 0,
        microseconds: i64::try_from(duration.as_micros()).unwrap_or(i64::MAX),
    }
}
