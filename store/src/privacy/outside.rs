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
    /// A record in the CRM, by what the CRM calls it. Only `{"handoff_id", "attempt"}`: that attempt may have
    /// made one and nobody heard of it; [`super::Request::addresses`] has the address to look for it by.
    Crm,
    /// An e-mail that was sent, or may have been: nobody can take it back.
    Email,
    /// What an endpoint of [`crate::webhooks`] may have been told: `{"handoff_id", "endpoint_id"}`.
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

/// Keeps what is outside of a session, before its handoffs are deleted: everything that may have arrived,
/// told or not. A reference that is kept already is not kept twice. The caller holds the session, so that no
/// attempt begins any more.
pub async fn remember_outside(
    conn: &mut PgConnection,
    request_id: &str,
    session_id: &SessionId,
) -> sqlx::Result<()> {
    sqlx::query!(
        r#"with attempts as (
               select a.*, a.outcome is null and a.started_at > now() - interval '1 min' as runs,
                      coalesce(r.crm_asked ->> a.attempt::text, r.lead ->> 'email') as address
               from handoff_attempts a
               join handoff_records r using (session_id, handoff_id)
               where a.session_id = $2 and a.outcome is distinct from 'skipped'
           ), in_a_minute as (
               select jsonb_build_object('not_before', to_char((now() + interval '1 min') at time zone 'UTC',
                                                               'YYYY-MM-DD"T"HH24:MI:SS"Z"')) as it
           ), unheard as (
               -- What an attempt has made in the CRM that failed later, or that ends after this; of each address
               -- that no later attempt was heard of with.
               select a.handoff_id, a.address, min(a.attempt) as attempt, bool_or(a.runs) as runs
               from attempts a
               where a.channel = 'crm' and (a.outcome is null or a.outcome not in ('sent', 'found'))
                 and not exists (select from attempts heard
                                 where heard.handoff_id = a.handoff_id and heard.channel = 'crm'
                                   and heard.attempt > a.attempt and heard.outcome in ('sent', 'found')
                                   and heard.address is not distinct from a.address)
               group by 1, 2
           ), found as (
               select 'slack' as system,
                      jsonb_strip_nulls(jsonb_build_object(
                          'session_id', d.session_id, 'handoff_id', d.handoff_id,
                          'since', to_char(d.created_at at time zone 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS"Z"'),
                          -- The link and the reminder come later than the message.
                          'until', to_char(greatest(a.newest, r.promise_by) at time zone 'UTC',
                                           'YYYY-MM-DD"T"HH24:MI:SS"Z"'),
                          'channel', d.reference -> 'channel', 'ts', d.reference -> 'ts',
                          'via', d.reference -> 'via'))
                      || case when a.runs then (select it from in_a_minute) else '{}' end as reference,
                      'pending' as state, null as error
               from handoff_deliveries d
               join handoff_records r using (session_id, handoff_id)
               join (select handoff_id, bool_or(channel = 'slack') as sent, bool_or(runs) as runs,
                            max(coalesce(ended_at, started_at)) as newest
                     from attempts where channel in ('slack', 'slack_update')
                     group by handoff_id) a on a.handoff_id = d.handoff_id and a.sent
               where d.session_id = $2 and d.channel = 'slack'
               union
               select 'crm', reference, 'pending', null
               from handoff_deliveries
               where session_id = $2 and channel = 'crm'
                 and (reference ? 'contact' or reference ? 'handoff_id')
               union
               -- Of an address that was corrected later. Where another CRM was told first, nobody knows whose
               -- a name is.
               select 'crm', jsonb_build_object('contact', a.provider_id), 'pending', null
               from attempts a
               join handoff_deliveries d using (session_id, handoff_id, channel)
               where a.channel = 'crm' and a.outcome in ('sent', 'found')
                 and d.reference ? 'contact' and not d.reference ? 'id'
                 and a.provider_id <> d.reference ->> 'contact'
               union
               select 'crm', jsonb_build_object('handoff_id', handoff_id, 'attempt', attempt)
                             || case when runs then (select it from in_a_minute) else '{}' end,
                      'pending', null
               from unheard
               union
               select 'email', d.reference || jsonb_build_object('handoff_id', d.handoff_id), 'remains',
                      case when d.status <> 'delivered' then 'nobody knows whether it was sent' end
               from handoff_deliveries d
               where d.session_id = $2 and d.channel = 'email'
                 and (d.status = 'delivered'
                      or exists (select from attempts a
                                 where a.handoff_id = d.handoff_id and a.channel = 'email'
                                   and (a.outcome is null or a.outcome in ('sent', 'found', 'unknown'))))
               union
               select 'endpoint', jsonb_build_object('handoff_id', handoff_id, 'endpoint_id', endpoint_id),
                      'remains', 'whoever runs the endpoint has to delete it'
               from handoff_told where session_id = $2
           )
           update privacy_requests r
           set addresses = r.addresses || (
               select coalesce(jsonb_object_agg(u.handoff_id || '/' || u.attempt, u.address), '{}')
               from unheard u where u.address is not null),
               outside = r.outside || (
               select coalesce(jsonb_agg(jsonb_strip_nulls(jsonb_build_object(
                          'system', f.system, 'reference', f.reference, 'state', f.state, 'error', f.error))), '[]')
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
