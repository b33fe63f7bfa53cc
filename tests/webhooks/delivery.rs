//! An attempt: what is sent, what an answer means, and when an endpoint is left alone.

use std::sync::Arc;

use chrono::{DateTime, TimeDelta, Utc};
use sandbox::switch::Trouble;
use serde_json::json;
use store::{clock::Clock, handoffs::HandoffStatus, webhooks::Event};
use workers::clients::guarded::AddressRules;

use super::support::{Desk, client, until};

#[tokio::test]
async fn all_attempts_of_an_event_have_its_id_and_its_words() {
    let desk = Desk::new().await;
    let endpoint = desk.endpoint("/a", &["session.started"]).await;
    for trouble in [
        Trouble::TakeAndCut,
        Trouble::TakeAndCut,
        Trouble::Status(503),
    ] {
        desk.receiver.switch().once(trouble);
    }
    let _process = desk.process();
    desk.session_starts("s-1").await;
    desk.all_done().await;
    let deliveries = desk.receiver.deliveries();
    assert_eq!(deliveries.len(), 3);
    let id = Event::SessionStarted("s-1".parse().unwrap()).id();
    assert!(
        deliveries
            .iter()
            .all(|it| it.id == id && it.body == deliveries[0].body)
    );
    let body = &deliveries[0].body;
    assert_eq!(body["type"], "session.started");
    assert_eq!(body["data"]["session_id"], "s-1");
    assert!(
        body["timestamp"]
            .as_str()
            .unwrap()
            .parse::<DateTime<Utc>>()
            .is_ok()
    );
    let outcomes: Vec<_> = desk.attempts(&endpoint).await;
    let broke = || ("failed".to_owned(), Some("the connection broke".to_owned()));
    let expected = [
        broke(),
        broke(),
        ("failed".to_owned(), Some("it answered 503".to_owned())),
        ("delivered".to_owned(), None),
    ];
    assert_eq!(outcomes, expected);
    let shown = desk.shown(&endpoint).await;
    assert_eq!(shown.failing_since, None);
    assert!(shown.last_delivered_at.is_some());
}

#[tokio::test]
async fn both_secrets_sign_while_one_is_replaced() {
    let desk = Desk::new().await;
    let endpoint = desk.endpoint("/a", &["session.started"]).await;
    let hour = std::time::Duration::from_hours(1);
    let new = store::webhooks::rotate(&desk.pool, &endpoint.id, hour)
        .await
        .unwrap();
    let _process = desk.process();
    desk.session_starts("s-1").await;
    desk.all_done().await;
    // The receiver knows the old one only.
    assert_eq!(desk.receiver.deliveries()[0].signatures, 2);

    desk.receiver.know(&new);
    desk.receiver.forget(&endpoint.secret);
    desk.session_starts("s-2").await;
    desk.all_done().await;
    assert_eq!(desk.sessions_told("/a"), ["s-1", "s-2"]);

    desk.execute("update webhook_secrets set expires_at = now() - interval '1 s' where expires_at is not null")
        .await;
    desk.session_starts("s-3").await;
    desk.all_done().await;
    assert_eq!(desk.receiver.deliveries()[2].signatures, 1);
    assert_eq!(desk.receiver.refused(), 0);
}

#[tokio::test]
async fn no_more_than_three_secrets_sign() {
    let desk = Desk::new().await;
    let endpoint = desk.endpoint("/a", &["session.started"]).await;
    let hour = std::time::Duration::from_hours(1);
    for _ in 0..5 {
        store::webhooks::rotate(&desk.pool, &endpoint.id, hour)
            .await
            .unwrap();
    }
    assert_eq!(desk.shown(&endpoint).await.secrets, 3);
    let at_once = std::time::Duration::ZERO;
    store::webhooks::rotate(&desk.pool, &endpoint.id, at_once)
        .await
        .unwrap();
    assert_eq!(desk.shown(&endpoint).await.secrets, 1);
}

#[tokio::test]
async fn an_endpoint_that_is_gone_is_told_nothing_more() {
    let desk = Desk::new().await;
    let endpoint = desk.endpoint("/a", &["session.started"]).await;
    desk.receiver.switch().once(Trouble::Status(410));
    for session in ["s-1", "s-2", "s-3"] {
        desk.session_starts(session).await;
    }
    let _process = desk.process();
    desk.all_done().await;
    let shown = desk.shown(&endpoint).await;
    assert_eq!(
        (shown.status.as_str(), shown.status_reason.as_deref()),
        ("disabled", Some("gone"))
    );
    assert!(desk.receiver.deliveries().is_empty());
    let ended = "select count(*) from queue.history where kind = 'webhook.deliver' and outcome";
    assert_eq!(desk.count(&format!("{ended} = 'dead'")).await, 1);
    assert_eq!(desk.count(&format!("{ended} = 'cancelled'")).await, 2);

    desk.session_starts("s-4").await;
    assert_eq!(desk.count("select count(*) from queue.jobs").await, 0);
    assert!(
        store::webhooks::enable(&desk.pool, &endpoint.id)
            .await
            .unwrap()
    );
    desk.session_starts("s-5").await;
    desk.all_done().await;
    assert_eq!(desk.sessions_told("/a"), ["s-5"]);
}

#[tokio::test]
async fn an_endpoint_that_fails_for_a_week_is_disabled_and_one_that_fails_for_less_is_not() {
    let desk = Desk::new().await;
    let endpoint = desk.endpoint("/a", &["session.started"]).await;
    desk.receiver.switch().set(Some(Trouble::Status(500)));
    let _process = desk.process();
    desk.session_starts("s-1").await;
    until("it fails", async || {
        desk.shown(&endpoint).await.failing_since
    })
    .await;
    let failed_for = async |days: u8| {
        let since =
            format!("update webhook_endpoints set failing_since = now() - interval '{days} days'");
        desk.execute(&since).await;
    };
    let ended = async || {
        let attempts = desk.attempts(&endpoint).await;
        attempts.iter().filter(|it| !it.0.is_empty()).count()
    };
    failed_for(6).await;
    let before = ended().await;
    until("it fails again", async || {
        desk.let_time_pass().await;
        (ended().await > before).then_some(())
    })
    .await;
    assert_eq!(desk.shown(&endpoint).await.status, "active");
    failed_for(8).await;
    until("it is disabled", async || {
        desk.let_time_pass().await;
        (desk.shown(&endpoint).await.status == "disabled").then_some(())
    })
    .await;
    let reason = desk.shown(&endpoint).await.status_reason;
    assert_eq!(reason.as_deref(), Some("failing"));
}

/// A clock that is some days ahead.
#[derive(Debug)]
struct Ahead(TimeDelta);

impl Clock for Ahead {
    fn now(&self) -> DateTime<Utc> {
        store::clock::SystemClock.now() + self.0
    }
}

#[tokio::test]
async fn an_event_whose_time_is_over_has_one_attempt() {
    let desk = Desk::new().await;
    let endpoint = desk.endpoint("/a", &["session.started"]).await;
    desk.receiver.switch().set(Some(Trouble::Status(500)));
    desk.session_starts("s-1").await;
    desk.session_starts("s-2").await;
    let rules = AddressRules {
        loopback: true,
        ..AddressRules::default()
    };
    let _process = desk.process_with(client(rules), Arc::new(Ahead(TimeDelta::days(4))));
    desk.all_done().await;
    assert_eq!(desk.attempts(&endpoint).await.len(), 2);
    assert_eq!(desk.shown(&endpoint).await.status, "active");
}

#[tokio::test]
async fn a_redirect_is_a_failure_and_is_not_followed() {
    let desk = Desk::new().await;
    let endpoint = desk.endpoint("/a", &["session.started"]).await;
    desk.receiver.switch().once(Trouble::Status(302));
    let _process = desk.process();
    desk.session_starts("s-1").await;
    desk.all_done().await;
    let (outcome, error) = &desk.attempts(&endpoint).await[0];
    assert_eq!(outcome, "failed");
    assert_eq!(
        error.as_deref(),
        Some("it answered 302, a redirect, which is not followed")
    );
}

#[tokio::test]
async fn who_a_handoff_is_about_is_told_and_stands_in_no_job() {
    let desk = Desk::new().await;
    desk.endpoint(
        "/a",
        &["handoff.created", "handoff.delivered", "handoff.failed"],
    )
    .await;
    desk.execute("insert into sessions (session_id) values ('s-1')")
        .await;
    desk.execute(
        "insert into handoff_records (session_id, handoff_id, trigger, lead, summary)
         values ('s-1', 'h-1', 'explicit_wish', '{\"name\": \"=Ada\", \"email\": \"ada@visitor.example\"}', 'An audit.')",
    )
    .await;
    let (session, handoff) = (|| "s-1".parse().unwrap(), || "h-1".parse().unwrap());
    let events = [
        Event::HandoffCreated(session(), handoff()),
        Event::HandoffSettled(session(), handoff(), HandoffStatus::Degraded),
        Event::HandoffSettled(session(), handoff(), HandoffStatus::Dead),
    ];
    desk.happens("s-1", &events).await;
    let with_it = "select count(*) from queue.jobs where payload::text like '%ada%' or payload::text like '%audit%'";
    assert_eq!(desk.count(with_it).await, 0);
    let _process = desk.process();
    desk.all_done().await;
    let taken = desk.receiver.taken_at("/a");
    let types: Vec<_> = taken.iter().map(|it| it.body["type"].clone()).collect();
    assert_eq!(
        types,
        ["handoff.created", "handoff.delivered", "handoff.failed"]
    );
    let data = &taken[0].body["data"];
    assert_eq!(
        data["lead"],
        json!({"name": "'=Ada", "email": "ada@visitor.example"})
    );
    assert_eq!(
        (&data["summary"], &data["trigger"]),
        (&json!("An audit."), &json!("explicit_wish"))
    );
}
