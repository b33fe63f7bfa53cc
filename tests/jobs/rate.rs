//! Rates hold for the whole fleet, and delay nobody else.

use std::time::Duration;

use jobs::{JobKind, Rate};

use super::support::{Notes, Queue, Work, config, noting, noting_nothing, until, work};

const EVERY: Duration = Duration::from_millis(100);
/// Between the moment that a token is taken and the one that a start is stamped with.
const BLUR: f64 = 0.03;

#[derive(Debug, Clone, serde::Serialize, serde::Deserialize)]
struct Post {
    channel: String,
}

impl JobKind for Post {
    const KIND: &'static str = "test.Post";
    const QUEUE: &'static str = "queue.Post";
    const RETRY_WAITS: &'static [i32] = &[0, 0, 0];
    const TIMEOUT: Duration = Duration::from_mins(1);
    const RATE: Option<Rate> = Some(Rate::one_each(EVERY));

    fn rate_key(&self) -> Option<String> {
        Some(format!("channel:{}", self.channel))
    }
}

/// A rate of its whole queue.
#[derive(Debug, Clone, serde::Serialize, serde::Deserialize)]
struct Crawl {}

impl JobKind for Crawl {
    const KIND: &'static str = "test.Crawl";
    const QUEUE: &'static str = "queue.Crawl";
    const RETRY_WAITS: &'static [i32] = &[];
    const TIMEOUT: Duration = Duration::from_mins(1);
    const RATE: Option<Rate> = Some(Rate {
        every: EVERY,
        burst: 3,
    });
}

fn post(channel: &str) -> Post {
    Post {
        channel: channel.to_owned(),
    }
}

/// When the jobs of a channel, or of a queue, were started, in seconds from the first.
async fn starts(queue: &Queue, which: &str) -> Vec<f64> {
    sqlx::query_scalar(
        "select extract(epoch from started_at - min(started_at) over ())::float8 from queue.history
         where $1 in (payload ->> 'channel', queue) order by started_at",
    )
    .bind(which)
    .fetch_all(&queue.pool)
    .await
    .unwrap()
}

fn keeps(starts: &[f64], rate: Rate) -> bool {
    let every = rate.every.as_secs_f64();
    starts.iter().enumerate().all(|(i, from)| {
        let counted = (1_u32..).zip(&starts[i..]);
        counted
            .map(|(count, to)| (f64::from(count), to - from))
            .all(|(count, span)| count <= f64::from(rate.burst) + (span + BLUR) / every)
    })
}

async fn all_done(queue: &Queue, count: i64) {
    until("all have ended", async || {
        (queue
            .count("select count(*) from queue.history where outcome = 'done'")
            .await
            == count)
            .then_some(())
    })
    .await;
}

#[tokio::test]
async fn a_channel_gets_one_start_each_interval_from_all_processes_together() {
    let queue = Queue::new().await;
    let talking = queue.talk();
    let processes: Vec<_> = ["one", "two", "three"]
        .into_iter()
        .map(|name| {
            queue.remote(name, &config(), |runtime| {
                runtime.register::<Post, _, _>(noting_nothing)
            })
        })
        .collect();
    let mut jobs: Vec<Post> = (0..12).map(|_| post("a")).collect();
    jobs.extend((0..6).map(|_| post("b")));
    queue.enqueue_all(&jobs).await;
    all_done(&queue, 18).await;
    for (channel, count) in [("a", 12_u32), ("b", 6)] {
        let starts = starts(&queue, channel).await;
        assert!(
            keeps(&starts, Rate::one_each(EVERY)),
            "{channel}: {starts:?}"
        );
        // Not far slower either: the rate is used.
        let least = f64::from(count - 1) * EVERY.as_secs_f64();
        assert!(
            starts.last().unwrap() < &(3.0 * least),
            "{channel}: {starts:?}"
        );
    }
    // To be sent away costs no attempt.
    let attempts = queue
        .count("select max(attempt)::bigint from queue.history")
        .await;
    assert_eq!(attempts, 1);
    for process in processes {
        process.stop().await;
    }
    talking.stop().await;
}

#[tokio::test]
async fn a_queue_without_keys_shares_one_bucket_with_its_burst() {
    let queue = Queue::new().await;
    let _process = queue.process(|runtime| runtime.register::<Crawl, _, _>(noting_nothing));
    let jobs: Vec<Crawl> = (0..9).map(|_| Crawl {}).collect();
    queue.enqueue_all(&jobs).await;
    all_done(&queue, 9).await;
    let starts = starts(&queue, Crawl::QUEUE).await;
    assert!(keeps(&starts, Crawl::RATE.unwrap()), "{starts:?}");
    assert!(starts[2] < EVERY.as_secs_f64(), "a full bucket: {starts:?}");
}

#[tokio::test]
async fn thousands_that_wait_for_one_channel_delay_no_other() {
    let queue = Queue::new().await;
    let mut tx = queue.pool.begin().await.unwrap();
    let many: Vec<Post> = (0..3_000).map(|_| post("flooded")).collect();
    jobs::enqueue_all(&mut tx, &many, &jobs::EnqueueOptions::default())
        .await
        .unwrap();
    tx.commit().await.unwrap();
    let other = queue.enqueue(&post("quiet")).await;
    let notes = Notes::default();
    let _process = queue.process(|runtime| {
        runtime
            .register::<Post, _, _>(noting_nothing)
            .register::<Work, _, _>(noting(&notes))
    });
    let elsewhere = queue.enqueue(&work(1)).await;
    queue.ended(other).await;
    queue.ended(elsewhere).await;
    let left = queue.count("select count(*) from queue.jobs").await;
    assert!(left > 2_000, "the flood is still there: {left}");
}

#[tokio::test]
async fn an_attempt_that_failed_takes_a_token_again() {
    let queue = Queue::new().await;
    let notes: Notes<std::time::Instant> = Notes::default();
    let seen = notes.clone();
    let _process = queue.process(|runtime| {
        runtime.register::<Post, _, _>(move |_, context| {
            seen.lock().push(std::time::Instant::now());
            std::future::ready(match context.attempt {
                3 => Ok(jobs::Outcome::Done),
                _ => Err(jobs::JobError::retry("broken")),
            })
        })
    });
    let id = queue.enqueue(&post("a")).await;
    assert_eq!(queue.ended(id).await.attempt, 3);
    let notes = notes.lock();
    let starts: Vec<f64> = notes
        .iter()
        .map(|at| (*at - notes[0]).as_secs_f64())
        .collect();
    assert!(keeps(&starts, Rate::one_each(EVERY)), "{starts:?}");
}
