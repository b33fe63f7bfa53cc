//! What was erased: so that a restored database forgets again, and for the proof.

use serde::{Deserialize, Serialize};
use sqlx::{PgConnection, types::Json};

use super::{
    Erased, Scope,
    requests::{RequestedBy, by_name},
};

/// An entry, as the table and the bucket keep it. Of an address it has the hash only.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LedgerEntry {
    /// The request's id.
    pub entry_id: String,
    /// How much went.
    pub scope: Scope,
    /// The sessions.
    pub session_ids: Vec<String>,
    /// Hex HMAC-SHA-256 of the address under `PRIVACY_SECRET`; none: the wish named a session.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub email_hash: Option<String>,
    /// Who wished it.
    pub requested_by: RequestedBy,
    /// Rows that went, by table.
    pub erased: Erased,
    /// When, as RFC 3339 in UTC.
    pub erased_at: String,
}

/// Adds an entry, or adds to the one that is there: a conversation that went before its handoff. An empty
/// `erased_at` is now.
pub async fn add_entry(conn: &mut PgConnection, entry: &LedgerEntry) -> sqlx::Result<()> {
    sqlx::query!(
        "insert into erasure_ledger (entry_id, scope, session_ids, email_hash, requested_by, erased, erased_at)
         values ($1, $2, $3, decode($4, 'hex'), $5, $6, coalesce(nullif($7, '')::text::timestamptz, now()))
         on conflict on constraint erasure_ledger_pkey do update
         set scope = excluded.scope,
             session_ids = array(select distinct unnest(erasure_ledger.session_ids || excluded.session_ids)
                                 order by 1),
             email_hash = coalesce(excluded.email_hash, erasure_ledger.email_hash),
             erased = (select coalesce(jsonb_object_agg(t, n), '{}')
                       from (select key as t, sum(value::bigint) as n
                             from (select * from jsonb_each_text(erasure_ledger.erased)
                                   union all select * from jsonb_each_text(excluded.erased)) both_
                             group by key) summed),
             kept_at = null",
        entry.entry_id,
        entry.scope.as_str(),
        &entry.session_ids,
        entry.email_hash,
        entry.requested_by.as_str(),
        Json(&entry.erased) as _,
        entry.erased_at,
    )
    .execute(conn)
    .await?;
    Ok(())
}

/// The entries with these ids, or all of them.
pub async fn entries(
    conn: &mut PgConnection,
    only: Option<&str>,
) -> sqlx::Result<Vec<LedgerEntry>> {
    let rows = sqlx::query!(
        r#"select entry_id, scope, session_ids, encode(email_hash, 'hex') as email_hash, requested_by,
                  erased as "erased: Json<Erased>",
                  to_char(erased_at at time zone 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS"Z"') as "erased_at!"
           from erasure_ledger where $1::text is null or entry_id = $1
           order by erased_at, entry_id"#,
        only,
    )
    .fetch_all(conn)
    .await?;
    rows.into_iter()
        .map(|row| {
            Ok(LedgerEntry {
                entry_id: row.entry_id,
                scope: by_name(&row.scope)?,
                session_ids: row.session_ids,
                email_hash: row.email_hash,
                requested_by: by_name(&row.requested_by)?,
                erased: row.erased.0,
                erased_at: row.erased_at,
            })
        })
        .collect()
}

/// The entry is in the bucket.
pub async fn keep_entry(conn: &mut PgConnection, entry_id: &str) -> sqlx::Result<()> {
    sqlx::query!(
        "update erasure_ledger set kept_at = now() where entry_id = $1",
        entry_id,
    )
    .execute(conn)
    .await?;
    Ok(())
}
