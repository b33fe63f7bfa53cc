//! What was erased: so that a restored database forgets again, and for the proof.

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};
use sqlx::{PgConnection, types::Json};

use super::{
    Erased, Scope,
    requests::{RequestedBy, by_name},
};
use crate::ids::SessionId;

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
    /// When it was wished; none: when it was done, in an entry of before this was noted.
    #[serde(default)]
    pub requested_at: Option<DateTime<Utc>>,
    /// When it began to go.
    pub erased_at: DateTime<Utc>,
    /// The request is done: nobody needs what it holds of an address any more.
    #[serde(default)]
    pub done: bool,
    /// Whether the bucket has it.
    #[serde(skip)]
    pub kept: bool,
}

impl LedgerEntry {
    /// What was written until then is meant, and what came later is not.
    pub fn until(&self) -> DateTime<Utc> {
        self.requested_at.unwrap_or(self.erased_at)
    }
}

/// What was erased just now.
#[derive(Debug, Clone, Copy)]
pub struct NewEntry<'a> {
    /// The request's id.
    pub entry_id: &'a str,
    /// How much went.
    pub scope: Scope,
    /// Of which session; none: of nobody that is known.
    pub session_id: Option<&'a SessionId>,
    /// Hex HMAC-SHA-256 of the address under `PRIVACY_SECRET`.
    pub email_hash: Option<&'a str>,
    /// Who wished it.
    pub requested_by: RequestedBy,
    /// When; none: now.
    pub requested_at: Option<DateTime<Utc>>,
    /// Rows that went.
    pub erased: &'a Erased,
}

/// Adds an entry, or adds to the one that is there: a conversation that went before its handoff. The bucket
/// does not have it like that yet.
pub async fn add_entry(conn: &mut PgConnection, new: &NewEntry<'_>) -> sqlx::Result<()> {
    sqlx::query!(
        "insert into erasure_ledger (entry_id, scope, session_ids, email_hash, requested_by, erased, requested_at)
         values ($1, $2, array_remove(array[$3::text], null), decode($4, 'hex'), $5, $6, coalesce($7, now()))
         on conflict on constraint erasure_ledger_pkey do update
         set scope = case 'person' when erasure_ledger.scope then 'person' else excluded.scope end,
             session_ids = array(select distinct unnest(erasure_ledger.session_ids || excluded.session_ids)
                                 order by 1),
             email_hash = coalesce(excluded.email_hash, erasure_ledger.email_hash),
             erased = (select coalesce(jsonb_object_agg(t, n), '{}')
                       from (select key as t, sum(value::bigint) as n
                             from (select * from jsonb_each_text(erasure_ledger.erased)
                                   union all select * from jsonb_each_text(excluded.erased)) both_
                             group by key) summed),
             kept_at = null
         -- Nothing new: the bucket's is as good.
         where excluded.erased <> '{}' or not excluded.session_ids <@ erasure_ledger.session_ids",
        new.entry_id,
        new.scope.as_str(),
        new.session_id.map(SessionId::as_str),
        new.email_hash,
        new.requested_by.as_str(),
        Json(new.erased) as _,
        new.requested_at,
    )
    .execute(conn)
    .await?;
    Ok(())
}

/// Puts an entry of the bucket back into a restored database. What the database has of it stays, and the
/// wider of both is believed.
pub async fn put_back_entry(conn: &mut PgConnection, entry: &LedgerEntry) -> sqlx::Result<()> {
    sqlx::query!(
        "insert into erasure_ledger
             (entry_id, scope, session_ids, email_hash, requested_by, erased, requested_at, erased_at, done,
              kept_at)
         values ($1, $2, $3, decode($4, 'hex'), $5, $6, $9, $7, $8, now())
         on conflict on constraint erasure_ledger_pkey do update
         set scope = case 'person' when erasure_ledger.scope then 'person' else excluded.scope end,
             session_ids = array(select distinct unnest(erasure_ledger.session_ids || excluded.session_ids)
                                 order by 1),
             email_hash = coalesce(erasure_ledger.email_hash, excluded.email_hash),
             done = erasure_ledger.done or excluded.done",
        entry.entry_id,
        entry.scope.as_str(),
        &entry.session_ids,
        entry.email_hash,
        entry.requested_by.as_str(),
        Json(&entry.erased) as _,
        entry.erased_at,
        entry.done,
        entry.requested_at,
    )
    .execute(conn)
    .await?;
    Ok(())
}

/// The entry of a request, once anything was erased.
pub async fn entry(conn: &mut PgConnection, entry_id: &str) -> sqlx::Result<Option<LedgerEntry>> {
    Ok(read(conn, Some(entry_id)).await?.pop())
}

/// All entries, the oldest first.
pub async fn entries(conn: &mut PgConnection) -> sqlx::Result<Vec<LedgerEntry>> {
    read(conn, None).await
}

async fn read(conn: &mut PgConnection, only: Option<&str>) -> sqlx::Result<Vec<LedgerEntry>> {
    let rows = sqlx::query!(
        r#"select entry_id, scope, session_ids, encode(email_hash, 'hex') as email_hash, requested_by,
                  erased as "erased: Json<Erased>", requested_at, erased_at, done, kept_at is not null as "kept!"
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
                requested_at: row.requested_at,
                erased_at: row.erased_at,
                done: row.done,
                kept: row.kept,
            })
        })
        .collect()
}

/// The entries that the bucket does not have, behind this one by their ids: so many at most.
pub async fn unkept(conn: &mut PgConnection, behind: &str, most: i64) -> sqlx::Result<Vec<String>> {
    sqlx::query_scalar!(
        "select entry_id from erasure_ledger where kept_at is null and entry_id > $1
         order by entry_id limit $2",
        behind,
        most,
    )
    .fetch_all(conn)
    .await
}

/// The bucket has the entry as it was read. False: it has grown since, and what the bucket has is too little.
pub async fn keep_entry(conn: &mut PgConnection, read: &LedgerEntry) -> sqlx::Result<bool> {
    let kept = sqlx::query!(
        "update erasure_ledger set kept_at = now()
         where entry_id = $1 and scope = $2 and session_ids = $3 and erased = $4 and done = $5
           and email_hash is not distinct from decode($6, 'hex')",
        read.entry_id,
        read.scope.as_str(),
        &read.session_ids,
        Json(&read.erased) as _,
        read.done,
        read.email_hash,
    )
    .execute(conn)
    .await?;
    Ok(kept.rows_affected() > 0)
}

/// The request is done, and held an address: whoever restores an older database is to know.
pub async fn mark_done(conn: &mut PgConnection, entry_id: &str) -> sqlx::Result<()> {
    sqlx::query!(
        "update erasure_ledger set done = true, kept_at = null where entry_id = $1",
        entry_id,
    )
    .execute(conn)
    .await?;
    Ok(())
}
