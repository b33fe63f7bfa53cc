//! The model and the embeddings fail, at once, in the middle, for a moment, for ever.

use std::time::Duration;

use sandbox::{
    anthropic::{Pace, Reply},
    openai::Failure,
    outside::Service,
};
use serde_json::Value;

use crate::support::{
    TestSystem,
    frames::{End, Frame},
    process::{assert_one_answer, resets, shown_text},
};

const PRICES: &str = "---\ntitle: Prices\nurl: /prices\n---\n\n# Prices\n\n\
    A discovery week costs 9,000 euros. Travel within Europe is included.\n";
const QUESTION: &str = "What does a discovery week cost?";
const ANSWER: &str = "A discovery week costs 9,000 euros.";

#[tokio::test]
async fn a_rate_limit_is_waited_for_as_long_as_the_provider_asks() {
    let system = TestSystem::new().await;
    system.index(&[("prices.md", PRICES)]).await;
    // The first wait of the queue's own plan is 1 s.
    let limited = Reply::refused(429, "rate_limit_error").with_header("retry-after", "3");
    system.anthropic.push(limited);
    let serve = system.serve().await;
    let (frames, end) = serve.ask("s1", "m1", QUESTION).await.rest().await;
    assert_eq!(end, End::Clean);
    assert_eq!(shown_text(&frames), ANSWER);
    // The visitor saw nothing of it.
    assert_eq!(resets(&frames), 0);
    assert_one_answer(&serve.transcript("s1").await, ANSWER);
    let calls = system.received(Service::Anthropic, QUESTION);
    assert_eq!(calls.len(), 2);
    let waited = calls[1].received - calls[0].received;
    assert!(waited >= Duration::from_secs(3), "{waited:?}");
    assert_eq!(system.received(Service::OpenAi, QUESTION).len(), 1);
}

#[tokio::test]
async fn an_answer_that_the_provider_breaks_off_begins_again_and_is_one_answer() {
    let system = TestSystem::new().await;
    let broken = [
        (
            "error",
            Reply::words(40).failing_after(5, "overloaded_error"),
        ),
        ("cut", Reply::words(40).cut_after(5)),
    ];
    let serve = system.serve().await;
    for (session, reply) in broken {
        system.anthropic.push(reply);
        system.anthropic.push(Reply::text("All of it."));
        let (frames, end) = serve.ask(session, "m1", "Well?").await.rest().await;
        assert_eq!(end, End::Clean, "{session}");
        assert_eq!(resets(&frames), 1, "{session}");
        assert!(text_before_reset(&frames).starts_with("word1"), "{session}");
        assert_eq!(shown_text(&frames), "All of it.", "{session}");
        assert_one_answer(&serve.transcript(session).await, "All of it.");
    }
    assert_eq!(system.anthropic.calls(), 4);
}

fn text_before_reset(frames: &[Frame]) -> String {
    let before = frames.iter().position(|frame| frame.kind() == "data-reset");
    shown_text(&frames[..before.unwrap()])
}

#[tokio::test]
async fn a_model_that_falls_silent_is_given_up_and_asked_again() {
    let mut system = TestSystem::new().await;
    system.set("LLM_STREAM_TIMEOUT_MS", "1000");
    system.anthropic.push(Reply::words(40).paced(Pace {
        before_headers: Duration::from_secs(60),
        ..Pace::default()
    }));
    system.anthropic.push(Reply::text("All of it."));
    let serve = system.serve().await;
    let (frames, end) = serve.ask("s1", "m1", "Well?").await.rest().await;
    assert_eq!(end, End::Clean);
    assert_eq!(resets(&frames), 0);
    assert_one_answer(&serve.transcript("s1").await, "All of it.");
    assert_eq!(system.anthropic.calls(), 2);
}

#[tokio::test]
async fn a_provider_that_is_overloaded_for_ever_ends_in_a_friendly_error_and_the_session_goes_on() {
    let system = TestSystem::new().await;
    system
        .anthropic
        .on("Well?", Reply::refused(529, "overloaded_error"));
    let serve = system.serve().await;
    let (frames, end) = serve.ask("s1", "m1", "Well?").await.rest().await;
    // The stream ends on purpose.
    assert_eq!(end, End::Clean);
    let last = frames.last().unwrap();
    assert_eq!(last.kind(), "error");
    let said = last.json["errorText"].as_str().unwrap();
    assert!(
        said.len() > 20 && !said.contains("529") && !said.contains("overloaded_error"),
        "{said}"
    );
    // Once, and after 1, 3 and 9 s.
    let calls = system.received(Service::Anthropic, "Well?");
    assert_eq!(calls.len(), 4);
    for (pair, planned) in calls.windows(2).zip([1, 3, 9]) {
        let waited = pair[1].received - pair[0].received;
        assert!(waited >= Duration::from_secs(planned), "{waited:?}");
    }
    let transcript = serve.transcript("s1").await;
    let messages = transcript["messages"].as_array().unwrap();
    assert_eq!(messages[0]["role"], "user");
    assert!(
        messages[1..]
            .iter()
            .all(|message| message["role"] != "user"),
        "{transcript}"
    );
    assert_eq!(transcript["active_turn"], Value::Null);
    assert_eq!(turn_statuses(&system).await, ["failed"]);

    system.anthropic.push(Reply::text("Here I am again."));
    let (frames, end) = serve.ask("s1", "m2", "Anybody?").await.rest().await;
    assert_eq!(end, End::Clean);
    assert_eq!(shown_text(&frames), "Here I am again.");
    assert_eq!(turn_statuses(&system).await, ["failed", "answered"]);
}

async fn turn_statuses(system: &TestSystem) -> Vec<String> {
    sqlx::query_scalar("select status from turns order by turn")
        .fetch_all(&system.pool().await)
        .await
        .unwrap()
}

#[tokio::test]
async fn a_question_waits_for_embeddings_that_are_down_for_a_moment() {
    let system = TestSystem::new().await;
    system.index(&[("prices.md", PRICES)]).await;
    system.openai.fail_next(Failure {
        status: 503,
        code: "service_unavailable",
        retry_after: None,
        after: Duration::ZERO,
    });
    let serve = system.serve().await;
    let (frames, end) = serve.ask("s1", "m1", QUESTION).await.rest().await;
    assert_eq!(end, End::Clean);
    assert_eq!(shown_text(&frames), ANSWER);
    assert!(frames.iter().any(|frame| frame.kind() == "source-url"));
    assert_eq!(system.received(Service::OpenAi, QUESTION).len(), 2);
    assert_eq!(system.received(Service::Anthropic, QUESTION).len(), 1);
}
