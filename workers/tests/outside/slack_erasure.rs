//! Whoever is to be forgotten is taken out of Slack, by whichever way their messages came.

use chrono::{DateTime, TimeDelta, Utc};
use futures::{StreamExt, stream};
use sandbox::{
    slack::{ANNA, Via},
    switch::Trouble,
};
use serde_json::json;
use workers::handoff::{
    Dossier, Receipt,
    slack::{Destination, Erased, Mark, Place, SlackError, note, place},
};

use crate::{dossiers::dossier, slack::Office};

async fn erase(
    office: &Office,
    dossier: &Dossier,
    receipts: &[&Receipt],
) -> Result<Erased, SlackError> {
    let known: Vec<Place> = receipts
        .iter()
        .filter_map(|receipt| place(&receipt.reference))
        .collect();
    // The stand-in names messages by the real time.
    erase_between(office, dossier, &known, (message_time(), message_time())).await
}

async fn erase_between(
    office: &Office,
    dossier: &Dossier,
    known: &[Place],
    attempts: (DateTime<Utc>, DateTime<Utc>),
) -> Result<Erased, SlackError> {
    let (session_id, handoff_id) = (&dossier.session_id, &dossier.handoff_id);
    let erasing = office.client.erase(session_id, handoff_id, known, attempts);
    erasing.await
}

fn is_whole(erased: &Erased) -> bool {
    erased.left.is_empty() && erased.not_looked.is_none()
}

fn message_time() -> DateTime<Utc> {
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
    office
        .workspace()
        .switch_of("chat.delete")
        .once(Trouble::SlowDown(3));
    let slowed = erase(&office, &ours, &[&receipt]).await.unwrap_err();
    assert!(slowed.retry_after().is_some(), "{slowed:?}");
    assert!(is_whole(&erase(&office, &ours, &[&receipt]).await.unwrap()));
    let left = office.messages();
    let of_people = left.iter().filter(|it| it.via == Via::Person).count();
    assert_eq!((left.len(), of_people), (2, 1));
    assert!(left[0].metadata.to_string().contains("h-2"));
    // Once more is nothing more.
    assert!(is_whole(&erase(&office, &ours, &[&receipt]).await.unwrap()));
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
    assert!(is_whole(&erase(&office, &ours, &[&receipt]).await.unwrap()));
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
    let erased = erase(&office, &ours, &[&receipt]).await.unwrap();
    let [left] = &erased.left[..] else {
        panic!("{erased:?}");
    };
    assert_eq!(left.ts, office.messages()[0].ts);
}

#[tokio::test]
async fn a_message_whose_name_never_reached_us_is_deleted_as_well() {
    let office = Office::new().await;
    let ours = dossier("h-1");
    let posting = office.workspace().switch_of("chat.postMessage");
    posting.once(Trouble::TakeAndCut);
    office.post(&ours).await.unwrap_err();
    assert!(is_whole(&erase(&office, &ours, &[]).await.unwrap()));
    assert!(office.messages().is_empty());
}

#[tokio::test]
async fn what_can_not_be_looked_for_is_told_to_a_person_and_what_is_known_goes() {
    let office = Office::new().await;
    let ours = dossier("h-1");
    let receipt = office.post(&ours).await.unwrap();
    let history = office.workspace().switch_of("conversations.history");
    history.once(Trouble::Refuse("missing_scope".to_owned()));
    let told = erase(&office, &ours, &[&receipt]).await.unwrap();
    assert!(told.not_looked.unwrap().is_one_of(&["missing_scope"]));
    assert!(office.messages().is_empty());
}

#[tokio::test]
async fn a_message_that_came_long_after_its_handoff_is_found_by_when_it_came() {
    let office = Office::new().await;
    let ours = dossier("h-1");
    let posting = office.workspace().switch_of("chat.postMessage");
    posting.once(Trouble::Refuse("invalid_auth".to_owned()));
    office.post(&ours).await.unwrap();
    let made = message_time() - TimeDelta::days(40);
    let early = erase_between(&office, &ours, &[], (made, made))
        .await
        .unwrap();
    assert_eq!((early.deleted, office.messages().len()), (0, 1));
    let erased = erase_between(&office, &ours, &[], (made, message_time()));
    assert_eq!(erased.await.unwrap().deleted, 1);
    assert!(office.messages().is_empty());
}

#[tokio::test]
async fn a_channel_that_is_too_full_to_be_looked_through_is_told() {
    let office = Office::new().await;
    let ours = dossier("h-1");
    office.post(&ours).await.unwrap();
    let posted = stream::iter(0..2_000).map(|number| {
        let other = dossier("h-2");
        let mark = Mark::new(
            &other.session_id,
            &other.handoff_id,
            format!("relay-{number}"),
        );
        let (office, words) = (&office, note(mark, "Visitor", "Hello"));
        async move {
            let posted = office.client.post(&Destination::Channel, &words);
            posted.await.unwrap();
        }
    });
    posted.buffer_unordered(32).collect::<()>().await;
    assert!(!is_whole(&erase(&office, &ours, &[]).await.unwrap()));
}
