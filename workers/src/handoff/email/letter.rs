//! What the mail says, before it is text or HTML. Everything from the visitor is inert here already,
//! and bounded: a mail has at most some hundred thousand characters.

use chrono::{DateTime, Utc};
use lettre::Address;
use store::handoffs::{Lead, Trigger};

use super::inert;
use crate::{
    config::mail_address,
    handoff::{Dossier, Line, Speaker},
};

/// The longest name, address or other fact, in characters.
const LONGEST_FACT: usize = 500;
/// The longest text of the visitor's or the summary's, in characters.
const LONGEST_TEXT: usize = 4_000;
/// The most characters of the conversation; what is newer is kept.
const LONGEST_CONVERSATION: usize = 60_000;
/// The longest subject, in characters.
const LONGEST_SUBJECT: usize = 120;
/// How times are written.
const TIME: &str = "%Y-%m-%d %H:%M UTC";

/// A mail to sales people. It has no `Debug`, because it is about a person.
pub(super) struct Letter {
    /// One line.
    pub(super) subject: String,
    /// Why it comes.
    pub(super) title: &'static str,
    /// What is known, each in one line.
    pub(super) facts: Vec<(&'static str, String)>,
    /// What was written, and by whom.
    pub(super) sections: Vec<Section>,
    /// By which operators find it.
    pub(super) footer: String,
    /// Whom an answer reaches.
    pub(super) reply_to: Option<Address>,
    /// When the first attempt to send it began: the same in every repetition.
    pub(super) date: DateTime<Utc>,
}

/// Something longer that was written.
pub(super) struct Section {
    /// What it is.
    pub(super) title: &'static str,
    /// Who wrote it and when, if that is not the title; and what.
    pub(super) entries: Vec<(Option<String>, String)>,
}

impl Letter {
    /// Says all that a handoff's dossier has.
    pub(super) fn about(dossier: &Dossier) -> Self {
        let title = match dossier.trigger {
            Trigger::QualifiedLead => "Qualified lead",
            Trigger::ContactForm => "Contact request",
            Trigger::Stall => "A visitor took the offer to talk to a person",
            Trigger::ExplicitWish => "A visitor asks for a person",
        };
        let lead = &dossier.lead;
        let who = [&lead.name, &lead.company, &lead.email];
        let mut who = who.into_iter().flatten().map(|it| inert::line(it, 60));
        let who = who.find(|it| !it.is_empty());
        let subject = match who {
            Some(who) => format!("{title}: {who}"),
            None => title.to_owned(),
        };
        Self {
            subject: inert::line(&subject, LONGEST_SUBJECT),
            title,
            facts: facts(dossier),
            sections: sections(dossier),
            footer: format!(
                "Session {}, handoff {}",
                dossier.session_id, dossier.handoff_id
            ),
            reply_to: lead.email.as_deref().and_then(mail_address),
            date: dossier.first_attempt_at,
        }
    }
}

fn facts(dossier: &Dossier) -> Vec<(&'static str, String)> {
    let Lead {
        name,
        email,
        company,
        phone,
        need,
        timeline,
        budget,
        message: _,
    } = &dossier.lead;
    let promised = dossier
        .promise
        .as_ref()
        .map(|promise| format!("{} ({})", promise.text, promise.by.format(TIME)));
    let consent = if dossier.consent {
        "agreed to be contacted, in the contact form"
    } else {
        "was not asked"
    };
    let known = [
        ("Name", name.clone()),
        ("E-mail", email.clone()),
        ("Company", company.clone()),
        ("Telephone", phone.clone()),
        ("Needs", need.clone()),
        ("By when", timeline.clone()),
        ("Budget", budget.clone()),
        ("Promised", promised),
        ("Consent", Some(consent.to_owned())),
        ("Page", dossier.page_url.clone()),
        ("Language", dossier.locale.clone()),
        ("Stage", Some(format!("{} of 4", dossier.stage))),
        ("Since", Some(dossier.created_at.format(TIME).to_string())),
    ];
    known
        .into_iter()
        .filter_map(|(name, fact)| Some((name, inert::line(&fact?, LONGEST_FACT))))
        .filter(|(_, fact)| !fact.is_empty())
        .collect()
}

fn sections(dossier: &Dossier) -> Vec<Section> {
    let written = |title, text: &Option<String>| {
        let text = inert::block(text.as_deref()?, LONGEST_TEXT);
        let entries = vec![(None, text)];
        Some(Section { title, entries })
    };
    let conversation = conversation(&dossier.transcript);
    [
        written("What they wrote", &dossier.lead.message),
        written("Summary", &dossier.summary),
        (!conversation.is_empty()).then_some(Section {
            title: "Conversation",
            entries: conversation,
        }),
    ]
    .into_iter()
    .flatten()
    .collect()
}

/// As much of the end of the conversation as there is room for.
fn conversation(lines: &[Line]) -> Vec<(Option<String>, String)> {
    let mut room = LONGEST_CONVERSATION;
    let mut kept = Vec::new();
    for line in lines.iter().rev() {
        let text = inert::block(&line.text, LONGEST_TEXT);
        let length = text.chars().count();
        if length > room {
            break;
        }
        room -= length;
        let speaker = match &line.speaker {
            Speaker::Visitor => "Visitor".to_owned(),
            Speaker::Assistant => "Assistant".to_owned(),
            Speaker::Person(name) => inert::line(name, LONGEST_FACT),
        };
        let said = format!("{speaker}, {}", line.at.format(TIME));
        kept.push((Some(said), text));
    }
    if kept.len() < lines.len() {
        kept.push((None, "[what was said before is left out]".to_owned()));
    }
    kept.reverse();
    kept
}

#[cfg(test)]
#[path = "letter_tests.rs"]
mod tests;
