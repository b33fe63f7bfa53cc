//! A person of the company in a conversation: who speaks, and who types (docs/decisions/0019).
//!
//! Whatever changes who speaks runs in the transaction that holds the lock of the session's serial key,
//! as everything does that adds or ends a turn of the session.

mod inbound;
mod relayed;

use std::{fmt, time::Duration};

use sqlx::{PgConnection, postgres::types::PgInterval};

pub use self::{
    inbound::{
        Thread, know_thread, name_of, newest_handoff, once, remember_name, rename, thread,
        thread_of, thread_of_handoff,
    },
    relayed::{
        Question, Relayed, Words, has_spoken, question, relay, said, say, unfinished,
        was_sent_to_agent, withdraw,
    },
};
use crate::ids::SessionId;

/// Characters of a name that a visitor reads.
const LONGEST_NAME: usize = 80;
/// How old the newest handoff of a session may be for somebody to be expected to take over.
pub const EXPECTED_FOR: Duration = Duration::from_hours(24);

/// A person who speaks. It has no `Debug` of its name, because it is about a person.
#[derive(Clone, PartialEq, Eq)]
pub struct Agent {
    /// Their user in Slack.
    pub id: String,
    /// What the visitor reads.
    pub name: String,
}

impl Agent {
    /// The name in one line, of printable characters, and not endless.
    pub fn new(id: impl Into<String>, name: &str) -> Self {
        let printable = |sign: &char| !sign.is_control() && !is_format(*sign);
        let words: Vec<String> = name
            .split_whitespace()
            .map(|word| word.chars().filter(printable).collect())
            .collect();
        let name: String = words.join(" ").chars().take(LONGEST_NAME).collect();
        Self {
            id: id.into(),
            name,
        }
    }
}

/// Characters without a shape of their own that turn or join what stands beside them.
fn is_format(sign: char) -> bool {
    matches!(sign, '\u{200b}'..='\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2060}'..='\u{2069}' | '\u{feff}')
}

impl fmt::Debug for Agent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Agent")
            .field("id", &self.id)
            .finish_non_exhaustive()
    }
}

/// A session as a person finds it.
#[derive(Debug, Clone)]
pub struct Found {
    /// Whether it takes no more messages.
    pub closed: bool,
    /// Who speaks.
    pub agent: Option<Agent>,
    /// The newest turn's number.
    pub last_turn: i32,
}

/// The session; `None`: there is none.
pub async fn find(conn: &mut PgConnection, session_id: &SessionId) -> sqlx::Result<Option<Found>> {
    let row = sqlx::query!(
        r#"select status = 'closed' as "closed!", agent, agent_id, last_turn
           from sessions where session_id = $1"#,
        session_id.as_str(),
    )
    .fetch_optional(conn)
    .await?;
    Ok(row.map(|row| Found {
        closed: row.closed,
        agent: row
            .agent_id
            .zip(row.agent)
            .map(|(id, name)| Agent { id, name }),
        last_turn: row.last_turn,
    }))
}

/// Has a person speak. Whoever spoke before does not any more. The session's stage is the last one.
pub async fn join(
    conn: &mut PgConnection,
    session_id: &SessionId,
    agent: &Agent,
) -> sqlx::Result<()> {
    sqlx::query!(
        "update sessions
         set agent = $2, agent_id = $3, stage = 4, last_activity_at = now(),
             agent_since = case when agent_id = $3 then agent_since else now() end,
             agent_typing_until = case when agent_id = $3 then agent_typing_until end
         where session_id = $1 and status = 'open'",
        session_id.as_str(),
        agent.name,
        agent.id,
    )
    .execute(conn)
    .await?;
    Ok(())
}

/// Has the assistant speak again. Returns whether a person spoke.
pub async fn leave(conn: &mut PgConnection, session_id: &SessionId) -> sqlx::Result<bool> {
    let left = sqlx::query!(
        "update sessions
         set agent = null, agent_id = null, agent_since = null, agent_typing_until = null,
             last_activity_at = now()
         where session_id = $1 and agent is not null",
        session_id.as_str(),
    )
    .execute(conn)
    .await?;
    Ok(left.rows_affected() > 0)
}

/// The person who speaks types for `how_long`, or (zero) does not. Nobody else is shown as typing. Needs
/// no lock: it changes nobody's turn to speak.
pub async fn types(
    conn: &mut PgConnection,
    session_id: &SessionId,
    agent_id: &str,
    how_long: Duration,
) -> sqlx::Result<bool> {
    let changed = sqlx::query!(
        "update sessions
         set agent_typing_until = case when $3::interval > interval '0' then now() + $3::interval end
         where session_id = $1 and agent_id = $2",
        session_id.as_str(),
        agent_id,
        interval(how_long),
    )
    .execute(conn)
    .await?;
    Ok(changed.rows_affected() > 0)
}

/// Notes on the session's newest handoff who takes care of it; the first one stands. Returns whether it
/// is news.
pub async fn take_care(
    conn: &mut PgConnection,
    session_id: &SessionId,
    name: &str,
) -> sqlx::Result<bool> {
    let taken = sqlx::query!(
        "update handoff_records
         set taken_by = $2, taken_at = now(), updated_at = now()
         where session_id = $1 and taken_by is null
           and handoff_id = (select handoff_id from handoff_records where session_id = $1
                             order by created_at desc, handoff_id limit 1)",
        session_id.as_str(),
        name,
    )
    .execute(conn)
    .await?;
    Ok(taken.rows_affected() > 0)
}

/// What a visitor who follows is told of the people.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Presence {
    /// The name of the person who speaks.
    pub agent: Option<String>,
    /// Whether they type.
    pub types: bool,
    /// Whether there is anything to wait for: somebody speaks, or is expected to.
    pub expected: bool,
}

/// The presence in each of these sessions; a session that is gone is left out.
pub async fn presences(
    conn: &mut PgConnection,
    sessions: &[SessionId],
) -> sqlx::Result<Vec<(SessionId, Presence)>> {
    let ids: Vec<&str> = sessions.iter().map(SessionId::as_str).collect();
    let rows = sqlx::query!(
        r#"select s.session_id, s.agent, coalesce(s.agent_typing_until > now(), false) as "types!",
                  s.status = 'open' and (s.agent is not null or exists (
                      select 1 from handoff_records h
                      where h.session_id = s.session_id and h.status <> 'dead'
                        and h.updated_at > now() - $2::interval)) as "expected!"
           from sessions s
           where s.session_id = any($1)"#,
        &ids as _,
        interval(EXPECTED_FOR),
    )
    .fetch_all(conn)
    .await?;
    rows.into_iter()
        .map(|row| {
            let session_id = row
                .session_id
                .parse()
                .map_err(|bad| sqlx::Error::Decode(Box::new(bad)))?;
            let presence = Presence {
                agent: row.agent,
                types: row.types,
                expected: row.expected,
            };
            Ok((session_id, presence))
        })
        .collect()
}

fn interval(duration: Duration) -> PgInterval {
    PgInterval {
        months: 0,
        days: 0,
        microseconds: i64::try_from(duration.as_micros()).unwrap_or(i64::MAX),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_is_one_short_line_of_printable_characters() {
        let name = |name: &str| Agent::new("U1", name).name;
        assert_eq!(name("  Ada\n Lovelace\u{202e} "), "Ada Lovelace");
        assert_eq!(name("\u{0}\u{200b}"), "");
        assert_eq!(name(&"ä".repeat(500)).chars().count(), LONGEST_NAME);
    }

    #[test]
    fn a_person_is_no_text_of_a_log() {
        let agent = Agent::new("U1", "Ada Lovelace");
        assert!(!format!("{agent:?}").contains("Ada"));
    }
}
