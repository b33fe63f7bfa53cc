//! The loop of a replay: the turn's, without what a visitor or a takeover needs.

use std::time::Duration;

use futures::StreamExt;
use store::{
    ids::TurnKey,
    knowledge::KnowledgeError,
    phrases::{Language, Phrase},
    protocol::FinishReason,
    replays::{self, REPLAY_ATTEMPT, RecordedTurn},
    spend::{self, ModelCall, Purpose, Usd},
    turns::{PastMessage, TurnUsage},
};
use tokio::time::Instant;

use super::{ReplayError, Side, tools};
use crate::{
    budget::Admission,
    clients::{
        ProviderError,
        anthropic::{MessageRequest, StopReason},
    },
    knowledge::{Passage, RetrieveError, retrieve},
    turn::{
        TurnDeps,
        asked::{self, Asked},
        call::{Call, Round, ToolAnswer, ToolResult},
        converse::NOTHING_FOUND,
        measure,
        progress::{Progress, Task},
        prompt::{self, Question},
        steps::{self, Called},
    },
};

/// A replay under way.
pub(super) struct Replaying<'r> {
    pub(super) deps: &'r TurnDeps,
    pub(super) key: &'r TurnKey,
    pub(super) turn: &'r RecordedTurn,
    pub(super) asked: &'r Asked,
    pub(super) window: &'r [PastMessage],
    pub(super) model: String,
    pub(super) rules: String,
    pub(super) progress: Progress,
    pub(super) begun: Instant,
    pub(super) usage: TurnUsage,
    pub(super) cost: Usd,
    pub(super) tools: Vec<(String, serde_json::Value)>,
    pub(super) to_first_token: Option<Duration>,
    pub(super) new_searches: u16,
}

impl Replaying<'_> {
    /// Asks until the model has answered.
    pub(super) async fn converse(&mut self) -> Result<(), ReplayError> {
        loop {
            let called = self.ask().await?;
            self.tools.extend(tools(&called.said));
            self.progress.answer.cite(&called.cited);
            self.progress.model = Some(called.model.clone());
            let plan = self.progress.plan(&called, &self.deps.conversation);
            if !plan.again {
                self.finish_speaking();
                return Ok(());
            }
            let mut results = Vec::new();
            for (id, task) in plan.tasks {
                let (answer, is_error) = match task {
                    Task::Tell { text, is_error } => (ToolAnswer::Text(text), is_error),
                    Task::Search(query) => (self.look_up(&query).await?, false),
                };
                results.push(ToolResult {
                    id,
                    answer,
                    is_error,
                });
            }
            if !results.is_empty() {
                self.progress.answer.begin_paragraph();
            }
            self.progress.rounds.push(Round {
                said: called.said,
                results,
            });
        }
    }

    /// What a visitor would have read instead of nothing.
    fn finish_speaking(&mut self) {
        let phrase = match self.progress.finish_reason {
            FinishReason::ContentFilter => Phrase::Declined,
            FinishReason::Length if !self.progress.answer.is_spoken() => Phrase::TooLong,
            _ => return,
        };
        let language = Language::of(self.asked.locale.as_deref());
        self.progress.answer.begin_paragraph();
        let _ = self.progress.answer.say(phrase.text(language));
        let _ = self.progress.answer.settle();
    }

    fn request(&self) -> MessageRequest {
        let limits = &self.deps.conversation;
        prompt::request(&Question {
            rules: &self.rules,
            model: &self.model,
            max_tokens: self.deps.max_output_tokens,
            retrieval: limits.max_tool_calls_per_turn > 0,
            may_call: self.progress.may_call(limits),
            conversation: &self.progress.conversation,
            directives: &self.progress.directives,
            locale: self.asked.locale.as_deref(),
            page_url: self.asked.page_url.as_deref(),
            window: self.window,
            passages: &self.progress.passages[..self.progress.with_message],
            message: &self.turn.message,
            rounds: &self.progress.rounds,
        })
    }

    async fn ask(&mut self) -> Result<Called, ReplayError> {
        let request = self.request();
        self.admit(&request).await?;
        let mut call = Call::default();
        let heard = self.hear(&request, &mut call).await;
        let outcome = match &heard {
            Ok(()) if call.said().is_empty() => "empty",
            Ok(()) => "ok",
            Err(error) => error.code(),
        };
        // What was billed is counted, however the call ended.
        self.record(&call, outcome).await?;
        heard?;
        let stop_reason = call.stop_reason().cloned();
        Ok(Called {
            model: call.model().unwrap_or(&self.model).to_owned(),
            // A stream ends by it, or by an error.
            stop_reason: stop_reason.unwrap_or(StopReason::EndTurn),
            usage: call.usage().into(),
            cited: call.cited().to_vec(),
            said: call.into_said(),
        })
    }

    async fn hear(
        &mut self,
        request: &MessageRequest,
        call: &mut Call,
    ) -> Result<(), ProviderError> {
        let mut stream = self.deps.model.stream(request).await?;
        while call.stop_reason().is_none() {
            let Some(event) = stream.next().await else {
                break;
            };
            if let Some(delta) = call.take(event?) {
                // The frames are for a visitor.
                let _ = self.progress.answer.say(&delta);
                if self.progress.answer.has_text() {
                    self.to_first_token
                        .get_or_insert_with(|| self.begun.elapsed());
                }
            }
        }
        let _ = self.progress.answer.settle();
        Ok(())
    }

    async fn admit(&self, request: &MessageRequest) -> Result<(), ReplayError> {
        // Far from the numbers of the turn's own calls, which may be reserved as well.
        let number = i16::try_from(self.progress.rounds.len()).unwrap_or(i16::MAX);
        let admission = self.deps.budget.admit(
            self.key,
            i16::MAX - number,
            &request.model,
            request.input_tokens_at_most(),
            request.max_tokens,
        );
        match admission.await? {
            Admission::Granted => Ok(()),
            Admission::Refused(cap) => Err(ReplayError::CapReached(cap)),
        }
    }

    /// Counts the call. One that no model has taken costs nothing.
    async fn record(&mut self, call: &Call, outcome: &'static str) -> Result<(), ReplayError> {
        let Some(model) = call.model() else {
            return Ok(());
        };
        let usage = call.usage();
        let cost = self.deps.budget.cost(model, usage);
        let mut transaction = self.deps.pool.begin().await?;
        let serial_key = jobs::catalog::session_serial_key(&self.key.session_id);
        jobs::lock_serial_key(&mut transaction, &serial_key).await?;
        let recorded = ModelCall {
            call: replays::next_call(&mut transaction, self.key).await?,
            purpose: Purpose::Replay,
            model: model.to_owned(),
            outcome,
            usage,
            cost,
        };
        spend::record(&mut transaction, self.key, REPLAY_ATTEMPT, &[recorded]).await?;
        transaction.commit().await?;
        measure::model_call(outcome, usage);
        self.usage += usage;
        self.cost += cost;
        Ok(())
    }

    /// What the turn's search of this number found, without what the model has already.
    async fn look_up(&mut self, query: &str) -> Result<ToolAnswer, ReplayError> {
        self.progress.looked_up += 1;
        let name = steps::found(self.progress.looked_up);
        let recorded: Option<Vec<Passage>> = self.turn.steps.output(&name);
        let mut found = if let Some(found) = recorded {
            found
        } else {
            self.new_searches += 1;
            let locale = self.asked.locale.as_deref();
            let searched = retrieve(&self.deps.knowledge, query, locale).await;
            searched.map_err(search_failed)?.passages
        };
        found.retain(|passage| {
            let known = |other: &Passage| other.chunk_id == passage.chunk_id;
            !self.progress.passages.iter().any(known)
        });
        if found.is_empty() {
            return Ok(ToolAnswer::Text(NOTHING_FOUND.to_owned()));
        }
        self.progress.answer.allow(&found);
        self.progress.passages.extend(found.iter().cloned());
        Ok(ToolAnswer::Passages(found))
    }

    pub(super) fn side(self) -> Side {
        let answer = &self.progress.answer;
        Side {
            model: self.progress.model.clone(),
            rules: asked::version(&self.rules),
            text: answer.text().trim().to_owned(),
            sources: answer.sources(&self.progress.passages),
            tools: self.tools,
            usage: self.usage,
            cost: self.cost,
            to_first_token: self.to_first_token,
            total: Some(self.begun.elapsed()),
        }
    }
}

fn search_failed(error: RetrieveError) -> ReplayError {
    match error {
        RetrieveError::Search(KnowledgeError::Database(error)) => ReplayError::Database(error),
        other => ReplayError::Search(other),
    }
}
