//! What is served first.

use std::time::Duration;

use jobs::{Concurrency, EnqueueOptions, QueueConfig, enqueue_all, enqueue_with};

use super::support::{Notes, Queue, Work, config, noting, until, work};

async fn with(queue: &Queue, n: i64, priority: i16, delay: Duration) {
    let mut tx = queue.pool.begin().await.unwrap();
    let options = EnqueueOptions {
        delay,
        priority: Some(priority),
        ..EnqueueOptions::default()
    };
    enqueue_with(&mut tx, &work(n), &options).await.unwrap();
    tx.commit().await.unwrap();
}

fn one_at_a_time() -> QueueConfig {
    QueueConfig {
        concurrency: Concurrency::of_every_queue(1),
        ..config()
    }
}

#[tokio::test]
async fn smaller_numbers_run_first_and_equal_ones_in_the_order_in_which_they_were_due() {
    let queue = Queue::new().await;
    let notes = Notes::default();
    for (n, priority) in [
        (1, 5),
        (2, 0),
        (3, -3),
        (4, 5),
        (5, 0),
        (6, i16::MIN),
        (7, i16::MAX),
    ] {
        with(&queue, n, priority, Duration::ZERO).await;
    }
    let _process = queue.remote("one", &one_at_a_time(), |runtime| {
        runtime.register::<Work, _, _>(noting(&notes))
    });
    until("all have ended", async || {
        (queue.count("select count(*) from queue.jobs").await == 0).then_some(())
    })
    .await;
    assert_eq!(*notes.lock(), [6, 3, 2, 5, 1, 4, 7]);
}

#[tokio::test]
async fn urgent_jobs_that_are_not_due_stand_in_nobodys_way() {
    let queue = Queue::new().await;
    let notes = Notes::default();
    let mut tx = queue.pool.begin().await.unwrap();
    let later: Vec<Work> = (0..20_000).map(work).collect();
    let options = EnqueueOptions {
        delay: Duration::from_hours(1),
        priority: Some(-1),
        ..EnqueueOptions::default()
    };
    enqueue_all(&mut tx, &later, &options).await.unwrap();
    tx.commit().await.unwrap();
    with(&queue, 77_777, 9, Duration::ZERO).await;

    // The claim's index holds the one job that is due, and nothing else.
    let due = "select count(*) from queue.jobs where state = 'ready'";
    assert_eq!(queue.count(due).await, 1);
    let _process = queue.process(|runtime| runtime.register::<Work, _, _>(noting(&notes)));
    until("it has ended", async || {
        (queue.count("select count(*) from queue.history").await == 1).then_some(())
    })
    .await;
    assert_eq!(*notes.lock(), [77_777]);
}

#[tokio::test]
async fn a_delayed_job_runs_by_itself_when_its_time_has_come() {
    let queue = Queue::new().await;
    let notes = Notes::default();
    let process = queue.process(|runtime| runtime.register::<Work, _, _>(noting(&notes)));
    with(&queue, 1, 0, Duration::from_millis(300)).await;
    queue.bus.jobs_ready("queue.Work");
    until("it has ended", async || {
        (queue.count("select count(*) from queue.history").await == 1).then_some(())
    })
    .await;
    let waited =
        "select count(*) from queue.history where started_at >= created_at + interval '300 ms'
                  and started_at < created_at + interval '10 s'";
    assert_eq!(queue.count(waited).await, 1);
    process.stop().await;
}

#[tokio::test]
async fn thousands_of_jobs_that_become_due_at_once_all_run() {
    let queue = Queue::new().await;
    let notes = Notes::default();
    let mut tx = queue.pool.begin().await.unwrap();
    let later: Vec<Work> = (0..2_500).map(work).collect();
    let options = EnqueueOptions {
        delay: Duration::from_millis(400),
        ..EnqueueOptions::default()
    };
    enqueue_all(&mut tx, &later, &options).await.unwrap();
    tx.commit().await.unwrap();
    let _process = queue.process(|runtime| runtime.register::<Work, _, _>(noting(&notes)));
    until("all have ended", async || {
        (queue.count("select count(*) from queue.history").await == 2_500).then_some(())
    })
    .await;
}
