//! How sessions look to a person.

use std::fmt::Write as _;

use store::session_report::{SessionReport, SessionSummary};

use super::timeline::{Entry, amount};
use crate::commands::terminal::printable;

/// A line a session.
pub(super) fn table(sessions: &[SessionSummary]) -> String {
    if sessions.is_empty() {
        return "no sessions\n".to_owned();
    }
    let widths = sessions.iter().map(|session| session.session_id.len());
    let id = widths.max().unwrap_or_default().max(22);
    let mut lines = format!(
        "{:<id$}  {:<15} {:>5} {:>5} {:>9} {:>10}  {:<10} LAST ACTIVITY\n",
        "SESSION", "STATUS", "STAGE", "TURNS", "TOKENS", "USD", "HANDOFF"
    );
    for session in sessions {
        let _ = writeln!(
            lines,
            "{:<id$}  {:<15} {:>5} {:>5} {:>9} {:>10}  {:<10} {}",
            session.session_id,
            // Why it was closed says that it is.
            session
                .termination_type
                .as_deref()
                .unwrap_or(&session.status),
            session.stage,
            session.turns,
            session.tokens_used,
            amount(&session.cost_usd),
            session.handoff_status.as_deref().unwrap_or("-"),
            session.last_activity_at,
        );
    }
    lines
}

/// All of one session: what it is, then what happened.
pub(super) fn page(report: &SessionReport, timeline: &[Entry]) -> String {
    let mut text = header(&report.session);
    for turn in &report.turns {
        let status = if turn.finished_at.is_some() {
            ""
        } else {
            &turn.status
        };
        let _ = write!(text, "\nturn {} {status}", turn.turn);
        text.truncate(text.trim_end().len());
        text.push('\n');
        for entry in timeline
            .iter()
            .filter(|entry| entry.turn == Some(turn.turn))
        {
            let _ = writeln!(text, "  {}  {}", entry.at, printable(&entry.what));
        }
        for (who, words) in [("question", &turn.question), ("answer", &turn.answer)] {
            text += &quoted(who, words.as_deref());
        }
    }
    text
}

/// An entry as a line of its own.
pub(super) fn line(entry: &Entry) -> String {
    let of = entry
        .turn
        .map_or("session".to_owned(), |turn| format!("turn {turn}"));
    format!("{}  {of}: {}\n", entry.at, printable(&entry.what))
}

/// What somebody said, line by line; nothing for nothing.
pub(super) fn quoted(who: &str, words: Option<&str>) -> String {
    let mut text = String::new();
    for line in words.unwrap_or_default().lines() {
        let _ = writeln!(text, "  {who:<8} | {}", printable(line));
    }
    text
}

fn header(session: &SessionSummary) -> String {
    const STAGES: [&str; 4] = ["discover", "qualify", "propose", "handed off"];
    let stage = usize::try_from(session.stage - 1).ok();
    let name = stage.and_then(|stage| STAGES.get(stage)).unwrap_or(&"?");
    let handoff = session.handoff_status.as_ref().map(|status| {
        let trigger = session.handoff_trigger.as_deref().unwrap_or("?");
        format!("{status} (by {trigger})")
    });
    let stalled = session
        .stall_offered_turn
        .map(|turn| format!("a person was offered in turn {turn}"));
    let turns = match session.unfinished_turns {
        0 => session.turns.to_string(),
        unfinished => format!("{}, of which {unfinished} unfinished", session.turns),
    };
    let fields = [
        ("session", Some(session.session_id.clone())),
        ("status", Some(session.status.clone())),
        ("closed by", session.termination_type.clone()),
        ("stage", Some(format!("{} {name}", session.stage))),
        ("stall", stalled),
        ("handoff", handoff),
        ("turns", Some(turns)),
        ("tokens", Some(session.tokens_used.to_string())),
        ("cost", Some(format!("${}", amount(&session.cost_usd)))),
        ("locale", session.locale.clone()),
        ("created", Some(session.created_at.clone())),
        ("active", Some(session.last_activity_at.clone())),
        ("closed", session.closed_at.clone()),
    ];
    let mut text = String::new();
    for (name, value) in fields {
        if let Some(value) = value {
            let _ = writeln!(text, "{name:<10} {}", printable(&value));
        }
    }
    text
}
