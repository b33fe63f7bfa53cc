//! A takeover while a real worker streams a real answer.

use std::time::Duration;

use reqwest::StatusCode;
use sandbox::{
    anthropic::{Pace, Reply},
    outside::{Outcome, Service},
    slack::ANNA,
};

use super::support::{hand_off, press, said, take_over, until, workspace};
use crate::support::{
    TestSystem,
    frames::End,
    process::{shown_text, until_text},
};

const WORDS: &str =
    "one two three four five six seven eight nine ten eleven twelve thirteen fourteen";

/// A word each so many milliseconds.
fn paced(milliseconds: u64) -> Pace {
    Pace {
        between_tokens: Duration::from_millis(milliseconds),
        ..Pace::default()
    }
}

#[tokio::test]
async fn an_answer_that_is_being_streamed_is_withdrawn_and_its_model_is_left() {
    let system = TestSystem::new().await;
    system.anthropic.push(Reply::text("Good day."));
    let api = system.api().await;
    let _worker = system.worker().await;
    let slack = workspace(&system, &api);
    api.ask("s1", "m1", "Hello").await.rest().await;
    let message = hand_off(&slack, &api, "s1").await;

    system.anthropic.push(Reply::text(WORDS).paced(paced(200)));
    let mut stream = api.ask("s1", "m2", "Tell me everything").await;
    let mut frames = until_text(&mut stream).await;
    press(&slack, &message, "take_over", ANNA).await;
    let (rest, end) = stream.rest().await;
    frames.extend(rest);
    assert_eq!(end, End::Clean);
    assert_eq!(shown_text(&frames), "");
    let last = frames.last().unwrap();
    assert_eq!(
        (last.kind(), last.json["reason"].as_str()),
        ("abort", Some("taken_over"))
    );
    // The worker lets go of the model, and nothing of the answer is anywhere.
    until("the model is hung up on", async || {
        let asked = system.received(Service::Anthropic, "Tell me everything");
        asked
            .iter()
            .any(|it| it.outcome == Outcome::ClientHungUp)
            .then_some(())
    })
    .await;
    let said = said(&api, "s1").await;
    assert_eq!(said.len(), 3, "{said:?}");
    assert!(
        said.iter()
            .filter(|(author, _)| author == "assistant")
            .count()
            == 1
    );
}

#[tokio::test]
async fn takeovers_at_any_moment_of_real_answers_leave_either_an_answer_or_none() {
    const SESSIONS: usize = 16;
    let system = TestSystem::new().await;
    let (for_slack, api) = (system.api().await, system.api().await);
    let _workers = (system.worker().await, system.worker().await);
    let pool = system.pool().await;
    let one = |number: usize| {
        let (for_slack, api, pool, system) = (&for_slack, &api, &pool, &system);
        async move {
            let session = format!("s{number}");
            system.anthropic.push(Reply::text(WORDS).paced(paced(15)));
            let wait = Duration::from_millis(rand::random_range(0..400));
            let stream = api.ask(&session, "m1", "Tell me everything").await;
            sqlx::query(
                "insert into handoff_records (session_id, handoff_id, trigger, status)
                 values ($1, 'h1', 'explicit_wish', 'delivered')",
            )
            .bind(&session)
            .execute(pool)
            .await
            .unwrap();
            tokio::time::sleep(wait).await;
            let answer = take_over(for_slack, &session, number).await;
            assert_eq!(answer, StatusCode::OK);
            let spoken = "select count(*) from messages
                          where session_id = $1 and role = 'assistant' and author is null";
            let count = async || -> i64 {
                sqlx::query_scalar(spoken)
                    .bind(&session)
                    .fetch_one(pool)
                    .await
                    .unwrap()
            };
            let at_takeover = count().await;
            let mut stream = stream;
            let (frames, end) = stream.rest().await;
            assert_eq!(end, End::Clean);
            let answered = frames.last().unwrap().kind() == "finish";
            assert_eq!(shown_text(&frames).is_empty(), !answered);
            (session.clone(), at_takeover, answered)
        }
    };
    let ended = futures::future::join_all((0..SESSIONS).map(one)).await;
    for (session, at_takeover, answered) in ended {
        let now: i64 = sqlx::query_scalar(
            "select count(*) from messages where session_id = $1 and role = 'assistant' and author is null",
        )
        .bind(&session)
        .fetch_one(&pool)
        .await
        .unwrap();
        assert_eq!((now, now == 1), (at_takeover, answered), "{session}");
    }
}
