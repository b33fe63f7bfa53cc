//! Many jobs in one transaction, by a few statements.

use jobs::{EnqueueOptions, Enqueued, MAX_SERIAL_KEYS, QueueError, enqueue_all};

use super::support::{Notes, Queue, Work, noting, until, work};

async fn enqueue(queue: &Queue, jobs: &[Work]) -> Vec<Enqueued> {
    let mut tx = queue.pool.begin().await.unwrap();
    let enqueued = enqueue_all(&mut tx, jobs, &EnqueueOptions::default())
        .await
        .unwrap();
    tx.commit().await.unwrap();
    enqueued
}

fn keyed(n: i64, serial: &str) -> Work {
    Work {
        serial: Some(serial.to_owned()),
        ..work(n)
    }
}

fn unique(n: i64, key: &str) -> Work {
    Work {
        unique: Some(key.to_owned()),
        ..work(n)
    }
}

#[tokio::test]
async fn twelve_thousand_jobs_get_their_ids_in_order_and_all_run() {
    let queue = Queue::new().await;
    let notes = Notes::default();
    let jobs: Vec<Work> = (0..12_000).map(work).collect();
    let enqueued = enqueue(&queue, &jobs).await;
    assert!(enqueued.iter().all(|job| job.new));
    let numbers: Vec<i64> =
        sqlx::query_scalar("select (payload ->> 'n')::bigint from queue.jobs order by id")
            .fetch_all(&queue.pool)
            .await
            .unwrap();
    assert!(numbers.iter().copied().eq(0..12_000));
    assert!(enqueued.is_sorted_by_key(|job| job.id));

    let _process = queue.process(|runtime| runtime.register::<Work, _, _>(noting(&notes)));
    until("all have ended", async || {
        (queue.count("select count(*) from queue.jobs").await == 0).then_some(())
    })
    .await;
    let mut ran = notes.lock().clone();
    ran.sort_unstable();
    assert!(ran.into_iter().eq(0..12_000));
}

#[tokio::test]
async fn duplicates_answer_with_the_job_that_is_there_be_it_older_or_of_the_same_call() {
    let queue = Queue::new().await;
    let older = queue.enqueue(&unique(1, "old")).await;
    let enqueued = enqueue(
        &queue,
        &[
            unique(2, "a"),
            unique(3, "old"),
            work(4),
            unique(5, "a"),
            unique(6, "b"),
        ],
    )
    .await;
    let new: Vec<bool> = enqueued.iter().map(|job| job.new).collect();
    assert_eq!(new, [true, false, true, false, true]);
    assert_eq!(enqueued[1].id, older);
    assert_eq!(enqueued[3].id, enqueued[0].id);
    assert_eq!(queue.count("select count(*) from queue.jobs").await, 4);
}

#[tokio::test]
async fn jobs_of_a_key_run_one_after_the_other_behind_those_that_are_there() {
    let queue = Queue::new().await;
    let notes = Notes::default();
    queue.enqueue(&keyed(0, "a")).await;
    enqueue(
        &queue,
        &[
            keyed(1, "a"),
            keyed(10, "b"),
            keyed(2, "a"),
            keyed(11, "b"),
            work(20),
        ],
    )
    .await;
    let ready = "select count(*) from queue.jobs where state = 'ready'";
    assert_eq!(queue.count(ready).await, 3);
    let _process = queue.process(|runtime| runtime.register::<Work, _, _>(noting(&notes)));
    until("all have ended", async || {
        (queue.count("select count(*) from queue.jobs").await == 0).then_some(())
    })
    .await;
    let of = |from, to| {
        let notes = notes.lock();
        notes
            .iter()
            .copied()
            .filter(|n| (from..to).contains(n))
            .collect::<Vec<i64>>()
    };
    assert_eq!(of(0, 10), [0, 1, 2]);
    assert_eq!(of(10, 20), [10, 11]);
}

#[tokio::test]
async fn a_duplicate_at_the_head_of_a_key_leaves_the_jobs_behind_it_runnable() {
    let queue = Queue::new().await;
    // The live job with the unique key belongs to another serial key, or to none.
    queue.enqueue(&unique(1, "once")).await;
    let duplicate = Work {
        unique: Some("once".to_owned()),
        ..keyed(2, "a")
    };
    let enqueued = enqueue(&queue, &[duplicate, keyed(3, "a")]).await;
    assert!(!enqueued[0].new && enqueued[1].new);
    assert_eq!(queue.live(enqueued[1].id).await.unwrap().state, "ready");
}

#[tokio::test]
async fn two_bulks_over_the_same_keys_in_opposite_order_do_not_deadlock() {
    let queue = Queue::new().await;
    let keys: Vec<String> = (0..50).map(|n| format!("k{n}")).collect();
    let there: Vec<Work> = keys.iter().map(|key| keyed(0, key)).collect();
    let back: Vec<Work> = keys.iter().rev().map(|key| keyed(1, key)).collect();
    let rounds = (0..10).flat_map(|_| [enqueue(&queue, &there), enqueue(&queue, &back)]);
    futures::future::join_all(rounds).await;
    let ready = "select count(*) from queue.jobs where state = 'ready'";
    assert_eq!(queue.count(ready).await, 50);
    assert_eq!(queue.count("select count(*) from queue.jobs").await, 1_000);
}

#[tokio::test]
async fn more_keys_than_the_server_has_locks_for_are_refused_before_any_is_taken() {
    let queue = Queue::new().await;
    let jobs: Vec<Work> = (0..=MAX_SERIAL_KEYS)
        .map(|n| keyed(1, &format!("k{n}")))
        .collect();
    let mut tx = queue.pool.begin().await.unwrap();
    let refused = enqueue_all(&mut tx, &jobs, &EnqueueOptions::default()).await;
    assert!(matches!(refused, Err(QueueError::TooManySerialKeys)));
    let taken = enqueue_all(&mut tx, &jobs[1..], &EnqueueOptions::default()).await;
    assert_eq!(taken.unwrap().len(), MAX_SERIAL_KEYS);
}

#[tokio::test]
async fn one_bad_job_among_many_adds_none() {
    let queue = Queue::new().await;
    let mut tx = queue.pool.begin().await.unwrap();
    let jobs = [work(1), keyed(2, ""), work(3)];
    let refused = enqueue_all(&mut tx, &jobs, &EnqueueOptions::default()).await;
    assert!(matches!(refused, Err(QueueError::Key { .. })));
    tx.commit().await.unwrap();
    assert_eq!(queue.count("select count(*) from queue.jobs").await, 0);
    assert!(enqueue(&queue, &[]).await.is_empty());
}
