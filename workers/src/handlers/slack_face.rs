//! `slack.face`: shows on a handoff's message in Slack who speaks and who takes care of it.
//!
//! The message is drawn from how it stands now, whatever has happened since the job was enqueued. Two of
//! these jobs may meet: each looks again when it is done, and draws once more if it was overtaken.

use jobs::{HandlerResult, JobError, Outcome, Runtime, catalog::SlackFace};
use sqlx::PgPool;
use store::{
    agents,
    handoffs::{self, HandoffKey},
};

use crate::handoff::{
    Dossier, HandoffDeps, Occasion, presence,
    slack::{Face, NOT_TO_BE_CHANGED, Place, SlackClient, message},
};

/// How often one attempt draws.
const DRAWS: usize = 3;

/// Has `runtime` run the jobs of this kind.
pub fn register(runtime: Runtime, deps: &HandoffDeps) -> Runtime {
    let slack = SlackClient::new(&deps.config.slack, deps.http.clone());
    let pool = deps.pool.clone();
    runtime.register(move |job: SlackFace, _context| {
        let (pool, slack) = (pool.clone(), slack.clone());
        async move { show(&pool, &slack, job).await }
    })
}

async fn show(pool: &PgPool, slack: &SlackClient, job: SlackFace) -> HandlerResult {
    let key = HandoffKey {
        session_id: job.session_id,
        handoff_id: job.handoff_id,
    };
    let mut drawn = None;
    for _ in 0..DRAWS {
        let Some((place, dossier, face)) = look(pool, &key).await? else {
            return Ok(Outcome::Done);
        };
        if drawn.as_ref() == Some(&face) {
            return Ok(Outcome::Done);
        }
        match slack.update(&place, &message(&dossier, &face)).await {
            Ok(()) => drawn = Some(face),
            Err(error) if error.is_one_of(NOT_TO_BE_CHANGED) => {
                tracing::info!(%error, "a message in Slack can't be changed");
                return Ok(Outcome::Done);
            }
            Err(error) => return Err(error.into()),
        }
    }
    Err(JobError::retry(
        "the message changed faster than it could be drawn",
    ))
}

/// How it stands; `None`: Slack has no message of the handoff, or it was erased.
async fn look(pool: &PgPool, key: &HandoffKey) -> sqlx::Result<Option<(Place, Dossier, Face)>> {
    let mut conn = pool.acquire().await?;
    let Some(thread) = agents::thread_of_handoff(&mut conn, key).await? else {
        return Ok(None);
    };
    let Some(record) = handoffs::read(&mut conn, key, false).await? else {
        return Ok(None);
    };
    let deliveries = handoffs::deliveries(&mut conn, key).await?;
    let (speaks, was_spoken_to) = presence(&mut conn, &key.session_id).await?;
    let occasion = Occasion {
        first_attempt_at: record.created_at,
        attempt: 1,
        last_attempt: false,
        speaks,
        was_spoken_to,
    };
    let dossier = Dossier::new(key, record, deliveries, occasion);
    let face = Face::of(&dossier);
    let place = Place {
        channel: thread.channel,
        ts: thread.ts,
    };
    Ok(Some((place, dossier, face)))
}
