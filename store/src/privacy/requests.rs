//! The state of each wish to be forgotten.

use std::collections::BTreeMap;

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use sqlx::{PgConnection, types::Json};

use super::{Outside, Scope};
use crate::ids::SessionId;

/// Who wished it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum RequestedBy {
    /// The visitor, with the session's secret.
    Visitor,
    /// An operator, by the command line or in SQL.
    Operator,
}

impl RequestedBy {
    /// The name in the database.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Visitor => "visitor",
            Self::Operator => "operator",
        }
    }
}

/// How far a wish is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Status {
    /// For an operator's approval.
    Waiting,
    /// A job sees to it.
    Pending,
    /// There is a receipt, and nothing left to do.
    Done,
}

/// A wish. It has no `Debug`, because it may hold an address.
#[derive(Clone)]
pub struct NewRequest<'a> {
    /// Its id.
    pub request_id: &'a str,
    /// How much is to go.
    pub scope: Scope,
    /// Of which session.
    pub session_id: Option<&'a SessionId>,
    /// Or of whom, in lower case.
    pub email: Option<&'a str>,
    /// Who wishes it.
    pub requested_by: RequestedBy,
    /// Whether an operator has to approve it first.
    pub waits: bool,
}

/// A wish as it stands. It has no `Debug`, because it may hold an address.
pub struct Request {
    /// Its id.
    pub request_id: String,
    /// How much is to go.
    pub scope: Scope,
    /// Of which session.
    pub session_id: Option<SessionId>,
    /// Or of whom, until it is done.
    pub email: Option<String>,
    /// Who wishes it.
    pub requested_by: RequestedBy,
    /// How far it is.
    pub status: Status,
    /// What is to be forgotten outside.
    pub outside: Vec<Outside>,
    /// Addresses by handoff and attempt (`h/2`), for records whose reference nobody knows; until it is done.
    pub addresses: BTreeMap<String, String>,
    /// The receipt, when it is done.
    pub receipt: Option<Value>,
    /// Why nobody can see to it, if nobody can.
    pub problem: Option<String>,
    /// When it was wished.
    pub created_at: DateTime<Utc>,
}

/// Adds a wish.
pub async fn add(conn: &mut PgConnection, new: &NewRequest<'_>) -> sqlx::Result<()> {
    sqlx::query!(
        "insert into privacy_requests (request_id, scope, session_id, email, requested_by, status, approved_at)
         values ($1, $2, $3, $4, $5, $6, case when $6 = 'pending' then now() end)",
        new.request_id,
        new.scope.as_str(),
        new.session_id.map(SessionId::as_str),
        new.email,
        new.requested_by.as_str(),
        if new.waits { "waiting" } else { "pending" },
    )
    .execute(conn)
    .await?;
    Ok(())
}

/// Reads a name as the database has it.
pub(super) fn by_name<T: for<'de> Deserialize<'de>>(name: &str) -> sqlx::Result<T> {
    serde_json::from_value(name.into()).map_err(|error| sqlx::Error::Decode(Box::new(error)))
}

/// A wish as it is at this moment; `None`: there is none.
pub async fn by_id(conn: &mut PgConnection, request_id: &str) -> sqlx::Result<Option<Request>> {
    let Some(row) = sqlx::query!(
        r#"select scope, session_id, email, requested_by, status,
                  outside as "outside: Json<Vec<Outside>>",
                  addresses as "addresses: Json<BTreeMap<String, String>>", receipt,
                  problem, created_at
           from privacy_requests where request_id = $1"#,
        request_id,
    )
    .fetch_optional(conn)
    .await?
    else {
        return Ok(None);
    };
    let session_id = row.session_id.map(|id| id.parse()).transpose();
    Ok(Some(Request {
        request_id: request_id.to_owned(),
        scope: by_name(&row.scope)?,
        session_id: session_id.map_err(|bad| sqlx::Error::Decode(Box::new(bad)))?,
        email: row.email,
        requested_by: by_name(&row.requested_by)?,
        status: by_name(&row.status)?,
        outside: row.outside.0,
        addresses: row.addresses.0,
        receipt: row.receipt,
        problem: row.problem,
        created_at: row.created_at,
    }))
}

/// Whether the wish is still to be seen to; then it is locked until the end of the transaction, so that
/// nobody finishes it meanwhile.
pub async fn lock(conn: &mut PgConnection, request_id: &str) -> sqlx::Result<bool> {
    let pending = sqlx::query!(
        "select from privacy_requests where request_id = $1 and status = 'pending' for no key update",
        request_id,
    )
    .fetch_optional(conn)
    .await?;
    Ok(pending.is_some())
}

/// The wish is done: its receipt stays, the addresses go. False, and nothing is changed: it was done before,
/// or something outside is still to be asked.
pub async fn finish(
    conn: &mut PgConnection,
    request_id: &str,
    receipt: &Value,
) -> sqlx::Result<bool> {
    let done = sqlx::query!(
        r#"update privacy_requests
           set status = 'done', finished_at = now(), receipt = $2, email = null, addresses = '{}', problem = null
           where request_id = $1 and status = 'pending' and not outside @? '$[*] ? (@.state == "pending")'"#,
        request_id,
        receipt,
    )
    .execute(conn)
    .await?;
    Ok(done.rows_affected() > 0)
}

/// Notes why nobody can see to a wish.
pub async fn block(conn: &mut PgConnection, request_id: &str, problem: &str) -> sqlx::Result<()> {
    sqlx::query!(
        "update privacy_requests set problem = $2 where request_id = $1 and status = 'pending'",
        request_id,
        problem,
    )
    .execute(conn)
    .await?;
    Ok(())
}

/// What was in the way of these wishes, this problem, is not there any more: whoever calls enqueues their jobs
/// again, in the same transaction.
pub async fn unblock(conn: &mut PgConnection, problem: &str) -> sqlx::Result<Vec<String>> {
    sqlx::query_scalar!(
        "update privacy_requests set problem = null where status = 'pending' and problem = $1
         returning request_id",
        problem,
    )
    .fetch_all(conn)
    .await
}

/// An operator is to look at a session in which somebody else named the address of this wish. Asked again
/// it changes nothing, and where somebody waits for an operator already it is not asked.
pub async fn ask_about(
    conn: &mut PgConnection,
    request_id: &str,
    session_id: &SessionId,
) -> sqlx::Result<()> {
    sqlx::query!(
        "insert into privacy_requests (request_id, scope, session_id, requested_by, status)
         select $1 || '.' || $2, 'person', $2, 'operator', 'waiting'
         where not exists (select from privacy_requests where session_id = $2 and status = 'waiting')
         on conflict on constraint privacy_requests_pkey do nothing",
        request_id,
        session_id.as_str(),
    )
    .execute(conn)
    .await?;
    Ok(())
}

/// How many sessions of others an operator was to look at because of this wish.
pub async fn asked_about(conn: &mut PgConnection, request_id: &str) -> sqlx::Result<i64> {
    sqlx::query_scalar!(
        r#"select count(*) as "asked!" from privacy_requests where starts_with(request_id, $1 || '.')"#,
        request_id,
    )
    .fetch_one(conn)
    .await
}

/// Whoever waits for an operator to let a session go has nothing to wait for: this wish has done it.
pub async fn close_waiting(
    conn: &mut PgConnection,
    session_id: &SessionId,
    by: &str,
) -> sqlx::Result<()> {
    sqlx::query!(
        "update privacy_requests
         set status = 'done', finished_at = now(),
             receipt = jsonb_build_object('text', format(E'Done by request %s\n', $2::text), 'done_by', $2::text)
         where session_id = $1 and status = 'waiting' and request_id <> $2",
        session_id.as_str(),
        by,
    )
    .execute(conn)
    .await?;
    Ok(())
}

/// What a restored database holds of the addresses of wishes goes, that were done after its backup.
pub async fn forget_addresses(conn: &mut PgConnection) -> sqlx::Result<()> {
    sqlx::query!(
        "update privacy_requests r
         set status = 'done', finished_at = coalesce(finished_at, now()), email = null, addresses = '{}',
             problem = null
         where status <> 'done' and exists (select from erasure_ledger where entry_id = request_id and done)"
    )
    .execute(conn)
    .await?;
    Ok(())
}

/// An operator approves a wish, as they could in SQL: the job is enqueued with it.
pub async fn approve(conn: &mut PgConnection, request_id: &str) -> sqlx::Result<()> {
    sqlx::query!("select ops.approve_erasure($1)", request_id)
        .execute(conn)
        .await?;
    Ok(())
}

/// A wish that waits for an operator.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Waiting {
    /// Its id.
    pub request_id: String,
    /// Of which session.
    pub session_id: Option<String>,
    /// Since when.
    pub since: DateTime<Utc>,
}

/// The wishes that wait for an operator, the oldest first.
pub async fn waiting(conn: &mut PgConnection) -> sqlx::Result<Vec<Waiting>> {
    sqlx::query_as!(
        Waiting,
        "select request_id, session_id, created_at as since
         from privacy_requests where status = 'waiting' order by created_at limit 1000"
    )
    .fetch_all(conn)
    .await
}
