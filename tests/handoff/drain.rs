//! Handoffs that became due while nobody could bring them to people drain afterwards without tripping
//! the rate of Slack. The same with a thousand of them, and with turns meanwhile: `cargo bench-all handoff`.

use std::time::Duration;

use reqwest::StatusCode;
use sandbox::{slack::PostRate, switch::Trouble};
use serde_json::json;
use sqlx::PgPool;
use tokio::time::{sleep, timeout};

use crate::support::{ApiProcess, TestSystem};

/// Visitors who leave their details during the outage.
const VISITORS: usize = 12;
/// What Slack takes, with one message that comes a moment early because the one before was late.
const SLACK: PostRate = PostRate {
    each: Duration::from_secs(1),
    burst: 2,
    refuses: true,
};
/// Between the moment that a token is taken and the one that a start is stamped with, in seconds.
const BLUR: f64 = 0.1;
/// A message a second and a change each 1.2 s, the waits of the outage, and a machine under load.
const PATIENCE: Duration = Duration::from_mins(2);
const LOOK: Duration = Duration::from_millis(50);

#[tokio::test]
async fn leads_of_an_outage_drain_at_the_rate_that_slack_takes() {
    let system = TestSystem::new().await;
    let api = system.api().await;
    let mut worker = system.worker().await;
    let visitors: Vec<String> = (0..VISITORS).map(|number| format!("s{number}")).collect();
    for session in &visitors {
        api.ask(session, "m1", "Hello").await.rest().await;
    }
    worker.stop().await;

    // Nobody works: what is left now becomes due during the outage.
    for session in &visitors {
        leave_details(&api, session).await;
    }
    let slack = system.people.slack.workspace();
    slack.set_rate(SLACK);
    system.people.slack.set_trouble(Some(Trouble::Status(503)));
    system
        .people
        .hubspot
        .switch()
        .set(Some(Trouble::Status(503)));
    let _workers = [system.worker().await, system.worker().await];
    let pool = system.pool().await;
    // From then on nobody asks for a while, and one finds out for all.
    let open = "select count(*) from provider_circuits where open_until is not null";
    until_counted(&pool, open, 2).await;
    system.people.slack.set_trouble(None);
    system.people.hubspot.switch().set(None);

    let delivered = "select count(*) from handoff_records where status = 'delivered'";
    until_counted(&pool, delivered, VISITORS).await;
    assert_eq!(slack.too_fast(), 0);
    let posted = slack.messages();
    assert_eq!(posted.len(), VISITORS, "{posted:?}");
    let starts = starts(&pool).await;
    assert_eq!(starts.len(), VISITORS);
    let mut apart = starts.windows(2).map(|pair| pair[1] - pair[0]);
    assert!(apart.all(|gap| gap > 1.0 - BLUR), "{starts:?}");
    assert!(system.people.smtp.mails().is_empty());
    assert_eq!(system.people.hubspot.contacts().len(), VISITORS);
}

async fn leave_details(api: &ApiProcess, session: &str) {
    let email = format!("{session}@visitor.example");
    let details = json!({"name": "Ada", "email": email, "consent": true});
    let request = api.post(&format!("/chat/{session}/contact")).json(&details);
    let status = request.send().await.unwrap().status();
    assert_eq!(status, StatusCode::ACCEPTED);
}

/// Waits until a query counts so many.
async fn until_counted(pool: &PgPool, query: &'static str, wanted: usize) {
    let counted = async {
        loop {
            let count: i64 = sqlx::query_scalar(query).fetch_one(pool).await.unwrap();
            if usize::try_from(count).unwrap() == wanted {
                return;
            }
            sleep(LOOK).await;
        }
    };
    if timeout(PATIENCE, counted).await.is_err() {
        let statuses = "select array_agg(status::text) from handoff_records";
        let left: Vec<String> = sqlx::query_scalar(statuses).fetch_one(pool).await.unwrap();
        panic!("not {wanted} of {query}: {left:?}");
    }
}

/// When the jobs that posted in Slack were started, in seconds from the first.
async fn starts(pool: &PgPool) -> Vec<f64> {
    sqlx::query_scalar(
        "select extract(epoch from started_at - min(started_at) over ())::float8 from queue.history
         where kind = 'handoff.slack' and outcome = 'done' order by started_at",
    )
    .fetch_all(pool)
    .await
    .unwrap()
}
