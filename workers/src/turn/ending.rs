//! The end of a turn: the answer, the bill, the conversation's state, a handoff, the last frames and
//! the job's end, in one transaction.

use std::sync::Arc;

use jobs::{
    Ended, Fence, HandlerResult, JobError, Outcome, QueueError, catalog::session_serial_key,
    webhooks,
};
use sqlx::{PgConnection, PgPool};
use store::{
    bus::{Bus, Wake},
    events,
    handoffs::{self, NewHandoff},
    ids::{HandoffId, TurnKey},
    phrases::Phrase,
    protocol::{Chunk, ContactReason, LimitData},
    spend,
    turns::{self, Ending, Finish, Finished, LimitReached},
    webhooks::Event,
};
use tokio::time::Instant;

use super::{
    answer::{self, Answer, Consequences},
    attempt::Attempt,
    lease, lease_lost, measure,
    progress::Progress,
    steps,
};
use crate::{
    commit::until_committed,
    conversation::{Handoff, Stage, TurnEnd},
};

/// What is to be committed.
struct End {
    key: TurnKey,
    fence: Fence,
    ended: Ended,
    finish: Finish,
    /// The last frames, and the number of the first. What a handoff promises is not in them yet.
    tail: Vec<Chunk>,
    next_seq: i32,
    handoff: Option<(HandoffId, Handoff)>,
    /// `HANDOFF_RETRY_BACKOFF_SECONDS`.
    waits: Vec<i32>,
    first_token: Option<Instant>,
}

impl Attempt<'_> {
    /// Ends the turn as it was answered or cancelled.
    pub(super) async fn end(&self, progress: Progress, ended: Ended) -> HandlerResult {
        let answer = &progress.answer;
        let conversation = &progress.conversation;
        let sources = answer.sources(&progress.passages);
        let (outcome, turn_end, ending, tail) = if ended == Ended::Cancelled {
            let tail = answer.aborted_tail();
            ("cancelled", TurnEnd::Cancelled, Ending::Cancelled, tail)
        } else {
            let turn_end = match progress.limit {
                Some(_) => TurnEnd::Limited,
                None => TurnEnd::Answered,
            };
            let consequences = self.consequences(&progress);
            let tail = Answer::tail(&sources, consequences, progress.finish_reason);
            let ending = Ending::Answered(progress.finish_reason);
            ("answered", turn_end, ending, tail)
        };
        let handoff = conversation
            .handoff()
            .filter(|_| ended != Ended::Cancelled)
            .map(|handoff| {
                let id = store::ids::new_handoff_id(&*self.deps.entropy);
                (id, handoff.clone())
            });
        let next_seq = self.emitter.flush().await?;
        let finish = Finish {
            attempt: self.begun.attempt,
            ending,
            answer_id: self.begun.answer_id.clone(),
            text: answer.text().to_owned(),
            sources,
            model: progress.model.clone(),
            calls: self.bill.unsettled(),
            tools: steps::answered_tools(&progress.last_calls)?,
            limit: progress.limit.filter(|_| ended != Ended::Cancelled),
            since_first_token: None,
            state: conversation.end(turn_end),
            tail: Vec::new(),
        };
        let end = End {
            key: self.key.clone(),
            fence: self.fence,
            ended,
            finish,
            tail,
            next_seq,
            handoff,
            waits: self.deps.handoff_waits.clone(),
            first_token: progress.first_token,
        };
        commit(&self.deps.pool, &self.deps.bus, end).await?;
        measure::finished(outcome, self.since_accepted());
        tracing::info!(attempt = self.begun.attempt, outcome, "a turn is finished");
        Ok(Outcome::Committed)
    }

    /// What clients are told at the end of an answer. One contact form at most: a limit's goes before
    /// a handoff's, and that before a stall's.
    fn consequences(&self, progress: &Progress) -> Consequences {
        let language = self.language();
        let conversation = &progress.conversation;
        let limit = progress.limit.map(|limit| {
            let (scope, phrase) = match limit {
                LimitReached::SessionTokens => ("session", Phrase::SessionLimit),
                LimitReached::CostCap => ("budget", Phrase::CostCap),
            };
            LimitData {
                scope: scope.to_owned(),
                text: phrase.text(language).to_owned(),
            }
        });
        let form = |reason, phrase: Phrase| Some((reason, Some(phrase.text(language))));
        let contact_form = if limit.is_some() {
            // The answer says it.
            Some((ContactReason::Limit, None))
        } else if conversation.lacks_contact() {
            form(ContactReason::Handoff, Phrase::HandoffForm)
        } else if conversation.offers_person() && conversation.stage() != Stage::HandedOff {
            form(ContactReason::Stall, Phrase::StallOffer)
        } else {
            None
        };
        Consequences {
            stage: conversation
                .has_moved()
                .then(|| conversation.stage().number()),
            handoff: conversation.handoff().is_some(),
            limit,
            contact_form,
        }
    }
}

/// Commits the end, and tells everybody. A database that is away is waited for, because the answer was
/// paid for.
async fn commit(pool: &PgPool, bus: &Bus, end: End) -> Result<(), JobError> {
    let end = Arc::new(end);
    let once = || once(pool.clone(), Arc::clone(&end));
    match until_committed("a turn's end", once).await? {
        Some(after) => {
            bus.publish(&after);
            Ok(())
        }
        None => Err(lease_lost()),
    }
}

/// One try; `None`: the lease was lost and nothing was written. The sums of money, which all turns
/// share, come last: their rows are locked for as short as can be.
async fn once(pool: PgPool, end: Arc<End>) -> sqlx::Result<Option<Wake>> {
    let mut after = Wake::default();
    let mut finish = end.finish.clone();
    finish.since_first_token = end.first_token.map(|first| first.elapsed());
    let mut transaction = pool.begin().await?;
    jobs::lock_serial_key(&mut transaction, &session_serial_key(&end.key.session_id)).await?;
    let promise = match end.handoff {
        Some(_) => handoffs::promise(&mut transaction, &end.key.session_id).await?,
        None => None,
    };
    let mut tail = end.tail.clone();
    answer::promise(&mut tail, promise.as_ref());
    finish.tail = events::number(&end.key, finish.attempt, end.next_seq, &tail);
    let finished = turns::finish(&mut transaction, lease(end.fence), &end.key, &finish).await?;
    let Some(finished) = finished else {
        transaction.rollback().await?;
        return Ok(None);
    };
    if !jobs::end(&mut transaction, end.fence, end.ended, &mut after).await? {
        transaction.rollback().await?;
        return Ok(None);
    }
    if finished.wanted {
        tell(&mut transaction, &end.key, finished, &mut after).await?;
    }
    if let Some((handoff_id, handoff)) = &end.handoff {
        let running = finish.state.summary.as_ref();
        let running = running.map(|summary| summary.text.as_str());
        let new = NewHandoff {
            handoff_id: handoff_id.clone(),
            session_id: &end.key.session_id,
            turn: Some(end.key.turn),
            trigger: handoff.trigger,
            lead: &handoff.lead,
            summary: handoff.summary.as_deref().or(running),
            consent: false,
            promise: promise.as_ref(),
        };
        jobs::handoffs::open(&mut transaction, &new, &end.waits, &mut after)
            .await
            .map_err(|error| match error {
                QueueError::Database(error) => error,
                other => sqlx::Error::Encode(Box::new(other)),
            })?;
    }
    if !finish.calls.is_empty() {
        spend::record(&mut transaction, &end.key, finish.attempt, &finish.calls).await?;
    }
    transaction.commit().await?;
    after.turns.insert(end.key.clone());
    Ok(Some(after))
}

/// Has those told who want to know: before what the same transaction makes of the turn.
async fn tell(
    conn: &mut PgConnection,
    key: &TurnKey,
    finished: Finished,
    after: &mut Wake,
) -> sqlx::Result<()> {
    let mut events = vec![Event::TurnCompleted(key.clone())];
    if finished.closed {
        events.push(Event::SessionClosed(key.session_id.clone()));
    }
    webhooks::announce(conn, &events, after)
        .await
        .map_err(|error| match error {
            QueueError::Database(error) => error,
            other => sqlx::Error::Encode(Box::new(other)),
        })
}
