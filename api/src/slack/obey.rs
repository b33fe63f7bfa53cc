//! Does what people in Slack want: each wish once, in one transaction with everything that follows.

use std::time::Duration;

use jobs::{
    JobKind as _, QueueError,
    agents::{self as people, Cause, Takeover},
    catalog::{SlackOpenReply, session_serial_key},
    lock_serial_key,
};
use sqlx::PgConnection;
use store::{
    agents::{self, Agent},
    bus::Wake,
    ids::{SessionId, new_message_id},
    phrases::{Language, Phrase},
    sessions,
};

use super::{
    event::Reply,
    interaction::{Deed, Interaction},
};
use crate::{problem::Problem, state::State};

/// How long the visitor is shown that somebody types who has opened the form.
const TYPES_FOR: Duration = Duration::from_secs(90);

/// What became of a wish.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Obeyed {
    /// It is done, now or before.
    Done,
    /// The conversation is over: nothing can be said.
    Closed,
    /// There are no words to say.
    Empty,
}

#[derive(Debug, thiserror::Error)]
pub(crate) enum ObeyError {
    #[error("the database failed")]
    Database(#[from] sqlx::Error),
    #[error("a job could not be enqueued")]
    Queue(#[from] QueueError),
}

impl From<ObeyError> for Problem {
    fn from(error: ObeyError) -> Self {
        Self::internal("do what was asked for in Slack", &error)
    }
}

/// Says to the visitor what somebody wrote in the thread.
pub(crate) async fn reply(state: &State, reply: Reply) -> Result<Obeyed, ObeyError> {
    let mut transaction = state.begin().await?;
    let found = agents::thread(&mut transaction, &reply.channel, &reply.thread_ts).await?;
    let Some(thread) = found else {
        return Ok(Obeyed::Done);
    };
    lock_serial_key(&mut transaction, &session_serial_key(&thread.session_id)).await?;
    if !agents::once(&mut transaction, &reply.event_id, "reply").await? {
        return Ok(Obeyed::Done);
    }
    let mut after = Wake::default();
    let agent = agent(&mut transaction, &thread.session_id, &reply.user).await?;
    let cause = Cause {
        session_id: &thread.session_id,
        handoff_id: &thread.handoff_id,
        request: &reply.event_id,
    };
    let message_id = new_message_id(state.entropy().as_ref());
    let said = people::say(
        &mut transaction,
        cause,
        &agent,
        &message_id,
        &reply.body,
        &mut after,
    );
    let said = said.await?;
    transaction.commit().await?;
    state.bus().publish(&after);
    tracing::info!(session_id = %thread.session_id, said = said.is_some(), "somebody replied in the thread");
    Ok(said.map_or(Obeyed::Closed, |_| Obeyed::Done))
}

/// Does what a button or a form stands for.
pub(crate) async fn interaction(state: &State, asked: Interaction) -> Result<Obeyed, ObeyError> {
    if asked.deed == Deed::Say(String::new()) {
        return Ok(Obeyed::Empty);
    }
    let mut transaction = state.begin().await?;
    let conn = &mut *transaction;
    lock_serial_key(conn, &session_serial_key(&asked.session_id)).await?;
    if !agents::once(conn, &asked.id, kind(&asked.deed)).await? {
        return Ok(Obeyed::Done);
    }
    let mut after = Wake::default();
    let obeyed = obey(state, conn, &asked, &mut after).await?;
    transaction.commit().await?;
    state.bus().publish(&after);
    tracing::info!(session_id = %asked.session_id, deed = kind(&asked.deed), ?obeyed, "somebody acted in Slack");
    Ok(obeyed)
}

async fn obey(
    state: &State,
    conn: &mut PgConnection,
    asked: &Interaction,
    after: &mut Wake,
) -> Result<Obeyed, ObeyError> {
    let (session_id, user) = (&asked.session_id, asked.user.as_str());
    let cause = Cause {
        session_id,
        handoff_id: &asked.handoff_id,
        request: &asked.id,
    };
    match &asked.deed {
        Deed::TakeOver(place)
        | Deed::TakeCare(place)
        | Deed::HandBack(place)
        | Deed::OpenReply(place, _) => {
            // A message that came by the webhook is known from here on.
            agents::know_thread(
                conn,
                cause.session_id,
                cause.handoff_id,
                &place.channel,
                &place.ts,
            )
            .await?;
        }
        Deed::Say(_) | Deed::StopTyping => {}
    }
    match &asked.deed {
        Deed::TakeOver(_) => {
            let agent = agent(conn, session_id, user).await?;
            if people::take_over(conn, cause, &agent, after).await? == Takeover::Closed {
                people::tell_closed(conn, cause, after).await?;
                return Ok(Obeyed::Closed);
            }
        }
        Deed::TakeCare(_) => {
            let known = agents::name_of(conn, user).await?;
            let name = Agent::new(user, known.as_deref().unwrap_or(&asked.user_name)).name;
            people::take_care(conn, cause, &name, after).await?;
        }
        Deed::HandBack(_) => {
            people::hand_back(conn, cause, user, after).await?;
        }
        Deed::OpenReply(_, trigger_id) => {
            let job = SlackOpenReply {
                session_id: session_id.clone(),
                handoff_id: asked.handoff_id.clone(),
                by: user.to_owned(),
                trigger_id: trigger_id.clone(),
            };
            jobs::enqueue(conn, &job).await?;
            after.queues.insert(SlackOpenReply::QUEUE.to_owned());
            types(conn, session_id, user, TYPES_FOR, after).await?;
        }
        Deed::Say(body) => {
            let agent = agent(conn, session_id, user).await?;
            let message_id = new_message_id(state.entropy().as_ref());
            let said = people::say(conn, cause, &agent, &message_id, body, after).await?;
            let Some(turn) = said else {
                return Ok(Obeyed::Closed);
            };
            people::tell_said(conn, cause, &agent, turn.turn, after).await?;
        }
        Deed::StopTyping => types(conn, session_id, user, Duration::ZERO, after).await?,
    }
    Ok(Obeyed::Done)
}

async fn types(
    conn: &mut PgConnection,
    session_id: &SessionId,
    user: &str,
    how_long: Duration,
    after: &mut Wake,
) -> sqlx::Result<()> {
    if agents::types(conn, session_id, user, how_long).await? {
        after.sessions.insert(session_id.clone());
    }
    Ok(())
}

/// Who speaks, under the name that the visitor reads. Who is not known yet speaks for the team: a login is
/// nothing for visitors.
async fn agent(conn: &mut PgConnection, session_id: &SessionId, user: &str) -> sqlx::Result<Agent> {
    let name = agents::name_of(conn, user)
        .await?
        .map(|name| Agent::new(user, &name));
    if let Some(agent) = name.filter(|agent| !agent.name.is_empty()) {
        return Ok(agent);
    }
    let locale = sessions::locale(conn, session_id).await?;
    let team = Phrase::Team.text(Language::of(locale.as_deref()));
    Ok(Agent::new(user, team))
}

fn kind(deed: &Deed) -> &'static str {
    match deed {
        Deed::TakeOver(_) => "take_over",
        Deed::TakeCare(_) => "taken",
        Deed::OpenReply(..) => "open_reply",
        Deed::HandBack(_) => "hand_back",
        Deed::Say(_) => "say",
        Deed::StopTyping => "close_form",
    }
}
