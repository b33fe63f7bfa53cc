//! The rules of a conversation: what may follow from what a model wants and a visitor does.
//!
//! ```text
//!        ┌──────────── set_stage ───────────┐
//!        ▼                                  ▼
//!   1 discover ◀──set_stage──▶ 2 qualify ◀──set_stage──▶ 3 propose
//!        └───────────────┬─────────┴───────────────────────┘
//!                        ▼ request_handoff, the contact form
//!                  4 handed off
//!
//!   STALL_TURN_THRESHOLD answered turns without stage 3 ─▶ a person is offered, once
//! ```
//! Everything here is pure: no database, no provider, no clock. The model proposes by tool calls
//! ([`ToolCall`]); a [`Conversation`] decides, and says what the model is told. A turn of it begins
//! with the state that the last one left and gives the next one ([`Conversation::end`]).

mod stage;
mod tool_call;
pub mod window;

use store::{
    checkpoints::{ConversationState, Summary},
    handoffs::{Lead, Trigger},
};

pub use self::{
    stage::{Stage, WantedStage},
    tool_call::{BadCall, HandoffReason, HandoffRequest, ToolCall},
};

/// The most case studies that are remembered as told. A conversation comes to a few.
const MOST_TOLD: usize = 20;

/// How a turn of the conversation ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TurnEnd {
    /// The model answered.
    Answered,
    /// A limit answered.
    Limited,
    /// The visitor stopped the answer: nothing follows from it.
    Cancelled,
}

/// What the model is told about a call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Verdict {
    /// Whether the call had its effect.
    pub accepted: bool,
    /// For the model.
    pub text: &'static str,
}

impl Verdict {
    const fn accepted(text: &'static str) -> Self {
        Self {
            accepted: true,
            text,
        }
    }

    const fn refused(text: &'static str) -> Self {
        Self {
            accepted: false,
            text,
        }
    }
}

/// Somebody is to talk to the visitor.
#[derive(Clone, PartialEq)]
pub struct Handoff {
    /// Why.
    pub trigger: Trigger,
    /// What the visitor told of themselves.
    pub lead: Lead,
    /// What the conversation was about, as the model sees it.
    pub summary: Option<String>,
}

/// One turn of a conversation, as far as it is decided.
#[derive(Clone, PartialEq)]
pub struct Conversation {
    turn: i32,
    before: ConversationState,
    stage: Stage,
    stall_due: bool,
    handoff: Option<Handoff>,
    told: Option<String>,
    summary: Option<Summary>,
}

impl Conversation {
    /// Begins a turn. `stall_threshold` is `STALL_TURN_THRESHOLD`.
    pub fn begin(before: ConversationState, turn: i32, stall_threshold: u32) -> Self {
        let stage = Stage::from_number(before.stage);
        Self {
            turn,
            stage,
            stall_due: stage < Stage::Propose
                && before.stall_offered_turn.is_none()
                && before.turns_without_proposal >= stall_threshold,
            handoff: None,
            told: None,
            summary: None,
            before,
        }
    }

    /// The state that the turn began with.
    pub fn before(&self) -> &ConversationState {
        &self.before
    }

    /// Where the conversation is now.
    pub fn stage(&self) -> Stage {
        self.stage
    }

    /// Whether this turn moved the conversation.
    pub fn has_moved(&self) -> bool {
        self.stage != Stage::from_number(self.before.stage)
    }

    /// Whether this turn has to offer a person.
    pub fn offers_person(&self) -> bool {
        self.stall_due
    }

    /// Whether the visitor is still to be asked how to be reached: a person was asked for, and neither
    /// this turn nor, as far as the stage tells, an earlier one knows.
    pub fn lacks_contact(&self) -> bool {
        self.before.stage != Stage::HandedOff.number()
            && self
                .handoff
                .as_ref()
                .is_some_and(|handoff| handoff.lead.email.is_none() && handoff.lead.phone.is_none())
    }

    /// The handoff that was asked for in this turn.
    pub fn handoff(&self) -> Option<&Handoff> {
        self.handoff.as_ref()
    }

    /// Whether a case study may be told unasked: each once.
    pub fn may_tell(&self, url: &str) -> bool {
        !self.before.case_studies_told.iter().any(|told| told == url)
    }

    /// The model is asked to tell of this case study.
    pub fn tells(&mut self, url: String) {
        self.told = Some(url);
    }

    /// There is a newer summary.
    pub fn summarised(&mut self, summary: Summary) {
        self.summary = Some(summary);
    }

    /// The model wants another stage.
    pub fn set_stage(&mut self, wanted: WantedStage) -> Verdict {
        let to = Stage::from(wanted);
        if self.stage == to {
            Verdict::accepted("The conversation is already at this stage.")
        } else if self.stage.may_move_to(to) {
            self.stage = to;
            Verdict::accepted("The stage is set.")
        } else if self.stage == Stage::HandedOff {
            Verdict::refused("Refused: people have taken over; the stage stays.")
        } else {
            Verdict::refused("Refused: no move leads from the present stage to this one.")
        }
    }

    /// The model wants people to take over. Asked again, it adds what is new.
    pub fn request_handoff(&mut self, request: HandoffRequest) -> Verdict {
        let trigger = match request.reason {
            HandoffReason::QualifiedLead
                if request.lead.need.is_none() && self.handoff.is_none() =>
            {
                return Verdict::refused(
                    "Refused: a qualified lead has a `need`. Ask the visitor what they need.",
                );
            }
            HandoffReason::QualifiedLead => Trigger::QualifiedLead,
            HandoffReason::StallAccepted if self.before.stall_offered_turn.is_some() => {
                Trigger::Stall
            }
            // Nothing was offered that could be accepted, but somebody wants to talk to a person.
            HandoffReason::StallAccepted | HandoffReason::ExplicitWish => Trigger::ExplicitWish,
        };
        let handoff = match self.handoff.take() {
            Some(earlier) => Handoff {
                trigger: earlier.trigger,
                lead: merge(earlier.lead, request.lead),
                summary: request.summary.or(earlier.summary),
            },
            None => Handoff {
                trigger,
                lead: request.lead,
                summary: request.summary,
            },
        };
        self.handoff = Some(handoff);
        self.stage = Stage::HandedOff;
        Verdict::accepted(if self.lacks_contact() {
            "Recorded. How to reach the visitor is not known: the contact form is shown below your \
             answer. Ask the visitor to fill it in."
        } else {
            "Recorded: a colleague will get in touch. Tell the visitor so, and promise no time."
        })
    }

    /// Ends the turn; gives the state in which the next one finds the conversation.
    pub fn end(&self, end: TurnEnd) -> ConversationState {
        let mut after = self.before.clone();
        // A summary is about earlier turns, and it was paid for.
        if let Some(summary) = &self.summary {
            after.summary = Some(summary.clone());
        }
        if end == TurnEnd::Cancelled {
            return after;
        }
        after.stage = self.stage.number();
        if end == TurnEnd::Limited {
            return after;
        }
        after.turns_without_proposal = if self.stage >= Stage::Propose {
            0
        } else {
            after.turns_without_proposal.saturating_add(1)
        };
        if self.stall_due {
            after.stall_offered_turn = Some(self.turn);
        }
        if let Some(url) = &self.told {
            let told = &mut after.case_studies_told;
            told.push(url.clone());
            told.drain(..told.len().saturating_sub(MOST_TOLD));
        }
        after
    }
}

/// Adds what `newer` knows to what was known.
fn merge(older: Lead, newer: Lead) -> Lead {
    Lead {
        name: newer.name.or(older.name),
        email: newer.email.or(older.email),
        company: newer.company.or(older.company),
        phone: newer.phone.or(older.phone),
        need: newer.need.or(older.need),
        timeline: newer.timeline.or(older.timeline),
        budget: newer.budget.or(older.budget),
        message: newer.message.or(older.message),
    }
}

#[cfg(test)]
mod tests;
