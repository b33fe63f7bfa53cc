//! What an endpoint is told comes in its order, whatever fails, and holds nobody else up.

use sandbox::switch::Trouble;
use store::{ids::TurnKey, webhooks::Event};

use super::support::{Desk, until};

#[tokio::test]
async fn an_endpoint_is_told_in_order_however_its_attempts_fail() {
    let desk = Desk::new().await;
    let endpoint = desk.endpoint("/a", &["session.started"]).await;
    let switch = desk.receiver.switch();
    for healthy in [0, 1, 0, 2] {
        switch.once_after(healthy, Trouble::Status(500));
        switch.once(Trouble::TakeAndCut);
        switch.once(Trouble::SlowDown(3));
    }
    let sessions: Vec<String> = (0..12).map(|n| format!("s-{n}")).collect();
    let _process = desk.process();
    for session in &sessions {
        desk.session_starts(session).await;
    }
    desk.all_done().await;
    assert_eq!(desk.sessions_told("/a"), sessions);
    let attempts = desk.attempts(&endpoint).await;
    let failed = attempts
        .iter()
        .filter(|(outcome, _)| outcome == "failed")
        .count();
    assert_eq!((attempts.len(), failed), (24, 12));
}

#[tokio::test]
async fn an_endpoint_that_fails_holds_up_itself_only() {
    let desk = Desk::new().await;
    desk.endpoint("/good", &["session.started"]).await;
    let bad = desk
        .endpoint_at("http://127.0.0.1:1/bad", &["session.started"])
        .await;
    let _process = desk.process();
    let sessions: Vec<String> = (0..5).map(|n| format!("s-{n}")).collect();
    for session in &sessions {
        desk.session_starts(session).await;
    }
    until("the good one has everything", async || {
        (desk.sessions_told("/good") == sessions).then_some(())
    })
    .await;
    until("the bad one waits", async || {
        let shown = desk.shown(&bad).await;
        (shown.waiting == 5 && shown.failing_since.is_some()).then_some(())
    })
    .await;
    // The first one waits for its second attempt, and the others behind it.
    let tried = desk.attempts(&bad).await;
    assert_eq!(
        tried,
        [("failed".to_owned(), Some("it was not reached".to_owned()))]
    );
}

#[tokio::test]
async fn what_happens_at_once_in_many_sessions_is_told_once_and_in_order_in_each() {
    let desk = Desk::new().await;
    desk.endpoint(
        "/a",
        &["session.started", "turn.completed", "session.closed"],
    )
    .await;
    desk.endpoint("/b", &["turn.completed"]).await;
    let (_one, _other) = (desk.process(), desk.process());
    let sessions: Vec<String> = (0..8).map(|n| format!("s-{n}")).collect();
    let happening = sessions.iter().map(|session| {
        let desk = &desk;
        async move {
            let id: store::ids::SessionId = session.parse().unwrap();
            desk.session_starts(session).await;
            for turn in 1..=10 {
                let session_id = id.clone();
                let turn = Event::TurnCompleted(TurnKey { session_id, turn });
                desk.happens(session, &[turn]).await;
            }
            desk.happens(session, &[Event::SessionClosed(id)]).await;
        }
    });
    futures::future::join_all(happening).await;
    desk.all_done().await;
    let taken = desk.receiver.taken_at("/a");
    assert_eq!(taken.len(), 8 * 12);
    assert_eq!(desk.receiver.taken_at("/b").len(), 8 * 10);
    for session in &sessions {
        let id: store::ids::SessionId = session.parse().unwrap();
        let mut expected = vec![Event::SessionStarted(id.clone())];
        for turn in 1..=10 {
            let session_id = id.clone();
            expected.push(Event::TurnCompleted(TurnKey { session_id, turn }));
        }
        expected.push(Event::SessionClosed(id));
        let expected: Vec<String> = expected.iter().map(Event::id).collect();
        let told: Vec<String> = taken
            .iter()
            .filter(|delivery| delivery.body["data"]["session_id"] == session.as_str())
            .map(|delivery| delivery.id.clone())
            .collect();
        assert_eq!(told, expected);
    }
}

#[tokio::test]
async fn what_was_announced_before_anybody_works_is_told_by_whoever_comes() {
    let desk = Desk::new().await;
    desk.endpoint("/a", &["session.started"]).await;
    for session in ["s-1", "s-2"] {
        desk.session_starts(session).await;
    }
    let states =
        "select count(*) from queue.jobs where kind = 'webhook.deliver' and state = 'blocked'";
    assert_eq!(desk.count(states).await, 2);
    let _process = desk.process();
    desk.all_done().await;
    assert_eq!(desk.sessions_told("/a"), ["s-1", "s-2"]);
}

#[tokio::test]
async fn what_is_rolled_back_is_told_to_nobody() {
    let desk = Desk::new().await;
    desk.endpoint("/a", &["session.started"]).await;
    let mut transaction = desk.pool.begin().await.unwrap();
    let started = [Event::SessionStarted("s-1".parse().unwrap())];
    let mut after = store::bus::Wake::default();
    jobs::webhooks::announce(&mut transaction, &started, &mut after)
        .await
        .unwrap();
    transaction.rollback().await.unwrap();
    assert_eq!(desk.count("select count(*) from queue.jobs").await, 0);
}
