//! A question becomes one cited answer.

use std::time::{Duration, Instant};

use sandbox::{
    anthropic::Reply,
    outside::{Exchange, Outcome, Service},
};

use crate::support::{
    TestSystem,
    frames::{End, PATIENCE},
    process::{assert_one_answer, last_answer, shown_text, until_text},
};

const PRICES: &str = "---\ntitle: Prices\nurl: /prices\n---\n\n# Prices\n\n\
    A discovery week costs 9,000 euros. Travel within Europe is included.\n";
const HOURS: &str = "# Hours\n\nOur office is open from nine to five.\n";

/// From the visitor's click on stop to the end of the connection that costs money.
const CANCEL_LIMIT: Duration = Duration::from_secs(1);

#[tokio::test]
async fn a_question_is_answered_from_the_indexed_documents_with_its_source() {
    let system = TestSystem::new().await;
    system
        .index(&[("prices.md", PRICES), ("hours.md", HOURS)])
        .await;
    let app = system.serve().await;
    let mut stream = app
        .ask("s1", "m1", "What does a discovery week cost?")
        .await;
    let (frames, end) = stream.rest().await;
    assert_eq!(end, End::Clean);
    assert_eq!(shown_text(&frames), "A discovery week costs 9,000 euros.");
    let sources: Vec<&str> = frames
        .iter()
        .filter(|frame| frame.kind() == "source-url")
        .map(|frame| frame.json["url"].as_str().unwrap())
        .collect();
    assert_eq!(sources, ["/prices"]);
    assert_one_answer(&app.transcript("s1").await, &shown_text(&frames));
    let metrics = system.client.get(app.metrics_url()).send().await.unwrap();
    assert!(metrics.status().is_success());
}

#[tokio::test]
async fn an_answer_cancelled_at_another_api_process_hangs_up_on_the_model_and_is_kept_and_billed() {
    let system = TestSystem::new().await;
    system
        .anthropic
        .on("count", Reply::words(60).stalling_after(5));
    let (app, other) = (system.api().await, system.api().await);
    let _worker = system.worker().await;
    let mut stream = app.ask("s1", "m1", "Please count.").await;
    let mut frames = until_text(&mut stream).await;
    let cancelled = Instant::now();
    other.cancel("s1", 1).await;
    let hung_up = |log: &[Exchange]| {
        let model = log.iter().find(|it| it.service == Service::Anthropic)?;
        (model.outcome == Outcome::ClientHungUp).then_some(model.ended?)
    };
    let hung_up = system.world.wait_for(PATIENCE, hung_up).await.unwrap();
    let took = hung_up.saturating_duration_since(cancelled);
    assert!(took <= CANCEL_LIMIT, "it took {took:?}");
    let (rest, end) = stream.rest().await;
    frames.extend(rest);
    assert_eq!(end, End::Clean);
    assert_eq!(frames.last().unwrap().kind(), "abort");
    let kept = last_answer(&app.transcript("s1").await);
    assert_eq!(kept, shown_text(&frames));
    assert!(kept.starts_with("word1"), "{kept}");
    let (status, input, output): (String, i64, i64) =
        sqlx::query_as("select status, input_tokens, output_tokens from turns")
            .fetch_one(&system.pool().await)
            .await
            .unwrap();
    assert_eq!(status, "cancelled");
    assert!(input > 0 && output > 0, "{input} and {output} tokens");
}

#[tokio::test]
async fn messages_sent_meanwhile_are_answered_one_after_the_other() {
    let system = TestSystem::new().await;
    let app = system.api().await;
    let _workers = [system.worker().await, system.worker().await];
    for number in 1..=5 {
        let answer = Reply::text(format!("Answer {number}."));
        system.anthropic.on(&format!("Question {number}?"), answer);
    }
    for number in 1..=5 {
        let id = format!("m{number}");
        let accepted = app.submit("s1", &id, &format!("Question {number}?")).await;
        assert_eq!(accepted["turn"], number);
    }
    let (frames, end) = app.ask("s1", "m5", "Question 5?").await.rest().await;
    assert_eq!(end, End::Clean);
    assert_eq!(shown_text(&frames), "Answer 5.");
    let transcript = app.transcript("s1").await;
    let texts: Vec<&str> = transcript["messages"]
        .as_array()
        .unwrap()
        .iter()
        .map(|message| message["parts"][0]["text"].as_str().unwrap())
        .collect();
    let expected: Vec<String> = (1..=5)
        .flat_map(|number| [format!("Question {number}?"), format!("Answer {number}.")])
        .collect();
    assert_eq!(texts, expected);
    // One after the other: no two calls of the model overlap.
    let calls = system.world.received_by(Service::Anthropic);
    assert_eq!(calls.len(), 5);
    for pair in calls.windows(2) {
        assert!(pair[0].ended.unwrap() <= pair[1].received);
    }
}
