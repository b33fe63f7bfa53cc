//! A conversation between a visitor and a person, by two API processes and a worker.

use sandbox::{
    anthropic::Reply,
    outside::Service,
    slack::{ANNA, BEN},
};

use super::support::{
    PATIENCE, follow, hand_off, press, said, text, thread_is_known, until, until_news, workspace,
};
use crate::support::{TestSystem, frames::End};

#[tokio::test]
async fn a_person_and_a_visitor_speak_with_each_other_and_the_assistant_goes_on() {
    let system = TestSystem::new().await;
    system.anthropic.push(Reply::text("Good day."));
    // Slack speaks to one process, and the visitor is at the other.
    let (for_slack, api) = (system.api().await, system.api().await);
    let _worker = system.worker().await;
    let slack = workspace(&system, &for_slack);
    let (_, end) = api.ask("s1", "m1", "Is anybody there?").await.rest().await;
    assert_eq!(end, End::Clean);
    let message = hand_off(&slack, &api, "s1").await;
    thread_is_known(&system.pool().await, &message).await;

    let mut frames = follow(&api, "s1", 1).await;
    until_news(&mut frames, "left", "").await;
    press(&slack, &message, "take_over", ANNA).await;
    until_news(&mut frames, "joined", ANNA.display_name).await;

    // What the visitor writes is in the thread, whole and inert.
    let (_, end) = api
        .ask("s1", "m2", "Are you <!channel> *real*?")
        .await
        .rest()
        .await;
    assert_eq!(end, End::Clean);
    let relayed = slack
        .wait_for(PATIENCE, |messages| {
            messages
                .iter()
                .filter(|it| it.thread_ts.as_deref() == Some(&message.ts))
                .find(|it| it.everything().contains("real"))
                .cloned()
        })
        .await
        .expect("the message is in the thread");
    assert!(relayed.everything().contains("&lt;!channel&gt; *real*?"));
    drop(frames);

    // A note stays among people; a marked reply does not.
    let mut frames = follow(&api, "s1", 2).await;
    until_news(&mut frames, "joined", ANNA.display_name).await;
    let note = slack
        .reply_in_thread(&message.ts, "a big fish", BEN)
        .await
        .unwrap();
    assert!(note.is_ok());
    let reply = slack
        .reply_in_thread(&message.ts, "Reply: Quite & so", ANNA)
        .await
        .unwrap();
    assert!(reply.is_ok());
    let (played, end) = frames.rest().await;
    assert_eq!((text(&played), end), ("Quite & so".to_owned(), End::Clean));

    // The form: the visitor sees that somebody types.
    let mut frames = follow(&api, "s1", 3).await;
    until_news(&mut frames, "joined", ANNA.display_name).await;
    press(&slack, &message, "reply", ANNA).await;
    until_news(&mut frames, "typing", ANNA.display_name).await;
    let view = slack
        .wait_for_view(PATIENCE)
        .await
        .expect("the form is opened");
    let words = [("reply", "text", "By the form")];
    assert!(slack.submit_view(&view.id, &words).await.unwrap().is_ok());
    let (played, _) = frames.rest().await;
    assert_eq!(text(&played), "By the form");

    press(&slack, &message, "hand_back", ANNA).await;
    system.anthropic.push(Reply::text("I am back."));
    let (answered, end) = api.ask("s1", "m3", "And now?").await.rest().await;
    assert_eq!(
        (text(&answered), end),
        ("I am back.".to_owned(), End::Clean)
    );
    let by = |author: &str, text: &str| (author.to_owned(), text.to_owned());
    assert_eq!(
        said(&api, "s1").await,
        [
            by("visitor", "Is anybody there?"),
            by("assistant", "Good day."),
            by("visitor", "Are you <!channel> *real*?"),
            by(ANNA.display_name, "Quite & so"),
            by(ANNA.display_name, "By the form"),
            by("visitor", "And now?"),
            by("assistant", "I am back."),
        ]
    );
    // The model was asked twice, and was told whose words the others were.
    let asked = system.world.received_by(Service::Anthropic);
    let answers: Vec<_> = asked
        .iter()
        .filter(|it| it.body.get("tools").is_some())
        .collect();
    assert_eq!(answers.len(), 2);
    let told = answers[1].body["messages"].to_string();
    assert!(
        told.contains("Written by a colleague of yours, \\\"Anna Example\\\""),
        "{told}"
    );
    assert!(!told.contains("a big fish"));
    // The message says how it stands.
    until("the message offers to take over again", async || {
        let shown = slack.message(&message.ts)?;
        let offers = shown.button("take_over").is_some() && shown.button("hand_back").is_none();
        (offers && shown.everything().contains("handed the visitor back")).then_some(())
    })
    .await;
}
