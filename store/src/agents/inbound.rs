//! What comes from Slack: which session it is about, who is who, and what was obeyed already.

use chrono::{DateTime, Utc};
use sqlx::PgConnection;

use crate::{
    handoffs::HandoffKey,
    ids::{HandoffId, SessionId},
};

/// Notes that a request is obeyed, in the transaction that obeys it. Returns false when that was done
/// before. Takes a few old rows along, so that the table holds about a day.
pub async fn once(conn: &mut PgConnection, id: &str, kind: &str) -> sqlx::Result<bool> {
    let noted = sqlx::query!(
        "with old as (
             delete from slack_inbound
             where id = any(array(select id from slack_inbound
                                  where received_at < now() - interval '1 day'
                                  order by received_at limit 20
                                  for update skip locked))
         )
         insert into slack_inbound (id, kind) values ($1, $2)
         on conflict on constraint slack_inbound_pkey do nothing",
        id,
        kind,
    )
    .execute(conn)
    .await?;
    Ok(noted.rows_affected() > 0)
}

/// A message of Slack that a session's people talk below.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Thread {
    /// The session.
    pub session_id: SessionId,
    /// The handoff that the message is of.
    pub handoff_id: HandoffId,
    /// Slack's channel.
    pub channel: String,
    /// Slack's name of the message.
    pub ts: String,
    /// When it became known.
    pub since: DateTime<Utc>,
}

/// Whose thread it is; `None`: no handoff's.
pub async fn thread(
    conn: &mut PgConnection,
    channel: &str,
    ts: &str,
) -> sqlx::Result<Option<Thread>> {
    let row = sqlx::query_as!(
        Row,
        "select session_id, handoff_id, channel, ts, created_at from slack_threads
         where channel = $1 and ts = $2",
        channel,
        ts,
    )
    .fetch_optional(conn)
    .await?;
    row.map(Row::read).transpose()
}

/// Remembers that a message is of a session's handoff.
pub async fn know_thread(
    conn: &mut PgConnection,
    session_id: &SessionId,
    handoff_id: &HandoffId,
    channel: &str,
    ts: &str,
) -> sqlx::Result<()> {
    sqlx::query!(
        "insert into slack_threads (channel, ts, session_id, handoff_id)
         select $3, $4, session_id, $2 from sessions where session_id = $1
         on conflict on constraint slack_threads_pkey do nothing",
        session_id.as_str(),
        handoff_id.as_str(),
        channel,
        ts,
    )
    .execute(conn)
    .await?;
    Ok(())
}

/// The thread in which a session's people talk: of its first message, below which later ones are posted.
/// `None`: Slack has no message of it, or only one that came by the webhook.
pub async fn thread_of(
    conn: &mut PgConnection,
    session_id: &SessionId,
) -> sqlx::Result<Option<Thread>> {
    let row = sqlx::query_as!(
        Row,
        "select session_id, handoff_id, channel, ts, created_at from slack_threads
         where session_id = $1 order by created_at, ts limit 1",
        session_id.as_str(),
    )
    .fetch_optional(conn)
    .await?;
    row.map(Row::read).transpose()
}

/// The message of a handoff, whose buttons say how it stands.
pub async fn thread_of_handoff(
    conn: &mut PgConnection,
    key: &HandoffKey,
) -> sqlx::Result<Option<Thread>> {
    let row = sqlx::query_as!(
        Row,
        "select session_id, handoff_id, channel, ts, created_at from slack_threads
         where session_id = $1 and handoff_id = $2 order by created_at, ts limit 1",
        key.session_id.as_str(),
        key.handoff_id.as_str(),
    )
    .fetch_optional(conn)
    .await?;
    row.map(Row::read).transpose()
}

struct Row {
    session_id: String,
    handoff_id: String,
    channel: String,
    ts: String,
    created_at: DateTime<Utc>,
}

impl Row {
    fn read(self) -> sqlx::Result<Thread> {
        let bad = |bad| sqlx::Error::Decode(Box::new(bad));
        Ok(Thread {
            session_id: self.session_id.parse().map_err(bad)?,
            handoff_id: self.handoff_id.parse().map_err(bad)?,
            channel: self.channel,
            ts: self.ts,
            since: self.created_at,
        })
    }
}

/// The session's newest handoff.
pub async fn newest_handoff(
    conn: &mut PgConnection,
    session_id: &SessionId,
) -> sqlx::Result<Option<HandoffId>> {
    let id = sqlx::query_scalar!(
        "select handoff_id from handoff_records where session_id = $1
         order by created_at desc, handoff_id limit 1",
        session_id.as_str(),
    )
    .fetch_optional(conn)
    .await?;
    id.map(|id| id.parse().map_err(|bad| sqlx::Error::Decode(Box::new(bad))))
        .transpose()
}

/// What a user of Slack is called, if that was learned.
pub async fn name_of(conn: &mut PgConnection, user_id: &str) -> sqlx::Result<Option<String>> {
    sqlx::query_scalar!("select name from slack_people where user_id = $1", user_id)
        .fetch_optional(conn)
        .await
}

/// Remembers what a user of Slack is called.
pub async fn remember_name(conn: &mut PgConnection, user_id: &str, name: &str) -> sqlx::Result<()> {
    sqlx::query!(
        "insert into slack_people as known (user_id, name) values ($1, $2)
         on conflict on constraint slack_people_pkey do update
         set name = excluded.name, updated_at = now()
         where known.name <> excluded.name",
        user_id,
        name,
    )
    .execute(conn)
    .await?;
    Ok(())
}

/// Gives a person the name that was learned, wherever they speak, and what they have said there. Returns
/// where.
pub async fn rename(
    conn: &mut PgConnection,
    user_id: &str,
    name: &str,
) -> sqlx::Result<Vec<SessionId>> {
    let rows = sqlx::query_scalar!(
        "with speaks as (
             select session_id, agent as old from sessions
             where status = 'open' and agent_id = $1 and agent <> $2
             order by session_id for no key update
         ), said as (
             update messages m set author = $2 from speaks
             where m.session_id = speaks.session_id and m.author = speaks.old
         ), taken as (
             update handoff_records h set taken_by = $2 from speaks
             where h.session_id = speaks.session_id and h.taken_by = speaks.old
         )
         update sessions s set agent = $2 from speaks
         where s.session_id = speaks.session_id
         returning s.session_id",
        user_id,
        name,
    )
    .fetch_all(conn)
    .await?;
    rows.into_iter()
        .map(|id| id.parse().map_err(|bad| sqlx::Error::Decode(Box::new(bad))))
        .collect()
}
