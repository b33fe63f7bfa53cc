//! How far an attempt has come. It stands outside of the work that a cancellation drops: what it says
//! was said is what the event writer was given.

use std::time::Duration;

use jobs::JobError;
use store::{checkpoints::StepOutput, protocol::FinishReason, turns::LimitReached};
use tokio::time::Instant;

use super::{
    answer::Answer,
    call::{Round, Said},
    prompt::Directive,
    steps::Called,
};
use crate::{
    clients::anthropic::StopReason,
    config::ConversationConfig,
    conversation::{Conversation, ToolCall, Verdict},
    knowledge::Passage,
};

/// How often an answer that the provider paused is continued.
const MOST_PAUSES: u16 = 3;

/// What the model is told about a search that it may not make.
const NO_MORE_SEARCHES: &str = "Refused: no more searches in this turn. Answer from what you have.";

/// See the module.
pub(super) struct Progress {
    pub(super) conversation: Conversation,
    pub(super) answer: Answer,
    /// What the model is to do in this turn alone.
    pub(super) directives: Vec<Directive>,
    /// All passages that the model has, by their numbers in the request.
    pub(super) passages: Vec<Passage>,
    /// How many of them came with the message; the others were found by tools.
    pub(super) with_message: usize,
    /// Calls of the model that needed another one.
    pub(super) rounds: Vec<Round>,
    /// The calls of tools that came with the model's last words.
    pub(super) last_calls: Vec<Said>,
    /// Steps that are finished and not recorded yet.
    pub(super) unrecorded: Vec<StepOutput>,
    /// Searches that tools were allowed.
    searches: u16,
    /// Searches of tools that were carried out.
    pub(super) looked_up: u16,
    /// The model that spoke last, as the provider names it.
    pub(super) model: Option<String>,
    pub(super) finish_reason: FinishReason,
    pub(super) limit: Option<LimitReached>,
    pub(super) first_token: Option<Instant>,
    /// The time for which providers were waited for.
    pub(super) waited: Duration,
    tool_rounds: u16,
    pauses: u16,
}

/// What is to be done about a call of the model that is over.
pub(super) struct Plan {
    /// For each call of a tool: its id, and what is to be done.
    pub(super) tasks: Vec<(String, Task)>,
    /// Whether the model is called again.
    pub(super) again: bool,
    /// Searches that were not made, because there had been enough.
    pub(super) ignored: u16,
}

/// What is to be done about a call of a tool.
pub(super) enum Task {
    /// The model is told.
    Tell { text: String, is_error: bool },
    /// The knowledge base is searched.
    Search(String),
}

impl Task {
    fn error(text: &impl ToString) -> Self {
        Self::Tell {
            text: text.to_string(),
            is_error: true,
        }
    }
}

impl From<Verdict> for Task {
    fn from(verdict: Verdict) -> Self {
        Self::Tell {
            text: verdict.text.to_owned(),
            is_error: !verdict.accepted,
        }
    }
}

impl Progress {
    pub(super) fn new(conversation: Conversation, answer: Answer) -> Self {
        Self {
            conversation,
            answer,
            directives: Vec::new(),
            passages: Vec::new(),
            with_message: 0,
            rounds: Vec::new(),
            last_calls: Vec::new(),
            unrecorded: Vec::new(),
            searches: 0,
            looked_up: 0,
            model: None,
            finish_reason: FinishReason::Other,
            limit: None,
            first_token: None,
            waited: Duration::ZERO,
            tool_rounds: 0,
            pauses: 0,
        }
    }

    /// The number of the next call of the model in its turn, from 1.
    pub(super) fn next_call(&self) -> Result<i16, JobError> {
        i16::try_from(self.rounds.len() + 1)
            .map_err(|_| JobError::fatal("the model was called too often"))
    }

    /// Whether the model may still call tools: as often as it may search, and once more. So it can be
    /// told that it may not search again, and then has to answer.
    pub(super) fn may_call(&self, limits: &ConversationConfig) -> bool {
        self.tool_rounds <= limits.max_tool_calls_per_turn
    }

    /// Decides what follows from a call that is over. Moves of the conversation are made.
    pub(super) fn plan(&mut self, called: &Called, limits: &ConversationConfig) -> Plan {
        let mut plan = Plan {
            tasks: Vec::new(),
            again: false,
            ignored: 0,
        };
        if called.stop_reason == StopReason::Refusal {
            self.finish_reason = FinishReason::ContentFilter;
            return plan;
        }
        let mut waits_for_result = false;
        for said in &called.said {
            let Said::Call { id, name, input } = said else {
                continue;
            };
            let task = match ToolCall::read(name, input) {
                Ok(ToolCall::SetStage(wanted)) => self.conversation.set_stage(wanted).into(),
                Ok(ToolCall::RequestHandoff(request)) => {
                    let verdict = self.conversation.request_handoff(*request);
                    // What the visitor was told in the same breath is not true.
                    waits_for_result |= !verdict.accepted;
                    verdict.into()
                }
                Ok(ToolCall::RetrieveKnowledge(query)) => {
                    waits_for_result = true;
                    if self.searches < limits.max_tool_calls_per_turn {
                        self.searches += 1;
                        Task::Search(query)
                    } else {
                        plan.ignored += 1;
                        Task::error(&NO_MORE_SEARCHES)
                    }
                }
                Err(bad) => {
                    waits_for_result |= name != ToolCall::SET_STAGE;
                    Task::error(&bad)
                }
            };
            plan.tasks.push((id.clone(), task));
        }
        let calls = !plan.tasks.is_empty();
        let needs_another = calls && (waits_for_result || !self.answer.is_spoken());
        let may_call = self.may_call(limits);
        (plan.again, self.finish_reason) = match &called.stop_reason {
            StopReason::PauseTurn if !calls => {
                self.pauses += 1;
                (self.pauses <= MOST_PAUSES, FinishReason::Other)
            }
            StopReason::MaxTokens | StopReason::ContextWindowExceeded => {
                (false, FinishReason::Length)
            }
            StopReason::Other(_) if !calls => (false, FinishReason::Other),
            _ => (needs_another && may_call, FinishReason::Stop),
        };
        if plan.again && calls {
            self.tool_rounds += 1;
        }
        plan
    }
}

#[cfg(test)]
#[path = "progress_tests.rs"]
mod tests;
