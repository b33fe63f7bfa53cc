//! When a delivery is tried, by the clock on the wall.

use std::time::Duration;

use futures::future::join_all;
use sandbox::{outside::Service, switch::Trouble};
use store::ids::HandoffId;
use tokio::time::{Instant, sleep_until};

use super::support::{Leads, Outside};

/// How long an attempt waits for, in seconds: the first for the handoff, and each later one for the
/// failure of the one before (`HANDOFF_RETRY_BACKOFF_SECONDS`).
const WAITS: [f64; 4] = [0.0, 1.0, 3.0, 9.0];
/// The promise is half a second, for each wait: a machine that is slow all the time adds it up.
const TOLERANCE: f64 = 0.5;
/// Half-way in each of the waits, in seconds.
const IN_THE_WAITS: [f64; 3] = [0.6, 2.5, 8.5];
/// Requests of one attempt follow each other closely.
const ONE_ATTEMPT: Duration = Duration::from_millis(500);

fn assert_on_time(what: &str, attempts: &[f64]) {
    let before = [0.0].into_iter().chain(attempts.iter().copied());
    let late: Vec<f64> = before
        .zip(attempts)
        .zip(WAITS)
        .map(|((before, at), wait)| at - before - wait)
        .collect();
    let on_time = late.iter().all(|late| (-0.05..TOLERANCE).contains(late));
    assert!(
        attempts.len() == WAITS.len() && on_time,
        "{what} was tried at {attempts:?}"
    );
}

/// When attempts began by the record of the service.
fn seen_by(leads: &Leads, service: Service, since: Instant) -> Vec<f64> {
    let mut begun: Vec<Instant> = Vec::new();
    let mut last: Option<Instant> = None;
    for exchange in leads.system.world.received_by(service) {
        let at = Instant::from_std(exchange.received);
        if last.is_none_or(|last| at - last > ONE_ATTEMPT) {
            begun.push(at);
        }
        last = Some(at);
    }
    begun
        .iter()
        .map(|at| at.saturating_duration_since(since).as_secs_f64())
        .collect()
}

async fn assert_four_attempts_and_one_mail(leads: &Leads, id: &HandoffId, began: Instant) {
    leads
        .until("it is mailed", async || {
            (leads.seen(id).await.status == "mailed").then_some(())
        })
        .await;
    for (channel, service) in [("slack", Service::Slack), ("crm", Service::HubSpot)] {
        let tried = leads.tried(id, channel).await;
        let at: Vec<f64> = tried.iter().map(|tried| tried.at).collect();
        assert_on_time(channel, &at);
        assert_on_time(
            &format!("{channel} outside"),
            &seen_by(leads, service, began),
        );
        assert!(
            tried.iter().all(|tried| tried.outcome.is_some()),
            "{tried:?}"
        );
    }
    let outside = leads.outside("s1", id);
    let nothing_but_a_mail = Outside {
        slack: 0,
        contacts: 0,
        notes: 0,
        webhooks: 0,
        webhook_ids: 0,
        mails: 1,
        mail_ids: 1,
    };
    assert_eq!(outside, nothing_but_a_mail);
    let live = "select count(*) from queue.jobs where queue = 'handoff'";
    assert_eq!(leads.count(live).await, 0);
}

async fn with_a_kill_in_wait(wait: Option<usize>) {
    let leads = Leads::new().await;
    leads.trouble(Some(Trouble::Status(500)));
    let mut worker = leads.system.worker().await;
    // Whoever is left alone when the other one dies.
    let _other = leads.system.worker().await;
    let began = Instant::now();
    let id = leads.open("s1").await;
    if let Some(wait) = wait {
        sleep_until(began + Duration::from_secs_f64(IN_THE_WAITS[wait])).await;
        worker.kill().await;
    }
    assert_four_attempts_and_one_mail(&leads, &id, began).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn both_ways_are_tried_at_0_1_4_and_13_seconds_and_then_one_mail_is_sent() {
    with_a_kill_in_wait(None).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_worker_that_is_killed_in_a_wait_neither_delays_an_attempt_nor_repeats_one() {
    join_all((0..IN_THE_WAITS.len()).map(|wait| with_a_kill_in_wait(Some(wait)))).await;
}
