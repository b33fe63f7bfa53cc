//! `handoff.remind`: says in Slack, once, that a promise to a visitor is about to be broken.
//!
//! Nothing is said when somebody takes care of the handoff, when nothing was promised, or when it was
//! erased. It stands in the thread of the handoff's message and in the channel; where the message went by
//! the webhook or never arrived, it is a message of its own. A repeated attempt looks first whether the
//! one before was heard.

use std::time::Duration;

use chrono::{DateTime, Utc};
use jobs::{HandlerResult, JobError, Outcome, Retry, Runtime, catalog::HandoffRemind};
use sqlx::PgPool;
use store::handoffs::{self, Channel, DeliveryStatus, HandoffKey};

use crate::handoff::{
    HandoffDeps, SendError,
    slack::{Destination, Place, SlackClient, place, reminder},
};

/// While the handoff's message is on its way, the reminder waits for it.
const LOOK_AGAIN: Duration = Duration::from_mins(1);

/// Has `runtime` run the jobs of this kind.
pub fn register(runtime: Runtime, deps: &HandoffDeps) -> Runtime {
    let slack = SlackClient::new(&deps.config.slack, deps.http.clone());
    let pool = deps.pool.clone();
    runtime.register(move |job: HandoffRemind, context| {
        let (pool, slack) = (pool.clone(), slack.clone());
        async move {
            let key = HandoffKey {
                session_id: job.session_id,
                handoff_id: job.handoff_id,
            };
            let attempt = Attempt {
                is_first: context.attempt == 1,
                is_last: context.attempt >= context.max_attempts,
            };
            remind(&pool, &slack, &key, attempt).await
        }
    })
}

/// What is to be said.
enum Due {
    Nothing,
    Later,
    Now(Broken),
}

/// A promise that nobody is about to keep.
struct Broken {
    created_at: DateTime<Utc>,
    promised_by: DateTime<Utc>,
    message: Option<Place>,
}

/// Which attempt of the job it is.
#[derive(Debug, Clone, Copy)]
pub struct Attempt {
    /// Nothing was sent before.
    pub is_first: bool,
    /// None comes after it.
    pub is_last: bool,
}

/// Reminds people of a handoff, if that is due.
pub async fn remind(
    pool: &PgPool,
    slack: &SlackClient,
    key: &HandoffKey,
    attempt: Attempt,
) -> HandlerResult {
    let broken = match due(pool, key).await? {
        Due::Nothing => return Ok(Outcome::Done),
        Due::Later => return Ok(Outcome::Snooze(LOOK_AGAIN)),
        Due::Now(broken) => broken,
    };
    let message = reminder(&key.session_id, &key.handoff_id, broken.promised_by);
    if !attempt.is_first {
        let thread = broken.message.as_ref();
        let found = slack
            .find(message.mark(), thread, broken.created_at)
            .await?;
        if found.is_some() {
            return Ok(Outcome::Done);
        }
    }
    let destination = match broken.message {
        Some(thread) => Destination::ThreadAndChannel(thread),
        None => Destination::Channel,
    };
    slack
        .bring(&destination, &message, broken.created_at, attempt.is_last)
        .await
        .map_err(|error| failed(&error))?;
    Ok(Outcome::Done)
}

async fn due(pool: &PgPool, key: &HandoffKey) -> sqlx::Result<Due> {
    let mut conn = pool.acquire().await?;
    let Some(record) = handoffs::read(&mut conn, key, false).await? else {
        return Ok(Due::Nothing);
    };
    let Some((_, promised_by)) = record.promise.filter(|_| record.taken_by.is_none()) else {
        return Ok(Due::Nothing);
    };
    let deliveries = handoffs::deliveries(&mut conn, key).await?;
    let slack = deliveries.iter().find(|it| it.channel == Channel::Slack);
    let is_on_its_way = slack.is_some_and(|it| it.status == DeliveryStatus::Pending);
    if is_on_its_way && !record.is_out_of_patience {
        return Ok(Due::Later);
    }
    Ok(Due::Now(Broken {
        created_at: record.created_at,
        promised_by,
        message: slack.and_then(|slack| place(&slack.reference)),
    }))
}

fn failed(error: &SendError) -> JobError {
    let reason = error.to_string();
    let retry = match error {
        SendError::Healable {
            retry_after: Some(wait),
            ..
        } => Retry::NotBefore(*wait),
        SendError::Healable { .. } | SendError::Unknown { .. } => Retry::AsPlanned,
        SendError::Final { .. } | SendError::NothingToSend { .. } => Retry::Never,
    };
    JobError { retry, reason }
}
