use axum::{
    Router,
    http::{HeaderMap, StatusCode},
    routing::any,
};
use serde_json::{Value, json};

use super::*;
use crate::tests::client;

async fn slack() -> Slack {
    Slack::start(OutsideWorld::default(), 0).await.unwrap()
}

async fn api(slack: &Slack, method: &str, arguments: Value) -> Value {
    let url = format!("{}/api/{method}", slack.url());
    let request = client().post(url).bearer_auth(BOT_TOKEN).json(&arguments);
    request.send().await.unwrap().json().await.unwrap()
}

async fn post_text(slack: &Slack, text: &str) -> String {
    let arguments = json!({"channel": "#new-leads", "text": text,
        "blocks": [{"type": "actions", "elements": [{"type": "button", "action_id": "taken",
            "text": {"type": "plain_text", "text": "Taken"}, "value": "s:h"}]}],
        "metadata": {"event_type": "e", "event_payload": {"n": text}}});
    let answer = api(slack, "chat.postMessage", arguments).await;
    assert_eq!(answer["ok"], true, "{answer}");
    answer["ts"].as_str().unwrap().to_owned()
}

#[tokio::test]
async fn a_message_is_posted_found_changed_and_deleted() {
    let slack = slack().await;
    let ts = post_text(&slack, "one").await;
    let shown = api(
        &slack,
        "conversations.history",
        json!({"channel": CHANNEL_ID, "include_all_metadata": true}),
    )
    .await;
    assert_eq!(
        shown["messages"][0]["metadata"]["event_payload"]["n"],
        "one"
    );
    let address = json!({"channel": CHANNEL_ID, "ts": ts, "text": "two"});
    assert_eq!(
        api(&slack, "chat.update", address.clone()).await["ok"],
        true
    );
    assert_eq!(slack.messages()[0].text, "two");
    assert_eq!(slack.messages()[0].edits, 1);
    assert_eq!(
        api(&slack, "chat.delete", address.clone()).await["ok"],
        true
    );
    assert_eq!(slack.workspace().deleted(), [ts]);
    let gone = api(&slack, "chat.delete", address).await;
    assert_eq!(gone["error"], "message_not_found");
}

#[tokio::test]
async fn a_long_history_comes_in_pages_without_the_replies() {
    let slack = slack().await;
    let first = post_text(&slack, "1").await;
    for text in ["2", "3"] {
        post_text(&slack, text).await;
    }
    let reply = json!({"channel": CHANNEL_ID, "text": "reply", "thread_ts": first});
    api(&slack, "chat.postMessage", reply).await;
    let ask = |cursor: &str| {
        let asked = json!({"channel": CHANNEL_ID, "limit": 2, "cursor": cursor});
        api(&slack, "conversations.history", asked)
    };
    let one = ask("").await;
    let two = ask(one["response_metadata"]["next_cursor"].as_str().unwrap()).await;
    let pages = [&one, &two].map(|page| page["messages"].as_array().unwrap().clone());
    let texts: Vec<_> = pages.concat().iter().map(|it| it["text"].clone()).collect();
    assert_eq!(texts, ["3", "2", "1"]);
    assert_eq!(two["has_more"], false);
    let asked = json!({"channel": CHANNEL_ID, "ts": first});
    let thread = api(&slack, "conversations.replies", asked).await;
    assert_eq!(thread["messages"][1]["text"], "reply");
}

#[tokio::test]
async fn what_slack_would_refuse_is_refused() {
    let slack = slack().await;
    let url = format!("{}/api/auth.test", slack.url());
    let wrong = client().post(&url).bearer_auth("xoxb-other").send().await;
    let wrong: Value = wrong.unwrap().json().await.unwrap();
    assert_eq!(wrong["error"], "invalid_auth");
    for (arguments, code) in [
        (
            json!({"channel": "#other", "text": "x"}),
            "channel_not_found",
        ),
        (json!({"channel": CHANNEL_ID}), "no_text"),
        (
            json!({"channel": CHANNEL_ID, "blocks": []}),
            "invalid_blocks",
        ),
        (
            json!({"channel": CHANNEL_ID, "text": "x".repeat(40_001)}),
            "msg_too_long",
        ),
        (
            json!({"channel": CHANNEL_ID, "text": "x", "thread_ts": "1.0"}),
            "thread_not_found",
        ),
        (
            json!({"channel": CHANNEL_ID, "text": "x", "metadata": {"event_type": "e"}}),
            "invalid_metadata_format",
        ),
    ] {
        let answer = api(&slack, "chat.postMessage", arguments).await;
        assert_eq!(answer["error"], code);
    }
    assert!(slack.messages().is_empty());
}

#[tokio::test]
async fn messages_that_come_too_fast_are_counted_and_refused_on_demand() {
    let slack = slack().await;
    let rate = PostRate {
        each: Duration::from_hours(1),
        burst: 1,
        refuses: false,
    };
    slack.workspace().set_rate(rate);
    post_text(&slack, "1").await;
    post_text(&slack, "2").await;
    assert_eq!(slack.workspace().too_fast(), 1);
    slack.workspace().set_rate(PostRate {
        refuses: true,
        ..rate
    });
    let url = format!("{}/webhook", slack.url());
    let refused = client()
        .post(url)
        .json(&json!({"text": "3"}))
        .send()
        .await
        .unwrap();
    assert_eq!(refused.status(), 429);
    assert!(
        refused.headers()["retry-after"]
            .to_str()
            .unwrap()
            .parse::<u64>()
            .unwrap()
            > 3_600
    );
    assert_eq!(slack.messages().len(), 2);
}

#[tokio::test]
async fn the_switches_fail_as_they_say() {
    let slack = slack().await;
    let url = format!("{}/webhook", slack.url());
    let post = || client().post(&url).json(&json!({"text": "x"})).send();
    slack
        .webhook_switch()
        .once(Trouble::Refuse("no_service".to_owned()));
    let refused = post().await.unwrap();
    assert_eq!(refused.status(), 404);
    assert_eq!(refused.text().await.unwrap(), "no_service");
    slack.webhook_switch().once(Trouble::TakeAndCut);
    let cut = post().await;
    assert!(cut.is_err() || cut.unwrap().bytes().await.is_err());
    assert_eq!(slack.messages().len(), 1);
    let posting = slack.workspace().switch_of("chat.postMessage");
    posting.once(Trouble::SlowDown(7));
    let url = format!("{}/api/chat.postMessage", slack.url());
    let limited = client()
        .post(url)
        .bearer_auth(BOT_TOKEN)
        .send()
        .await
        .unwrap();
    assert_eq!(limited.headers()["retry-after"], "7");
    posting.once(Trouble::Quote(403));
    let quoted = client()
        .post(format!("{}/api/chat.postMessage", slack.url()))
        .bearer_auth(BOT_TOKEN)
        .json(&json!({"text": "my words"}))
        .send()
        .await
        .unwrap();
    assert_eq!(quoted.status(), 403);
    let quoted: Value = quoted.json().await.unwrap();
    let words = quoted["error"].as_str().unwrap();
    assert!(
        words.contains(BOT_TOKEN) && words.contains("my words"),
        "{words}"
    );
    assert_eq!(api(&slack, "auth.test", json!({})).await["ok"], true);
}

/// An app that keeps what it received and answers with these statuses, the last one for ever.
async fn app(statuses: Vec<u16>) -> (Served, Arc<Mutex<Vec<(HeaderMap, String)>>>) {
    let received: Arc<Mutex<Vec<(HeaderMap, String)>>> = Arc::default();
    let kept = received.clone();
    let handler = move |headers: HeaderMap, body: String| {
        let mut kept = kept.lock();
        let status = statuses.get(kept.len()).or(statuses.last());
        let status = StatusCode::from_u16(*status.unwrap()).unwrap();
        kept.push((headers, body));
        std::future::ready(status)
    };
    let router = Router::new()
        .route("/slack/events", any(handler.clone()))
        .route("/slack/interactions", any(handler));
    (Served::start(router, 0).await.unwrap(), received)
}

fn is_signed((headers, body): &(HeaderMap, String)) -> bool {
    let timestamp = headers["x-slack-request-timestamp"].to_str().unwrap();
    let secret = SLACK_SIGNING_SECRET;
    let signed = signature(secret, timestamp.parse().unwrap(), body);
    headers["x-slack-signature"] == signed.as_str()
}

#[tokio::test]
async fn a_pressed_button_reaches_the_app_signed_and_may_open_a_modal() {
    let slack = slack().await;
    let workspace = slack.workspace();
    let ts = post_text(&slack, "one").await;
    let pressed = workspace.press(&ts, "taken", ANNA).await;
    assert_eq!(pressed, Err(InboundError::NotConnected));
    let (served, received) = app(vec![200]).await;
    workspace.connect(&served.url());
    assert!(workspace.press(&ts, "taken", ANNA).await.unwrap().is_ok());
    let missing = workspace.press(&ts, "other", ANNA).await;
    assert_eq!(missing, Err(InboundError::NoButton));
    let request = received.lock()[0].clone();
    assert!(is_signed(&request));
    let form = url::form_urlencoded::parse(request.1.as_bytes())
        .next()
        .unwrap();
    assert_eq!(form.0, "payload");
    let payload: Value = serde_json::from_str(&form.1).unwrap();
    assert_eq!(payload["type"], "block_actions");
    assert_eq!(payload["actions"][0]["value"], "s:h");
    assert_eq!(payload["actions"][0]["block_id"], "b0");
    assert_eq!(payload["container"]["message_ts"], ts.as_str());

    let view = json!({"type": "modal", "title": {"type": "plain_text", "text": "Reply"},
        "private_metadata": "s:h", "blocks": [{"type": "input", "block_id": "b",
            "label": {"type": "plain_text", "text": "Text"},
            "element": {"type": "plain_text_input", "action_id": "a"}}]});
    let asked = json!({"trigger_id": payload["trigger_id"], "view": view});
    assert_eq!(api(&slack, "views.open", asked.clone()).await["ok"], true);
    let again = api(&slack, "views.open", asked).await;
    assert_eq!(again["error"], "exchanged_trigger_id");
    let open = workspace.views()[0].clone();
    assert_eq!(open.user, ANNA.id);
    let submitted = workspace
        .submit_view(&open.id, &[("b", "a", "Hello & <b>")])
        .await;
    assert!(submitted.unwrap().is_ok());
    let body = received.lock()[1].1.clone();
    let form = url::form_urlencoded::parse(body.as_bytes()).next().unwrap();
    let payload: Value = serde_json::from_str(&form.1).unwrap();
    assert_eq!(payload["view"]["private_metadata"], "s:h");
    assert_eq!(
        payload["view"]["state"]["values"]["b"]["a"]["value"],
        "Hello & <b>"
    );
    let closed = workspace.close_view(&open.id).await;
    assert_eq!(closed, Err(InboundError::NoView));
}

#[tokio::test]
async fn a_reply_is_sent_again_until_the_app_takes_it() {
    let slack = slack().await;
    let workspace = slack.workspace();
    let ts = post_text(&slack, "one").await;
    let (served, received) = app(vec![503, 500, 200]).await;
    workspace.connect(&served.url());
    let answer = workspace.reply_in_thread(&ts, "a < b", BEN).await.unwrap();
    assert_eq!((answer.status, answer.tries), (Some(200), 3));
    assert!(workspace.repeat().await.unwrap().is_ok());
    let received = received.lock().clone();
    assert!(received.iter().all(is_signed));
    assert_eq!(received.len(), 4);
    assert!(!received[0].0.contains_key("x-slack-retry-num"));
    assert_eq!(received[2].0["x-slack-retry-num"], "2");
    let bodies: Vec<Value> = received
        .iter()
        .map(|(_, body)| serde_json::from_str(body).unwrap())
        .collect();
    assert!(bodies.iter().all(|body| *body == bodies[0]));
    assert_eq!(bodies[0]["event"]["text"], "a &lt; b");
    assert_eq!(bodies[0]["event"]["thread_ts"], ts.as_str());
    assert_eq!(workspace.thread(&ts)[0].via, Via::Person);
}
