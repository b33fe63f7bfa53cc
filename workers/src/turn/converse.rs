//! The calls of the model that make an answer.
//!
//! ```text
//!       ┌── limit ──▶ answered by a phrase
//!   ask ┴─▶ text, calls of tools ─┬─▶ answered
//!    ▲                            └─▶ `called.N` ─▶ searches, `found.N` ─┐
//!    └───────────────────────────────────────────────────────────────────┘
//! ```

use std::sync::Arc;

use futures::StreamExt;
use jobs::JobError;
use store::{
    checkpoints::StepOutput,
    phrases::Phrase,
    protocol::FinishReason,
    spend::{ModelCall, Purpose},
    trace::{Span, attribute},
    turns::LimitReached,
};
use tokio::time::Instant;

use super::{
    attempt::Attempt,
    call::{Call, Round, Said, ToolAnswer, ToolResult},
    progress::{Plan, Progress, Task},
    prompt::{self, Question, RULES},
    provider_failed,
    steps::{self, BROKE_OFF, BrokeOff, Called, step},
};
use crate::{
    budget::Admission,
    clients::{
        RetryClass,
        anthropic::{MessageRequest, MessageStream, ModelError},
    },
    conversation::ToolCall,
    knowledge::Passage,
};

/// What the model is told when a search found nothing.
pub(super) const NOTHING_FOUND: &str = "Nothing was found.";

/// A call that is under way.
struct Asking {
    number: i16,
    since: Instant,
    /// How much of the answer was shown before it, in bytes.
    shown_before: usize,
}

impl Attempt<'_> {
    /// Calls the model until it has answered. May be dropped at any point.
    pub(super) async fn converse(&self, progress: &mut Progress) -> Result<(), JobError> {
        loop {
            let number = progress.next_call()?;
            let recorded: Option<Called> = self.begun.steps.output(&steps::called(number));
            let is_recorded = recorded.is_some();
            let called = match recorded {
                Some(called) => {
                    self.show_again(&called, progress);
                    called
                }
                None => match self.ask(number, progress).await? {
                    Some(called) => called,
                    None => return Ok(()),
                },
            };
            progress.answer.cite(&called.cited);
            progress.model = Some(called.model.clone());
            let plan = progress.plan(&called, &self.deps.conversation);
            if plan.ignored > 0 {
                tracing::info!(
                    ignored = plan.ignored,
                    "searches beyond MAX_TOOL_CALLS_PER_TURN were not made"
                );
            }
            if !plan.again {
                let said = called.said.into_iter();
                progress.last_calls = said.filter(Said::is_call).collect();
                return self.finish_speaking(progress);
            }
            let results = if is_recorded {
                self.carry_out(plan, progress).await?
            } else {
                let (kept, results) = tokio::join!(
                    self.record_call(number, &called),
                    self.carry_out(plan, progress)
                );
                kept?;
                results?
            };
            if !results.is_empty() {
                progress.answer.begin_paragraph();
            }
            progress.rounds.push(Round {
                said: called.said,
                results,
            });
        }
    }

    /// Shows what was said in a call of an earlier attempt.
    fn show_again(&self, called: &Called, progress: &mut Progress) {
        for said in &called.said {
            if let Said::Text { text } = said {
                self.show(progress.answer.say(text));
            }
        }
        self.show(progress.answer.settle());
    }

    /// Calls the model once. `None`: a limit was reached, and answered.
    async fn ask(&self, number: i16, progress: &mut Progress) -> Result<Option<Called>, JobError> {
        let request = self.request(progress);
        if let Some(limit) = self.limit_before(number, &request).await? {
            self.answer_by_limit(limit, progress);
            return Ok(None);
        }
        let unrecorded = std::mem::take(&mut progress.unrecorded);
        let asking = Asking {
            number,
            since: Instant::now(),
            shown_before: progress.answer.text().len(),
        };
        self.bill.open(number, Purpose::Answer);
        // The visitor does not wait for the record; the model is on its way meanwhile.
        let (kept, stream) = tokio::join!(
            self.recorder.record(&unrecorded),
            self.deps.model.stream(&request),
        );
        let mut call = Call::default();
        let mut stream = match stream {
            Ok(stream) => stream,
            Err(error) => return Err(self.broke(&asking, &call, progress, &error).await),
        };
        kept?;
        self.relay(&asking, &mut stream, &mut call, progress)
            .await?;
        progress.waited += asking.since.elapsed();
        let (Some(model), Some(stop_reason)) = (call.model(), call.stop_reason()) else {
            return Err(JobError::retry("the model's answer came to no end"));
        };
        Ok(Some(Called {
            model: model.to_owned(),
            stop_reason: stop_reason.clone(),
            usage: call.usage().into(),
            cited: call.cited().to_vec(),
            said: call.into_said(),
        }))
    }

    fn request(&self, progress: &Progress) -> MessageRequest {
        let limits = &self.deps.conversation;
        prompt::request(&Question {
            rules: RULES,
            model: &self.deps.model_name,
            max_tokens: self.deps.max_output_tokens,
            retrieval: limits.max_tool_calls_per_turn > 0,
            may_call: progress.may_call(limits),
            conversation: &progress.conversation,
            directives: &progress.directives,
            locale: self.begun.locale.as_deref(),
            page_url: self.begun.page_url.as_deref(),
            window: &self.begun.window,
            passages: &progress.passages[..progress.with_message],
            message: &self.begun.message,
            rounds: &progress.rounds,
        })
    }

    /// The limit that stands against another call.
    pub(super) async fn limit_before(
        &self,
        number: i16,
        request: &MessageRequest,
    ) -> Result<Option<LimitReached>, JobError> {
        if self.is_spent() {
            return Ok(Some(LimitReached::SessionTokens));
        }
        let admission = self.deps.budget.admit(
            &self.key,
            number,
            &request.model,
            request.input_tokens_at_most(),
            request.max_tokens,
        );
        Ok(match admission.await? {
            Admission::Granted => None,
            Admission::Refused(_) => Some(LimitReached::CostCap),
        })
    }

    /// Hands the answer on while it comes.
    async fn relay(
        &self,
        asking: &Asking,
        stream: &mut MessageStream,
        call: &mut Call,
        progress: &mut Progress,
    ) -> Result<(), JobError> {
        while call.stop_reason().is_none() {
            // A log that is behind slows the reading of the model, and nothing piles up here.
            self.emitter.ready().await?;
            let event = match stream.next().await {
                Some(Ok(event)) => event,
                Some(Err(error)) => return Err(self.broke(asking, call, progress, &error).await),
                // The stream ends by an event or an error.
                None => break,
            };
            let delta = call.take(event);
            if let Some(model) = call.model() {
                self.bill.meter(asking.number, model, call.usage());
            }
            if let Some(delta) = delta {
                self.show(progress.answer.say(&delta));
                if progress.first_token.is_none() && progress.answer.has_text() {
                    progress.first_token = Some(Instant::now());
                    self.measure_first_token(progress.waited + asking.since.elapsed());
                }
            }
        }
        self.show(progress.answer.settle());
        let is_empty = call.said().is_empty();
        self.bill
            .close(asking.number, if is_empty { "empty" } else { "ok" });
        Ok(())
    }

    /// A call failed. Before its first text the queue tries again as often as it does: what earlier calls
    /// said is recorded and comes again as it was. After it the answer starts again once.
    async fn broke(
        &self,
        asking: &Asking,
        call: &Call,
        progress: &Progress,
        error: &ModelError,
    ) -> JobError {
        self.bill.close(asking.number, error.code());
        // What was shown is settled before the next attempt looks whether there was something.
        if let Err(ended) = self.emitter.flush().await {
            return ended.into();
        }
        let failed = provider_failed(error);
        let has_shown = progress.answer.text().len() > asking.shown_before;
        if !has_shown || error.retry() == RetryClass::Never {
            return failed;
        }
        if self.begun.steps.output::<BrokeOff>(BROKE_OFF).is_some() {
            return JobError::fatal(format!(
                "the answer broke off for the second time: {}",
                failed.reason
            ));
        }
        match self.record_break(call, error).await {
            Ok(()) => failed,
            Err(unrecorded) => unrecorded,
        }
    }

    async fn record_break(&self, call: &Call, error: &ModelError) -> Result<(), JobError> {
        let broke_off = BrokeOff {
            error: error.code().to_owned(),
            usage: call.usage().into(),
        };
        self.record_with_bill(vec![step(BROKE_OFF, &broke_off)?])
            .await
    }

    async fn record_call(&self, number: i16, called: &Called) -> Result<(), JobError> {
        self.record_with_bill(vec![step(steps::called(number), called)?])
            .await
    }

    /// Records steps, and the calls that are over.
    pub(super) async fn record_with_bill(&self, steps: Vec<StepOutput>) -> Result<(), JobError> {
        let calls: Arc<[ModelCall]> = self.bill.unsettled().into();
        self.recorder
            .record_with_bill(steps, Arc::clone(&calls))
            .await?;
        self.bill.settle(&calls);
        Ok(())
    }

    /// Does what the model's calls ask for; gives what each is told.
    async fn carry_out(
        &self,
        plan: Plan,
        progress: &mut Progress,
    ) -> Result<Vec<ToolResult>, JobError> {
        let mut results = Vec::new();
        for (id, task) in plan.tasks {
            let (answer, is_error) = match task {
                Task::Tell { text, is_error } => (ToolAnswer::Text(text), is_error),
                Task::Search(query) => {
                    let span = tool_span(ToolCall::RETRIEVE_KNOWLEDGE, &id);
                    let found = span.scope(self.look_up(&query, progress)).await?;
                    (found, false)
                }
            };
            results.push(ToolResult {
                id,
                answer,
                is_error,
            });
        }
        Ok(results)
    }

    /// The passages of a search that the model asked for, without those that it has.
    async fn look_up(&self, query: &str, progress: &mut Progress) -> Result<ToolAnswer, JobError> {
        progress.looked_up += 1;
        let name = steps::found(progress.looked_up);
        let recorded: Option<Vec<Passage>> = self.begun.steps.output(&name);
        let found = if let Some(found) = recorded {
            found
        } else {
            let mut found = self.search(query, progress).await?.passages;
            found.retain(|passage| {
                let known = |other: &Passage| other.chunk_id == passage.chunk_id;
                !progress.passages.iter().any(known)
            });
            progress.unrecorded.push(step(name, &found)?);
            found
        };
        if found.is_empty() {
            return Ok(ToolAnswer::Text(NOTHING_FOUND.to_owned()));
        }
        progress.answer.allow(&found);
        progress.passages.extend(found.iter().cloned());
        Ok(ToolAnswer::Passages(found))
    }

    /// The model has said all that it will; something has to be there.
    fn finish_speaking(&self, progress: &mut Progress) -> Result<(), JobError> {
        match progress.finish_reason {
            FinishReason::ContentFilter => self.say_phrase(Phrase::Declined, progress),
            FinishReason::Length if !progress.answer.is_spoken() => {
                self.say_phrase(Phrase::TooLong, progress);
            }
            _ if !progress.answer.is_spoken() => {
                return Err(JobError::retry("the model's answer had no text"));
            }
            _ => {}
        }
        Ok(())
    }
}

/// A tool that works, as a collector of traces is told of it: not what it is asked, nor what it gives.
fn tool_span(name: &'static str, call_id: &str) -> Span {
    let mut span = Span::of_work("execute_tool", name);
    if span.is_recorded() {
        span.set(attribute::GEN_AI_OPERATION_NAME, "execute_tool");
        span.set(attribute::GEN_AI_TOOL_NAME, name);
        span.set(attribute::GEN_AI_TOOL_CALL_ID, call_id.to_owned());
        span.set(attribute::GEN_AI_TOOL_TYPE, "datastore");
    }
    span
}
