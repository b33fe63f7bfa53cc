//! The smaller messages about a handoff: the link to the CRM when the first message can't be changed, a
//! reminder, and what is said in the thread.

use chrono::{DateTime, Utc};
use store::ids::{HandoffId, SessionId};

use super::{
    block::{SECTION, actions, button, context, link_button, markup, plain_text, section},
    mark::Mark,
    message::{Message, OPEN_CRM, TAKEN, crm_link, local_time, value},
    text::{inert, line, plain},
};
use crate::handoff::Dossier;

/// The part of a handoff that the message with the CRM's link is; see [`Mark`].
pub const LINK: &str = "link";
/// The part that its reminder is.
pub const REMINDER: &str = "reminder";

/// The longest notification text, in UTF-16 units.
const NOTIFICATION: usize = 150;
/// The longest name.
const PERSON: usize = 80;

/// The link to the CRM's record as a message of its own. `None`: the CRM gave no link.
pub(super) fn link_message(dossier: &Dossier) -> Option<Message> {
    let link = crm_link(dossier)?;
    let mark = Mark::new(&dossier.session_id, &dossier.handoff_id, LINK);
    let who = dossier
        .lead
        .name
        .as_deref()
        .map(|name| line(name, PERSON))
        .filter(|name| !name.is_empty());
    let text = match who {
        Some(who) => format!("{who} is in the CRM."),
        None => "The visitor is in the CRM.".to_owned(),
    };
    let button = link_button(OPEN_CRM, "Open in the CRM", &value(dossier), &link);
    Some(Message {
        text: "A lead is in the CRM".to_owned(),
        blocks: vec![section(&text), actions(&mark.block_id(), &[button])],
        mark,
    })
}

/// Says that a promise is about to be broken.
pub fn reminder(
    session_id: &SessionId,
    handoff_id: &HandoffId,
    promised_by: DateTime<Utc>,
) -> Message {
    let mark = Mark::new(session_id, handoff_id, REMINDER);
    let words = format!(
        "Nobody has taken this lead yet. The visitor was promised an answer by {}.",
        local_time(promised_by)
    );
    let value = format!("{session_id}:{handoff_id}");
    Message {
        text: "Nobody has taken a lead that was promised an answer".to_owned(),
        blocks: vec![
            context(&[markup(&words)]),
            actions(&mark.block_id(), &[button(TAKEN, "Taken", &value)]),
        ],
        mark,
    }
}

/// Something that was said or happened, for a handoff's thread: `from` in a small line above `words`,
/// both as somebody else wrote them. `words` that are longer than one block of Slack's are cut.
pub fn note(mark: Mark, from: &str, words: &str) -> Message {
    let (from_line, shown) = (line(from, PERSON), plain(words, SECTION));
    let mut blocks = Vec::new();
    if !from_line.is_empty() {
        blocks.push(context(&[plain_text(&from_line)]));
    }
    if !shown.is_empty() {
        blocks.push(section(&shown));
    }
    if blocks.is_empty() {
        blocks.push(section("…"));
    }
    // Nothing is pressed here: the mark is in the metadata only.
    Message {
        text: format!("{}: {}", inert(from, PERSON), inert(words, NOTIFICATION)),
        blocks,
        mark,
    }
}
