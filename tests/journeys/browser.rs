//! The widget on the demo page, in a real browser.

use std::{path::PathBuf, time::Duration};

use sandbox::{
    anthropic::{Content, Pace, Reply},
    switch::Trouble,
};
use serde_json::{Value, json};

use crate::support::{
    TOKEN, TestSystem,
    tools::{Clients, find, skip},
};

/// An answer of 60 words streams for 2.4 s: time for a browser to reload, to go offline, to click.
const PACE: Pace = Pace {
    before_headers: Duration::ZERO,
    first_token: Duration::ZERO,
    between_tokens: Duration::from_millis(40),
};

const PRICES: &str = "---\ntitle: Prices\nurl: /prices\n---\n\n# Prices\n\n\
    A discovery week costs 9,000 euros. Travel within Europe is included.\n";

/// Everything that must stay text.
const HOSTILE: &str = "<img src=x onerror=\"window.__pwned=1\"> <script>window.__pwned=1</script> \
    [click](javascript:window.__pwned=1) [data](data:text/html,<script>window.__pwned=1</script>) \
    **<svg onload=window.__pwned=1>** `</code><iframe srcdoc='<script>top.__pwned=1</script>'>` \
    </growth-chat></script><style>*{display:none}</style><form action=/><object data=x></object>";

#[tokio::test]
async fn the_widget_streams_cites_reloads_reconnects_stops_and_stays_inert() {
    let test = "the_widget_streams_cites_reloads_reconnects_stops_and_stays_inert";
    let Some(chromium) = chromium() else {
        return skip(test, "chromium is not installed");
    };
    let clients = match Clients::installed().await {
        Ok(clients) => clients,
        Err(reason) => return skip(test, &reason),
    };
    let mut system = TestSystem::new().await;
    // A handoff takes facts while it is on its way.
    system.set("HANDOFF_RETRY_BACKOFF_SECONDS", "3600");
    system.people.slack.set_trouble(Some(Trouble::Status(500)));
    system.index(&[("prices.md", PRICES)]).await;
    let model = &system.anthropic;
    model.set_pace(PACE);
    model.on("at length", Reply::words(60));
    model.on("take over", Reply::words(60).stalling_after(20));
    model.on("hostile", Reply::text(HOSTILE));
    let handoff = Content::ToolUse {
        name: "request_handoff".to_owned(),
        input: json!({"reason": "explicit_wish"}),
    };
    let words = Content::Text {
        text: "Of course.".to_owned(),
        citations: Vec::new(),
    };
    model.on("a person", Reply::content(vec![words, handoff]));
    let (api, mut first) = (system.api().await, system.worker().await);
    let url = api.url("");
    let mut browser = clients.start(
        "browser",
        &[
            ("BASE_URL", url.as_str()),
            ("WIDGET_TOKEN", TOKEN),
            ("CHROMIUM", chromium.to_str().unwrap()),
            ("QUESTION", "What does a discovery week cost?"),
            ("LONG_QUESTION", "Please explain it at length."),
            ("TAKEOVER_QUESTION", "Who will take over?"),
            ("HOSTILE_QUESTION", "Say something hostile."),
            ("CONTACT_QUESTION", "May I talk to a person?"),
        ],
    );
    browser.printed("STREAMING").await;
    model.on("take over", Reply::words(60));
    let _second = system.worker().await;
    first.kill().await;
    let result = browser.succeeded().await;
    assert_eq!(result["steps"].as_array().unwrap().len(), 10, "{result}");
    // The details complete the handoff that the model asked for or, if people have that already, make one.
    let kept: Value = sqlx::query_scalar(
        "select jsonb_build_array(
             (select jsonb_build_array(lead, consent_at is not null) from handoff_records
              order by created_at desc limit 1),
             (select jsonb_agg(rating) from feedback))",
    )
    .fetch_one(&system.pool().await)
    .await
    .unwrap();
    let lead =
        json!({"name": "Ada", "email": "ada@visitor.example", "message": "Call me, please."});
    assert_eq!(kept, json!([[lead, true], ["up"]]));
}

/// Where the browser is.
pub(super) fn chromium() -> Option<PathBuf> {
    ["chromium", "chromium-browser"].into_iter().find_map(find)
}
