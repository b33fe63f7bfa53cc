//! One trace leads from a visitor's request to the call of the model.

use std::collections::BTreeSet;

use reqwest::StatusCode;
use sandbox::{
    anthropic::Reply,
    outside::{Outcome, Service},
};
use serde_json::Value;
use store::trace::TraceContext;

use crate::support::{ApiProcess, SystemProcess, TestSystem, frames::Frames};

const TRACE_ID: &str = "4bf92f3577b34da6a3ce929d0e0e4736";
const TRACEPARENT: &str = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";

async fn system() -> TestSystem {
    let mut system = TestSystem::new().await;
    system.set("LOG_FORMAT", "json");
    system.set("RUST_LOG", "info,api=debug");
    system
}

/// Asks with these `traceparent` headers, and waits for the end of the answer.
async fn ask(app: &ApiProcess, session: &str, text: &str, traceparents: &[&str]) {
    let mut request = app.post("/chat").json(&serde_json::json!({
        "session_id": session, "message_id": "m1", "message": text
    }));
    for traceparent in traceparents {
        request = request.header("traceparent", *traceparent);
    }
    let response = request.send().await.unwrap();
    assert_eq!(response.status(), StatusCode::OK, "{traceparents:?}");
    Frames::of(response).rest().await;
}

/// Waits for a line of a process's log.
async fn line(process: &SystemProcess, message: &str) -> Value {
    process.logged(message).await;
    let log = process.log();
    let lines = log.lines();
    let mut lines = lines.filter_map(|line| serde_json::from_str::<Value>(line).ok());
    lines.find(|line| line["message"] == message).unwrap()
}

/// The `traceparent` of each request to the model.
fn received(system: &TestSystem, service: Service) -> Vec<TraceContext> {
    let received = system.world.received_by(service).into_iter();
    received
        .map(|exchange| exchange.traceparent.unwrap().parse().unwrap())
        .collect()
}

#[tokio::test]
async fn a_trace_of_the_caller_leads_to_the_logs_of_both_processes_and_to_the_providers() {
    let system = system().await;
    system
        .index(&[("prices.md", "# Prices\n\nA week costs 9,000 euros.\n")])
        .await;
    let indexed = system.world.received_by(Service::OpenAi).len();
    let app = system.api().await;
    let worker = system.worker().await;
    ask(&app, "s1", "What does a week cost?", &[TRACEPARENT]).await;

    let accepted = line(&app.process, "a message is accepted").await;
    assert_eq!(accepted["trace_id"], TRACE_ID);
    assert_eq!(accepted["route"], "/chat");
    assert_eq!(accepted["session_id"], "s1");
    let finished = line(&worker, "a turn is finished").await;
    assert_eq!(finished["trace_id"], TRACE_ID);
    assert_eq!(finished["kind"], "turn.process");
    assert_eq!(finished["session_id"], "s1");

    let of_model = received(&system, Service::Anthropic);
    assert_eq!(of_model.len(), 1);
    let embeddings = system.world.received_by(Service::OpenAi).split_off(indexed);
    let [question] = &embeddings[..] else {
        panic!("{embeddings:?}")
    };
    // Each call is a span of its own, as are the attempt that made both and the request.
    let of_model = of_model[0];
    assert_eq!(of_model.trace_id().to_string(), TRACE_ID);
    let question = question.traceparent.clone().unwrap();
    assert!(question.contains(TRACE_ID), "{question}");
    let of_job: String =
        sqlx::query_scalar("select trace from queue.history where queue = 'turns'")
            .fetch_one(&system.pool().await)
            .await
            .unwrap();
    assert!(of_job.contains(TRACE_ID), "{of_job}");
    let spans = BTreeSet::from([
        TRACEPARENT.to_owned(),
        of_job,
        of_model.to_string(),
        question,
    ]);
    assert_eq!(spans.len(), 4, "{spans:?}");
}

#[tokio::test]
async fn an_operator_finds_the_trace_of_a_job_in_sql() {
    let system = system().await;
    let app = system.api().await;
    let message = app.submission("s1", "m1", "Hello?");
    let message = message.header("traceparent", TRACEPARENT);
    assert_eq!(message.send().await.unwrap().status(), StatusCode::ACCEPTED);
    let found: String = sqlx::query_scalar("select trace_id from ops.jobs where queue = 'turns'")
        .fetch_one(&system.pool().await)
        .await
        .unwrap();
    assert_eq!(found, TRACE_ID);
}

#[tokio::test]
async fn every_attempt_of_a_job_belongs_to_its_trace() {
    let system = system().await;
    system
        .anthropic
        .push(Reply::refused(529, "overloaded_error"));
    let app = system.api().await;
    let worker = system.worker().await;
    ask(&app, "s1", "Hello?", &[TRACEPARENT]).await;
    let failed = line(&worker, "an attempt failed").await;
    assert_eq!(failed["trace_id"], TRACE_ID);
    let spans = received(&system, Service::Anthropic);
    assert_eq!(spans.len(), 2);
    assert!(
        spans
            .iter()
            .all(|span| span.trace_id().to_string() == TRACE_ID)
    );
    assert_ne!(spans[0], spans[1]);
}

#[tokio::test]
async fn a_request_without_a_trace_or_with_an_ill_formed_one_begins_one() {
    let system = system().await;
    let app = system.serve().await;
    let cases: [&[&str]; 5] = [
        &[],
        &["nonsense"],
        &["00-00000000000000000000000000000000-00f067aa0ba902b7-01"],
        &["00-4BF92F3577B34DA6A3CE929D0E0E4736-00f067aa0ba902b7-01"],
        &[
            TRACEPARENT,
            "00-4bf92f3577b34da6a3ce929d0e0e4737-00f067aa0ba902b7-01",
        ],
    ];
    for (number, traceparents) in cases.iter().enumerate() {
        ask(&app, &format!("s{number}"), "Hello?", traceparents).await;
    }
    let calls = system.world.received_by(Service::Anthropic);
    assert!(
        calls
            .iter()
            .all(|call| call.outcome == Outcome::Answered(200))
    );
    let traces: BTreeSet<String> = received(&system, Service::Anthropic)
        .iter()
        .map(|trace| trace.trace_id().to_string())
        .collect();
    assert_eq!(traces.len(), cases.len());
    assert!(
        !traces.iter().any(|id| id.starts_with("4bf92f")),
        "{traces:?}"
    );
}
