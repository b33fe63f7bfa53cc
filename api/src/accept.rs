//! Accepts a visitor's message: session, message, turn and job in one transaction, or the turn that
//! the same message began before.
//!
//! The transaction takes the lock of the session's serial key first, so that what it decides by is
//! still so when it writes; two posts of one session never see each other half-way.

use jobs::{
    EnqueueOptions, JobKind, QueueError, agents,
    catalog::{SessionSweep, TurnProcess, session_serial_key},
    lock_serial_key, webhooks,
};
use sqlx::{Acquire, PgConnection};
use store::{
    bus::Wake,
    chat::{self, JoinableTurn, NewTurn, SessionState, TakenBy},
    ids::{MessageId, TurnKey, new_message_id},
    turn_control,
    webhooks::Event,
};

use crate::{
    auth::Credentials,
    edge::ClientNetwork,
    limits::{Asking, LimitError},
    message::{Message, OnBusy, Wish},
    problem::{Code, Problem},
    state::State,
    stop::Stopping,
    widget_tokens::SiteKey,
};

/// Turns of one session that may wait. More is no conversation.
const MAX_UNFINISHED_TURNS: i64 = 32;

/// A message that was accepted, now or before.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Accepted {
    pub(crate) key: TurnKey,
    pub(crate) message_id: MessageId,
    /// The turn's current attempt; 0: none has begun.
    pub(crate) attempt: i32,
    /// Whether nothing will be added to the turn's stream.
    pub(crate) finished: bool,
}

/// Why a message was not accepted.
#[derive(Debug, thiserror::Error)]
pub(crate) enum AcceptError {
    #[error("the message is refused")]
    Refused(Code),
    #[error("the message got no token")]
    Limit(#[from] LimitError),
    #[error("the database failed")]
    Database(#[from] sqlx::Error),
    #[error("the job could not be enqueued")]
    Queue(#[from] QueueError),
}

impl From<AcceptError> for Problem {
    fn from(error: AcceptError) -> Self {
        match error {
            AcceptError::Refused(code) => Self::new(code),
            AcceptError::Limit(LimitError::Limited(limited)) => limited.into(),
            AcceptError::Limit(_) | AcceptError::Database(_) | AcceptError::Queue(_) => {
                Self::internal("accept a message", &error)
            }
        }
    }
}

/// Accepts a message, and wakes whoever has work by it.
pub(crate) async fn accept(
    state: &State,
    credentials: Credentials,
    message: Message,
    (network, site): (ClientNetwork, SiteKey),
) -> Result<Accepted, AcceptError> {
    let asking = Asking {
        network,
        session: &message.session_id,
        credentials,
        site: Some(site),
    };
    state.limiter().check(asking).map_err(LimitError::Limited)?;
    let mut conn = state.pool().acquire().await?;
    // Before the transaction: a site's bucket is locked for one statement, not until this is on disk. A
    // message that is sent again counts again.
    state.limiter().take(&mut conn, asking).await?;
    let mut transaction = conn.begin().await?;
    let serial_key = session_serial_key(&message.session_id);
    lock_serial_key(&mut transaction, &serial_key).await?;
    let found = chat::state(&mut transaction, &message.session_id, &message.id).await?;

    let plan = decide(&mut transaction, found.as_ref(), credentials, &message).await?;
    let accept = Accept {
        message,
        credentials,
        answer_id: new_message_id(state.entropy().as_ref()),
    };
    let mut after = Wake::default();
    let (accepted, stopping) = match plan {
        Plan::Join(turn) => return Ok(accept.accepted(turn)),
        Plan::Add { turn, interrupt } => {
            let mut stopping = Stopping::default();
            if interrupt {
                accept.interrupt(&mut transaction, &mut stopping).await?;
            }
            let add = accept.add(&mut transaction, turn, None, &mut after);
            (add.await?, stopping)
        }
        Plan::Relay { turn, agent } => {
            let accepted = accept
                .relay(&mut transaction, turn, &agent, &mut after)
                .await?;
            transaction.commit().await?;
            state.bus().publish(&after);
            return Ok(accepted);
        }
        Plan::Regenerate { turn, replaced } => {
            let add = accept.add(&mut transaction, turn, Some(&replaced), &mut after);
            (add.await?, Stopping::default())
        }
    };
    // Of a new session only, and last: whoever adds the same sweep waits for the commit.
    let sweep = if found.is_none() && state.needs_sweep() {
        let ttl = state.config().session_ttl;
        Some(jobs::sweep_after(&mut transaction, ttl).await?)
    } else {
        None
    };
    transaction.commit().await?;
    tracing::debug!(session_id = %accepted.key.session_id, turn = accepted.key.turn, "a message is accepted");
    stopping.announce(state.bus());
    after.queues.insert(TurnProcess::QUEUE.to_owned());
    state.bus().publish(&after);
    if let Some(sweep) = sweep {
        state.sweep_waits();
        if sweep.new {
            state.bus().jobs_ready(SessionSweep::QUEUE);
        }
    }
    Ok(accepted)
}

/// What to do with a message.
enum Plan {
    /// It has its turn already.
    Join(JoinableTurn),
    /// It begins this turn.
    Add { turn: i32, interrupt: bool },
    /// It goes to the person of this name, who speaks.
    Relay { turn: i32, agent: String },
    /// This turn answers the last message again, in place of this answer.
    Regenerate { turn: i32, replaced: String },
}

async fn decide(
    conn: &mut PgConnection,
    found: Option<&SessionState>,
    credentials: Credentials,
    message: &Message,
) -> Result<Plan, AcceptError> {
    let refuse = |code| Err(AcceptError::Refused(code));
    let Some(session) = found else {
        return match credentials {
            Credentials::IllFormed => refuse(Code::InvalidSecret),
            Credentials::None | Credentials::Secret(_) => Ok(Plan::Add {
                turn: 1,
                interrupt: false,
            }),
        };
    };
    if !credentials.open(session.secret_hash.as_deref()) {
        return refuse(Code::SessionNotFound);
    }
    if session.closed {
        return refuse(Code::SessionClosed);
    }
    match (&session.id_taken_by, &message.wish) {
        (Some(TakenBy::Answer), _) => return refuse(Code::MessageIdReused),
        (Some(TakenBy::VisitorMessage { body, .. }), _) if *body != message.text => {
            return refuse(Code::MessageIdReused);
        }
        (Some(TakenBy::VisitorMessage { turn, .. }), Wish::Answer) => {
            return Ok(Plan::Join(*turn));
        }
        (Some(TakenBy::VisitorMessage { .. }), Wish::AnswerAgain(answer_id)) => {
            let plan = decide_again(conn, session, message, answer_id.as_ref()).await?;
            return match plan {
                Plan::Regenerate { .. } if session.agent.is_some() => refuse(Code::PersonSpeaks),
                plan => Ok(plan),
            };
        }
        // A message that never arrived and is to be "answered again" is a new one.
        (None, _) => {}
    }
    if let Some(agent) = &session.agent {
        return Ok(Plan::Relay {
            turn: next_turn(session)?,
            agent: agent.clone(),
        });
    }
    let busy = session.unfinished_turns > 0;
    match message.on_busy {
        OnBusy::Reject if busy => return refuse(Code::TurnRunning),
        OnBusy::Enqueue if session.unfinished_turns >= MAX_UNFINISHED_TURNS => {
            return refuse(Code::TooManyTurns);
        }
        _ => {}
    }
    Ok(Plan::Add {
        turn: next_turn(session)?,
        interrupt: busy && message.on_busy == OnBusy::Interrupt,
    })
}

async fn decide_again(
    conn: &mut PgConnection,
    session: &SessionState,
    message: &Message,
    answer_id: Option<&MessageId>,
) -> Result<Plan, AcceptError> {
    let found = chat::regenerable(conn, &message.session_id, answer_id).await?;
    if let Some(turn) = found.replaced_by {
        return Ok(Plan::Join(turn));
    }
    match found.newest {
        Some((turn, of, _)) if of == message.id.as_str() && !turn.finished => Ok(Plan::Join(turn)),
        Some((_, of, replaced)) if of == message.id.as_str() => Ok(Plan::Regenerate {
            turn: next_turn(session)?,
            replaced,
        }),
        _ => Err(AcceptError::Refused(Code::NothingToRegenerate)),
    }
}

fn next_turn(session: &SessionState) -> Result<i32, AcceptError> {
    session
        .last_turn
        .checked_add(1)
        .ok_or(AcceptError::Refused(Code::TooManyTurns))
}

struct Accept {
    message: Message,
    credentials: Credentials,
    answer_id: MessageId,
}

impl Accept {
    fn accepted(self, turn: JoinableTurn) -> Accepted {
        Accepted {
            key: TurnKey {
                session_id: self.message.session_id,
                turn: turn.turn,
            },
            message_id: self.message.id,
            attempt: turn.attempt,
            finished: turn.finished,
        }
    }

    /// Stops every turn of the session. Its job goes before the new one, which would otherwise
    /// wait behind it.
    async fn interrupt(
        &self,
        conn: &mut PgConnection,
        stopping: &mut Stopping,
    ) -> Result<(), AcceptError> {
        let session_id = &self.message.session_id;
        for turn in turn_control::unfinished(conn, session_id).await? {
            let key = TurnKey {
                session_id: session_id.clone(),
                turn: turn.turn,
            };
            stopping.stop(conn, key, turn.job_id).await?;
        }
        Ok(())
    }

    /// Adds the turn, which is finished with that, and the job that takes the message to the person who
    /// speaks.
    async fn relay(
        self,
        conn: &mut PgConnection,
        turn: i32,
        agent: &str,
        after: &mut Wake,
    ) -> Result<Accepted, AcceptError> {
        let key = TurnKey {
            session_id: self.message.session_id.clone(),
            turn,
        };
        // The job's number is known when it is enqueued.
        let new = self.new_turn(&key, 0);
        agents::relay(conn, &new, agent, after).await?;
        Ok(self.accepted(JoinableTurn {
            turn,
            attempt: 1,
            finished: true,
        }))
    }

    fn new_turn<'a>(&'a self, key: &'a TurnKey, job_id: i64) -> NewTurn<'a> {
        NewTurn {
            key,
            secret_hash: match &self.credentials {
                Credentials::Secret(hash) => Some(hash),
                Credentials::None | Credentials::IllFormed => None,
            },
            page_url: self.message.page_url.as_deref(),
            locale: self.message.locale.as_deref(),
            message_id: &self.message.id,
            body: &self.message.text,
            answer_id: &self.answer_id,
            job_id,
        }
    }

    /// Adds the turn with its job, in the transaction that holds the lock of the session's serial key.
    async fn add(
        self,
        conn: &mut PgConnection,
        turn: i32,
        replaced_answer_id: Option<&str>,
        after: &mut Wake,
    ) -> Result<Accepted, AcceptError> {
        let job = TurnProcess {
            session_id: self.message.session_id.clone(),
            turn,
        };
        let enqueued = jobs::enqueue_locked(conn, &job, &EnqueueOptions::default()).await?;
        let key = job.key();
        let new = self.new_turn(&key, enqueued.id.0);
        match replaced_answer_id {
            None => {
                if chat::add_turn(conn, &new).await? {
                    let started = [Event::SessionStarted(key.session_id.clone())];
                    webhooks::announce(conn, &started, after).await?;
                }
            }
            Some(answer_id) => chat::add_regeneration(conn, &new, answer_id).await?,
        }
        Ok(self.accepted(JoinableTurn {
            turn,
            attempt: 0,
            finished: false,
        }))
    }
}
