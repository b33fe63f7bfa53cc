use parking_lot::Mutex;
use serde_json::{Value, json};

use super::*;
use crate::outside::{Outcome, Service};

async fn served() -> (OutsideWorld, Arc<People>, WorldPage) {
    let world = OutsideWorld::default();
    let people = Arc::new(People::start(&world).await.unwrap());
    let page = WorldPage::start(world.clone(), Arc::clone(&people), None, 0)
        .await
        .unwrap();
    (world, people, page)
}

/// Sends one of the page's forms.
async fn act(page: &WorldPage, path: &str, fields: &[(&str, &str)]) -> u16 {
    act_from(page, path, fields, None).await
}

async fn act_from(
    page: &WorldPage,
    path: &str,
    fields: &[(&str, &str)],
    origin: Option<&str>,
) -> u16 {
    let mut form = url::form_urlencoded::Serializer::new(String::new());
    form.extend_pairs(fields);
    let mut request = crate::tests::client()
        .post(format!("{}{path}", page.url()))
        .header("content-type", "application/x-www-form-urlencoded")
        .body(form.finish());
    if let Some(origin) = origin {
        request = request.header("origin", origin);
    }
    request.send().await.unwrap().status().as_u16()
}

/// An app that takes everything, and what it took.
async fn app() -> (Served, Arc<Mutex<Vec<Value>>>) {
    let taken: Arc<Mutex<Vec<Value>>> = Arc::default();
    let keep = Arc::clone(&taken);
    let router = Router::new().fallback(move |body: String| async move {
        let form = url::form_urlencoded::parse(body.as_bytes());
        let payload = form.into_iter().find(|(name, _)| name == "payload");
        let json = payload.map_or(body.clone(), |(_, payload)| payload.into_owned());
        keep.lock().push(serde_json::from_str(&json).unwrap());
    });
    (Served::start(router, 0).await.unwrap(), taken)
}

/// Calls the Web API as growth-chat does.
async fn call(people: &People, method: &str, arguments: &Value) -> Value {
    let answer = crate::tests::client()
        .post(format!("{}/api/{method}", people.slack.url()))
        .bearer_auth(crate::slack::BOT_TOKEN)
        .json(arguments)
        .send();
    let answer: Value = answer.await.unwrap().json().await.unwrap();
    assert_eq!(answer["ok"], true, "{answer}");
    answer
}

async fn text(page: &WorldPage, path: &str) -> String {
    let response = crate::tests::client().get(format!("{}{path}", page.url()));
    response.send().await.unwrap().text().await.unwrap()
}

#[tokio::test]
async fn what_was_received_is_escaped() {
    let (world, _people, page) = served().await;
    let body = br#"{"messages": "<script>alert('x')</script>"}"#;
    let mut exchange = world.record(Service::Anthropic, "POST /v1/messages", body);
    exchange.answered_text("<img src=x onerror=\"alert(1)\">");
    exchange.end(Outcome::Answered(200));
    let html = text(&page, "/").await;
    assert!(
        !html.contains("<script>") && !html.contains("<img"),
        "{html}"
    );
    assert!(html.contains("&lt;script&gt;alert(&#39;x&#39;)"), "{html}");
}

#[tokio::test]
async fn a_tab_shows_its_service_newest_first() {
    let (world, _people, page) = served().await;
    for (service, line, status) in [
        (Service::Anthropic, "POST /v1/messages", 200),
        (Service::OpenAi, "POST /v1/embeddings", 429),
    ] {
        let mut exchange = world.record(service, line, b"{}");
        exchange.end(Outcome::Answered(status));
    }
    let json = |text: String| serde_json::from_str::<Value>(&text).unwrap();
    let all = json(text(&page, "/exchanges.json").await);
    assert_eq!(all[0]["number"], 2);
    assert_eq!(all[1]["service"], "anthropic");
    let one = json(text(&page, "/exchanges.json?service=openai").await);
    assert_eq!(one.as_array().unwrap().len(), 1);
    assert_eq!(one[0]["outcome"], json!({"answered": 429}));
    let html = text(&page, "/?service=openai").await;
    assert!(html.contains("POST /v1/embeddings") && !html.contains("POST /v1/messages"));
}

#[tokio::test]
async fn no_script_but_its_own_runs_on_the_page() {
    let (_world, _people, page) = served().await;
    let response = crate::tests::client().get(page.url()).send().await.unwrap();
    let policy = response.headers()["content-security-policy"].to_str();
    let policy = policy.unwrap();
    assert!(policy.contains("default-src 'none'"), "{policy}");
    assert!(policy.contains("script-src 'self';"), "{policy}");
}

#[tokio::test]
async fn a_switch_breaks_a_service_and_mends_it() {
    use crate::switch::Trouble;

    let (_world, people, page) = served().await;
    let set = async |trouble: &str, origin: Option<&str>| {
        let fields = [("service", "slack"), ("trouble", trouble)];
        act_from(&page, "/switch", &fields, origin).await
    };
    assert_eq!(set(r#"{"status":500}"#, None).await, 200);
    assert_eq!(people.slack.switch().current(), Some(Trouble::Status(500)));
    assert_eq!(set("", Some("http://elsewhere.example")).await, 403);
    assert_eq!(set("nonsense", None).await, 422);
    assert_eq!(people.slack.switch().current(), Some(Trouble::Status(500)));
    assert!(text(&page, "/").await.contains("switch broken"));
    assert_eq!(set("", None).await, 200);
    assert_eq!(people.slack.switch().current(), None);
}

#[tokio::test]
async fn a_button_a_reply_and_a_modal_of_slack_reach_the_app() {
    use crate::slack::BEN;

    let (_world, people, page) = served().await;
    let (app, taken) = app().await;
    people.slack.workspace().connect(&app.url());
    let message = json!({
        "channel": "C0NEWLEADS", "text": "A lead",
        "blocks": [
            {"type": "section", "text": {"type": "mrkdwn", "text": "*Ada* &lt;!channel&gt; <@U0ANNA>"}},
            {"type": "actions", "block_id": "b", "elements": [
                {"type": "button", "action_id": "take_over", "value": "s1:h1",
                 "text": {"type": "plain_text", "text": "Take over"}}]},
        ],
    });
    let ts = call(&people, "chat.postMessage", &message).await["ts"].clone();
    let ts = ts.as_str().unwrap();
    let html = text(&page, "/").await;
    assert!(
        html.contains("<strong>Ada</strong> &lt;!channel&gt;"),
        "{html}"
    );
    assert!(
        html.contains("<span class=\"mention\">@Anna Example</span>"),
        "{html}"
    );

    let press = [("ts", ts), ("action_id", "take_over"), ("person", BEN.id)];
    assert_eq!(act(&page, "/slack/press", &press).await, 200);
    let trigger = taken.lock()[0]["trigger_id"].clone();
    assert_eq!(taken.lock()[0]["user"]["id"], BEN.id);
    assert_eq!(taken.lock()[0]["actions"][0]["value"], "s1:h1");

    let reply = [("ts", ts), ("text", "reply: <b>Hello</b>")];
    assert_eq!(act(&page, "/slack/reply", &reply).await, 200);
    assert_eq!(taken.lock()[1]["event"]["thread_ts"], ts);
    assert!(
        text(&page, "/")
            .await
            .contains("reply: &lt;b&gt;Hello&lt;/b&gt;")
    );

    let view = json!({"trigger_id": trigger, "view": {
        "type": "modal", "title": {"type": "plain_text", "text": "Reply"},
        "blocks": [{"type": "input", "block_id": "reply", "label": {"type": "plain_text", "text": "Text"},
            "element": {"type": "plain_text_input", "action_id": "text", "multiline": true}}]}});
    let view = call(&people, "views.open", &view).await["view"]["id"].clone();
    let html = text(&page, "/").await;
    assert!(html.contains("for Ben Example"), "{html}");
    let fields = [("view", view.as_str().unwrap()), ("reply/text", "Hi!")];
    assert_eq!(act(&page, "/slack/submit", &fields).await, 200);
    let submitted = taken.lock()[2]["view"]["state"]["values"]["reply"]["text"].clone();
    assert_eq!(submitted["value"], "Hi!");
    assert!(!text(&page, "/").await.contains("for Ben Example"));
    // It is not open any more.
    assert_eq!(act(&page, "/slack/submit", &fields).await, 422);
}

#[tokio::test]
async fn an_app_that_refuses_is_told_of() {
    let (_world, people, page) = served().await;
    let message = json!({"channel": "C0NEWLEADS", "text": "A lead"});
    let ts = call(&people, "chat.postMessage", &message).await["ts"].clone();
    let reply = [("ts", ts.as_str().unwrap()), ("text", "Hello")];
    // Nobody said where it is.
    assert_eq!(act(&page, "/slack/reply", &reply).await, 422);
    let refusing = Served::start(Router::new(), 0).await.unwrap();
    people.slack.workspace().connect(&refusing.url());
    assert_eq!(act(&page, "/slack/reply", &reply).await, 502);
}

#[tokio::test]
async fn what_the_crm_holds_is_escaped_and_its_notes_are_caged() {
    let (_world, people, page) = served().await;
    let name = "<img src=x onerror=alert(1)>";
    let properties = [("firstname", name), ("company", "\"><script>")];
    let contact = people
        .hubspot
        .add_contact("ada@visitor.example", &properties);
    let note = "<p>Note</p><script>alert(1)</script>";
    people.hubspot.add_note(contact.unwrap().id, note).unwrap();
    let html = text(&page, "/").await;
    assert!(
        !html.contains("<img") && !html.contains("<script>"),
        "{html}"
    );
    let caged = "<iframe sandbox title=\"The note\" srcdoc=\"";
    let (_, note) = html.split_once(caged).expect("the note has a frame");
    let (note, _) = note.split_once('"').unwrap();
    assert!(
        note.contains("&lt;p&gt;Note&lt;/p&gt;&lt;script&gt;"),
        "{note}"
    );
}
