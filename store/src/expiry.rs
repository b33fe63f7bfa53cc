//! The end of sessions that nobody has written in for long.
//!
//! A session that has been idle for `SESSION_TTL_HOURS` is closed by the next sweep, within the hour.
//! Until then a message goes on with it: it is the sweep that closes a session, not the clock, so that
//! whoever reads the session's state reads what holds. A session with a turn that is not finished is
//! not idle.

use std::time::Duration;

use sqlx::{PgConnection, postgres::types::PgInterval};

use crate::{
    ids::{BadId, SessionId},
    settings::Settings,
};

/// Reads `SESSION_TTL_HOURS` (seed 000), default 24: after how long without a message a session is
/// closed.
pub fn read_ttl(settings: &mut Settings) -> Duration {
    let hours = settings.with_default(
        "SESSION_TTL_HOURS",
        24,
        "a number of hours from 1 to 8760",
        |hours| (1..=8_760).contains(hours),
    );
    Duration::from_hours(hours)
}

fn interval(duration: Duration) -> PgInterval {
    PgInterval {
        months: 0,
        days: 0,
        microseconds: i64::try_from(duration.as_micros()).unwrap_or(i64::MAX),
    }
}

/// The open sessions that have been idle for `ttl`, in the order of their ids, behind one that was looked
/// at before. No more than `limit`.
///
/// It visits every open session, whose number a day's visitors bound: an index of the last activity would
/// have to change with every turn.
pub async fn idle(
    conn: &mut PgConnection,
    ttl: Duration,
    after: Option<&SessionId>,
    limit: i64,
) -> sqlx::Result<Vec<SessionId>> {
    let rows = sqlx::query_scalar!(
        "select session_id from sessions
         where status = 'open' and last_activity_at <= now() - $1::interval and session_id > coalesce($2, '')
         order by session_id
         limit $3",
        interval(ttl),
        after.map(SessionId::as_str),
        limit,
    )
    .fetch_all(conn)
    .await?;
    rows.into_iter()
        .map(|id| id.parse().map_err(|bad| sqlx::Error::Decode(Box::new(bad))))
        .collect()
}

/// Sessions that were closed just now.
#[derive(Debug)]
pub struct ClosedSessions {
    /// Which.
    pub sessions: Vec<SessionId>,
    /// Whether an endpoint is to be told of them ([`crate::webhooks`]).
    pub wanted: bool,
}

/// Closes those of these sessions that are still open and idle, in a transaction that holds the locks of
/// their serial keys: a message that came after [`idle`] has moved the last activity, and the lock says
/// that none is just coming.
///
/// Why a session ended: `handed_off` if somebody was asked to take over, `stalled` if the last answer
/// offered a person because nothing moved, else `session_expiry`.
pub async fn close_idle(
    conn: &mut PgConnection,
    ttl: Duration,
    sessions: &[String],
) -> sqlx::Result<ClosedSessions> {
    let rows = sqlx::query!(
        r#"with idle as (
             select session_id from sessions s
             where session_id = any($1) and status = 'open' and last_activity_at <= now() - $2::interval
               and not exists (select 1 from turns t
                               where t.session_id = s.session_id and t.finished_at is null)
             order by session_id
             for no key update skip locked
         )
         update sessions s
         set status = 'closed', closed_at = now(),
             agent = null, agent_id = null, agent_since = null, agent_typing_until = null,
             termination_type = case
                 when exists (select 1 from handoff_records h where h.session_id = s.session_id) then 'handed_off'
                 when s.stall_offered_turn = s.last_turn then 'stalled'
                 else 'session_expiry' end
         from idle
         where s.session_id = idle.session_id
         returning s.session_id, (select webhooks_wanted('session.closed')) as "wanted!""#,
        sessions,
        interval(ttl),
    )
    .fetch_all(conn)
    .await?;
    let wanted = rows.first().is_some_and(|row| row.wanted);
    let sessions = rows.into_iter().map(|row| row.session_id.parse());
    Ok(ClosedSessions {
        sessions: sessions
            .collect::<Result<_, BadId>>()
            .map_err(|bad| sqlx::Error::Decode(Box::new(bad)))?,
        wanted,
    })
}

/// How long until the first of the open sessions has been idle for `ttl`; none: no session is open. Zero:
/// one has been already.
pub async fn next(conn: &mut PgConnection, ttl: Duration) -> sqlx::Result<Option<Duration>> {
    let seconds = sqlx::query_scalar!(
        "select extract(epoch from min(last_activity_at) + $1::interval - now())::float8
         from sessions where status = 'open'",
        interval(ttl),
    )
    .fetch_one(conn)
    .await?;
    Ok(seconds.map(|seconds| Duration::try_from_secs_f64(seconds.max(0.0)).unwrap_or_default()))
}
