//! Processes that are told to end in the middle of an answer, as at every deployment.

use std::time::Duration;

use sandbox::{
    anthropic::{Pace, Reply},
    watchdog::Signal,
};

use crate::support::{
    TestSystem,
    frames::End,
    process::{assert_one_answer, resets, shown_text, until_text},
};

/// An answer of 60 words takes more than a second: time to be told in the middle of it.
const PACE: Pace = Pace {
    before_headers: Duration::ZERO,
    first_token: Duration::ZERO,
    between_tokens: Duration::from_millis(20),
};

#[tokio::test]
async fn a_worker_that_is_told_to_end_finishes_its_answer_first() {
    let mut system = TestSystem::new().await;
    // Longer than any answer.
    system.set("SHUTDOWN_DRAIN_SECONDS", "60");
    system.anthropic.on("count", Reply::words(60).paced(PACE));
    let (api, mut worker) = (system.api().await, system.worker().await);
    let mut stream = api.ask("s1", "m1", "Please count.").await;
    let mut frames = until_text(&mut stream).await;
    worker.signal(Signal::SIGTERM);
    let (rest, end) = stream.rest().await;
    frames.extend(rest);
    assert_eq!(end, End::Clean);
    assert!(shown_text(&frames).ends_with("word60"));
    assert!(frames.iter().all(|frame| frame.position().1 == 1));
    assert_one_answer(&api.transcript("s1").await, &shown_text(&frames));
    assert_eq!(system.anthropic.calls(), 1);
    // The drain ends with the work.
    assert!(worker.ended().await.success());
}

#[tokio::test]
async fn a_worker_that_may_not_finish_hands_its_answer_back_and_burns_no_attempt() {
    let mut system = TestSystem::new().await;
    system.set("SHUTDOWN_DRAIN_SECONDS", "1");
    let stalled = Reply::words(60).stalling_after(5);
    system.anthropic.on("count", stalled);
    let (api, mut first) = (system.api().await, system.worker().await);
    let mut stream = api.ask("s1", "m1", "Please count.").await;
    let mut frames = until_text(&mut stream).await;
    system.anthropic.on("count", Reply::words(60));
    let _second = system.worker().await;
    first.stop().await;
    let (rest, end) = stream.rest().await;
    frames.extend(rest);
    assert_eq!(end, End::Clean);
    assert_eq!(resets(&frames), 1);
    assert!(shown_text(&frames).ends_with("word60"));
    assert_one_answer(&api.transcript("s1").await, &shown_text(&frames));
    let (outcome, attempts): (String, i16) =
        sqlx::query_as("select outcome, attempt from queue.history where kind = 'turn.process'")
            .fetch_one(&system.pool().await)
            .await
            .unwrap();
    assert_eq!((outcome.as_str(), attempts), ("done", 1));
    assert_eq!(system.anthropic.calls(), 2);
}

#[tokio::test]
async fn a_client_of_an_api_process_that_ends_goes_on_at_another_one() {
    let system = TestSystem::new().await;
    system.anthropic.on("count", Reply::words(60).paced(PACE));
    let (mut one, other) = (system.api().await, system.api().await);
    let _worker = system.worker().await;
    let mut stream = one.ask("s1", "m1", "Please count.").await;
    let mut frames = until_text(&mut stream).await;
    one.process.signal(Signal::SIGTERM);
    let (rest, end) = stream.rest().await;
    frames.extend(rest);
    assert_eq!(end, End::Cut, "a clean end would look complete");
    assert!(frames.iter().all(|frame| frame.kind() != "finish"));
    assert!(one.process.ended().await.success());
    let after = frames.last().unwrap().id.clone();
    let (rest, end) = other.resume("s1", &after).await.rest().await;
    frames.extend(rest);
    assert_eq!(end, End::Clean);
    assert_eq!(resets(&frames), 0);
    assert!(shown_text(&frames).ends_with("word60"));
    assert_one_answer(&other.transcript("s1").await, &shown_text(&frames));
}

#[tokio::test]
async fn the_one_process_of_the_smallest_installation_finishes_its_answer_and_starts_again() {
    let mut system = TestSystem::new().await;
    system.set("SHUTDOWN_DRAIN_SECONDS", "60");
    system.anthropic.on("count", Reply::words(60).paced(PACE));
    let mut serve = system.serve().await;
    let mut stream = serve.ask("s1", "m1", "Please count.").await;
    let frames = until_text(&mut stream).await;
    serve.process.stop().await;
    // The worker finished; the client was cut, and resumes at the next process.
    let next = system.serve().await;
    let after = frames.last().unwrap().id.clone();
    let (rest, end) = next.resume("s1", &after).await.rest().await;
    assert_eq!(end, End::Clean);
    let all: Vec<_> = frames.into_iter().chain(rest).collect();
    assert_eq!(resets(&all), 0);
    assert!(shown_text(&all).ends_with("word60"));
    assert_one_answer(&next.transcript("s1").await, &shown_text(&all));
    assert_eq!(system.anthropic.calls(), 1);
}
