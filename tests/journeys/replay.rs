//! `growth-chat replay`: a turn that is asked again, of the stand-in.

use std::fs;

use sandbox::{
    anthropic::{Content, Reply},
    outside::{Exchange, Service},
};
use serde_json::{Value, json};
use sqlx::{PgPool, query, query_scalar};

use crate::support::{ApiProcess, TestSystem};

const PRICES: &str = "---\ntitle: Prices\nurl: /prices\n---\n\n# Prices\n\n\
    A discovery week costs 9,000 euros. Travel within Europe is included.\n";
const QUESTION: &str = "What does a discovery week cost?";

/// A system in which two turns were answered; the second is about the price.
async fn two_turns() -> (TestSystem, ApiProcess, PgPool) {
    let system = TestSystem::new().await;
    system.index(&[("prices.md", PRICES)]).await;
    system
        .anthropic
        .on("Good day", Reply::text("Good morning."));
    let app = system.serve().await;
    app.ask("s1", "m1", "Good day").await.rest().await;
    app.ask("s1", "m2", QUESTION).await.rest().await;
    let pool = system.pool().await;
    (system, app, pool)
}

async fn replay(system: &TestSystem, arguments: &[&str]) -> Value {
    let words: Vec<&str> = ["replay"].iter().chain(arguments).copied().collect();
    let output = system.run(&words).await;
    let said = String::from_utf8(output.stderr).unwrap();
    assert!(output.status.success(), "{said}");
    serde_json::from_slice(&output.stdout).unwrap()
}

/// What it says when it can't.
async fn refused(system: &TestSystem, arguments: &[&str]) -> String {
    let words: Vec<&str> = ["replay"].iter().chain(arguments).copied().collect();
    let output = system.run(&words).await;
    assert_eq!(output.status.code(), Some(1));
    assert_eq!(output.stdout, b"");
    String::from_utf8(output.stderr).unwrap()
}

/// What the model was asked with, without what a replay changes.
fn without_model(exchange: &Exchange) -> Value {
    let mut body = exchange.body.clone();
    body.as_object_mut().unwrap().remove("model");
    body
}

fn requests(system: &TestSystem) -> Vec<Exchange> {
    system.world.received_by(Service::Anthropic)
}

/// Everything that a visitor or a later turn could notice.
async fn visible(pool: &PgPool) -> Value {
    query_scalar(
        "select jsonb_build_object(
             'session', (select jsonb_agg(s) from sessions s),
             'turns', (select jsonb_agg(t order by turn) from turns t),
             'messages', (select jsonb_agg(m order by turn, role) from messages m),
             'state', (select jsonb_agg(c) from checkpoints c),
             'steps', (select jsonb_agg(w order by turn, step) from checkpoint_writes w),
             'frames', (select count(*) from turn_events),
             'handoffs', (select count(*) from handoff_records),
             'jobs', (select count(*) from queue.jobs where kind = 'turn.process'))",
    )
    .fetch_one(pool)
    .await
    .unwrap()
}

#[tokio::test]
async fn another_model_is_asked_exactly_what_the_turn_was_and_nobody_notices_but_the_bill() {
    let (system, _app, pool) = two_turns().await;
    let first = without_model(requests(&system).last().unwrap());
    let before = visible(&pool).await;
    // Another model would move the conversation, and hand it over.
    system.anthropic.push(Reply::tool_call(
        "request_handoff",
        json!({"reason": "explicit_wish", "email": "a@b.example"}),
    ));
    system
        .anthropic
        .push(Reply::text("A discovery week costs about 9,000 euros."));
    let sum = "select coalesce(sum(cost_usd), 0)::float8 from spend_days";
    let spent_before: f64 = query_scalar(sum).fetch_one(&pool).await.unwrap();

    let compared = replay(&system, &["s1/2", "--model", "claude-sonnet-4-5", "--json"]).await;

    let sent = requests(&system);
    let again = &sent[sent.len() - 2];
    assert_eq!(again.body["model"], "claude-sonnet-4-5");
    assert_eq!(without_model(again), first);
    assert_eq!(compared["then"]["model"], "claude-haiku-4-5");
    assert_eq!(compared["now"]["model"], "claude-sonnet-4-5");
    assert_eq!(
        compared["then"]["text"],
        "A discovery week costs 9,000 euros."
    );
    assert_eq!(compared["then"]["sources"][0]["url"], "/prices");
    assert_eq!(compared["now"]["tools"][0]["name"], "request_handoff");
    assert_eq!(
        compared["diff"],
        json!([
            {"in": "both", "text": "A discovery week costs "},
            {"in": "now", "text": "about "},
            {"in": "both", "text": "9,000 euros."},
        ])
    );
    assert_eq!(visible(&pool).await, before);
    let calls: Vec<(i32, i16, String)> = sqlx::query_as(
        "select attempt, call, model from model_calls where purpose = 'replay' order by call",
    )
    .fetch_all(&pool)
    .await
    .unwrap();
    let call = |number| (0, number, "claude-sonnet-4-5".to_owned());
    assert_eq!(calls, [call(1), call(2)]);
    let spent_now: f64 = query_scalar(sum).fetch_one(&pool).await.unwrap();
    let cost: f64 = compared["now"]["cost_usd"]
        .as_str()
        .unwrap()
        .parse()
        .unwrap();
    assert!(cost > 0.0 && (spent_now - spent_before - cost).abs() < 1e-9);

    // A second one is counted as well.
    system.anthropic.push(Reply::text("Cheap."));
    replay(&system, &["s1/2", "--json"]).await;
    let calls = "select count(*) from model_calls where purpose = 'replay'";
    let calls: i64 = query_scalar(calls).fetch_one(&pool).await.unwrap();
    assert_eq!(calls, 3);
}

#[tokio::test]
async fn other_rules_are_given_in_place_of_ours_and_the_page_shows_both_answers() {
    let (system, _app, _pool) = two_turns().await;
    let folder = tempfile::tempdir().unwrap();
    let rules = folder.path().join("rules.md");
    fs::write(&rules, "Answer in one word.\n").unwrap();
    system.anthropic.push(Reply::text("Little."));
    let rules = rules.to_str().unwrap();
    let output = system.run(&["replay", "s1/2", "--prompt", rules]).await;
    let page = String::from_utf8(output.stdout).unwrap();
    assert!(output.status.success(), "{page}");
    let last = requests(&system).pop().unwrap();
    assert_eq!(last.body["system"][0]["text"], "Answer in one word.");
    assert_eq!(last.body["model"], "claude-haiku-4-5");
    assert!(
        page.contains("[-A discovery week costs 9,000 euros.-]{+Little.+}"),
        "{page}"
    );
    let sources = page.lines().find(|line| line.starts_with("sources"));
    let words: Vec<&str> = sources.unwrap().split_whitespace().collect();
    assert_eq!(words, ["sources", "/prices", "-"]);
}

#[tokio::test]
async fn a_turn_that_can_not_be_replayed_is_refused_with_the_reason_and_without_a_call() {
    let (system, app, pool) = two_turns().await;
    let calls = system.anthropic.calls();
    for (turn, reason) in [
        ("s1/3", "there is no such turn"),
        ("s2/1", "there is no such turn"),
    ] {
        let said = refused(&system, &[turn]).await;
        assert!(said.contains(reason), "{said}");
    }
    // Of an earlier version.
    query("delete from checkpoint_writes where turn = 1 and step = 'asked'")
        .execute(&pool)
        .await
        .unwrap();
    let said = refused(&system, &["s1/1"]).await;
    assert!(said.contains("was not recorded"), "{said}");
    // What was said before it has been deleted.
    query("delete from messages where turn = 1")
        .execute(&pool)
        .await
        .unwrap();
    let said = refused(&system, &["s1/2"]).await;
    assert!(said.contains("2 messages of the conversation"), "{said}");
    let said = refused(&system, &["s1/2", "--prompt", "/does/not/exist"]).await;
    assert!(said.contains("could not be read"), "{said}");
    assert_eq!(system.anthropic.calls(), calls);
    // One that is under way.
    system
        .anthropic
        .on("wait", Reply::words(10).stalling_after(1));
    let mut stream = app.ask("s3", "m1", "wait").await;
    crate::support::process::until_text(&mut stream).await;
    let said = refused(&system, &["s3/1"]).await;
    assert!(said.contains("not finished"), "{said}");
}

/// How often the knowledge base was searched, or something was put into it.
fn embeddings(system: &TestSystem) -> usize {
    system.world.received_by(Service::OpenAi).len()
}

#[tokio::test]
async fn a_search_that_the_turn_made_is_not_made_again_and_another_one_is_told_of() {
    let system = TestSystem::new().await;
    system.index(&[("prices.md", PRICES)]).await;
    let app = system.serve().await;
    let search = || Reply::tool_call("retrieve_knowledge", json!({"query": "discovery week"}));
    let answer = || Reply::text("Nine thousand euros.");
    // It moves the conversation in the same breath as it answers.
    let moving = || {
        Reply::content(vec![
            Content::Text {
                text: "Nine thousand euros.".to_owned(),
                citations: Vec::new(),
            },
            Content::ToolUse {
                name: "set_stage".to_owned(),
                input: json!({"stage": "qualify"}),
            },
        ])
    };
    system.anthropic.push(search());
    system.anthropic.push(moving());
    app.ask("s1", "m1", "Good day").await.rest().await;
    system.anthropic.push(answer());
    app.ask("s1", "m2", "Thanks").await.rest().await;

    let before = embeddings(&system);
    let model = system.anthropic.calls();
    system.anthropic.push(search());
    system.anthropic.push(moving());
    let again = replay(&system, &["s1/1", "--json"]).await;
    assert_eq!(embeddings(&system), before);
    assert_eq!(system.anthropic.calls(), model + 2);
    assert_eq!(again["new_searches"], 0);
    assert_eq!(again["then"]["tools"], again["now"]["tools"]);
    assert_eq!(again["then"]["tools"][0]["name"], "retrieve_knowledge");
    assert_eq!(again["then"]["tools"][1]["name"], "set_stage");
    // What was found stands in the second request, as it did in the turn's.
    let sent = requests(&system);
    let found = |exchange: &Exchange| {
        let messages = exchange.body["messages"].as_array().unwrap();
        messages.last().unwrap()["content"][0]["content"].clone()
    };
    assert_eq!(found(&sent[1]), found(sent.last().unwrap()));
    assert_eq!(found(&sent[1])[0]["source"], "/prices");

    // The other turn had not searched.
    system.anthropic.push(search());
    system.anthropic.push(answer());
    let other = replay(&system, &["s1/2", "--json"]).await;
    assert_eq!(embeddings(&system), before + 1);
    assert_eq!(other["new_searches"], 1);
}

#[tokio::test]
async fn a_replay_is_held_to_the_caps_like_any_other_call() {
    let (mut system, _app, _pool) = two_turns().await;
    let calls = system.anthropic.calls();
    // Two turns have cost more than that.
    system.set("DAILY_COST_CAP_USD", "0.00000001");
    let said = refused(&system, &["s1/2"]).await;
    assert!(said.contains("daily cap"), "{said}");
    assert_eq!(system.anthropic.calls(), calls);
}
