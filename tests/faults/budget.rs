//! Caps on what the model costs, in a fleet of workers that knows them from the database only.

use std::time::Duration;

use sandbox::anthropic::{Pace, Reply};
use sqlx::{PgPool, query_as, query_scalar};
use tokio::time::{Instant, sleep, timeout};

use crate::support::{TestSystem, frames::PATIENCE, process::ApiProcess};

/// A tenth of a cent for a token of an answer, and nothing else costs anything.
const PRICES: &str =
    r#"{"claude": {"input": 0, "output": 1000, "cache_write": 0, "cache_read": 0}}"#;
/// An answer is as long as it can be, so that it comes to all that was reserved for it: in cents.
const WORDS: usize = 40;
const MOST_TOKENS: &str = "40";
const CALL: i64 = 4;

async fn system() -> TestSystem {
    let mut system = TestSystem::new().await;
    system.set("LLM_PRICES", PRICES);
    system.set("LLM_MAX_OUTPUT_TOKENS", MOST_TOKENS);
    system.anthropic.on("Well?", Reply::words(WORDS));
    system
}

/// One value of the database.
async fn number(pool: &PgPool, expression: &'static str) -> i64 {
    query_scalar(sqlx::AssertSqlSafe(format!(
        "select ({expression})::bigint"
    )))
    .fetch_one(pool)
    .await
    .unwrap()
}

/// Waits until this says so.
async fn until(pool: &PgPool, condition: &'static str) {
    let begun = Instant::now();
    let sql = format!("select {condition}");
    while !query_scalar::<_, bool>(sqlx::AssertSqlSafe(sql.clone()))
        .fetch_one(pool)
        .await
        .unwrap()
    {
        assert!(begun.elapsed() < PATIENCE, "never: {condition}");
        sleep(Duration::from_millis(20)).await;
    }
}

#[tokio::test]
async fn a_fleet_of_workers_goes_beyond_the_cap_by_one_call_at_most() {
    const TURNS: i64 = 64;
    // Ten calls.
    const CAP: i64 = 40;
    let mut system = system().await;
    system.set("DAILY_COST_CAP_USD", "0.40");
    // The answers take long enough to be under way together.
    system.anthropic.set_pace(Pace {
        between_tokens: Duration::from_millis(5),
        ..Pace::default()
    });
    let app = system.api().await;
    let mut workers = Vec::new();
    for _ in 0..4 {
        workers.push(system.worker().await);
    }
    let asked = (0..TURNS).map(|turn| {
        let app = &app;
        async move { app.submit(&format!("s{turn}"), "m1", "Well?").await }
    });
    futures::future::join_all(asked).await;
    let pool = system.pool().await;
    until(&pool, "count(finished_at) = 64 from turns").await;

    let calls = i64::try_from(system.anthropic.calls()).unwrap();
    let spent = number(&pool, "select sum(cost_usd) * 100 from spend_days").await;
    assert_eq!(spent, calls * CALL);
    // They begin below the cap, and nobody is refused for nothing.
    assert!((CAP..CAP + CALL).contains(&spent), "{spent} cents");
    for same in [
        "select sum(cost_usd) * 100 from model_calls",
        "select sum(cost_usd) * 100 from turns",
    ] {
        assert_eq!(number(&pool, same).await, spent, "{same}");
    }
    // The others were answered as well, without the model, and may come back.
    let ends: Vec<(String, Option<String>, i64)> = query_as(
        "select status, limit_reached, count(*) from turns group by 1, 2 order by 2 nulls first",
    )
    .fetch_all(&pool)
    .await
    .unwrap();
    let answered = "answered".to_owned();
    assert_eq!(
        ends,
        [
            (answered.clone(), None, calls),
            (answered, Some("cost_cap".to_owned()), TURNS - calls),
        ]
    );
    assert_eq!(
        number(
            &pool,
            "select count(*) from sessions where closed_at is not null"
        )
        .await,
        0
    );
    assert_eq!(
        number(&pool, "select count(*) from spend_reservations").await,
        0
    );
}

#[tokio::test]
async fn a_cap_that_is_raised_lets_the_next_message_through() {
    let mut system = system().await;
    system.set("MONTHLY_COST_CAP_USD", "0.01");
    system.set("COST_CAP_ACTION", "degrade");
    let app = system.api().await;
    let mut worker = system.worker().await;
    let pool = system.pool().await;
    for (message, calls) in [("m1", 1), ("m2", 1)] {
        app.ask("s1", message, "Well?").await.rest().await;
        assert_eq!(system.anthropic.calls(), calls, "{message}");
    }
    let limits: Vec<Option<String>> = query_scalar("select limit_reached from turns order by turn")
        .fetch_all(&pool)
        .await
        .unwrap();
    assert_eq!(limits, [None, Some("cost_cap".to_owned())]);
    worker.stop().await;
    let _raised = system.worker_with(&[("MONTHLY_COST_CAP_USD", "1")]).await;
    app.ask("s1", "m3", "Well?").await.rest().await;
    assert_eq!(system.anthropic.calls(), 2);
}

async fn scraped(app: &ApiProcess, line: &str) {
    let said = async {
        loop {
            let metrics = reqwest::get(app.metrics_url()).await.unwrap();
            if metrics
                .text()
                .await
                .unwrap()
                .lines()
                .any(|said| said == line)
            {
                break;
            }
            sleep(Duration::from_millis(50)).await;
        }
    };
    let in_time = timeout(PATIENCE, said).await;
    in_time.unwrap_or_else(|_| panic!("it is never said: {line}"));
}

#[tokio::test]
async fn a_month_near_its_cap_is_warned_of_once_and_goes_on() {
    const WARNING: &str = "near MONTHLY_COST_CAP_USD";
    let mut system = system().await;
    system.set("MONTHLY_COST_CAP_USD", "0.10");
    let serve = system.serve().await;
    serve.ask("s1", "m1", "Well?").await.rest().await;
    scraped(&serve, "growth_chat_llm_cost_month_usd 0.04").await;
    scraped(&serve, "growth_chat_llm_cost_near_cap 0").await;
    scraped(&serve, "growth_chat_llm_cost_cap_usd 0.1").await;
    assert_eq!(system.count_logged(WARNING), 0);
    serve.ask("s1", "m2", "Well?").await.rest().await;
    scraped(&serve, "growth_chat_llm_cost_near_cap 1").await;
    system.until_logged(WARNING, 1).await;
    // Far beyond it, too: the default is to alert.
    serve.ask("s1", "m3", "Well?").await.rest().await;
    scraped(&serve, "growth_chat_llm_cost_month_usd 0.12").await;
    scraped(&serve, "growth_chat_llm_cost_usd_total 0.12").await;
    assert_eq!(system.count_logged(WARNING), 1);
    assert_eq!(system.anthropic.calls(), 3);
}
