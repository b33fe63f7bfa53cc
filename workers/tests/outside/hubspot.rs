//! HubSpot as a CRM: one contact and one note, whatever gets lost on the way.

use std::time::Duration;

use sandbox::{
    hubspot::{HubSpot as StandIn, PORTAL},
    outside::{OutsideWorld, Service},
    switch::Trouble,
};
use serde_json::json;
use workers::handoff::{
    Dossier, SendError,
    crm::{CrmProvider, HubSpot},
};

use crate::{
    dossiers::{dossier, told_before},
    support::http,
};

struct Account {
    world: OutsideWorld,
    outside: StandIn,
    hubspot: HubSpot,
}

impl Account {
    async fn new() -> Self {
        Self::with_token("pat-sandbox").await
    }

    async fn with_token(token: &str) -> Self {
        let world = OutsideWorld::default();
        let outside = StandIn::start(world.clone(), 0).await.unwrap();
        let hubspot = HubSpot::new(token.into(), outside.url(), http());
        Self {
            world,
            outside,
            hubspot,
        }
    }

    /// The requests so far.
    fn requests(&self) -> Vec<String> {
        let received = self.world.received_by(Service::HubSpot);
        received.into_iter().map(|it| it.request_line).collect()
    }

    async fn put(&self, dossier: &Dossier) -> Result<workers::handoff::Receipt, SendError> {
        self.hubspot.put(dossier).await
    }
}

/// The requests of a first delivery: read, upsert, note, account.
const READ: usize = 0;
const UPSERT: usize = 1;
const NOTE: usize = 2;

/// The dossier of the next attempt.
fn again(dossier: &Dossier) -> Dossier {
    let mut next = dossier.clone();
    next.attempt += 1;
    next
}

#[tokio::test]
async fn a_lead_becomes_a_contact_with_a_note_and_people_are_led_to_it() {
    let account = Account::new().await;
    let receipt = account.put(&dossier("h-1")).await.unwrap();

    let contacts = account.outside.contacts();
    assert_eq!(contacts.len(), 1);
    let contact = &contacts[0];
    assert_eq!(contact.get("email"), "ada@example.org");
    assert_eq!(
        (contact.get("firstname"), contact.get("lastname")),
        ("Ada", "Lovelace")
    );
    assert_eq!(contact.get("phone"), "+49 89 123456");
    assert_eq!(contact.get("lifecyclestage"), "lead");
    let notes = account.outside.notes();
    assert_eq!(notes.len(), 1);
    assert!(notes[0].contacts.contains(&contact.id));
    for told in [
        "What does an audit cost?",
        "That depends.",
        "Wants an audit.",
        "Heute bis 18 Uhr",
        "h-1 revision 1",
    ] {
        assert!(notes[0].body.contains(told), "{told}: {}", notes[0].body);
    }
    assert_eq!(receipt.provider_id, Some(contact.id.to_string()));
    let page = format!(
        "https://app-eu1.hubspot.com/contacts/{PORTAL}/record/0-1/{}",
        contact.id
    );
    assert_eq!(receipt.url, Some(page));
    assert_eq!(receipt.reference["note"], notes[0].id.to_string());

    // The account is asked for once in the life of a process.
    account.put(&dossier("h-2")).await.unwrap();
    let asked = account.requests();
    assert_eq!(
        asked
            .iter()
            .filter(|line| line.contains("account-info"))
            .count(),
        1
    );
    assert!(!asked.iter().any(|line| line.contains("ada")), "{asked:?}");
}

#[tokio::test]
async fn an_attempt_that_died_at_any_request_is_made_again_and_leaves_one_contact_and_one_note() {
    for trouble in [Trouble::TakeAndCut, Trouble::Status(500)] {
        for step in [READ, UPSERT, NOTE] {
            let account = Account::new().await;
            account.outside.switch().once_after(step, trouble.clone());
            let first = dossier("h-1");
            let failed = account.put(&first).await.unwrap_err();
            if trouble == Trouble::TakeAndCut && step != READ {
                assert!(
                    matches!(failed, SendError::Unknown { .. }),
                    "{step}: {failed:?}"
                );
            } else {
                assert!(
                    matches!(failed, SendError::Healable { .. }),
                    "{step}: {failed:?}"
                );
            }
            let found = account.hubspot.find(&again(&first)).await.unwrap();
            let taken = trouble == Trouble::TakeAndCut && step == NOTE;
            assert_eq!(found.is_some(), taken, "{step}");
            let receipt = account.put(&again(&first)).await.unwrap();
            assert_eq!(account.outside.contacts().len(), 1, "{step}");
            let notes = account.outside.notes();
            assert_eq!(notes.len(), 1, "{step}");
            assert_eq!(receipt.reference["note"], notes[0].id.to_string());
            if let Some(found) = found {
                assert_eq!(found.reference["note"], receipt.reference["note"]);
            }
        }
    }
}

#[tokio::test]
async fn a_page_that_is_not_known_does_not_fail_a_lead_that_is_kept() {
    let account = Account::new().await;
    account.outside.switch().once_after(3, Trouble::Status(503));
    let receipt = account.put(&dossier("h-1")).await.unwrap();
    assert_eq!(receipt.url, None);
    assert_eq!(account.outside.notes().len(), 1);
}

#[tokio::test]
async fn new_facts_change_the_contact_that_we_made_and_its_note() {
    let account = Account::new().await;
    let first = dossier("h-1");
    let receipt = account.put(&first).await.unwrap();
    let mut second = told_before(first, receipt.reference.clone());
    second.revision = 2;
    second.lead.company = Some("Engines & Sons".to_owned());
    assert!(account.hubspot.find(&second).await.unwrap().is_none());
    let again = account.put(&second).await.unwrap();
    assert_eq!(again.reference, receipt.reference);
    assert_eq!(
        account.outside.contacts()[0].get("company"),
        "Engines & Sons"
    );
    let notes = account.outside.notes();
    assert_eq!((notes.len(), notes[0].changes), (1, 1));
    assert!(notes[0].body.contains("h-1 revision 2"));
    assert!(notes[0].body.contains("Engines &amp; Sons"));
    assert!(account.hubspot.find(&second).await.unwrap().is_some());
}

#[tokio::test]
async fn new_facts_find_the_note_when_its_reference_was_lost_among_many_others() {
    let account = Account::new().await;
    let first = dossier("h-1");
    account.put(&first).await.unwrap();
    account.put(&dossier("h-2")).await.unwrap();
    let contact = account.outside.contacts()[0].id;
    for n in 0..150 {
        account
            .outside
            .add_note(contact, &format!("call {n}"))
            .unwrap();
    }
    let mut second = first;
    second.revision = 2;
    account.put(&second).await.unwrap();
    let ours: Vec<_> = account
        .outside
        .notes()
        .into_iter()
        .filter(|note| note.body.contains("growth-chat handoff h-1 "))
        .collect();
    assert_eq!(ours.len(), 1);
    assert!(ours[0].body.contains("revision 2"));
}

#[tokio::test]
async fn a_note_that_somebody_deleted_is_made_again() {
    let account = Account::new().await;
    let first = dossier("h-1");
    let receipt = account.put(&first).await.unwrap();
    account.outside.remove_note(account.outside.notes()[0].id);
    let mut second = told_before(first, receipt.reference);
    second.revision = 2;
    account.put(&second).await.unwrap();
    assert_eq!(account.outside.notes().len(), 1);
}

#[tokio::test]
async fn another_address_takes_the_note_along() {
    let account = Account::new().await;
    let first = dossier("h-1");
    let receipt = account.put(&first).await.unwrap();
    let mut second = told_before(first, receipt.reference);
    second.revision = 2;
    second.lead.email = Some("lovelace@example.org".to_owned());
    account.put(&second).await.unwrap();
    assert_eq!(account.outside.contacts().len(), 2);
    let notes = account.outside.notes();
    assert_eq!((notes.len(), notes[0].contacts.len()), (1, 2));
}

#[tokio::test]
async fn a_contact_of_other_people_keeps_what_they_wrote_and_its_stage() {
    let account = Account::new().await;
    let kept = [("firstname", "Augusta"), ("lifecyclestage", "customer")];
    account
        .outside
        .add_contact("ada@example.org", &kept)
        .unwrap();
    account.put(&dossier("h-1")).await.unwrap();
    let contact = &account.outside.contacts()[0];
    assert_eq!(contact.get("firstname"), "Augusta");
    assert_eq!(contact.get("lastname"), "Lovelace");
    assert_eq!(contact.get("lifecyclestage"), "customer");
    assert!(account.outside.notes()[0].body.contains("Ada Lovelace"));
}

#[tokio::test]
async fn a_value_that_hubspot_does_not_take_is_left_out_and_told_in_the_note() {
    for partially in [false, true] {
        let account = Account::new().await;
        account.outside.answer_partially(partially);
        account.outside.refuse_property("phone");
        account.put(&dossier("h-1")).await.unwrap();
        let contact = &account.outside.contacts()[0];
        assert_eq!(contact.get("phone"), "");
        assert_eq!(contact.get("company"), "Analytical Engines");
        let note = &account.outside.notes()[0].body;
        assert!(
            note.contains("HubSpot does not take what they gave as: phone"),
            "{note}"
        );
        assert!(note.contains("+49 89 123456"));
    }
}

#[tokio::test]
async fn an_address_that_hubspot_does_not_take_ends_it() {
    for partially in [false, true] {
        let account = Account::new().await;
        account.outside.answer_partially(partially);
        let mut nobody = dossier("h-1");
        nobody.lead.email = Some("ada@nowhere.invalid".to_owned());
        let refused = account.put(&nobody).await.unwrap_err();
        assert!(matches!(refused, SendError::Final { .. }), "{refused:?}");
        assert!(!refused.to_string().contains("ada"), "{refused}");
        assert!(account.outside.contacts().is_empty());
    }
}

#[tokio::test]
async fn a_lead_without_an_address_is_not_owed_to_hubspot() {
    let account = Account::new().await;
    let mut nobody = dossier("h-1");
    nobody.lead.email = None;
    let skipped = account.put(&nobody).await.unwrap_err();
    assert!(matches!(skipped, SendError::NothingToSend { .. }));
    nobody.lead.email = Some("=cmd|'calc'!A0@example.org".to_owned());
    let refused = account.put(&nobody).await.unwrap_err();
    assert!(matches!(refused, SendError::Final { .. }));
    assert!(account.requests().is_empty());
}

#[tokio::test]
async fn refusals_say_when_to_come_again_or_that_there_is_no_point() {
    let wrong_token = Account::with_token("wrong").await;
    let refused = wrong_token.put(&dossier("h-1")).await.unwrap_err();
    assert!(matches!(refused, SendError::Final { .. }), "{refused:?}");
    assert!(refused.to_string().contains("401"));

    let account = Account::new().await;
    account.outside.switch().once(Trouble::SlowDown(7));
    let slow = account.put(&dossier("h-1")).await.unwrap_err();
    let SendError::Healable { retry_after, .. } = slow else {
        panic!("{slow:?}");
    };
    assert_eq!(retry_after, Some(Duration::from_secs(7)));
    for status in [403, 404, 302] {
        account
            .outside
            .switch()
            .once_after(1, Trouble::Status(status));
        let refused = account.put(&dossier("h-1")).await.unwrap_err();
        assert!(
            matches!(refused, SendError::Final { .. }),
            "{status}: {refused:?}"
        );
    }
}

#[tokio::test]
async fn hostile_values_are_inert_and_fit() {
    let account = Account::new().await;
    let mut hostile = dossier("h-1");
    hostile.lead.name = Some(format!("=HYPERLINK(\"http://x\") {}", "x".repeat(10_000)));
    hostile.lead.company = Some("@SUM(1)\r\nBcc: x".to_owned());
    hostile.summary = Some("<script>alert(1)</script>".to_owned());
    hostile.lead.message = Some("growth-chat handoff h-1 revision 99".to_owned());
    let line = hostile.transcript[0].clone();
    hostile.transcript = vec![line; 5_000];
    hostile.transcript[4_999].text = "<img src=x onerror=alert(1)>".repeat(200);
    account.put(&hostile).await.unwrap();
    let contact = &account.outside.contacts()[0];
    assert!(contact.get("firstname").starts_with("'=HYPERLINK"));
    assert!(contact.get("lastname").chars().count() <= 255);
    assert_eq!(contact.get("company"), "'@SUM(1) Bcc: x");
    let note = &account.outside.notes()[0].body;
    assert!(note.chars().count() <= 65_536, "{}", note.chars().count());
    assert!(!note.contains("<script") && !note.contains("<img"));
    assert!(note.ends_with("growth-chat handoff h-1 revision 1</p>"));
    // What a visitor wrote is no mark.
    hostile.revision = 2;
    assert!(account.hubspot.find(&hostile).await.unwrap().is_none());
}

#[tokio::test]
async fn a_person_is_forgotten_by_the_contacts_id_and_once_more_changes_nothing() {
    let account = Account::new().await;
    let receipt = account.put(&dossier("h-1")).await.unwrap();
    for _ in 0..2 {
        account
            .hubspot
            .forget(&receipt.reference, None)
            .await
            .unwrap();
    }
    assert!(account.outside.contacts().is_empty());
    assert!(account.outside.notes().is_empty());
    assert!(account.outside.blocked().is_empty());
}

#[tokio::test]
async fn a_record_of_another_crm_is_not_said_to_be_forgotten_but_none_that_was_never_made() {
    let account = Account::new().await;
    let of_a_webhook = json!({"id": "51000000001", "handoff_id": "h-1"});
    let refused = account.hubspot.forget(&of_a_webhook, None).await;
    assert!(
        matches!(refused, Err(SendError::NothingToSend { .. })),
        "{refused:?}"
    );
    let unheard = json!({"handoff_id": "h-1", "attempt": 1});
    account.hubspot.forget(&unheard, None).await.unwrap();
    assert!(account.requests().is_empty());
}
