//! Whoever is to be forgotten is taken out of Slack, by whichever way their messages came.

use jobs::{
    Outcome, Retry,
    catalog::{HandoffSlackDelete, PostedHandoff},
};
use sandbox::{
    slack::{ANNA, Via},
    switch::Trouble,
};
use serde_json::json;
use workers::{
    handlers::handoff_slack_delete::delete,
    handoff::{
        Dossier, Receipt,
        slack::{Destination, Mark, Place, note},
    },
};

use crate::{dossiers::dossier, slack::Office};

fn job(dossier: &Dossier, receipt: &Receipt) -> HandoffSlackDelete {
    HandoffSlackDelete {
        session_id: dossier.session_id.clone(),
        handoffs: vec![PostedHandoff {
            handoff_id: dossier.handoff_id.clone(),
            // The stand-in names messages by the real time.
            created_at: message_time(),
            references: vec![receipt.reference.clone()],
        }],
    }
}

fn message_time() -> chrono::DateTime<chrono::Utc> {
    store::clock::Clock::now(&store::clock::SystemClock)
}

async fn relay(office: &Office, dossier: &Dossier, thread: &Place, number: usize) {
    let mark = Mark::new(
        &dossier.session_id,
        &dossier.handoff_id,
        format!("relay-{number}"),
    );
    let thread = Destination::Thread(thread.clone());
    let words = note(mark, "Visitor", "my number is 089");
    office.client.post(&thread, &words).await.unwrap();
}

#[tokio::test]
async fn a_message_goes_with_all_that_we_wrote_in_its_thread_and_nothing_else() {
    let office = Office::new().await;
    let (ours, other) = (dossier("h-1"), dossier("h-2"));
    let receipt = office.post(&ours).await.unwrap();
    office.post(&other).await.unwrap();
    let first: Place = serde_json::from_value(receipt.reference.clone()).unwrap();
    for number in 0..3 {
        relay(&office, &ours, &first, number).await;
    }
    // Nobody listens; the reply is there all the same.
    let _ = office
        .workspace()
        .reply_in_thread(&first.ts, "On it", ANNA)
        .await;
    // Interrupted, it goes on where it was.
    let job = job(&ours, &receipt);
    office
        .workspace()
        .switch_of("chat.delete")
        .once(Trouble::SlowDown(3));
    let slowed = delete(&office.client, &job).await.unwrap_err();
    assert!(matches!(slowed.retry, Retry::NotBefore(_)), "{slowed:?}");
    assert_eq!(delete(&office.client, &job).await.unwrap(), Outcome::Done);
    let left = office.messages();
    let of_people = left.iter().filter(|it| it.via == Via::Person).count();
    assert_eq!((left.len(), of_people), (2, 1));
    assert!(left[0].metadata.to_string().contains("h-2"));
    // Once more is nothing more.
    assert_eq!(delete(&office.client, &job).await.unwrap(), Outcome::Done);
    assert_eq!(office.messages().len(), 2);
}

#[tokio::test]
async fn a_message_that_went_by_the_webhook_is_looked_for_and_deleted() {
    let office = Office::new().await;
    let ours = dossier("h-1");
    office
        .workspace()
        .switch_of("chat.postMessage")
        .once(Trouble::Refuse("invalid_auth".to_owned()));
    let receipt = office.post(&ours).await.unwrap();
    assert_eq!(receipt.reference, json!({"via": "webhook"}));
    office.post(&dossier("h-2")).await.unwrap();
    let done = delete(&office.client, &job(&ours, &receipt)).await.unwrap();
    assert_eq!(done, Outcome::Done);
    let [left] = office.messages().try_into().unwrap();
    assert!(left.metadata.to_string().contains("h-2"));
}

#[tokio::test]
async fn what_slack_does_not_let_us_delete_is_named_for_a_person() {
    let office = Office::new().await;
    let ours = dossier("h-1");
    let receipt = office.post(&ours).await.unwrap();
    let refused = || Trouble::Refuse("cant_delete_message".to_owned());
    office.workspace().switch_of("chat.delete").once(refused());
    let left = delete(&office.client, &job(&ours, &receipt))
        .await
        .unwrap_err();
    assert_eq!(left.retry, Retry::Never);
    let named = format!("C0NEWLEADS/{}", office.messages()[0].ts);
    assert!(left.reason.contains(&named), "{left}");
}
