//! One attempt to answer a turn: what it finds, what it does, and what is left of it when it fails.

use std::{sync::Arc, time::Duration};

use jobs::{Ended, Fence, HandlerResult, JobError, Outcome};
use serde_json::Value;
use store::{
    checkpoints::Summary,
    ids::TurnKey,
    knowledge::KnowledgeError,
    phrases::{Language, Phrase},
    protocol::{Chunk, FinishReason},
    trace::{Span, attribute},
    turns::{self, Beginning, Begun, LimitReached, PastMessage, Speaker},
};
use tokio::time::{Instant, timeout};

use super::{
    TurnDeps,
    answer::{Answer, Opening},
    asked::{self, ASKED, Asked},
    bill::Bill,
    lease, lease_lost,
    links::Allowed,
    measure,
    progress::Progress,
    prompt::{Directive, RULES},
    provider_failed,
    steps::{RETRIEVED, Recorder, Retrieved, step},
    writer::Emitter,
};
use crate::{
    conversation::{Conversation, window::Fold},
    knowledge::{self, embed_question, nearest},
};

/// How long a turn whose answer is whole waits for its summary. The visitor has read the answer; a
/// summary that takes longer is made at the next turn.
const SUMMARY_PATIENCE: Duration = Duration::from_secs(2);

/// Answers a turn under the job's fence, until it is `cancelled`.
///
/// Frames are written as the answer comes. It ends in [`Outcome::Committed`] when the turn and its
/// job were ended, and in an error when the queue is to decide; in between nothing is left over that
/// the next attempt would trip over.
#[tracing::instrument(
    skip_all,
    fields(session_id = %key.session_id, turn = key.turn, job_id = fence.id.0)
)]
pub async fn process(
    deps: &TurnDeps,
    key: TurnKey,
    fence: Fence,
    cancelled: impl Future<Output = ()>,
) -> HandlerResult {
    let taken = Instant::now();
    let beginning = {
        let mut conn = deps.pool.acquire().await?;
        let window = deps.conversation.context_window_turns;
        turns::begin_attempt(&mut conn, lease(fence), &key, window).await?
    };
    let begun = match beginning {
        Beginning::Begun(begun) => *begun,
        Beginning::NothingToDo => return Ok(Outcome::Done),
        Beginning::LeaseLost => return Err(lease_lost()),
    };
    let attempt = Attempt {
        deps,
        emitter: deps.writer.emitter(key.clone(), begun.attempt),
        recorder: Recorder {
            pool: deps.pool.clone(),
            lease: lease(fence),
            key: key.clone(),
            attempt: begun.attempt,
        },
        bill: Bill::new(deps.budget.clone()),
        key,
        fence,
        begun,
        taken,
    };
    let mut progress = attempt.progress();
    if !attempt.begun.cancel_requested {
        tokio::select! {
            biased;
            // Dropping the answer in the making closes the model's connection.
            () = cancelled => {}
            answered = attempt.answer(&mut progress) => {
                attempt.bill.close_all();
                if let Err(failed) = answered {
                    attempt.record_what_failed().await;
                    return Err(failed);
                }
                return attempt.end(progress, Ended::Done).await;
            }
        }
    }
    attempt.bill.close_all();
    attempt.end(progress, Ended::Cancelled).await
}

/// See [`process`].
pub(super) struct Attempt<'d> {
    pub(super) deps: &'d TurnDeps,
    pub(super) key: TurnKey,
    pub(super) fence: Fence,
    pub(super) begun: Begun,
    pub(super) emitter: Emitter,
    pub(super) recorder: Recorder,
    pub(super) bill: Bill,
    /// When the handler got the job.
    taken: Instant,
}

impl Attempt<'_> {
    fn progress(&self) -> Progress {
        let begun = &self.begun;
        let opening = Opening {
            key: self.key.clone(),
            answer_id: begun.answer_id.clone(),
            stage: begun.state.stage,
            attempt: begun.attempt,
            reset: begun.earlier_frames,
            notice: if self.key.turn == 1 {
                self.deps.notice.text.clone()
            } else {
                None
            },
        };
        let conversation = Conversation::begin(
            begun.state.clone(),
            self.key.turn,
            self.deps.conversation.stall_turn_threshold,
        );
        let allowed = allowed_links(self.deps, &begun.message, &begun.window);
        Progress::new(conversation, Answer::new(opening, &allowed))
    }

    /// From the message to the end of the answer. May be dropped at any point.
    async fn answer(&self, progress: &mut Progress) -> Result<(), JobError> {
        if self.is_spent() {
            self.answer_by_limit(LimitReached::SessionTokens, progress);
            return Ok(());
        }
        self.retrieve(progress).await?;
        if let Some(fold) = self.fold_due() {
            let summary = self.converse_and_fold(progress, fold).await?;
            if let Some(summary) = summary {
                progress.conversation.summarised(summary);
            }
            Ok(())
        } else {
            self.converse(progress).await
        }
    }

    /// Makes the answer, and the summary beside it.
    async fn converse_and_fold(
        &self,
        progress: &mut Progress,
        fold: Fold,
    ) -> Result<Option<Summary>, JobError> {
        let mut answer = Box::pin(self.converse(progress));
        let mut summary = Box::pin(self.summarise(fold));
        let mut made = None;
        loop {
            tokio::select! {
                answered = &mut answer => break answered?,
                summary = &mut summary, if made.is_none() => made = Some(summary),
            }
        }
        Ok(match made {
            Some(summary) => summary,
            None => timeout(SUMMARY_PATIENCE, summary).await.unwrap_or_default(),
        })
    }

    /// Finds the passages for the visitor's message, and decides what the model is told besides.
    async fn retrieve(&self, progress: &mut Progress) -> Result<(), JobError> {
        let steps = &self.begun.steps;
        let recorded: Option<Retrieved> = steps.output(RETRIEVED);
        let retrieved = if let Some(retrieved) = recorded {
            retrieved
        } else {
            let retrieved = self.search(&self.begun.message, progress).await?;
            progress.unrecorded.push(step(RETRIEVED, &retrieved)?);
            retrieved
        };
        progress.passages = retrieved.passages;
        let conversation = &mut progress.conversation;
        if conversation.offers_person() {
            progress.directives.push(Directive::OfferPerson);
        } else if let Some(case_study) = retrieved.proactive {
            let page = case_study.url.split('#').next().unwrap_or_default();
            if conversation.may_tell(page) {
                conversation.tells(page.to_owned());
                progress.directives.push(Directive::TellCaseStudy);
                progress.passages.push(case_study);
            }
        }
        progress.with_message = progress.passages.len();
        progress.answer.allow(&progress.passages);
        if steps.output::<Value>(ASKED).is_none() {
            let asked = self.asked(&progress.directives);
            progress.unrecorded.push(step(ASKED, &asked)?);
        }
        Ok(())
    }

    fn asked(&self, directives: &[Directive]) -> Asked {
        let begun = &self.begun;
        Asked {
            state: begun.state.clone(),
            window: begun.window.iter().map(|past| past.id.clone()).collect(),
            page_url: begun.page_url.clone(),
            locale: begun.locale.clone(),
            model: self.deps.model_name.clone(),
            rules: asked::version(RULES),
            directives: directives
                .iter()
                .map(|directive| directive.name().to_owned())
                .collect(),
        }
    }

    /// Searches the knowledge base.
    pub(super) async fn search(
        &self,
        query: &str,
        progress: &mut Progress,
    ) -> Result<Retrieved, JobError> {
        let knowledge = &self.deps.knowledge;
        let asked = Instant::now();
        let embedded = embed_question(knowledge, query).await;
        progress.waited += asked.elapsed();
        let embedding = embedded.map_err(|error| provider_failed(&error))?;
        let found = match embedding {
            Some(embedding) => {
                let mut span = Span::of_work("retrieval", "knowledge");
                span.set(attribute::GEN_AI_OPERATION_NAME, "retrieval");
                span.set(attribute::GEN_AI_DATA_SOURCE_ID, "knowledge");
                let locale = self.begun.locale.as_deref();
                let found = span
                    .scope(nearest(knowledge, embedding, query, locale))
                    .await;
                if found.is_err() {
                    span.fail("not_searched");
                }
                found.map_err(|error| match error {
                    KnowledgeError::Database(error) => error.into(),
                    other => {
                        JobError::fatal(format!("the knowledge base was not searched: {other}"))
                    }
                })?
            }
            None => knowledge::Retrieved::default(),
        };
        Ok(Retrieved {
            passages: found.passages,
            proactive: found.proactive,
        })
    }

    /// Whether the session's tokens are used up: those of finished turns, of this one's earlier
    /// attempts, and of this attempt.
    pub(super) fn is_spent(&self) -> bool {
        let used = self.begun.tokens_used.saturating_add(self.bill.tokens());
        u64::try_from(used).unwrap_or(0) >= self.deps.conversation.max_tokens_per_session
    }

    /// The visitor reads why there is no answer, behind what was said already.
    pub(super) fn answer_by_limit(&self, limit: LimitReached, progress: &mut Progress) {
        let phrase = match limit {
            LimitReached::SessionTokens => Phrase::SessionLimit,
            LimitReached::CostCap => Phrase::CostCap,
        };
        tracing::info!(limit = limit.as_str(), "a turn is answered by a limit");
        progress.limit = Some(limit);
        progress.finish_reason = FinishReason::Other;
        self.say_phrase(phrase, progress);
    }

    /// Says something that no model said, as a paragraph of its own.
    pub(super) fn say_phrase(&self, phrase: Phrase, progress: &mut Progress) {
        progress.answer.begin_paragraph();
        self.show(progress.answer.say(phrase.text(self.language())));
        self.show(progress.answer.settle());
        progress.first_token.get_or_insert_with(Instant::now);
    }

    /// The visitor's language, as far as we have phrases in it.
    pub(super) fn language(&self) -> Language {
        Language::of(self.begun.locale.as_deref())
    }

    pub(super) fn show(&self, chunks: Vec<Chunk>) {
        for chunk in chunks {
            self.emitter.push(chunk);
        }
    }

    /// An attempt that failed is billed as well. If that can't be written its money is not counted; the
    /// failure is reported all the same.
    async fn record_what_failed(&self) {
        let calls: Arc<[_]> = self.bill.unsettled().into();
        if calls.is_empty() {
            return;
        }
        match self.recorder.record_with_bill(Vec::new(), calls).await {
            Ok(()) => {}
            Err(error) => {
                tracing::warn!(error = %error, "what a failed attempt was billed for was not recorded");
            }
        }
    }

    pub(super) fn since_accepted(&self) -> Duration {
        self.begun.age + self.taken.elapsed()
    }

    /// `waited`: how long providers were waited for.
    pub(super) fn measure_first_token(&self, waited: Duration) {
        let overhead = self.taken.elapsed().saturating_sub(waited);
        measure::first_token(self.since_accepted(), overhead);
    }
}

/// Where links of an answer may lead before any passage names something.
pub(super) fn allowed_links(deps: &TurnDeps, message: &str, window: &[PastMessage]) -> Allowed {
    // What the visitor wrote to be reached by may be repeated to be sure.
    let mut allowed = Allowed::new(deps.links.clone());
    allowed.allow_mail(message);
    for past in window.iter().filter(|past| past.role == Speaker::User) {
        allowed.allow_mail(&past.body);
    }
    allowed
}
