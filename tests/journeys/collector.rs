//! A collector of traces is told what happened, where and for how long, and nothing that people wrote.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use reqwest::StatusCode;
use sandbox::{
    anthropic::Reply,
    collector::{Collector, Received},
    outside::Service,
    switch::Trouble,
};
use serde_json::{Value, json};

use crate::support::{ApiProcess, PATIENCE, TestSystem, frames::Frames, process::shown_text};

const TRACE_ID: &str = "4bf92f3577b34da6a3ce929d0e0e4736";
const CALLER: &str = "00f067aa0ba902b7";

/// A system that tells a collector soon.
async fn told() -> (TestSystem, Collector) {
    let mut system = TestSystem::new().await;
    let collector = Collector::start(system.world.clone(), 0).await.unwrap();
    system.set("OTEL_EXPORTER_OTLP_ENDPOINT", &collector.url());
    system.set("OTEL_BSP_SCHEDULE_DELAY", "50");
    (system, collector)
}

fn traceparent(flags: &str) -> String {
    format!("00-{TRACE_ID}-{CALLER}-{flags}")
}

/// Asks in the caller's trace, and returns what is shown in the end.
async fn ask(api: &ApiProcess, session: &str, words: &str, flags: &str) -> String {
    let message = api.submission(session, "m1", words);
    let message = message
        .header("accept", "text/event-stream")
        .header("traceparent", traceparent(flags));
    let response = message.send().await.unwrap();
    assert_eq!(response.status(), StatusCode::OK);
    let (frames, _) = Frames::of(response).rest().await;
    shown_text(&frames)
}

/// The spans of the caller's trace that are a part of nothing that came.
fn orphans(spans: &[Received]) -> Vec<&Received> {
    let known: BTreeSet<&str> = spans.iter().map(|span| span.span_id.as_str()).collect();
    let is_orphan =
        |span: &&Received| span.parent_id != CALLER && !known.contains(span.parent_id.as_str());
    spans.iter().filter(is_orphan).collect()
}

async fn until(collector: &Collector, wanted: impl FnMut(&[Received]) -> bool) -> Vec<Received> {
    let spans = tokio::time::timeout(PATIENCE, collector.until(wanted)).await;
    spans.unwrap_or_else(|_| panic!("only these came: {:#?}", names(&collector.spans())))
}

fn names(spans: &[Received]) -> Vec<&str> {
    spans.iter().map(|span| span.name.as_str()).collect()
}

/// The one span of a name.
#[track_caller]
fn one<'s>(spans: &'s [Received], name: &str) -> &'s Received {
    let mut found = spans.iter().filter(|span| span.name == name);
    match (found.next(), found.next()) {
        (Some(span), None) => span,
        (_, second) => panic!("{name}: {second:?} of {:#?}", names(spans)),
    }
}

fn has(spans: &[Received], name: &str) -> bool {
    spans.iter().any(|span| span.name == name)
}

#[tokio::test]
async fn one_trace_leads_from_the_requests_through_the_jobs_to_the_deliveries() {
    let (system, collector) = told().await;
    system
        .index(&[("prices.md", "# Prices\n\nA week costs 9,000 euros.\n")])
        .await;
    let api = system.api().await;
    let _worker = system.worker().await;
    ask(&api, "s1", "What does a week cost?", "01").await;
    let contact = api.post("/chat/s1/contact").json(
        &json!({"email": "ada@lead.example", "name": "Ada Lead", "message": "a week", "consent": true}),
    );
    let contact = contact.header("traceparent", traceparent("01"));
    assert_eq!(contact.send().await.unwrap().status(), StatusCode::ACCEPTED);

    // Two processes tell, each when it likes: what is inside may come before what it is inside of.
    let of_trace = |spans: &[Received]| {
        let of_trace = spans.iter().filter(|span| span.trace_id == TRACE_ID);
        of_trace.cloned().collect::<Vec<_>>()
    };
    let spans = until(&collector, |spans| {
        let spans = of_trace(spans);
        let deliveries = ["slack chat.postMessage", "process handoff.settle"];
        deliveries.iter().all(|name| has(&spans, name))
            && spans.iter().any(|span| span.name.starts_with("hubspot"))
            && orphans(&spans).is_empty()
    })
    .await;
    let of_trace = of_trace(&spans);
    let by_id: BTreeMap<&str, &Received> = of_trace
        .iter()
        .map(|span| (span.span_id.as_str(), span))
        .collect();
    assert_eq!(by_id.len(), of_trace.len());
    let path = |name: &str| {
        let mut path = Vec::new();
        let mut next = by_id.values().find(|span| span.name == name).copied();
        while let Some(span) = next {
            path.push(span.name.as_str());
            next = by_id.get(span.parent_id.as_str()).copied();
        }
        path
    };
    let turn = [
        "invoke_agent growth-chat",
        "process turn.process",
        "POST /chat",
    ];
    assert_eq!(path("chat claude-haiku-4-5")[1..], turn);
    assert_eq!(path("embeddings text-embedding-3-small")[1..], turn);
    assert_eq!(path("retrieval knowledge")[1..], turn);
    assert_eq!(
        path("slack chat.postMessage")[1..],
        ["process handoff.slack", "POST /chat/{session}/contact"]
    );
    assert_eq!(
        path("process handoff.settle").last(),
        Some(&"POST /chat/{session}/contact")
    );
    let post = one(&of_trace, "POST /chat");
    assert_eq!(
        (post.kind.as_str(), post.parent_is_remote),
        ("server", true)
    );
    assert_eq!(post.attributes["http.response.status_code"], 200);
    let job = one(&of_trace, "process turn.process");
    assert_eq!(
        (job.kind.as_str(), job.parent_is_remote),
        ("consumer", true)
    );
    assert_eq!(job.attributes["growth_chat.job.outcome"], "done");
    assert!(!one(&of_trace, "invoke_agent growth-chat").parent_is_remote);
    assert_eq!(job.resource["service.name"], "growth-chat");
    assert_eq!(job.resource["deployment.environment.name"], "development");

    // The provider is told of the very span that its call is.
    let received = system.world.received_by(Service::Anthropic);
    let chat = one(&of_trace, "chat claude-haiku-4-5");
    let expected = format!("00-{TRACE_ID}-{}-01", chat.span_id);
    assert_eq!(received[0].traceparent, Some(expected));
    assert_eq!(chat.error, None);
}

#[tokio::test]
async fn calls_of_models_are_told_by_the_conventions_for_generative_ai() {
    let (system, collector) = told().await;
    system
        .index(&[("prices.md", "# Prices\n\nA week costs 9,000 euros.\n")])
        .await;
    let app = system.serve().await;
    system.anthropic.push(Reply::words(5));
    ask(&app, "s1", "What does a week cost?", "01").await;
    let spans = until(&collector, |spans| {
        has(spans, "POST /chat") && has(spans, "process turn.process")
    })
    .await;
    let chat = one(&spans, "chat claude-haiku-4-5");
    let said = |name: &str| chat.attributes[name].clone();
    assert_eq!(chat.kind, "client");
    assert_eq!(said("gen_ai.operation.name"), "chat");
    assert_eq!(said("gen_ai.provider.name"), "anthropic");
    assert_eq!(said("gen_ai.request.model"), "claude-haiku-4-5");
    assert!(
        said("gen_ai.response.model")
            .as_str()
            .unwrap()
            .starts_with("claude-haiku")
    );
    assert_eq!(said("gen_ai.request.max_tokens"), 1024);
    assert_eq!(said("gen_ai.response.finish_reasons"), json!(["end_turn"]));
    let (input, output): (i64, i64) = sqlx::query_as(
        "select input_tokens + cache_read_tokens + cache_write_tokens, output_tokens from turns",
    )
    .fetch_one(&system.pool().await)
    .await
    .unwrap();
    assert_eq!(said("gen_ai.usage.input_tokens"), input);
    assert_eq!(said("gen_ai.usage.output_tokens"), output);
    let first = said("gen_ai.response.time_to_first_chunk")
        .as_f64()
        .unwrap();
    assert!(first > 0.0 && first <= chat.took.as_secs_f64(), "{first}");
    let agent = one(&spans, "invoke_agent growth-chat");
    assert_eq!(agent.attributes["gen_ai.conversation.id"], "s1");
    assert_eq!(agent.attributes["session.id"], "s1");
    let embeddings: Vec<&Received> = spans
        .iter()
        .filter(|span| span.attributes.get("gen_ai.operation.name") == Some(&"embeddings".into()))
        .collect();
    assert!(!embeddings.is_empty());
    for embedding in embeddings {
        assert!(
            embedding.attributes["gen_ai.usage.input_tokens"]
                .as_i64()
                .unwrap()
                > 0
        );
        assert_eq!(embedding.attributes["gen_ai.provider.name"], "openai");
    }
}

#[tokio::test]
async fn an_attempt_that_failed_is_told_beside_the_one_that_answered() {
    let (system, collector) = told().await;
    let app = system.serve().await;
    system
        .anthropic
        .push(Reply::refused(529, "overloaded_error"));
    ask(&app, "s1", "Hello?", "01").await;
    let attempts = |spans: &[Received]| {
        let of_turn = spans
            .iter()
            .filter(|span| span.name == "process turn.process");
        of_turn.cloned().collect::<Vec<_>>()
    };
    let spans = until(&collector, |spans| attempts(spans).len() == 2).await;
    let attempts = attempts(&spans);
    let said = |name: &str| -> Vec<Value> {
        attempts
            .iter()
            .map(|span| span.attributes.get(name).cloned().unwrap_or_default())
            .collect()
    };
    assert_eq!(said("growth_chat.job.attempt"), [1, 2]);
    assert_eq!(said("growth_chat.job.outcome"), ["failed", "done"]);
    assert_eq!(said("error.type"), [json!("job_failed"), Value::Null]);
    assert_eq!(attempts[0].parent_id, attempts[1].parent_id);
    let failed = spans
        .iter()
        .find(|span| span.error.as_deref() == Some("overloaded"))
        .unwrap();
    assert_eq!(failed.attributes["http.response.status_code"], 529);
}

#[tokio::test]
async fn what_is_left_is_sent_at_the_end_and_the_collector_is_shown_its_headers() {
    let (mut system, collector) = told().await;
    system.set("OTEL_BSP_SCHEDULE_DELAY", "3600000");
    system.set(
        "OTEL_EXPORTER_OTLP_HEADERS",
        "Authorization=Basic%20cGs6c2s=,x-version=4",
    );
    let mut app = system.serve().await;
    ask(&app, "s1", "Hello?", "01").await;
    assert!(collector.spans().is_empty());
    app.process.stop().await;
    let spans = collector.spans();
    assert!(has(&spans, "process turn.process"), "{:?}", names(&spans));
    assert_eq!(collector.authorization().as_deref(), Some("Basic cGs6c2s="));
    // A probe has none of them for a collector, and neither has what a caller does not want recorded.
    assert!(
        !spans
            .iter()
            .any(|span| span.name.contains("/ready") || span.name.contains("/health"))
    );
}

#[tokio::test]
async fn what_a_caller_does_not_want_recorded_is_not() {
    let (system, collector) = told().await;
    let mut app = system.serve().await;
    ask(&app, "s1", "Hello?", "00").await;
    app.process.stop().await;
    assert!(
        !collector
            .spans()
            .iter()
            .any(|span| span.trace_id == TRACE_ID)
    );
    let received = system.world.received_by(Service::Anthropic);
    let told = received[0].traceparent.clone().unwrap();
    assert!(
        told.starts_with(&format!("00-{TRACE_ID}")) && told.ends_with("-00"),
        "{told}"
    );
}

#[tokio::test]
async fn a_collector_in_trouble_costs_spans_and_no_answer() {
    for trouble in [
        Trouble::Status(500),
        Trouble::Status(401),
        Trouble::Hang,
        Trouble::TakeAndCut,
    ] {
        let (mut system, collector) = told().await;
        system.set("OTEL_EXPORTER_OTLP_TIMEOUT", "300");
        collector.switch().set(Some(trouble.clone()));
        system.anthropic.push(Reply::text("Here I am."));
        let mut app = system.serve().await;
        assert_eq!(
            ask(&app, "s1", "Hello?", "01").await,
            "Here I am.",
            "{trouble:?}"
        );
        app.process
            .logged("the collector of traces does not take spans")
            .await;
        let metrics = system.client.get(app.metrics_url()).send().await.unwrap();
        let metrics = metrics.text().await.unwrap();
        assert!(
            metrics.contains("growth_chat_trace_spans_total{outcome=\"failed\"}"),
            "{metrics}"
        );
        let ended = tokio::time::timeout(Duration::from_secs(20), app.process.stop());
        ended.await.expect("the process waits for its collector");
    }
}

#[tokio::test]
async fn a_check_says_whether_the_collector_takes_traces() {
    let (mut system, collector) = told().await;
    let line = async |system: &TestSystem| {
        let output = system.run(&["check", "--json"]).await;
        let lines: Vec<Value> = serde_json::from_slice(&output.stdout).unwrap();
        let line = lines
            .into_iter()
            .find(|line| line["name"] == "traces")
            .unwrap();
        (
            line["status"].as_str().unwrap().to_owned(),
            line["says"].to_string(),
        )
    };
    assert_eq!(line(&system).await.0, "pass");
    collector.switch().set(Some(Trouble::Status(401)));
    let (status, says) = line(&system).await;
    assert_eq!(status, "fail");
    assert!(says.contains("401"), "{says}");
    drop(collector);
    assert_eq!(line(&system).await.0, "fail");
    system.unset("OTEL_EXPORTER_OTLP_ENDPOINT");
    assert_eq!(line(&system).await.0, "skip");
}
