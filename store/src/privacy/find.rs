//! Finds a person by their address, and nobody else.

use std::collections::BTreeSet;

use chrono::{DateTime, Utc};
use futures::TryStreamExt;
use serde::Serialize;
use sqlx::PgConnection;

use super::address::{Address, Mention};
use crate::ids::SessionId;

/// The sessions that name an address.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Found {
    /// Theirs: they left it as their own, or wrote it where nobody left another one.
    pub theirs: BTreeSet<SessionId>,
    /// Somebody else left contact details in them, and named this address: a person has to look.
    pub of_others: BTreeSet<SessionId>,
    /// They have it as a part of a longer address only: most likely somebody else's.
    pub in_longer: BTreeSet<SessionId>,
}

/// Finds an address in whatever visitors wrote: messages, comments, contact details (those that were corrected
/// later, too, as far as the CRM was asked with them), and what a handoff has of them; written until a moment, or ever. It reads every message: it is a person's wish, not a visitor's
/// turn.
pub async fn sessions_of_email(
    conn: &mut PgConnection,
    address: &Address,
    until: Option<DateTime<Utc>>,
) -> sqlx::Result<Found> {
    let mut named: BTreeSet<String> = BTreeSet::new();
    let mut in_longer = BTreeSet::new();
    {
        // What the database looks for is but a part of it, in small ASCII letters: which address a text
        // names is decided here, the same everywhere.
        let mut texts = sqlx::query!(
            r#"select session_id as "session_id!", body as "text!" from messages
               where role = 'user' and created_at <= coalesce($2::timestamptz, 'infinity')
                 and strpos(lower(body collate "C"), $1) > 0
               union all
               select session_id, comment from feedback
               where updated_at <= coalesce($2::timestamptz, 'infinity') and strpos(lower(comment collate "C"), $1) > 0
               union all
               select h.session_id, said.text #>> '{}'
               from handoff_records h
               cross join lateral (
                   select jsonb_path_query(h.lead, 'strict $.** ? (@.type() == "string")')
                   union all
                   select jsonb_path_query(h.crm_asked, '$.*')
                   union all
                   select to_jsonb(h.summary)
                   union all
                   select jsonb_path_query(h.transcript, '$[*] ? (@.role == "user").text')
               ) said (text)
               where h.created_at <= coalesce($2::timestamptz, 'infinity')
                 and strpos(lower((said.text #>> '{}') collate "C"), $1) > 0"#,
            address.ascii_part(),
            until,
        )
        .fetch(&mut *conn);
        while let Some(row) = texts.try_next().await? {
            match address.mention(&row.text) {
                Some(Mention::Whole) => drop(named.insert(row.session_id)),
                Some(Mention::InLonger) => drop(in_longer.insert(row.session_id)),
                None => {}
            }
        }
    }
    let mut of_others = named.clone();
    let mut has_details = BTreeSet::new();
    let ids: Vec<String> = named.iter().cloned().collect();
    let left = sqlx::query!(
        r#"select r.session_id as "session_id!", a.address as "address!"
           from handoff_records r
           cross join lateral (select r.lead ->> 'email' union select value from jsonb_each_text(r.crm_asked)) a (address)
           where r.session_id = any($1) and a.address is not null"#,
        &ids,
    )
    .fetch_all(conn)
    .await?;
    for row in left {
        if address.is(&row.address) {
            of_others.remove(&row.session_id);
        }
        has_details.insert(row.session_id);
    }
    of_others.retain(|id| has_details.contains(id));
    in_longer.retain(|id| !named.contains(id));
    named.retain(|id| !of_others.contains(id));
    Ok(Found {
        theirs: ids_of(named)?,
        of_others: ids_of(of_others)?,
        in_longer: ids_of(in_longer)?,
    })
}

fn ids_of(ids: BTreeSet<String>) -> sqlx::Result<BTreeSet<SessionId>> {
    ids.into_iter()
        .map(|id| id.parse().map_err(|bad| sqlx::Error::Decode(Box::new(bad))))
        .collect()
}

/// Every address that somebody left for people, those that they corrected as well.
pub async fn addresses(conn: &mut PgConnection) -> sqlx::Result<Vec<String>> {
    sqlx::query_scalar!(
        r#"select distinct a.address as "address!"
           from handoff_records r
           cross join lateral (select r.lead ->> 'email' union select value from jsonb_each_text(r.crm_asked)) a (address)
           where a.address is not null"#
    )
    .fetch_all(conn)
    .await
}

/// A session by what it is called and when it was: nothing of what was said.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Outline {
    /// The session.
    pub session_id: String,
    /// When it began; none: only its handoffs are left.
    pub created_at: Option<DateTime<Utc>>,
    /// When it was closed.
    pub closed_at: Option<DateTime<Utc>>,
    /// Its handoffs.
    pub handoffs: Vec<HandoffOutline>,
}

/// The same of a handoff.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, serde::Deserialize)]
pub struct HandoffOutline {
    /// The handoff.
    pub handoff_id: String,
    /// When it was made.
    pub created_at: DateTime<Utc>,
}

/// The sessions of these of which anything is known.
pub async fn outlines(
    conn: &mut PgConnection,
    ids: impl IntoIterator<Item = &SessionId>,
) -> sqlx::Result<Vec<Outline>> {
    let ids: Vec<String> = ids.into_iter().map(ToString::to_string).collect();
    sqlx::query!(
        r#"select id as "session_id!", s.created_at as "created_at?", s.closed_at,
                  (select coalesce(jsonb_agg(jsonb_build_object('handoff_id', h.handoff_id,
                                                                'created_at', h.created_at)
                                             order by h.created_at), '[]')
                   from handoff_records h where h.session_id = id)
                      as "handoffs!: sqlx::types::Json<Vec<HandoffOutline>>"
           from unnest($1::text[]) id
           left join sessions s on s.session_id = id
           where s.session_id is not null or exists (select 1 from handoff_records where session_id = id)
           order by id"#,
        &ids,
    )
    .fetch_all(conn)
    .await
    .map(|rows| {
        let outline = rows.into_iter().map(|row| Outline {
            session_id: row.session_id,
            created_at: row.created_at,
            closed_at: row.closed_at,
            handoffs: row.handoffs.0,
        });
        outline.collect()
    })
}
