//! The chat class of npm's `ai`, majors 6 and 7, with its unmodified transport.

use std::time::Duration;

use futures::future::join_all;
use sandbox::anthropic::{Pace, Reply};
use serde_json::Value;

use crate::support::{
    TOKEN, TestSystem,
    tools::{Clients, skip},
};

/// An answer of 60 words streams for more than a second: something to cut.
const PACE: Pace = Pace {
    before_headers: Duration::ZERO,
    first_token: Duration::ZERO,
    between_tokens: Duration::from_millis(20),
};

#[tokio::test]
async fn ai_6_sends_reconnects_regenerates_and_survives_its_worker() {
    let test = "ai_6_sends_reconnects_regenerates_and_survives_its_worker";
    match Clients::installed().await {
        Ok(clients) => all_scripts(&clients, "6").await,
        Err(reason) => skip(test, &reason),
    }
}

#[tokio::test]
async fn ai_7_sends_reconnects_regenerates_and_survives_its_worker() {
    let test = "ai_7_sends_reconnects_regenerates_and_survives_its_worker";
    match Clients::installed().await {
        Ok(clients) => all_scripts(&clients, "7").await,
        Err(reason) => skip(test, &reason),
    }
}

async fn all_scripts(clients: &Clients, major: &str) {
    tokio::join!(undisturbed(clients, major), takeover(clients, major));
}

async fn undisturbed(clients: &Clients, major: &str) {
    let system = TestSystem::new().await;
    system.anthropic.on("count", Reply::words(60).paced(PACE));
    let (api, _worker) = (system.api().await, system.worker().await);
    let url = api.url("");
    let variables = [
        ("BASE_URL", url.as_str()),
        ("WIDGET_TOKEN", TOKEN),
        ("AI_MAJOR", major),
        ("QUESTION", "Please count."),
    ];
    let scripts = ["send", "reconnect", "regenerate"].map(|script| async {
        let result = clients.start(script, &variables).succeeded().await;
        assert_counted_to_60(&result, major);
    });
    join_all(scripts).await;
}

async fn takeover(clients: &Clients, major: &str) {
    let system = TestSystem::new().await;
    system
        .anthropic
        .on("count", Reply::words(60).stalling_after(20));
    let (api, mut first) = (system.api().await, system.worker().await);
    let variables = [
        ("BASE_URL", api.url("")),
        ("WIDGET_TOKEN", TOKEN.to_owned()),
        ("AI_MAJOR", major.to_owned()),
        ("QUESTION", "Please count.".to_owned()),
    ];
    let variables = variables
        .each_ref()
        .map(|(name, value)| (*name, value.as_str()));
    let mut script = clients.start("takeover", &variables);
    script.printed("STREAMING").await;
    system.anthropic.on("count", Reply::words(60).paced(PACE));
    let _second = system.worker().await;
    first.kill().await;
    let result = script.succeeded().await;
    assert_eq!(result["cut"], true);
    assert_counted_to_60(&result, major);
    assert_eq!(system.anthropic.calls(), 2);
}

#[track_caller]
fn assert_counted_to_60(result: &Value, major: &str) {
    let words: Vec<String> = (1..=60).map(|number| format!("word{number}")).collect();
    assert_eq!(result["answer"], words.join(" "));
    assert_eq!(result["ai"].to_string(), major);
}
