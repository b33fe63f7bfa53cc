//! A person of the company speaks in a conversation: takes over, says something, hands back, with the
//! jobs that follow (docs/decisions/0019).
//!
//! Every function runs in the caller's transaction, which has taken the lock of the session's serial key
//! ([`crate::catalog::session_serial_key`]) first; publish `after` when it is committed.

use sqlx::PgConnection;
use store::{
    agents::{self, Agent, Words},
    bus::Wake,
    chat::NewTurn,
    ids::{HandoffId, MessageId, SessionId, TurnKey},
    phrases::{Language, Phrase},
    protocol::{AgentData, AgentStatus, Chunk, True},
};

use crate::{
    cancel::withdraw,
    catalog::{AgentUnreachable, HandoffRelay, Notice, SlackFace, SlackNote, SlackPerson},
    enqueue::{QueueError, enqueue},
    fence::JobId,
    kind::JobKind,
    webhooks,
};

/// What became of a takeover.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Takeover {
    /// The person speaks from now on.
    Begun,
    /// They did already.
    Already,
    /// The session is closed or gone.
    Closed,
}

/// Where a takeover, or something that is said, comes from.
#[derive(Debug, Clone, Copy)]
pub struct Cause<'a> {
    /// The session.
    pub session_id: &'a SessionId,
    /// The handoff in whose thread it happens.
    pub handoff_id: &'a HandoffId,
    /// Slack's name of the request.
    pub request: &'a str,
}

/// Has a person speak instead of the assistant: what the assistant has not finished ends for good, and
/// its questions go to the person.
pub async fn take_over(
    conn: &mut PgConnection,
    cause: Cause<'_>,
    agent: &Agent,
    after: &mut Wake,
) -> Result<Takeover, QueueError> {
    let session_id = cause.session_id;
    let Some(found) = agents::find(conn, session_id)
        .await?
        .filter(|it| !it.closed)
    else {
        return Ok(Takeover::Closed);
    };
    if found.agent.is_some_and(|speaks| speaks.id == agent.id) {
        return Ok(Takeover::Already);
    }
    agents::join(conn, session_id, agent).await?;
    let unfinished = agents::unfinished(conn, session_id).await?;
    for turn in &unfinished {
        let mut told = Wake::default();
        let mut end = async |conn: &mut PgConnection| {
            let ended = agents::withdraw(conn, &turn.key, agent).await?;
            webhooks::turn_ended(conn, &turn.key, ended, &mut told)
                .await
                .map_err(webhooks::database_error)?;
            Ok(())
        };
        match turn.job_id {
            Some(id) => {
                withdraw(conn, JobId(id), end, after).await?;
            }
            None => end(conn).await?,
        }
        after.queues.append(&mut told.queues);
        after.turns.insert(turn.key.clone());
    }
    for turn in unfinished.into_iter().rev() {
        enqueue_relay(conn, turn.key, after).await?;
    }
    agents::take_care(conn, session_id, &agent.name).await?;
    let notice = Notice::TakenOver {
        by: agent.id.clone(),
    };
    show(conn, cause, Some(notice), after).await?;
    if agents::name_of(conn, &agent.id).await?.is_none() {
        let person = SlackPerson {
            user_id: agent.id.clone(),
        };
        enqueue(conn, &person).await?;
        after.queues.insert(SlackPerson::QUEUE.to_owned());
    }
    after.sessions.insert(session_id.clone());
    metrics::counter!("growth_chat_takeovers_total").increment(1);
    Ok(Takeover::Begun)
}

/// Says something to the visitor in a person's name, who takes over first. Returns the turn that it is;
/// `None`: the session is closed or gone, and the thread is told so.
pub async fn say(
    conn: &mut PgConnection,
    cause: Cause<'_>,
    agent: &Agent,
    message_id: &MessageId,
    body: &str,
    after: &mut Wake,
) -> Result<Option<TurnKey>, QueueError> {
    if take_over(conn, cause, agent, after).await? == Takeover::Closed {
        tell_closed(conn, cause, after).await?;
        return Ok(None);
    }
    agents::types(conn, cause.session_id, &agent.id, std::time::Duration::ZERO).await?;
    let words = |name| Said {
        author: Some(name),
        before: Vec::new(),
        body,
    };
    let said = add(
        conn,
        cause.session_id,
        message_id,
        after,
        words(&agent.name),
    )
    .await?;
    after.sessions.insert(cause.session_id.clone());
    Ok(said)
}

/// Tells the thread what a person said by the form: Slack shows a form to nobody else.
pub async fn tell_said(
    conn: &mut PgConnection,
    cause: Cause<'_>,
    agent: &Agent,
    turn: i32,
    after: &mut Wake,
) -> Result<(), QueueError> {
    let said = Notice::Said {
        by: agent.id.clone(),
        turn,
    };
    show(conn, cause, Some(said), after).await
}

/// Tells the thread that the conversation is over, and that nothing was said or taken over.
pub async fn tell_closed(
    conn: &mut PgConnection,
    cause: Cause<'_>,
    after: &mut Wake,
) -> Result<(), QueueError> {
    show(conn, cause, Some(Notice::Closed), after).await
}

struct Said<'a> {
    author: Option<&'a str>,
    before: Vec<Chunk>,
    body: &'a str,
}

/// Adds the session's next turn, born finished.
async fn add(
    conn: &mut PgConnection,
    session_id: &SessionId,
    message_id: &MessageId,
    after: &mut Wake,
    said: Said<'_>,
) -> Result<Option<TurnKey>, QueueError> {
    let last = agents::find(conn, session_id)
        .await?
        .map(|found| found.last_turn);
    let Some(turn) = last.and_then(|last| last.checked_add(1)) else {
        return Ok(None);
    };
    let key = TurnKey {
        session_id: session_id.clone(),
        turn,
    };
    let words = Words {
        key: &key,
        message_id,
        author: said.author,
        body: said.body,
        before: said.before,
    };
    agents::say(conn, &words).await?;
    after.turns.insert(key.clone());
    Ok(Some(key))
}

/// Has the assistant speak again. Returns whether a person spoke.
pub async fn hand_back(
    conn: &mut PgConnection,
    cause: Cause<'_>,
    by: &str,
    after: &mut Wake,
) -> Result<bool, QueueError> {
    if !agents::leave(conn, cause.session_id).await? {
        return Ok(false);
    }
    let notice = Notice::HandedBack { by: by.to_owned() };
    show(conn, cause, Some(notice), after).await?;
    after.sessions.insert(cause.session_id.clone());
    metrics::counter!("growth_chat_hand_backs_total", "why" => "person").increment(1);
    Ok(true)
}

/// Notes who takes care of the handoff, without taking over the conversation. The first one stands.
pub async fn take_care(
    conn: &mut PgConnection,
    cause: Cause<'_>,
    name: &str,
    after: &mut Wake,
) -> Result<(), QueueError> {
    if agents::take_care(conn, cause.session_id, name).await? {
        show(conn, cause, None, after).await?;
    }
    Ok(())
}

/// Enqueues what shows in Slack how it stands.
async fn show(
    conn: &mut PgConnection,
    cause: Cause<'_>,
    notice: Option<Notice>,
    after: &mut Wake,
) -> Result<(), QueueError> {
    let session_id = cause.session_id.clone();
    if let Some(notice) = notice {
        let note = SlackNote {
            session_id: session_id.clone(),
            cause: cause.request.to_owned(),
            notice,
        };
        enqueue(conn, &note).await?;
    }
    let face = SlackFace {
        session_id,
        handoff_id: cause.handoff_id.clone(),
    };
    enqueue(conn, &face).await?;
    after.queues.insert(SlackFace::QUEUE.to_owned());
    Ok(())
}

/// Adds what a visitor wrote to the person who speaks, with the job that takes it to them.
pub async fn relay(
    conn: &mut PgConnection,
    new: &NewTurn<'_>,
    agent: &str,
    after: &mut Wake,
) -> Result<(), QueueError> {
    let job_id = enqueue_relay(conn, new.key.clone(), after).await?;
    let new = NewTurn { job_id, ..*new };
    agents::relay(conn, &new, agent).await?;
    after.turns.insert(new.key.clone());
    Ok(())
}

/// The lock of the relay's key goes behind the session's: nobody who holds it asks for the other.
async fn enqueue_relay(
    conn: &mut PgConnection,
    key: TurnKey,
    after: &mut Wake,
) -> Result<i64, QueueError> {
    let job = HandoffRelay {
        session_id: key.session_id,
        turn: key.turn,
    };
    let enqueued = enqueue(conn, &job).await?;
    after.queues.insert(HandoffRelay::QUEUE.to_owned());
    Ok(enqueued.id.0)
}

/// What a visitor wrote did not reach the person. Holds the lock of the relay's key, and so must not ask
/// for the session's: another job does.
pub(crate) async fn relay_failed(
    conn: &mut PgConnection,
    relay: &HandoffRelay,
    after: &mut Wake,
) -> sqlx::Result<()> {
    let job = AgentUnreachable {
        session_id: relay.session_id.clone(),
        turn: relay.turn,
    };
    match enqueue(conn, &job).await {
        Ok(_) => {
            after.queues.insert(AgentUnreachable::QUEUE.to_owned());
            Ok(())
        }
        Err(QueueError::Database(error)) => Err(error),
        Err(other) => Err(sqlx::Error::Encode(Box::new(other))),
    }
}

/// Hands a conversation back to the assistant because the person can't be reached, and tells both.
/// Nothing happens when nobody speaks any more.
pub async fn unreachable(
    conn: &mut PgConnection,
    cause: Cause<'_>,
    message_id: &MessageId,
    locale: Option<&str>,
    after: &mut Wake,
) -> Result<bool, QueueError> {
    let found = agents::find(conn, cause.session_id).await?;
    let Some(agent) = found.and_then(|found| found.agent) else {
        return Ok(false);
    };
    agents::leave(conn, cause.session_id).await?;
    let left = Chunk::DataAgent {
        data: AgentData {
            name: agent.name,
            status: AgentStatus::Left,
        },
        transient: True,
    };
    let said = Said {
        author: None,
        before: vec![left],
        body: Phrase::Unreachable.text(Language::of(locale)),
    };
    add(conn, cause.session_id, message_id, after, said).await?;
    show(conn, cause, Some(Notice::Unreachable), after).await?;
    after.sessions.insert(cause.session_id.clone());
    metrics::counter!("growth_chat_hand_backs_total", "why" => "unreachable").increment(1);
    Ok(true)
}
