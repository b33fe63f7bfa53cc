//! The contacts of the CRM, with the notes that stand with them.

use super::html::Html;
use crate::hubspot::{Contact, HubSpot, Note};

/// Contacts on a page at most.
const SHOWN: usize = 20;
/// What a note is shown with: HubSpot shows its markup.
const NOTE_STYLE: &str = "<!doctype html><style>body{font:14px/1.45 system-ui,sans-serif;margin:12px;color:#1d1c1d}\
     p,ul{margin:0 0 8px}</style>";

/// Renders them, the newest first.
pub(super) fn render(html: &mut Html, hubspot: &HubSpot) {
    html.raw("<section class=\"panel\" id=\"crm\"><header><h2>CRM</h2><span class=\"quiet\">HubSpot</span></header>");
    let (contacts, notes) = (hubspot.contacts(), hubspot.notes());
    if contacts.is_empty() {
        html.raw("<p class=\"empty\">No contacts yet.</p>");
    }
    for contact in contacts.iter().rev().take(SHOWN) {
        one(html, contact, &notes);
    }
    html.raw("</section>");
}

fn one(html: &mut Html, contact: &Contact, notes: &[Note]) {
    let name = format!("{} {}", contact.get("firstname"), contact.get("lastname"));
    let name = match name.trim() {
        "" => contact.get("email"),
        name => name,
    };
    html.raw("<article class=\"record\"")
        .attribute("data-key", format_args!("contact-{}", contact.id))
        .raw("><header><strong>")
        .text(name)
        .raw("</strong><span class=\"badge\">")
        .text(match contact.get("lifecyclestage") {
            "" => "no stage",
            stage => stage,
        })
        .raw("</span><span class=\"quiet\">#")
        .text(contact.id)
        .raw("</span></header><dl>");
    for (property, value) in &contact.properties {
        if property != "lifecyclestage" {
            html.raw("<dt>")
                .text(property)
                .raw("</dt><dd>")
                .text(value)
                .raw("</dd>");
        }
    }
    html.raw("</dl>");
    let theirs = notes.iter();
    for note in theirs.filter(|note| note.contacts.contains(&contact.id)) {
        html.raw("<details")
            .attribute("data-key", format_args!("note-{}", note.id))
            .raw("><summary>Note")
            .text(match note.changes {
                0 => String::new(),
                1 => ", changed once".to_owned(),
                changes => format!(", changed {changes} times"),
            })
            // Sandboxed: no scripts, no forms, and none of this page's rights.
            .raw("</summary><iframe sandbox title=\"The note\"")
            .attribute("srcdoc", format_args!("{NOTE_STYLE}{}", note.body))
            .raw("></iframe></details>");
    }
    html.raw("</article>");
}
