//! The message in Slack: what people see of a handoff. A pure function of what is known and of how far
//! people are with it, so that any process can draw it again.
//!
//! Whatever a visitor or the model wrote stands in `plain_text`; markup is only in words of ours.

use chrono::{DateTime, Utc};
use serde_json::{Value, json};
use store::handoffs::{Channel, Trigger};

use super::{
    block::{
        SECTION, actions, button, context, fields, header, link_button, markup, plain_text,
        primary_button, section, web_link,
    },
    mark::Mark,
    text::{inert, line, plain, units},
};
use crate::handoff::{Dossier, Line, Speaker};

/// The `action_id` by which a person enters the chat.
pub const TAKE_OVER: &str = "take_over";
/// Says that somebody takes care of the visitor, without entering the chat.
pub const TAKEN: &str = "taken";
/// Asks for the modal in which an answer to the visitor is written.
pub const REPLY: &str = "reply";
/// Gives the chat back to the assistant.
pub const HAND_BACK: &str = "hand_back";
/// Opens the CRM's record. Nothing of ours follows.
pub const OPEN_CRM: &str = "open_crm";
/// Opens the page that the visitor was on. Nothing of ours follows.
pub const OPEN_PAGE: &str = "open_page";

/// The part of a handoff that its first message is; see [`Mark`].
pub const MESSAGE: &str = "message";

/// The longest single fact, and the longest texts, in UTF-16 units: everything together stays well below
/// what Slack takes as one message.
const FACT: usize = 300;
const WORDS: usize = 1_500;
const PERSON: usize = 80;
/// Name and company in the header, which Slack takes up to 150 units of.
const IN_TITLE: usize = 50;
/// What one message of the conversation may take of the excerpt.
const UTTERANCE: usize = 600;

/// How far people are with a handoff.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Face {
    /// Nobody has said anything.
    New,
    /// Somebody takes care of it, outside of the chat.
    Taken {
        /// Who.
        by: String,
    },
    /// Somebody speaks with the visitor in the chat.
    TakenOver {
        /// Who.
        by: String,
    },
    /// Somebody spoke with the visitor, and the assistant answers again.
    HandedBack {
        /// Who.
        by: String,
    },
}

impl Face {
    /// The face that follows from what is known.
    pub fn of(dossier: &Dossier) -> Self {
        match (&dossier.speaks, &dossier.taken_by) {
            (Some(by), _) => Self::TakenOver { by: by.clone() },
            (None, Some(by)) if dossier.was_spoken_to => Self::HandedBack { by: by.clone() },
            (None, Some(by)) => Self::Taken { by: by.clone() },
            (None, None) => Self::New,
        }
    }
}

/// A message as it is posted.
#[derive(Debug, Clone, PartialEq)]
pub struct Message {
    /// What notifications show, and readers without blocks; inert in mrkdwn.
    pub(super) text: String,
    pub(super) blocks: Vec<Value>,
    pub(super) mark: Mark,
}

impl Message {
    /// The arguments of `chat.postMessage` and `chat.update` that say what, not where.
    pub(super) fn arguments(&self) -> Value {
        json!({"text": self.text, "blocks": self.blocks, "metadata": self.mark.metadata(),
            "mrkdwn": false, "parse": "none", "link_names": false,
            "unfurl_links": false, "unfurl_media": false})
    }

    /// The body for an incoming webhook.
    pub(super) fn webhook_payload(&self) -> Value {
        json!({"text": self.text, "blocks": self.blocks, "mrkdwn": false,
            "unfurl_links": false, "unfurl_media": false})
    }

    /// The mark by which it is found again.
    pub fn mark(&self) -> &Mark {
        &self.mark
    }

    /// Its blocks.
    pub fn blocks(&self) -> &[Value] {
        &self.blocks
    }

    /// The text of its notification.
    pub fn text(&self) -> &str {
        &self.text
    }
}

/// Draws the message of a handoff.
pub fn message(dossier: &Dossier, face: &Face) -> Message {
    let mark = Mark::new(&dossier.session_id, &dossier.handoff_id, MESSAGE);
    let mut blocks = vec![header(&title(dossier, |text| line(text, IN_TITLE)))];
    blocks.extend(facts(dossier));
    blocks.extend(words("Message", dossier.lead.message.as_deref()));
    blocks.extend(words("Summary", dossier.summary.as_deref()));
    blocks.extend(page(dossier));
    blocks.extend(excerpt(&dossier.transcript));
    blocks.push(small_print(dossier));
    blocks.extend(said_by(face));
    blocks.push(actions(&mark.block_id(), &buttons(dossier, face)));
    blocks.push(context(&[markup(hint(face))]));
    Message {
        text: title(dossier, |text| inert(text, IN_TITLE)),
        blocks,
        mark,
    }
}

/// `<session>:<handoff>`: what a button is about.
pub(super) fn value(dossier: &Dossier) -> String {
    format!("{}:{}", dossier.session_id, dossier.handoff_id)
}

/// The link to the CRM's record, if there is one.
pub(super) fn crm_link(dossier: &Dossier) -> Option<url::Url> {
    web_link(dossier.reference(Channel::Crm)?.url.as_deref()?)
}

/// A time that each reader sees in their own zone.
pub(super) fn local_time(time: DateTime<Utc>) -> String {
    let fallback = time.format("%Y-%m-%d %H:%M UTC");
    let unix = time.timestamp();
    format!("<!date^{unix}^{{date_short_pretty}}, {{time}}|{fallback}>")
}

/// Why, and who.
fn title(dossier: &Dossier, clean: impl Fn(&str) -> String) -> String {
    let why = match dossier.trigger {
        Trigger::QualifiedLead => "Qualified lead",
        Trigger::ContactForm => "Contact form",
        Trigger::Stall => "A person was offered and accepted",
        Trigger::ExplicitWish => "A visitor asks for a person",
    };
    let lead = &dossier.lead;
    let known = [&lead.name, &lead.company];
    let known = known.into_iter().flatten().map(|text| clean(text));
    let who: Vec<String> = known.filter(|text| !text.is_empty()).collect();
    if who.is_empty() {
        return why.to_owned();
    }
    format!("{why}: {}", who.join(", "))
}

fn facts(dossier: &Dossier) -> Option<Value> {
    let lead = &dossier.lead;
    let facts = [
        ("Name", &lead.name),
        ("Company", &lead.company),
        ("E-mail", &lead.email),
        ("Phone", &lead.phone),
        ("Need", &lead.need),
        ("Timeline", &lead.timeline),
        ("Budget", &lead.budget),
    ];
    let known: Vec<String> = facts
        .into_iter()
        .filter_map(|(label, fact)| {
            let fact = line(fact.as_deref()?, FACT);
            (!fact.is_empty()).then(|| format!("{label}\n{fact}"))
        })
        .collect();
    (!known.is_empty()).then(|| fields(&known))
}

fn words(label: &str, text: Option<&str>) -> Option<Value> {
    let text = plain(text?, WORDS);
    (!text.is_empty()).then(|| section(&format!("{label}\n{text}")))
}

/// The page's address as it is, and a button only if it leads into the web.
fn page(dossier: &Dossier) -> Option<Value> {
    let written = dossier.page_url.as_deref()?;
    let link = web_link(written);
    let shown = line(link.as_ref().map_or(written, url::Url::as_str), WORDS);
    if shown.is_empty() {
        return None;
    }
    let mut block = section(&format!("Page\n{shown}"));
    if let Some(link) = link {
        block["accessory"] = link_button(OPEN_PAGE, "Open the page", &value(dossier), &link);
    }
    Some(block)
}

/// The newest messages that fit, in their order.
fn excerpt(transcript: &[Line]) -> Option<Value> {
    const LABEL: &str = "Conversation";
    const OLDER: &str = "…";
    let mut room = SECTION - units(LABEL) - units(OLDER) - 2;
    let mut newest = Vec::new();
    for said in transcript.iter().rev() {
        let speaker = match &said.speaker {
            Speaker::Visitor => "Visitor".to_owned(),
            Speaker::Assistant => "Assistant".to_owned(),
            Speaker::Person(name) => line(name, PERSON),
        };
        // On one line: nobody can write what looks like somebody else's.
        let said = format!("{speaker}: {}", line(&said.text, UTTERANCE));
        let Some(left) = room.checked_sub(units(&said) + 1) else {
            break;
        };
        room = left;
        newest.push(said);
    }
    if newest.is_empty() {
        return None;
    }
    if newest.len() < transcript.len() {
        newest.push(OLDER.to_owned());
    }
    newest.push(LABEL.to_owned());
    newest.reverse();
    Some(section(&newest.join("\n")))
}

/// Stage, language, consent and promise.
fn small_print(dossier: &Dossier) -> Value {
    let mut print = vec![plain_text(&format!("Stage {} of 4", dossier.stage))];
    if let Some(locale) = &dossier.locale {
        let locale = line(locale, PERSON);
        if !locale.is_empty() {
            print.push(plain_text(&format!("Language {locale}")));
        }
    }
    print.push(plain_text(if dossier.consent {
        "Agreed to be contacted"
    } else {
        "Has not agreed to be contacted"
    }));
    print.push(markup(&format!("Since {}", local_time(dossier.created_at))));
    if let Some(promise) = &dossier.promise {
        print.push(markup(&format!(
            "An answer is promised by {}",
            local_time(promise.by)
        )));
        let told = plain(&promise.text, FACT);
        if !told.is_empty() {
            print.push(plain_text(&told));
        }
    }
    if crm_link(dossier).is_none() && dossier.reference(Channel::Crm).is_some() {
        print.push(plain_text("The CRM has it, too"));
    }
    context(&print)
}

fn said_by(face: &Face) -> Option<Value> {
    let (by, what) = match face {
        Face::New => return None,
        Face::Taken { by } => (by, "takes care of it"),
        Face::TakenOver { by } => (by, "speaks with the visitor"),
        Face::HandedBack { by } => (by, "has handed the visitor back to the assistant"),
    };
    Some(section(&format!("{} {what}.", line(by, PERSON))))
}

fn buttons(dossier: &Dossier, face: &Face) -> Vec<Value> {
    let value = value(dossier);
    let take_over = || primary_button(TAKE_OVER, "Take over", &value);
    let taken = || button(TAKEN, "Taken", &value);
    let mut buttons = match face {
        Face::New | Face::HandedBack { .. } => vec![take_over(), taken()],
        Face::Taken { .. } => vec![take_over()],
        Face::TakenOver { .. } => vec![
            primary_button(REPLY, "Reply…", &value),
            button(HAND_BACK, "Hand back", &value),
        ],
    };
    if let Some(link) = crm_link(dossier) {
        buttons.push(link_button(OPEN_CRM, "Open in the CRM", &value, &link));
    }
    buttons
}

fn hint(face: &Face) -> &'static str {
    match face {
        Face::New | Face::Taken { .. } | Face::HandedBack { .. } => {
            "*Take over* brings you into the chat, *Taken* says that you get in touch otherwise. \
             What you write in this thread stays among you; a message that begins with `reply:` \
             goes to the visitor and takes over."
        }
        Face::TakenOver { .. } => {
            "What you write in this thread stays among you; a message that begins with `reply:` \
             goes to the visitor. *Hand back* lets the assistant answer again."
        }
    }
}

#[cfg(test)]
mod tests;
