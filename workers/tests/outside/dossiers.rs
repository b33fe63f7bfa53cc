//! A handoff to tell of.

use store::{
    handoffs::{Channel, Lead, Trigger},
    phrases::Language,
};
use workers::handoff::{Dossier, Line, Promise, Reference, Speaker};

/// A lead from the contact form, as its first attempt tells it.
pub(crate) fn dossier(handoff_id: &str) -> Dossier {
    let at = "2026-06-01T10:00:00Z".parse().unwrap();
    let line = |speaker, text: &str| Line {
        speaker,
        text: text.to_owned(),
        at,
    };
    Dossier {
        session_id: "s-1".parse().unwrap(),
        handoff_id: handoff_id.parse().unwrap(),
        revision: 1,
        trigger: Trigger::ContactForm,
        stage: 4,
        lead: Lead {
            name: Some("Ada Lovelace".to_owned()),
            email: Some("ada@example.org".to_owned()),
            company: Some("Analytical Engines".to_owned()),
            phone: Some("+49 89 123456".to_owned()),
            ..Lead::default()
        },
        consent: true,
        summary: Some("Wants an audit.".to_owned()),
        transcript: vec![
            line(Speaker::Visitor, "What does an audit cost?"),
            line(Speaker::Assistant, "That depends."),
        ],
        page_url: Some("https://www.company.example/pricing".to_owned()),
        locale: Some("de-DE".to_owned()),
        language: Language::German,
        promise: Some(Promise {
            text: "Heute bis 18 Uhr".to_owned(),
            by: "2026-06-01T16:00:00Z".parse().unwrap(),
        }),
        created_at: at,
        first_attempt_at: at,
        attempt: 1,
        last_attempt: false,
        taken_by: None,
        references: Vec::new(),
        speaks: None,
        was_spoken_to: false,
        earlier_thread: None,
    }
}

/// The same with what the CRM answered to the delivery before.
pub(crate) fn told_before(mut dossier: Dossier, reference: serde_json::Value) -> Dossier {
    dossier.references.push(Reference {
        channel: Channel::Crm,
        reference,
        url: None,
    });
    dossier
}
