//! What people write in Slack for a visitor, and what a visitor writes for them, is told to nobody else:
//! not when it is not signed, not of Slack's form, refused by the database or by Slack.

use reqwest::StatusCode;
use sandbox::{
    outside::Service,
    slack::{ANNA, CHANNEL_ID, SLACK_SIGNING_SECRET, signature},
    switch::Trouble,
};
use serde_json::{Value, json};
use store::clock::{Clock, SystemClock};

use super::support::{PATIENCE, hand_off, press, thread_is_known, until, workspace};
use crate::support::{
    ApiProcess, TestSystem,
    discretion::{Discretion, SECRETS, VISITORS},
};

/// What a person wrote, and what they are called.
const PERSONS: &str = "persons-own-words";
/// Where a person's words to a visitor are, and the name by which the visitor knows them.
const OF_PERSONS: &[&str] = &["messages", "turn_events", "sessions", "slack_people"];

/// A marked system whose stand-in of Slack knows by what requests are signed.
async fn marked() -> (TestSystem, Discretion) {
    let mut system = TestSystem::new().await;
    let discretion = Discretion::seed(&mut system)
        .await
        .and(SLACK_SIGNING_SECRET)
        .and_at(PERSONS, OF_PERSONS);
    system.set("SLACK_SIGNING_SECRET", SLACK_SIGNING_SECRET);
    (system, discretion)
}

fn now() -> u64 {
    u64::try_from(SystemClock.now().timestamp()).unwrap()
}

/// Sends what Slack would; the answer may not repeat it.
async fn send(
    discretion: &Discretion,
    api: &ApiProcess,
    path: &str,
    body: &str,
    at: u64,
    signature: &str,
) -> StatusCode {
    let request = crate::support::client()
        .post(api.url(path))
        .header("x-slack-request-timestamp", at)
        .header("x-slack-signature", signature)
        .body(body.to_owned());
    let response = request.send().await.unwrap();
    let status = response.status();
    discretion.look_at("an answer to Slack", &response.text().await.unwrap());
    status
}

async fn signed(discretion: &Discretion, api: &ApiProcess, path: &str, body: &str) -> StatusCode {
    let at = now();
    let signature = signature(SLACK_SIGNING_SECRET, at, body);
    send(discretion, api, path, body, at, &signature).await
}

fn form(payload: &Value) -> String {
    let mut form = url::form_urlencoded::Serializer::new(String::new());
    form.append_pair("payload", &payload.to_string());
    form.finish()
}

fn words(event_id: &str, thread: &str, text: &str) -> Value {
    json!({
        "type": "event_callback", "event_id": event_id,
        "event": {"type": "message", "channel": CHANNEL_ID, "thread_ts": thread, "user": ANNA.id, "text": text}
    })
}

fn button(action: &str, value: &str) -> Value {
    json!({
        "type": "block_actions", "user": {"id": ANNA.id, "name": PERSONS}, "trigger_id": "1.1",
        "container": {"type": "message", "channel_id": CHANNEL_ID, "message_ts": "1.1"},
        "actions": [{"action_id": action, "value": value, "type": "button"}]
    })
}

fn view(state: &Value) -> Value {
    json!({
        "type": "view_submission", "user": {"id": ANNA.id, "name": PERSONS},
        "view": {"id": "V1", "callback_id": "reply", "private_metadata": PERSONS, "state": state}
    })
}

#[tokio::test]
async fn what_is_not_slacks_or_not_of_its_form_is_repeated_to_nobody() {
    let (system, discretion) = marked().await;
    let api = system.api().await;
    let told = words("Ev1", "1.1", &format!("reply: {PERSONS} {VISITORS}")).to_string();
    let at = now();
    let right = signature(SLACK_SIGNING_SECRET, at, &told);
    let old = at - 1_000;
    for (at, signature) in [
        (at, signature(SECRETS, at, &told)),
        (old, signature(SLACK_SIGNING_SECRET, old, &told)),
        (at - 1, right.clone()),
        (at, SLACK_SIGNING_SECRET.to_owned()),
    ] {
        let status = send(&discretion, &api, "/slack/events", &told, at, &signature).await;
        assert_eq!(status, StatusCode::UNAUTHORIZED);
    }
    let mut refused = 0;
    for body in [
        format!("{{\"{PERSONS}"),
        format!("payload={PERSONS}%7B"),
        format!("payload=%7B%22{PERSONS}%22%3A"),
        json!({"type": PERSONS}).to_string(),
        json!({"type": "event_callback", "event_id": [PERSONS], "event": PERSONS}).to_string(),
        words(&format!("{PERSONS} no id"), "1.1", "reply: Hello").to_string(),
        words(
            "Ev1",
            &format!("{PERSONS}\u{0}"),
            &format!("reply: {PERSONS}"),
        )
        .to_string(),
        form(&button(PERSONS, PERSONS)),
        form(&button("take_over", PERSONS)),
        form(&button("take_over", &format!("{PERSONS} : {PERSONS}"))),
        form(&view(&json!(PERSONS))),
        form(&view(
            &json!({"values": {"reply": {"text": {"value": [PERSONS]}}}}),
        )),
        form(&json!({"type": "block_actions", "user": PERSONS, "actions": PERSONS})),
        PERSONS.repeat(70_000),
    ] {
        for path in ["/slack/events", "/slack/interactions"] {
            let status = signed(&discretion, &api, path, &body).await;
            assert!(!status.is_server_error(), "{status} {path} {body:.200}");
            refused += usize::from(status.is_client_error());
        }
    }
    assert!(refused >= 20, "{refused} were refused");
    discretion.look_through(&system, &[&api.process]).await;
}

#[tokio::test]
async fn a_database_that_refuses_a_persons_words_makes_nobody_tell() {
    let (system, discretion) = marked().await;
    let (api, worker) = (system.api().await, system.worker().await);
    let slack = workspace(&system, &api);
    let pool = system.pool().await;
    api.ask("s1", "m1", &format!("Hello {VISITORS}"))
        .await
        .rest()
        .await;
    let message = hand_off(&slack, &api, "s1").await;
    thread_is_known(&pool, &message).await;
    // Postgres says in the details of an error which row it refuses: all of it.
    sqlx::query("alter table messages add constraint unkept check (body not like '%persons-own%')")
        .execute(&pool)
        .await
        .unwrap();
    let words = words("Ev1", &message.ts, &format!("reply: {PERSONS}"));
    let status = signed(&discretion, &api, "/slack/events", &words.to_string()).await;
    assert_eq!(status, StatusCode::INTERNAL_SERVER_ERROR);
    let mut typed = view(&json!({"values": {"reply": {"text": {"value": PERSONS}}}}));
    let button = message.button("take_over").unwrap();
    typed["view"]["private_metadata"] = button["value"].clone();
    let status = signed(&discretion, &api, "/slack/interactions", &form(&typed)).await;
    assert_eq!(status, StatusCode::INTERNAL_SERVER_ERROR);
    discretion
        .look_through(&system, &[&api.process, &worker])
        .await;
}

#[tokio::test]
async fn slack_that_quotes_what_it_refuses_makes_nobody_tell() {
    let (system, discretion) = marked().await;
    let (api, worker) = (system.api().await, system.worker().await);
    let slack = workspace(&system, &api);
    let pool = system.pool().await;
    api.ask("s1", "m1", &format!("Hello {VISITORS}"))
        .await
        .rest()
        .await;
    let message = hand_off(&slack, &api, "s1").await;
    thread_is_known(&pool, &message).await;
    slack.switch_of("users.info").set(Some(Trouble::Quote(400)));
    press(&slack, &message, "take_over", ANNA).await;
    slack
        .wait_for(PATIENCE, |messages| {
            let shown = messages.iter().find(|it| it.ts == message.ts)?;
            shown.button("reply")
        })
        .await
        .expect("the message has the person's buttons");
    for method in ["views.open", "chat.update"] {
        slack.switch_of(method).set(Some(Trouble::Quote(400)));
    }
    let replied = words("Ev1", &message.ts, &format!("reply: {PERSONS}"));
    let status = signed(&discretion, &api, "/slack/events", &replied.to_string()).await;
    assert_eq!(status, StatusCode::OK);
    press(&slack, &message, "reply", ANNA).await;
    // What the visitor writes now is for the person, and Slack repeats it instead of taking it.
    let webhook = system.people.slack.webhook_switch();
    webhook.set(Some(Trouble::Quote(400)));
    slack
        .switch_of("chat.postMessage")
        .set(Some(Trouble::Quote(400)));
    api.ask("s1", "m2", &format!("{VISITORS}: are you there?"))
        .await
        .rest()
        .await;
    for kind in ["slack.person", "slack.open_reply", "handoff.relay"] {
        until(kind, async || {
            let failed: i64 = sqlx::query_scalar(
                "select count(*) from (select kind, errors from queue.jobs
                                       union all select kind, errors from queue.history) job
                 where kind = $1 and errors <> '[]'",
            )
            .bind(kind)
            .fetch_one(&pool)
            .await
            .unwrap();
            (failed > 0).then_some(())
        })
        .await;
    }
    discretion
        .look_through(&system, &[&api.process, &worker])
        .await;
    // What was looked for was there to be found.
    let asked = system.world.received_by(Service::Slack);
    for words in [VISITORS, SECRETS] {
        let quoted = asked.iter().filter(|it| it.answer.contains(words));
        assert!(quoted.count() > 0, "{words}");
    }
}
