//! What happened in a conversation, one line after the other. Whoever follows it prints the lines that
//! are new: what was once said of a turn is never taken back.

use std::fmt::Write as _;

use jobs::operator::JobFailure;
use serde::Serialize;
use store::session_report::{CallReport, SessionReport, StepReport, TurnReport};

/// The step that a turn ends with.
const ANSWERED: &str = "answered";

/// Something that happened.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
pub(super) struct Entry {
    /// When, RFC 3339 in UTC: the order of the lines.
    pub(super) at: String,
    /// In which turn; none: to the session.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) turn: Option<i32>,
    /// What, for people.
    pub(super) what: String,
}

/// The lines of a session, the oldest first.
pub(super) fn of(report: &SessionReport, failures: &[JobFailure]) -> Vec<Entry> {
    let mut entries: Vec<Entry> = report
        .turns
        .iter()
        .flat_map(|turn| of_turn(turn, failures))
        .collect();
    let session = &report.session;
    if let (Some(at), Some(why)) = (&session.closed_at, &session.termination_type) {
        entries.push(Entry {
            at: at.clone(),
            turn: None,
            what: format!("closed: {why}"),
        });
    }
    // A turn that waits for another one has times in between: the order is that of time alone. Those of
    // one moment stay as they were put together.
    entries.sort_by(|one, other| one.at.cmp(&other.at));
    entries
}

fn of_turn(turn: &TurnReport, failures: &[JobFailure]) -> Vec<Entry> {
    let mut entries = Vec::new();
    let mut add = |at: &str, what: String| {
        entries.push(Entry {
            at: at.to_owned(),
            turn: Some(turn.turn),
            what,
        });
    };
    add(
        &turn.created_at,
        match &turn.regenerates {
            Some(answer) => format!("accepted, to replace the answer {answer}"),
            None => "accepted".to_owned(),
        },
    );
    if let Some(at) = &turn.started_at {
        add(at, "begun".to_owned());
    }
    // The step of the end is told of with the end.
    for step in turn.steps.iter().filter(|step| step.step != ANSWERED) {
        add(&step.at, step_line(step));
    }
    for call in &turn.calls {
        add(&call.at, call_line(call));
    }
    for failure in failures {
        if Some(failure.job_id) == turn.job_id {
            let what = format!(
                "attempt {} of the job failed: {}",
                failure.attempt, failure.error
            );
            add(&failure.at, what);
        }
    }
    if let Some(at) = &turn.first_token_at {
        add(at, "first text".to_owned());
    }
    if let Some(at) = &turn.finished_at {
        let last = turn.steps.iter().find(|step| step.step == ANSWERED);
        let tools = last.map(|step| step.tools.as_slice()).unwrap_or_default();
        add(at, end_line(turn, tools));
    }
    entries
}

fn step_line(step: &StepReport) -> String {
    let mut line = format!("step {} (attempt {})", step.step, step.attempt);
    if let Some(passages) = step.passages {
        let _ = write!(line, ", {passages} passages");
    }
    if !step.tools.is_empty() {
        let _ = write!(line, ", tools: {}", step.tools.join(", "));
    }
    line
}

fn call_line(call: &CallReport) -> String {
    let attempt = match call.attempt {
        0 => String::new(),
        attempt => format!("attempt {attempt}, "),
    };
    format!(
        "call for the {} ({attempt}{}): {}, {} tokens in, {} out, ${}",
        call.purpose,
        call.model,
        call.outcome,
        call.input_tokens,
        call.output_tokens,
        amount(&call.cost_usd),
    )
}

fn end_line(turn: &TurnReport, tools: &[String]) -> String {
    let mut line = turn.status.clone();
    if turn.outcome != turn.status {
        let _ = write!(line, " ({})", turn.outcome);
    }
    if let Some(stage) = turn.stage {
        let _ = write!(line, ", stage {stage}");
    }
    let input = turn.input_tokens + turn.cache_write_tokens + turn.cache_read_tokens;
    let _ = write!(
        line,
        ", {input} tokens in, {} out, ${}",
        turn.output_tokens,
        amount(&turn.cost_usd)
    );
    if let Some(seconds) = turn.seconds_to_first_token {
        let _ = write!(line, ", first text after {seconds:.2} s");
    }
    if let Some(seconds) = turn.seconds_total {
        let _ = write!(line, ", {seconds:.2} s in all");
    }
    if turn.attempts > 1 {
        let _ = write!(line, ", {} attempts", turn.attempts);
    }
    if !tools.is_empty() {
        let _ = write!(line, ", tools: {}", tools.join(", "));
    }
    line
}

/// A decimal amount with cents at least, and without the zeros behind what it comes to.
pub(super) fn amount(text: &str) -> String {
    let Some((whole, decimals)) = text.split_once('.') else {
        return format!("{text}.00");
    };
    format!("{whole}.{:0<2}", decimals.trim_end_matches('0'))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_amount_has_cents_and_no_idle_zeros() {
        for (text, shown) in [
            ("0", "0.00"),
            ("0.00000000", "0.00"),
            ("0.00125000", "0.00125"),
            ("12.50000000", "12.50"),
        ] {
            assert_eq!(amount(text), shown);
        }
    }
}
