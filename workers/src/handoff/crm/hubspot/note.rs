//! The note on the contact: what the conversation was about, with our mark at its end.
//!
//! The mark names the handoff and the revision that the note tells. By it a note is found again whose
//! making was never confirmed. It is looked for in the contact's associations, which are consistent,
//! and not by HubSpot's search, whose index lags behind by seconds.

use std::fmt::Write as _;

use chrono::SecondsFormat;
use reqwest::Method;
use serde_json::{Value, json};
use store::{handoffs::Trigger, ids::HandoffId};
use tokio::time::Instant;
use url::Url;

use super::{
    super::inert,
    api::{Api, Call, CallError, Effect, id},
};
use crate::handoff::{Dossier, SendError, Speaker};

/// The longest body of a note, in characters (HubSpot's limit).
const LONGEST_NOTE: usize = 65_536;
/// The longest text of one fact and of one message, in characters.
const LONGEST_FACT: usize = 2_000;
const LONGEST_MESSAGE: usize = 4_000;
/// Notes of a contact that are looked at, the newest first: ours is one of the last.
const PAGES: usize = 4;
const PAGE: usize = 500;
const NOTES_READ: usize = 200;
/// Notes of one batch read (HubSpot's limit).
const BATCH: usize = 100;
/// The type of the association from a note to a contact.
const NOTE_TO_CONTACT: u16 = 202;

/// A note that HubSpot has.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Note {
    pub(super) id: String,
    /// The revision that it tells.
    pub(super) revision: i32,
}

impl Api {
    /// The handoff's note among those of a contact.
    pub(super) async fn find_note(
        &self,
        deadline: Instant,
        contact: &str,
        handoff_id: &HandoffId,
    ) -> Result<Option<Note>, SendError> {
        let ids = self.note_ids(deadline, contact).await?;
        for batch in ids.chunks(BATCH) {
            let inputs: Vec<Value> = batch
                .iter()
                .map(|id| json!({ "id": id.to_string() }))
                .collect();
            let answer = self
                .call(
                    deadline,
                    Call {
                        what: "reading the contact's notes",
                        method: Method::POST,
                        path: "/crm/v3/objects/notes/batch/read",
                        body: Some(json!({ "inputs": inputs, "properties": ["hs_note_body"] })),
                        effect: Effect::Looks,
                    },
                )
                .await?;
            let found = answer["results"]
                .as_array()
                .into_iter()
                .flatten()
                .find_map(|note| {
                    let body = note["properties"]["hs_note_body"].as_str()?;
                    Some(Note {
                        id: id(&note["id"])?,
                        revision: marked(body, handoff_id)?,
                    })
                });
            if found.is_some() {
                return Ok(found);
            }
        }
        Ok(None)
    }

    /// The ids of a contact's notes, the newest first.
    async fn note_ids(&self, deadline: Instant, contact: &str) -> Result<Vec<u64>, SendError> {
        let mut ids = Vec::new();
        let mut after = String::new();
        for _ in 0..PAGES {
            let path = format!(
                "/crm/v4/objects/contacts/{contact}/associations/notes?limit={PAGE}{after}"
            );
            let answer = self
                .call(
                    deadline,
                    Call {
                        what: "listing the contact's notes",
                        method: Method::GET,
                        path: &path,
                        body: None,
                        effect: Effect::Looks,
                    },
                )
                .await;
            let answer = match answer {
                Ok(answer) => answer,
                // The contact is gone, and its notes with it.
                Err(CallError::NotFound(_)) => break,
                Err(error) => return Err(error.into()),
            };
            let page = answer["results"].as_array().into_iter().flatten();
            ids.extend(page.filter_map(|note| id(&note["toObjectId"])?.parse::<u64>().ok()));
            match id(&answer["paging"]["next"]["after"]) {
                Some(next) => after = format!("&after={next}"),
                None => break,
            }
        }
        ids.sort_unstable_by(|a, b| b.cmp(a));
        ids.truncate(NOTES_READ);
        Ok(ids)
    }

    /// Makes the note together with its association, so that there is none without.
    pub(super) async fn create_note(
        &self,
        deadline: Instant,
        contact: &str,
        dossier: &Dossier,
        body: &str,
    ) -> Result<String, SendError> {
        let what = "making the note";
        let at = dossier
            .created_at
            .to_rfc3339_opts(SecondsFormat::Millis, true);
        let answer = self
            .call(
                deadline,
                Call {
                    what,
                    method: Method::POST,
                    path: "/crm/v3/objects/notes",
                    body: Some(json!({
                        "properties": { "hs_timestamp": at, "hs_note_body": body },
                        "associations": [{
                            "to": { "id": contact },
                            "types": [{
                                "associationCategory": "HUBSPOT_DEFINED",
                                "associationTypeId": NOTE_TO_CONTACT,
                            }],
                        }],
                    })),
                    effect: Effect::Writes,
                },
            )
            .await?;
        id(&answer["id"])
            .ok_or_else(|| SendError::unknown(format!("HubSpot: {what}: its answer names no note")))
    }

    /// Replaces the note's text; false: the note is gone.
    pub(super) async fn update_note(
        &self,
        deadline: Instant,
        note: &str,
        body: &str,
    ) -> Result<bool, SendError> {
        let path = format!("/crm/v3/objects/notes/{note}");
        let call = Call {
            what: "bringing the note up to date",
            method: Method::PATCH,
            path: &path,
            body: Some(json!({ "properties": { "hs_note_body": body } })),
            effect: Effect::Writes,
        };
        match self.call(deadline, call).await {
            Ok(_) => Ok(true),
            Err(CallError::NotFound(_)) => Ok(false),
            Err(error) => Err(error.into()),
        }
    }

    /// Associates a note with one more contact; done before, it changes nothing.
    pub(super) async fn associate(
        &self,
        deadline: Instant,
        note: &str,
        contact: &str,
    ) -> Result<(), SendError> {
        let path = format!("/crm/v4/objects/notes/{note}/associations/default/contacts/{contact}");
        let call = Call {
            what: "associating the note",
            method: Method::PUT,
            path: &path,
            body: None,
            effect: Effect::Writes,
        };
        self.call(deadline, call).await?;
        Ok(())
    }
}

/// What the mark says before the revision.
fn mark(handoff_id: &HandoffId) -> String {
    format!("growth-chat handoff {handoff_id} revision ")
}

/// The revision that a note's mark names. The mark is the note's end: whatever a visitor wrote is before.
fn marked(body: &str, handoff_id: &HandoffId) -> Option<i32> {
    let mark = mark(handoff_id);
    let rest = &body[body.rfind(&mark)? + mark.len()..];
    let digits = rest.split(|sign: char| !sign.is_ascii_digit()).next()?;
    digits.parse().ok()
}

/// The note. `dropped`: properties whose values HubSpot did not take.
pub(super) fn render(dossier: &Dossier, dropped: &[String]) -> String {
    let mut head = String::new();
    let _ = write!(head, "<p><strong>{}</strong></p>", reason(dossier.trigger));
    head.push_str("<ul>");
    for (name, value) in facts(dossier) {
        let value = inert::html(&inert::text(&value, LONGEST_FACT));
        let _ = write!(head, "<li>{name}: {value}</li>");
    }
    if !dropped.is_empty() {
        let names = inert::html(&dropped.join(", "));
        let _ = write!(
            head,
            "<li>HubSpot does not take what they gave as: {names}</li>"
        );
    }
    head.push_str("</ul>");
    let end = format!("<p>{}{}</p>", mark(&dossier.handoff_id), dossier.revision);
    // The newest of the conversation, as far as there is room.
    let mut room = LONGEST_NOTE.saturating_sub(head.chars().count() + end.len() + 200);
    let mut lines = Vec::new();
    for line in dossier.transcript.iter().rev() {
        let who = match &line.speaker {
            Speaker::Visitor => "Visitor".to_owned(),
            Speaker::Assistant => "Assistant".to_owned(),
            Speaker::Person(name) => inert::html(&inert::line(name, 100)),
        };
        let at = line.at.format("%Y-%m-%d %H:%M UTC");
        let text = inert::html(&inert::text(&line.text, LONGEST_MESSAGE));
        let rendered = format!("<p><strong>{who}</strong> ({at})<br>{text}</p>");
        let length = rendered.chars().count();
        if length > room {
            lines.push("<p>…</p>".to_owned());
            break;
        }
        room -= length;
        lines.push(rendered);
    }
    lines.reverse();
    format!("{head}{}{end}", lines.concat())
}

fn reason(trigger: Trigger) -> &'static str {
    match trigger {
        Trigger::QualifiedLead => "A qualified lead from the website chat",
        Trigger::ContactForm => "The contact form of the website chat",
        Trigger::Stall => "A visitor of the website chat who took the offer of a person",
        Trigger::ExplicitWish => "A visitor of the website chat who asked for a person",
    }
}

fn facts(dossier: &Dossier) -> Vec<(&'static str, String)> {
    let lead = &dossier.lead;
    let mut facts = Vec::new();
    for (name, value) in [
        ("Name", &lead.name),
        ("E-mail", &lead.email),
        ("Company", &lead.company),
        ("Phone", &lead.phone),
        ("Need", &lead.need),
        ("Timeline", &lead.timeline),
        ("Budget", &lead.budget),
        ("Message", &lead.message),
        ("Summary", &dossier.summary),
        ("Page", &dossier.page_url),
        ("Language", &dossier.locale),
    ] {
        if let Some(value) = value {
            facts.push((name, value.clone()));
        }
    }
    if let Some(promise) = &dossier.promise {
        let by = promise.by.format("%Y-%m-%d %H:%M UTC");
        facts.push(("Promised", format!("{} (by {by})", promise.text)));
    }
    let consent = if dossier.consent { "yes" } else { "not asked" };
    facts.push(("Agreed to be contacted", consent.to_owned()));
    facts.push(("Session", dossier.session_id.to_string()));
    facts
}

/// The page of a record, if it is one that people can be given to click on.
pub(super) fn link(text: &str) -> Option<String> {
    let url = Url::parse(text).ok()?;
    (url.scheme() == "https" && text.len() <= 2_000).then(|| text.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mark_is_read_at_the_end_and_only_of_its_handoff() {
        let id: HandoffId = "h-1".parse().unwrap();
        let body = "growth-chat handoff h-1 revision 9 … <p>growth-chat handoff h-1 revision 2</p>";
        assert_eq!(marked(body, &id), Some(2));
        assert_eq!(marked(body, &"h-2".parse().unwrap()), None);
        assert_eq!(marked("growth-chat handoff h-1 revision ", &id), None);
        assert_eq!(marked("growth-chat handoff h-12 revision 3", &id), None);
    }
}
