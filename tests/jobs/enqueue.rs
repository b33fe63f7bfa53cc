//! Jobs are enqueued in the caller's transaction.

use std::time::Duration;

use jobs::{JobKind, enqueue};
use tokio::time::{Instant, timeout};

use super::support::{Notes, Queue, Work, noting, work};

#[tokio::test]
async fn a_rollback_leaves_no_job() {
    let queue = Queue::new().await;
    let mut tx = queue.pool.begin().await.unwrap();
    assert!(enqueue(&mut tx, &work(1)).await.unwrap().new);
    tx.rollback().await.unwrap();
    assert_eq!(queue.count("select count(*) from queue.jobs").await, 0);
}

#[tokio::test]
async fn a_job_runs_as_soon_as_its_transaction_is_committed() {
    let queue = Queue::new().await;
    let notes = Notes::default();
    let _process = queue.process(|runtime| runtime.register::<Work, _, _>(noting(&notes)));
    // The process has started when its first job has run.
    let first = queue.enqueue(&work(0)).await;
    queue.ended(first).await;

    let mut fastest = Duration::MAX;
    for n in 1..=10 {
        let mut tx = queue.pool.begin().await.unwrap();
        enqueue(&mut tx, &work(n)).await.unwrap();
        // A wake-up before the commit finds nothing, and costs nothing.
        queue.bus.jobs_ready(Work::QUEUE);
        tx.commit().await.unwrap();
        let committed = Instant::now();
        queue.bus.jobs_ready(Work::QUEUE);
        timeout(Duration::from_secs(20), async {
            while !notes.lock().contains(&n) {
                tokio::task::yield_now().await;
            }
        })
        .await
        .unwrap();
        fastest = fastest.min(committed.elapsed());
    }
    assert!(fastest < Duration::from_millis(50), "took {fastest:?}");
}

#[tokio::test]
async fn a_live_unique_key_answers_with_its_job_and_an_ended_one_makes_room() {
    let queue = Queue::new().await;
    let job = Work {
        unique: Some("once".to_owned()),
        ..work(1)
    };
    let first = queue.enqueue(&job).await;
    let mut tx = queue.pool.begin().await.unwrap();
    let again = enqueue(&mut tx, &job).await.unwrap();
    assert!(!again.new && again.id == first);
    // The duplicate has not spoiled the caller's transaction.
    assert!(enqueue(&mut tx, &work(2)).await.unwrap().new);
    tx.commit().await.unwrap();

    let _process =
        queue.process(|runtime| runtime.register::<Work, _, _>(noting(&Notes::default())));
    queue.ended(first).await;
    assert_ne!(queue.enqueue(&job).await, first);
}

#[tokio::test]
async fn fifty_parallel_enqueues_of_a_unique_key_make_one_job() {
    let queue = Queue::new().await;
    let job = Work {
        unique: Some("once".to_owned()),
        serial: Some("key".to_owned()),
        ..work(1)
    };
    let ids = futures::future::join_all((0..50).map(|_| queue.enqueue(&job))).await;
    assert!(ids.iter().all(|id| *id == ids[0]));
    assert_eq!(queue.count("select count(*) from queue.jobs").await, 1);
}
