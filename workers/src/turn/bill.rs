//! What the calls of an attempt are billed for, call by call, and what of it is in the database.
//!
//! An answer and a summary may be made at the same time, and a cancellation drops both where they
//! are: so the bill stands beside them, and knows of every call as much as the provider has said.

use parking_lot::Mutex;
use store::{
    spend::{ModelCall, Purpose},
    turns::TurnUsage,
};

use super::measure;
use crate::budget::Budget;

/// The calls of one attempt.
pub(super) struct Bill {
    budget: Budget,
    lines: Mutex<Vec<Line>>,
}

struct Line {
    call: i16,
    purpose: Purpose,
    /// `None`: no model has taken the request, and there is nothing to bill.
    model: Option<String>,
    usage: TurnUsage,
    /// `None`: it is under way.
    outcome: Option<&'static str>,
    settled: bool,
}

impl Bill {
    pub(super) fn new(budget: Budget) -> Self {
        Self {
            budget,
            lines: Mutex::default(),
        }
    }

    /// A call is made.
    pub(super) fn open(&self, call: i16, purpose: Purpose) {
        self.lines.lock().push(Line {
            call,
            purpose,
            model: None,
            usage: TurnUsage::default(),
            outcome: None,
            settled: false,
        });
    }

    /// What is known of a call that was opened.
    pub(super) fn meter(&self, call: i16, model: &str, usage: TurnUsage) {
        let mut lines = self.lines.lock();
        if let Some(line) = lines.iter_mut().find(|line| line.call == call) {
            line.usage = usage;
            if line.model.as_deref() != Some(model) {
                line.model = Some(model.to_owned());
            }
        }
    }

    /// A call is over: `ok`, `empty`, or the code of its failure.
    pub(super) fn close(&self, call: i16, outcome: &'static str) {
        let mut lines = self.lines.lock();
        let open = lines
            .iter_mut()
            .find(|line| line.call == call && line.outcome.is_none());
        if let Some(line) = open {
            line.end(outcome, &self.budget);
        }
    }

    /// Whatever is still under way was dropped.
    pub(super) fn close_all(&self) {
        let mut lines = self.lines.lock();
        for line in lines.iter_mut().filter(|line| line.outcome.is_none()) {
            line.end("cancelled", &self.budget);
        }
    }

    /// The tokens of all calls so far.
    pub(super) fn tokens(&self) -> i64 {
        let lines = self.lines.lock();
        lines.iter().map(|line| line.usage.total()).sum()
    }

    /// The calls that are over, cost something, and are not in the database yet.
    pub(super) fn unsettled(&self) -> Vec<ModelCall> {
        let lines = self.lines.lock();
        lines
            .iter()
            .filter(|line| !line.settled)
            .filter_map(|line| line.bill(&self.budget))
            .collect()
    }

    /// These are in the database.
    pub(super) fn settle(&self, calls: &[ModelCall]) {
        let mut lines = self.lines.lock();
        for line in lines.iter_mut() {
            line.settled |= calls.iter().any(|call| call.call == line.call);
        }
    }
}

impl Line {
    fn end(&mut self, outcome: &'static str, budget: &Budget) {
        self.outcome = Some(outcome);
        match self.bill(budget) {
            Some(call) => measure::billed(&call),
            None => measure::model_call(outcome, self.usage),
        }
    }

    /// What the provider bills; `None`: nothing, or it is not known yet.
    fn bill(&self, budget: &Budget) -> Option<ModelCall> {
        let model = self.model.clone()?;
        Some(ModelCall {
            call: self.call,
            purpose: self.purpose,
            outcome: self.outcome?,
            usage: self.usage,
            cost: budget.cost(&model, self.usage),
            model,
        })
    }
}
