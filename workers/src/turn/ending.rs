//! The end of a turn: the answer, the bill, the conversation's state, a handoff, the last frames and
//! the job's end, in one transaction.

use std::{sync::Arc, time::Duration};

use jobs::{Ended, Fence, HandlerResult, JobError, Outcome, catalog::session_serial_key};
use sqlx::{PgPool, error::DatabaseError};
use store::{
    bus::{Bus, Wake},
    db::is_temporary,
    db::reconnect_waits,
    events,
    handoffs::{self, NewHandoff},
    ids::{HandoffId, TurnKey},
    phrases::Phrase,
    protocol::{ContactReason, LimitData},
    spend,
    turns::{self, Ending, Finish, LimitReached},
};
use tokio::time::Instant;
use tracing::Instrument;

use super::{
    answer::{Answer, Consequences},
    attempt::Attempt,
    lease, lease_lost, measure,
    progress::Progress,
    steps,
};
use crate::conversation::{Handoff, Stage, TurnEnd};

/// What is to be committed.
struct End {
    key: TurnKey,
    fence: Fence,
    ended: Ended,
    finish: Finish,
    handoff: Option<(HandoffId, Handoff)>,
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
            tail: events::number(&self.key, self.begun.attempt, next_seq, &tail),
        };
        let end = End {
            key: self.key.clone(),
            fence: self.fence,
            ended,
            finish,
            handoff,
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
/// paid for; the dispatcher drops the handler when the job is not this worker's any more.
async fn commit(pool: &PgPool, bus: &Bus, end: End) -> Result<(), JobError> {
    let end = Arc::new(end);
    let mut waits = reconnect_waits();
    loop {
        // A task of its own: a transaction must not be abandoned half-way with its handler.
        let once = once(pool.clone(), Arc::clone(&end)).in_current_span();
        let committed = match tokio::spawn(once).await {
            Ok(committed) => committed,
            Err(stopped) => match stopped.try_into_panic() {
                Ok(panic) => std::panic::resume_unwind(panic),
                Err(_) => return Err(JobError::retry("the process ends")),
            },
        };
        match committed {
            Ok(Some(after)) => {
                bus.publish(&after);
                return Ok(());
            }
            Ok(None) => return Err(lease_lost()),
            Err(error) if is_transient(&error) => {
                let failure = JobError::from(error);
                tracing::warn!(error = %failure, "a turn's end could not be committed yet");
                let wait = waits.next().unwrap_or(Duration::from_secs(5));
                tokio::time::sleep(wait).await;
            }
            Err(error) => return Err(error.into()),
        }
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
    let written = turns::finish(&mut transaction, lease(end.fence), &end.key, &finish).await?
        && jobs::end(&mut transaction, end.fence, end.ended, &mut after).await?;
    if !written {
        transaction.rollback().await?;
        return Ok(None);
    }
    if let Some((handoff_id, handoff)) = &end.handoff {
        let summary = finish.state.summary.as_ref();
        let new = NewHandoff {
            handoff_id: handoff_id.clone(),
            session_id: &end.key.session_id,
            turn: Some(end.key.turn),
            trigger: handoff.trigger,
            lead: &handoff.lead,
            summary: summary.map(|summary| summary.text.as_str()),
            consent: false,
        };
        handoffs::open_or_update(&mut transaction, &new).await?;
    }
    if !finish.calls.is_empty() {
        spend::record(&mut transaction, &end.key, finish.attempt, &finish.calls).await?;
    }
    transaction.commit().await?;
    after.turns.insert(end.key.clone());
    Ok(Some(after))
}

/// Whether the database may take the same later: it is away, or it undid a conflict.
fn is_transient(error: &sqlx::Error) -> bool {
    let code = error.as_database_error().and_then(DatabaseError::code);
    is_temporary(error) || code.is_some_and(|code| code.starts_with("40"))
}
