//! Slack is away while a person speaks.

use sandbox::{
    anthropic::Reply,
    slack::{ANNA, BEN},
    switch::Trouble,
};

use super::support::{
    PATIENCE, follow, hand_off, press, said, thread_is_known, until, until_news, workspace,
};
use crate::support::{TestSystem, frames::End};

#[tokio::test]
async fn a_visitor_whose_person_can_not_be_reached_is_told_and_answered_by_the_assistant() {
    let system = TestSystem::new().await;
    system.anthropic.push(Reply::text("Good day."));
    let api = system.serve().await;
    let slack = workspace(&system, &api);
    let pool = system.pool().await;
    api.ask("s1", "m1", "Hello").await.rest().await;
    let message = hand_off(&slack, &api, "s1").await;
    press(&slack, &message, "take_over", ANNA).await;
    let mut frames = follow(&api, "s1", 1).await;
    until_news(&mut frames, "joined", ANNA.display_name).await;

    system.people.slack.set_trouble(Some(Trouble::Status(500)));
    api.ask("s1", "m2", "Are you there?").await.rest().await;
    // The waits of six minutes, all but the last attempt.
    until("an attempt has failed", async || {
        let moved = sqlx::query(
            "update queue.jobs set attempt = max_attempts - 1
             where kind = 'handoff.relay' and state = 'scheduled' and attempt > 0",
        )
        .execute(&pool)
        .await
        .unwrap();
        (moved.rows_affected() > 0).then_some(())
    })
    .await;
    sqlx::query("select ops.retry_job(id) from queue.jobs where kind = 'handoff.relay'")
        .execute(&pool)
        .await
        .unwrap();

    let mut frames = follow(&api, "s1", 2).await;
    let (rest, end) = frames.rest().await;
    assert_eq!(end, End::Clean);
    let told = rest
        .iter()
        .find(|frame| frame.kind() == "text-delta")
        .unwrap();
    assert!(
        told.json["delta"]
            .as_str()
            .unwrap()
            .contains("can't be reached")
    );
    let transcript = api.transcript("s1").await;
    assert!(transcript["session"]["agent"].is_null());
    system.anthropic.push(Reply::text("I am here."));
    api.ask("s1", "m3", "Anybody?").await.rest().await;
    assert_eq!(said(&api, "s1").await.last().unwrap().1, "I am here.");

    // The thread hears of it when Slack is back.
    system.people.slack.set_trouble(None);
    sqlx::query("select ops.retry_job(id) from queue.jobs where kind = 'slack.note' and state = 'scheduled'")
        .execute(&pool)
        .await
        .unwrap();
    slack
        .wait_for(PATIENCE, |messages| {
            messages
                .iter()
                .any(|it| it.everything().contains("could not be brought here"))
                .then_some(())
        })
        .await
        .expect("the thread is told");
}

#[tokio::test]
async fn what_was_taken_without_an_answer_is_not_said_twice() {
    let system = TestSystem::new().await;
    system.anthropic.push(Reply::text("Good day."));
    let api = system.serve().await;
    let slack = workspace(&system, &api);
    api.ask("s1", "m1", "Hello").await.rest().await;
    let message = hand_off(&slack, &api, "s1").await;
    thread_is_known(&system.pool().await, &message).await;
    let replied = slack
        .reply_in_thread(&message.ts, "!reply I am Ben", BEN)
        .await
        .unwrap();
    assert!(replied.is_ok());
    // The notice of the takeover has to be there first: it takes what the switch has for the next one.
    slack
        .wait_for(PATIENCE, |messages| {
            messages
                .iter()
                .any(|it| it.everything().contains("speaks with the visitor now"))
                .then_some(())
        })
        .await
        .expect("the thread is told");
    slack
        .switch_of("chat.postMessage")
        .once(Trouble::TakeAndCut);
    api.ask("s1", "m2", "An unrepeatable question")
        .await
        .rest()
        .await;
    let pool = system.pool().await;
    until("the message is brought", async || {
        let done: i64 = sqlx::query_scalar(
            "select count(*) from queue.history where kind = 'handoff.relay' and outcome = 'done'",
        )
        .fetch_one(&pool)
        .await
        .unwrap();
        (done > 0).then_some(())
    })
    .await;
    let thread = slack.thread(&message.ts);
    let copies = thread
        .iter()
        .filter(|it| it.everything().contains("unrepeatable"));
    assert_eq!(copies.count(), 1);
}
