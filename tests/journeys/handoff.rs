//! A visitor and a person of the company, each in a real browser.

use std::time::Duration;

use sandbox::{
    anthropic::{Content, Reply},
    world::WorldPage,
};
use serde_json::json;

use super::browser::chromium;
use crate::support::{
    TestSystem,
    tools::{Clients, skip},
};

/// Slack gives an app three seconds to open a form; a machine under load is slower.
const TRIGGER_LIFE: Duration = Duration::from_secs(30);

#[tokio::test]
async fn a_person_takes_over_in_slack_and_the_visitor_reads_the_reply_in_the_widget() {
    let test = "a_person_takes_over_in_slack_and_the_visitor_reads_the_reply_in_the_widget";
    let Some(chromium) = chromium() else {
        return skip(test, "chromium is not installed");
    };
    let clients = match Clients::installed().await {
        Ok(clients) => clients,
        Err(reason) => return skip(test, &reason),
    };
    let system = TestSystem::new().await;
    let model = &system.anthropic;
    model.on("What do you do?", Reply::text("We look after harbours."));
    let handoff = Content::ToolUse {
        name: "request_handoff".to_owned(),
        input: json!({"reason": "explicit_wish"}),
    };
    let words = Content::Text {
        text: "Of course.".to_owned(),
        citations: Vec::new(),
    };
    model.on("a person", Reply::content(vec![words, handoff]));
    let (api, _worker) = (system.api().await, system.worker().await);
    let slack = system.people.slack.workspace();
    slack.connect(&api.url(""));
    slack.set_trigger_life(TRIGGER_LIFE);
    let page = WorldPage::start(system.world.clone(), system.people.clone(), None, 0);
    let page = page.await.unwrap();
    let (base, world) = (api.url(""), page.url());
    let browser = clients.start(
        "handoff",
        &[
            ("BASE_URL", base.as_str()),
            ("WORLD_URL", world.as_str()),
            ("CHROMIUM", chromium.to_str().unwrap()),
            ("QUESTION", "What do you do?"),
            ("CONTACT_QUESTION", "May I talk to a person?"),
        ],
    );
    let result = browser.succeeded().await;
    assert_eq!(result["steps"].as_array().unwrap().len(), 8, "{result}");
    // If people had the model's handoff when the form was filled in, that is another one in the same thread.
    let (undelivered, taken): (i64, i64) = sqlx::query_as(
        "select count(*) filter (where status <> 'delivered'), count(*) filter (where taken_by = 'Ben Example')
         from handoff_records",
    )
    .fetch_one(&system.pool().await)
    .await
    .unwrap();
    assert_eq!((undelivered, taken), (0, 1));
    assert!(system.people.smtp.mails().is_empty());
}
