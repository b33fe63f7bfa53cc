//! What is to be forgotten by systems that are not ours.

use std::time::Duration;

use serde::{Deserialize, Serialize};
use serde_json::Value;
use sqlx::{PgConnection, types::Json};

use crate::ids::SessionId;

/// A system that is not ours and knows of the person.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum OutsideSystem {
    /// The messages in Slack about a handoff: `{"session_id", "handoff_id", "since", "until"}`, `"via"`, and
    /// `"channel", "ts"` of the first one, if it is known.
    Slack,
    /// A record in the CRM, by what the CRM calls it. Only `{"handoff_id"}`: an attempt may have made one
    /// and nobody heard of it; [`Request::addresses`] has the address to look for it by.
    Crm,
    /// An e-mail that was sent: nobody can take it back.
    Email,
    /// An endpoint that is told of handoffs, `{"endpoint_id"}`: it may have been told of this one.
    Endpoint,
}

/// How far a system is with forgetting.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum OutsideState {
    /// To be asked.
    Pending,
    /// It has forgotten, or never knew.
    Done,
    /// It can't, or refused for good.
    Remains,
}

/// What is to be forgotten outside. References are ids of the provider, no contact data.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Outside {
    /// Where.
    pub system: OutsideSystem,
    /// What the provider calls it.
    pub reference: Value,
    /// How far it is.
    pub state: OutsideState,
    /// Why it remains: a status or a code.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
}

/// Keeps what Slack and the CRM have of a session, before its handoffs are deleted. A reference that is
/// kept already is not kept twice.
pub async fn remember_outside(
    conn: &mut PgConnection,
    request_id: &str,
    session_id: &SessionId,
) -> sqlx::Result<()> {
    sqlx::query!(
        r#"with tried as (
               select d.handoff_id, d.channel, d.status, d.reference, d.created_at, r.lead ->> 'email' as email,
                      max(coalesce(a.ended_at, a.started_at)) as last_at,
                      array_agg(distinct a.provider_id) filter (where a.provider_id is not null) as made,
                      bool_or(a.outcome is null) as unheard,
                      bool_or(a.outcome is null or a.outcome in ('sent', 'found', 'unknown')) as may_be_there,
                      -- What is on its way has come to an end after this.
                      case when bool_or(a.outcome is null and a.started_at > now() - interval '1 min')
                           then jsonb_build_object('not_before', now() + interval '1 min')
                           else '{}' end as not_before
               from handoff_deliveries d
               join handoff_attempts a using (session_id, handoff_id, channel)
               join handoff_records r using (session_id, handoff_id)
               where d.session_id = $2
               group by d.session_id, d.handoff_id, d.channel, r.lead
           ), unheard as (
               -- What an attempt has made that failed later, or that ends after this.
               select * from tried where channel = 'crm' and (status <> 'delivered' or unheard)
           ), found as (
               select 'slack' as system,
                      jsonb_build_object('session_id', $2::text, 'handoff_id', handoff_id,
                                         'since', created_at, 'until', last_at)
                      || not_before
                      || case when reference ? 'via' then jsonb_build_object('via', reference -> 'via')
                              else '{}' end
                      || case when reference ? 'ts'
                              then jsonb_build_object('channel', reference -> 'channel',
                                                      'ts', reference -> 'ts')
                              else '{}' end as reference
               from tried where channel = 'slack'
               union
               select 'crm', reference from tried where channel = 'crm' and status = 'delivered'
               union
               -- Of an address that was corrected later.
               select 'crm', jsonb_build_object('handoff_id', handoff_id, 'contact', id, 'id', id)
               from tried, unnest(made) id
               where channel = 'crm' and id is distinct from coalesce(reference ->> 'contact', reference ->> 'id')
               union
               select 'crm', jsonb_build_object('handoff_id', handoff_id) || not_before from unheard
               union
               select 'email', case status when 'delivered' then reference
                                           else jsonb_build_object('handoff_id', handoff_id) end
               from tried where channel = 'email' and (status = 'delivered' or may_be_there)
               union
               select 'endpoint', jsonb_build_object('endpoint_id', e.endpoint_id)
               from webhook_endpoints e
               where e.events && array['handoff.created', 'handoff.delivered', 'handoff.failed']
                 and exists (select from handoff_records r
                             where r.session_id = $2 and coalesce(r.settled_at, now()) >= e.created_at)
           )
           update privacy_requests r
           set addresses = r.addresses || (
               select coalesce(jsonb_object_agg(u.handoff_id, u.email), '{}') from unheard u
               where u.email is not null),
               outside = r.outside || (
               select coalesce(jsonb_agg(jsonb_build_object(
                          'system', f.system, 'reference', f.reference,
                          'state', case when f.system in ('email', 'endpoint') then 'remains' else 'pending' end)), '[]')
               from found f
               where not exists (select 1 from jsonb_array_elements(r.outside) o
                                 where o ->> 'system' = f.system and o -> 'reference' = f.reference))
           where request_id = $1"#,
        request_id,
        session_id.as_str(),
    )
    .execute(conn)
    .await?;
    Ok(())
}

/// How long until nothing that was being sent when the rows went can arrive any more; none: it has come to
/// that.
pub async fn wait(conn: &mut PgConnection, request_id: &str) -> sqlx::Result<Option<Duration>> {
    let seconds = sqlx::query_scalar!(
        r#"select extract(epoch from max((o -> 'reference' ->> 'not_before')::timestamptz) - now())::float8
           from privacy_requests r, jsonb_array_elements(r.outside) o
           where r.request_id = $1 and o ->> 'state' = 'pending'"#,
        request_id,
    )
    .fetch_one(conn)
    .await?;
    Ok(seconds
        .filter(|seconds| *seconds > 0.0)
        .and_then(|seconds| Duration::try_from_secs_f64(seconds).ok()))
}

/// Notes how far one place is, and no other: the `place`-th of the request. False: it was not this, or it
/// has forgotten already; who was overtaken by another worker changes nothing.
pub async fn mark_outside(
    conn: &mut PgConnection,
    request_id: &str,
    place: usize,
    outside: &Outside,
) -> sqlx::Result<bool> {
    let place = i32::try_from(place).unwrap_or(i32::MAX);
    let marked = sqlx::query!(
        "update privacy_requests
         set outside = jsonb_set(outside, array[($2::int)::text], $3)
         where request_id = $1 and status = 'pending' and outside -> $2::int ->> 'state' <> 'done'
           and outside -> $2::int -> 'system' = $3::jsonb -> 'system'
           and outside -> $2::int -> 'reference' = $3::jsonb -> 'reference'",
        request_id,
        place,
        Json(outside) as _,
    )
    .execute(conn)
    .await?;
    Ok(marked.rows_affected() > 0)
}
