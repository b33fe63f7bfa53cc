//! Sessions as the API sees them: whose they are, and whether they are still open.

use std::time::Duration;

use sha2::{Digest, Sha256};
use sqlx::PgConnection;
use subtle::ConstantTimeEq;

use crate::{events::Cursor, ids::SessionId};

/// SHA-256 of a visitor's bearer secret: all that is ever kept of it.
#[derive(Debug, Clone, Copy)]
pub struct SecretHash([u8; 32]);

impl SecretHash {
    /// Hashes the secret as it came in the header.
    pub fn of(secret: &str) -> Self {
        Self(Sha256::digest(secret.as_bytes()).into())
    }

    /// The hash as it is stored.
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }

    /// Whether a session is bound to this secret. Takes the same time whatever differs. A session
    /// that is bound to none belongs to nobody.
    pub fn opens(&self, bound: Option<&[u8]>) -> bool {
        bound.is_some_and(|bound| self.0.ct_eq(bound).into())
    }
}

/// What a session is bound to.
#[derive(Debug)]
pub struct SessionOwner {
    /// The hash of the secret; `None`: nobody can name the session again.
    pub secret_hash: Option<Vec<u8>>,
}

/// Whose session it is; `None`: there is no such session.
pub async fn owner(
    conn: &mut PgConnection,
    session_id: &SessionId,
) -> sqlx::Result<Option<SessionOwner>> {
    sqlx::query_as!(
        SessionOwner,
        "select secret_hash from sessions where session_id = $1",
        session_id.as_str(),
    )
    .fetch_optional(conn)
    .await
}

/// Closes a session at the visitor's wish; a session that is closed stays as it was closed. Returns
/// whether it was closed by this call and an endpoint is to be told of it ([`crate::webhooks`]).
pub async fn close_by_visitor(
    conn: &mut PgConnection,
    session_id: &SessionId,
) -> sqlx::Result<bool> {
    let wanted = sqlx::query_scalar!(
        r#"update sessions
         set status = 'closed', termination_type = 'visitor_closed', closed_at = now(),
             last_activity_at = now(),
             agent = null, agent_id = null, agent_since = null, agent_typing_until = null
         where session_id = $1 and status = 'open'
         returning webhooks_wanted('session.closed') as "wanted!""#,
        session_id.as_str(),
    )
    .fetch_optional(conn)
    .await?;
    Ok(wanted.unwrap_or_default())
}

/// Moves a session to the last stage: people take over. A closed session stays closed.
pub async fn hand_off(conn: &mut PgConnection, session_id: &SessionId) -> sqlx::Result<()> {
    sqlx::query!(
        "update sessions set stage = 4, last_activity_at = now() where session_id = $1",
        session_id.as_str(),
    )
    .execute(conn)
    .await?;
    Ok(())
}

/// What a client that (re)joins a session's stream can be given.
#[derive(Debug)]
pub struct StreamTargets {
    /// The hash of the secret that the session is bound to.
    pub secret_hash: Option<Vec<u8>>,
    /// The newest turn's number.
    pub last_turn: i32,
    /// The oldest turn that is not finished.
    pub active_turn: Option<i32>,
    /// That turn's current attempt; 0: none has begun.
    pub active_attempt: Option<i32>,
    /// The newest turn, if it was finished a moment ago and its frames are still there.
    pub finished_turn: Option<i32>,
    /// That turn's last attempt.
    pub finished_attempt: Option<i32>,
    /// Whether the cursor's turn is still to be finished.
    pub cursor_turn_unfinished: bool,
    /// Whether the cursor's turn has frames behind the cursor.
    pub replayable: bool,
}

/// Looks up what a client at `cursor` can be given; `None`: there is no such session. "A moment ago"
/// is within `moment`.
pub async fn stream_targets(
    conn: &mut PgConnection,
    session_id: &SessionId,
    cursor: Option<Cursor>,
    moment: Duration,
) -> sqlx::Result<Option<StreamTargets>> {
    let cursor = cursor.unwrap_or(Cursor::start_of(0));
    sqlx::query_as!(
        StreamTargets,
        r#"select s.secret_hash, s.last_turn,
                  active.turn as "active_turn?", active.attempt as "active_attempt?",
                  finished.turn as "finished_turn?", finished.attempt as "finished_attempt?",
                  exists (select 1 from turns
                          where session_id = $1 and turn = $2 and finished_at is null)
                      as "cursor_turn_unfinished!",
                  exists (select 1 from turn_events
                          where session_id = $1 and turn = $2 and (attempt, seq) > ($3, $4))
                      as "replayable!"
           from sessions s
           left join lateral (
               select turn, attempt from turns
               where session_id = $1 and finished_at is null order by turn limit 1
           ) active on true
           left join lateral (
               select t.turn, t.attempt from turns t
               where t.session_id = $1 and t.turn = s.last_turn
                 and t.finished_at > now() - make_interval(secs => $5)
                 and exists (select 1 from turn_events e
                             where e.session_id = $1 and e.turn = t.turn
                               and e.attempt = t.attempt and e.terminal)
           ) finished on true
           where s.session_id = $1"#,
        session_id.as_str(),
        cursor.turn,
        cursor.attempt,
        cursor.seq,
        moment.as_secs_f64(),
    )
    .fetch_optional(conn)
    .await
}

/// The visitor's language, as BCP 47.
pub async fn locale(
    conn: &mut PgConnection,
    session_id: &SessionId,
) -> sqlx::Result<Option<String>> {
    let locale = sqlx::query_scalar!(
        "select locale from sessions where session_id = $1",
        session_id.as_str(),
    )
    .fetch_optional(conn)
    .await?;
    Ok(locale.flatten())
}

/// What a client that follows a session can be given.
#[derive(Debug)]
pub struct FollowTarget {
    /// The hash of the secret that the session is bound to.
    pub secret_hash: Option<Vec<u8>>,
    /// The newest turn's number.
    pub last_turn: i32,
    /// The oldest turn behind the one that the client has, of which there is something to stream.
    pub next_turn: Option<i32>,
    /// That turn's current attempt; 0: none has begun.
    pub next_attempt: Option<i32>,
    /// Whether that turn is still to be finished.
    pub next_unfinished: bool,
    /// Whether it is worth waiting for another one: a person speaks, or a handoff is not older than was
    /// asked for.
    pub expected: bool,
}

/// Looks up what a client can be given that has everything up to the turn `known`; `None`: there is no such
/// session.
pub async fn follow_target(
    conn: &mut PgConnection,
    session_id: &SessionId,
    known: i32,
    expected_for: Duration,
) -> sqlx::Result<Option<FollowTarget>> {
    sqlx::query_as!(
        FollowTarget,
        r#"select s.secret_hash, s.last_turn,
                  next.turn as "next_turn?", next.attempt as "next_attempt?",
                  coalesce(next.finished_at is null and next.turn is not null, false) as "next_unfinished!",
                  s.status = 'open' and (s.agent is not null or exists (
                      select 1 from handoff_records h
                      where h.session_id = $1 and h.status <> 'dead'
                        and h.updated_at > now() - make_interval(secs => $3))) as "expected!"
           from sessions s
           left join lateral (
               select t.turn, t.attempt, t.finished_at from turns t
               where t.session_id = $1 and t.turn > $2
                 and (t.finished_at is null
                      or exists (select 1 from turn_events e
                                 where e.session_id = $1 and e.turn = t.turn
                                   and e.attempt = t.attempt and e.terminal))
               order by t.turn limit 1
           ) next on true
           where s.session_id = $1"#,
        session_id.as_str(),
        known,
        expected_for.as_secs_f64(),
    )
    .fetch_optional(conn)
    .await
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_secret_opens_only_the_session_that_is_bound_to_it() {
        let mine = SecretHash::of("AAAAAAAAAAAAAAAAAAAAAA");
        let other = SecretHash::of("AAAAAAAAAAAAAAAAAAAAAB");
        assert!(mine.opens(Some(mine.as_bytes())));
        assert!(!mine.opens(Some(other.as_bytes())));
        assert!(!mine.opens(Some(&[])));
        assert!(!mine.opens(None));
    }
}
