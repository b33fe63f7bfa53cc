//! The database is killed under load, and is away for a while.

use std::time::Duration;

use futures::future::join_all;
use reqwest::{Response, StatusCode};
use sandbox::{
    anthropic::{Pace, Reply},
    outside::{Exchange, Outcome},
};
use sqlx::PgPool;
use tokio::{sync::watch, time::timeout};

use crate::support::{
    ApiProcess, TestSystem,
    frames::{End, PATIENCE},
    process::{assert_one_answer, shown_text, until_text},
};

/// How long the database is away: what a restart of a managed database takes.
const OUTAGE: Duration = Duration::from_secs(5);
/// Visitors who ask before the database dies, and visitors who begin to ask while it is away.
const BEFORE: usize = 30;
const MEANWHILE: usize = 10;
/// Until everything is answered after the database is back: all leases have run out, a worker waits
/// a whole lease (4 s) before it takes over, and reconnects with a backoff of some seconds; the rest
/// is patience with a machine under load.
const RECOVERY_LIMIT: Duration = Duration::from_secs(40);
/// Between two tries of a visitor who was told to try again.
const TRY_AGAIN: Duration = Duration::from_millis(200);

/// Answers take about as long as it takes to kill the database in the middle of them.
const PACE: Pace = Pace {
    before_headers: Duration::ZERO,
    first_token: Duration::from_millis(50),
    between_tokens: Duration::from_millis(50),
};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_accepted_turn_is_lost_when_postgres_is_killed_under_load() {
    let system = TestSystem::with_own_server().await;
    system.anthropic.on("count", Reply::words(40).paced(PACE));
    let mut apis = [system.api().await, system.api().await];
    let mut workers = [system.worker().await, system.worker().await];

    let (accepted, mut count) = watch::channel(0);
    let visitors = |range: std::ops::Range<usize>| {
        let visits = range.map(|number| visit(&apis[number % 2], number, &accepted));
        join_all(visits)
    };
    let early = visitors(0..BEFORE);
    let late = async {
        // Some are answered, some wait for an answer, some are about to ask.
        count.wait_for(|count| *count >= BEFORE / 2).await.unwrap();
        system
            .world
            .wait_for(PATIENCE, half_an_answer)
            .await
            .unwrap();
        system.server().kill().await.unwrap();
        let back = async {
            tokio::time::sleep(OUTAGE).await;
            system.server().restart().await.unwrap();
        };
        tokio::join!(visitors(BEFORE..BEFORE + MEANWHILE), back).0
    };
    let visits = async { tokio::join!(early, late) };
    let (early, late) = timeout(OUTAGE + RECOVERY_LIMIT, visits)
        .await
        .expect("visitors are still waiting");
    assert_eq!(early.len() + late.len(), BEFORE + MEANWHILE);

    let pool = system.pool().await;
    timeout(RECOVERY_LIMIT, all_finished(&pool))
        .await
        .expect("turns are still unfinished");
    let words: Vec<String> = (1..=40).map(|number| format!("word{number}")).collect();
    for number in 0..BEFORE + MEANWHILE {
        let transcript = apis[0].transcript(&session(number)).await;
        assert_one_answer(&transcript, &words.join(" "));
    }
    let statuses: Vec<(String, i64)> =
        sqlx::query_as("select status, count(*) from turns group by status")
            .fetch_all(&pool)
            .await
            .unwrap();
    let all = i64::try_from(BEFORE + MEANWHILE).unwrap();
    assert_eq!(statuses, [("answered".to_owned(), all)]);
    assert_eq!(jobs_left(&pool).await, 0);

    // Only a process that has lived through it all can be stopped, and ends well.
    for api in &mut apis {
        api.process.stop().await;
    }
    for worker in &mut workers {
        worker.stop().await;
    }
}

fn session(number: usize) -> String {
    format!("visitor-{number}")
}

/// Whether the model is in the middle of an answer.
fn half_an_answer(exchanges: &[Exchange]) -> Option<()> {
    let half = |exchange: &&Exchange| {
        exchange.outcome == Outcome::Running && exchange.answer.contains("word5")
    };
    exchanges.iter().find(half).map(drop)
}

/// Asks until the message is accepted. While the database is away a visitor waits, or is told to
/// come again.
async fn visit(api: &ApiProcess, number: usize, accepted: &watch::Sender<usize>) {
    loop {
        let request = api.submission(&session(number), "m1", "Please count.");
        // The API itself lives: it always answers.
        let response = request.send().await.unwrap();
        if response.status() == StatusCode::ACCEPTED {
            accepted.send_modify(|count| *count += 1);
            return;
        }
        assert_unavailable(response).await;
        tokio::time::sleep(TRY_AGAIN).await;
    }
}

async fn assert_unavailable(response: Response) {
    assert_eq!(response.status(), StatusCode::SERVICE_UNAVAILABLE);
    let kind = response.headers()["content-type"].to_str().unwrap();
    assert_eq!(kind, "application/problem+json");
    let problem: serde_json::Value = response.json().await.unwrap();
    assert_eq!(problem["status"], 503);
    assert!(problem["code"].is_string());
}

async fn all_finished(pool: &PgPool) {
    loop {
        let unfinished: i64 =
            sqlx::query_scalar("select count(*) from turns where finished_at is null")
                .fetch_one(pool)
                .await
                .unwrap();
        if unfinished == 0 {
            return;
        }
        tokio::time::sleep(TRY_AGAIN).await;
    }
}

async fn jobs_left(pool: &PgPool) -> i64 {
    sqlx::query_scalar("select count(*) from queue.jobs where kind = 'turn.process'")
        .fetch_one(pool)
        .await
        .unwrap()
}

#[tokio::test]
async fn a_client_that_reads_an_answer_while_postgres_dies_gets_it_whole() {
    let system = TestSystem::with_own_server().await;
    system.anthropic.on("count", Reply::words(40).paced(PACE));
    let (api, _worker) = (system.api().await, system.worker().await);
    let mut stream = api.ask("s1", "m1", "Please count.").await;
    let mut frames = until_text(&mut stream).await;
    system.server().kill().await.unwrap();
    system.server().restart().await.unwrap();
    // The stream may break with the database, and is resumed as the widget does.
    loop {
        let (rest, end) = stream.rest().await;
        frames.extend(rest);
        if end == End::Clean {
            break;
        }
        let after = frames.last().unwrap().id.clone();
        stream = api.resume("s1", &after).await;
    }
    let shown = shown_text(&frames);
    assert!(shown.ends_with("word40"), "{shown}");
    assert_one_answer(&api.transcript("s1").await, &shown);
}
