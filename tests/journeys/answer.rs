//! A question becomes one cited answer, whatever happens on the way.

use std::time::Duration;

use sandbox::{
    anthropic::{Pace, Reply},
    outside::{Outcome, Service},
};

use crate::support::{
    TestSystem,
    frames::{End, PATIENCE},
    process::{cut_after, last_answer, shown_text},
};

const PRICES: &str = "---\ntitle: Prices\nurl: /prices\n---\n\n# Prices\n\n\
    A discovery week costs 9,000 euros. Travel within Europe is included.\n";
const HOURS: &str = "# Hours\n\nOur office is open from nine to five.\n";

/// Slow enough to be interrupted.
const SLOW: Pace = Pace {
    before_headers: Duration::ZERO,
    first_token: Duration::ZERO,
    between_tokens: Duration::from_millis(40),
};

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
    let transcript = app.transcript("s1").await;
    assert_eq!(last_answer(&transcript), shown_text(&frames));
    let metrics = system.client.get(app.metrics_url()).send().await.unwrap();
    assert!(metrics.status().is_success());
}

#[tokio::test]
async fn the_answering_worker_is_killed_and_another_one_answers_once() {
    let system = TestSystem::new().await;
    system.anthropic.on("count", Reply::words(60).paced(SLOW));
    let (app, mut first) = (system.api().await, system.worker().await);
    let mut stream = app.ask("s1", "m1", "Please count.").await;
    let mut frames = Vec::new();
    while shown_text(&frames).is_empty() {
        frames.push(stream.frame().await);
    }
    let _second = system.worker().await;
    first.kill().await;
    let (rest, end) = stream.rest().await;
    frames.extend(rest);
    assert_eq!(end, End::Clean);
    let words: Vec<String> = (1..=60).map(|number| format!("word{number}")).collect();
    assert_eq!(shown_text(&frames), words.join(" "));
    let transcript = app.transcript("s1").await;
    assert_eq!(last_answer(&transcript), words.join(" "));
    assert_eq!(transcript["messages"].as_array().unwrap().len(), 2);
}

#[tokio::test]
async fn a_cut_stream_goes_on_at_another_api_process_without_gap_or_duplicate() {
    let system = TestSystem::new().await;
    system.anthropic.on("count", Reply::words(60).paced(SLOW));
    let (mut one, other, _worker) = (
        system.api().await,
        system.api().await,
        system.worker().await,
    );
    let stream = one.ask("s1", "m1", "Please count.").await;
    let mut frames = cut_after(stream, 6).await;
    one.process.kill().await;
    let after = frames.last().unwrap().id.clone();
    let (rest, end) = other.resume("s1", &after).await.rest().await;
    assert_eq!(end, End::Clean);
    frames.extend(rest);
    let words: Vec<String> = (1..=60).map(|number| format!("word{number}")).collect();
    assert_eq!(shown_text(&frames), words.join(" "));
    let mut ids: Vec<&str> = frames.iter().map(|frame| frame.id.as_str()).collect();
    ids.dedup();
    assert_eq!(ids.len(), frames.len());
}

#[tokio::test]
async fn a_cancelled_answer_hangs_up_on_the_model_and_keeps_its_text() {
    let system = TestSystem::new().await;
    system
        .anthropic
        .on("count", Reply::words(60).stalling_after(5).paced(SLOW));
    let (app, other, _worker) = (
        system.api().await,
        system.api().await,
        system.worker().await,
    );
    let mut stream = app.ask("s1", "m1", "Please count.").await;
    let mut frames = Vec::new();
    while shown_text(&frames).is_empty() {
        frames.push(stream.frame().await);
    }
    let cancel = other.post("/chat/s1/turns/1/cancel").send().await.unwrap();
    assert!(cancel.status().is_success());
    let hung_up = |log: &[sandbox::outside::Exchange]| {
        let model = log.iter().find(|it| it.service == Service::Anthropic)?;
        (model.outcome == Outcome::ClientHungUp).then_some(())
    };
    system.world.wait_for(PATIENCE, hung_up).await.unwrap();
    let (rest, _) = stream.rest().await;
    frames.extend(rest);
    assert_eq!(frames.last().unwrap().kind(), "abort");
    let kept = last_answer(&app.transcript("s1").await);
    assert_eq!(kept, shown_text(&frames));
    assert!(!kept.is_empty());
}

#[tokio::test]
async fn an_accepted_message_survives_the_loss_of_postgres() {
    let system = TestSystem::with_own_server().await;
    system.anthropic.on("count", Reply::words(60).paced(SLOW));
    let (app, mut worker) = (system.api().await, system.worker().await);
    let stream = app.ask("s1", "m1", "Please count.").await;
    let frames = cut_after(stream, 1).await;
    assert_eq!(frames.len(), 1);
    system.server().kill().await.unwrap();
    system.server().restart().await.unwrap();
    let answered = async {
        let pool = system.pool().await;
        loop {
            let status: String = sqlx::query_scalar("select status from turns")
                .fetch_one(&pool)
                .await
                .unwrap();
            if status == "answered" {
                break;
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    };
    tokio::time::timeout(PATIENCE, answered).await.unwrap();
    let transcript = app.transcript("s1").await;
    assert_eq!(transcript["messages"].as_array().unwrap().len(), 2);
    worker.stop().await;
}

#[tokio::test]
async fn a_worker_that_wakes_up_after_its_turn_was_taken_over_changes_nothing() {
    let system = TestSystem::new().await;
    system.anthropic.on("count", Reply::words(60).paced(SLOW));
    let (app, first) = (system.api().await, system.worker().await);
    let mut stream = app.ask("s1", "m1", "Please count.").await;
    let mut frames = Vec::new();
    while shown_text(&frames).is_empty() {
        frames.push(stream.frame().await);
    }
    let _second = system.worker().await;
    first.freeze();
    let (rest, end) = stream.rest().await;
    frames.extend(rest);
    assert_eq!(end, End::Clean);
    let before = app.transcript("s1").await;
    first.thaw();
    // What the thawed worker does about its lost turn is over when it has ended.
    let mut first = first;
    first.stop().await;
    assert_eq!(app.transcript("s1").await, before);
    assert_eq!(last_answer(&before), shown_text(&frames));
}

#[tokio::test]
async fn an_api_process_that_is_restarted_goes_on_at_its_address() {
    let system = TestSystem::new().await;
    system.anthropic.on("count", Reply::words(60).paced(SLOW));
    let (mut app, _worker) = (system.api().await, system.worker().await);
    let stream = app.ask("s1", "m1", "Please count.").await;
    let mut frames = cut_after(stream, 6).await;
    let address = app.url("");
    app.process.restart().await;
    assert_eq!(app.url(""), address);
    let after = frames.last().unwrap().id.clone();
    frames.extend(app.resume("s1", &after).await.rest().await.0);
    let last_word = shown_text(&frames);
    assert!(last_word.ends_with("word60"), "{last_word}");
}
