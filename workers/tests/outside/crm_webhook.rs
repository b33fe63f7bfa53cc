//! A CRM of one's own: told by a signed webhook, with the same id for each attempt of the same facts.

use std::{sync::Arc, time::Duration};

use sandbox::{
    outside::OutsideWorld, receiver::Receiver, receiver::WEBHOOK_SECRET, switch::Trouble,
};
use serde_json::json;
use store::clock::SystemClock;
use workers::{
    handoff::{
        SendError,
        crm::{CrmProvider, CrmWebhook},
    },
    standard_webhooks::WebhookSecret,
};

use crate::{dossiers::dossier, support::http};

async fn receiver() -> (Receiver, CrmWebhook) {
    let receiver = Receiver::start(OutsideWorld::default(), 0).await.unwrap();
    let url = format!("{}/crm", receiver.url()).parse().unwrap();
    let secret = WebhookSecret::parse(WEBHOOK_SECRET).unwrap();
    let crm = CrmWebhook::new(url, secret, Arc::new(SystemClock), http());
    (receiver, crm)
}

#[tokio::test]
async fn the_lead_arrives_signed_and_the_answer_leads_to_the_record() {
    let (receiver, crm) = receiver().await;
    let receipt = crm.put(&dossier("h-1")).await.unwrap();
    assert_eq!(receipt.provider_id.as_deref(), Some("rec_1"));
    assert_eq!(
        receipt.url.as_deref(),
        Some("https://crm.example/records/1")
    );
    let taken = receiver.taken_at("/crm");
    assert_eq!(taken.len(), 1);
    let body = &taken[0].body;
    assert_eq!(
        (&body["type"], &body["timestamp"]),
        (&json!("handoff"), &json!("2026-06-01T10:00:00+00:00"))
    );
    let data = &body["data"];
    assert_eq!(data["handoff_id"], "h-1");
    assert_eq!(data["lead"]["email"], "ada@example.org");
    assert_eq!(data["trigger"], "contact_form");
    assert_eq!(data["transcript"][0]["speaker"], "visitor");
    assert_eq!(data["promise"]["text"], "Heute bis 18 Uhr");
}

#[tokio::test]
async fn the_same_facts_have_the_same_id_and_new_ones_another() {
    let (receiver, crm) = receiver().await;
    receiver.switch().once(Trouble::TakeAndCut);
    let lost = crm.put(&dossier("h-1")).await.unwrap_err();
    assert!(matches!(lost, SendError::Unknown { .. }), "{lost:?}");
    assert!(crm.find(&dossier("h-1")).await.unwrap().is_none());
    crm.put(&dossier("h-1")).await.unwrap();
    let mut newer = dossier("h-1");
    newer.revision = 2;
    crm.put(&newer).await.unwrap();
    let deliveries = receiver.deliveries();
    let ids: Vec<&str> = deliveries.iter().map(|it| it.id.as_str()).collect();
    assert_eq!(ids, ["h-1-r1", "h-1-r1", "h-1-r2"]);
    let repeated: Vec<bool> = deliveries.iter().map(|it| it.repeated).collect();
    assert_eq!(repeated, [false, true, false]);
    assert_eq!(deliveries[0].body, deliveries[1].body);
}

#[tokio::test]
async fn statuses_that_heal_are_told_from_those_that_do_not() {
    let (receiver, crm) = receiver().await;
    for status in [408, 429, 500, 503] {
        receiver.switch().once(Trouble::Status(status));
        let failed = crm.put(&dossier("h-1")).await.unwrap_err();
        assert!(matches!(failed, SendError::Healable { .. }), "{status}");
    }
    for status in [302, 400, 401, 404, 410] {
        receiver.switch().once(Trouble::Status(status));
        let failed = crm.put(&dossier("h-1")).await.unwrap_err();
        assert!(matches!(failed, SendError::Final { .. }), "{status}");
    }
    receiver.switch().once(Trouble::SlowDown(5));
    let slow = crm.put(&dossier("h-1")).await.unwrap_err();
    let SendError::Healable { retry_after, .. } = slow else {
        panic!("{slow:?}");
    };
    assert_eq!(retry_after, Some(Duration::from_secs(5)));
    assert!(receiver.deliveries().is_empty());
}

#[tokio::test]
async fn a_receiver_that_is_not_there_was_not_reached() {
    let (receiver, crm) = receiver().await;
    drop(receiver);
    let gone = crm.put(&dossier("h-1")).await.unwrap_err();
    assert!(matches!(gone, SendError::Healable { .. }), "{gone:?}");
}

#[tokio::test]
async fn what_a_visitor_wrote_is_no_formula_in_the_receivers_table() {
    let (receiver, crm) = receiver().await;
    let mut hostile = dossier("h-1");
    hostile.lead.name = Some("=IMPORTXML(\"http://x\")".to_owned());
    hostile.transcript[0].text = "+1+cmd".to_owned();
    hostile.lead.phone = Some("+49 89 123456".to_owned());
    crm.put(&hostile).await.unwrap();
    let data = &receiver.taken_at("/crm")[0].body["data"];
    assert_eq!(data["lead"]["name"], "'=IMPORTXML(\"http://x\")");
    assert_eq!(data["lead"]["phone"], "+49 89 123456");
    assert_eq!(data["transcript"][0]["text"], "'+1+cmd");
}

#[tokio::test]
async fn the_receiver_is_told_to_forget() {
    let (receiver, crm) = receiver().await;
    let receipt = crm.put(&dossier("h-1")).await.unwrap();
    crm.forget(&receipt.reference, None).await.unwrap();
    let last = receiver.deliveries().pop().unwrap();
    assert_eq!(last.body["type"], "handoff.erased");
    assert_eq!(
        last.body["data"],
        json!({"id": "rec_1", "handoff_id": "h-1"})
    );
}

#[tokio::test]
async fn what_another_crm_has_is_not_said_to_be_forgotten() {
    let (receiver, crm) = receiver().await;
    let of_hubspot = json!({"contact": "51", "note": "52", "made": true});
    let refused = crm.forget(&of_hubspot, None).await.unwrap_err();
    assert!(
        matches!(refused, SendError::NothingToSend { .. }),
        "{refused:?}"
    );
    assert!(receiver.deliveries().is_empty());
}
