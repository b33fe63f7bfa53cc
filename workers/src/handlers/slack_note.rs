//! `slack.note`: tells the thread in Slack what has become of the conversation.

use jobs::{
    HandlerResult, JobContext, Outcome, Runtime,
    catalog::{Notice, SlackNote},
};
use sqlx::PgPool;
use store::{
    agents::{self, Agent},
    ids::TurnKey,
};

use crate::handoff::{
    HandoffDeps,
    slack::{Destination, Mark, Place, SlackClient, note, notice},
};

/// Whom a notice names whose name is not known.
const SOMEBODY: &str = "Somebody";

/// Has `runtime` run the jobs of this kind.
pub fn register(runtime: Runtime, deps: &HandoffDeps) -> Runtime {
    let slack = SlackClient::new(&deps.config.slack, deps.http.clone());
    let pool = deps.pool.clone();
    runtime.register(move |job: SlackNote, context| {
        let (pool, slack) = (pool.clone(), slack.clone());
        async move { tell(&pool, &slack, job, context).await }
    })
}

async fn tell(
    pool: &PgPool,
    slack: &SlackClient,
    job: SlackNote,
    context: JobContext,
) -> HandlerResult {
    let by = match &job.notice {
        Notice::TakenOver { by } | Notice::HandedBack { by } | Notice::Said { by, .. } => {
            Some(by.as_str())
        }
        Notice::Closed | Notice::Unreachable => None,
    };
    let (thread, name, said) = {
        let mut conn = pool.acquire().await?;
        let thread = agents::thread_of(&mut conn, &job.session_id).await?;
        let known = match by {
            Some(by) => agents::name_of(&mut conn, by).await?,
            None => None,
        };
        let said = match &job.notice {
            Notice::Said { turn, .. } => {
                let key = TurnKey {
                    session_id: job.session_id.clone(),
                    turn: *turn,
                };
                agents::said(&mut conn, &key).await?
            }
            _ => None,
        };
        (thread, known, said)
    };
    // What was erased meanwhile is repeated nowhere.
    if matches!(job.notice, Notice::Said { .. }) && said.is_none() {
        return Ok(Outcome::Done);
    }
    let Some(thread) = thread else {
        return Ok(Outcome::Done);
    };
    let name = match by.zip(name) {
        None => name_of_somebody(slack, by).await,
        Some((_, name)) => name,
    };
    let place = Place {
        channel: thread.channel,
        ts: thread.ts,
    };
    let part = format!("note-{}", context.fence.id.0);
    let mark = Mark::new(&job.session_id, &thread.handoff_id, part);
    let message = match said {
        Some(words) => note(mark, &format!("{name} to the visitor"), &words),
        None => notice(mark, &job.notice, &name),
    };
    if context.attempt > 1 {
        let found = slack.find(message.mark(), Some(&place), thread.since);
        if found.await?.is_some() {
            return Ok(Outcome::Done);
        }
    }
    slack.post(&Destination::Thread(place), &message).await?;
    Ok(Outcome::Done)
}

/// Somebody whose name was not learned yet. A notice does not wait for it.
async fn name_of_somebody(slack: &SlackClient, by: Option<&str>) -> String {
    let Some(by) = by else {
        return String::new();
    };
    let name = slack.user_name(by).await.unwrap_or_default();
    let name = Agent::new(by, &name).name;
    if name.is_empty() {
        SOMEBODY.to_owned()
    } else {
        name
    }
}
