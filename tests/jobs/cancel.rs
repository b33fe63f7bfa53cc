//! Jobs are cancelled in whatever state they are.

use std::sync::Arc;

use jobs::{
    Cancelled, HandlerResult, JobContext, JobId, JobKind, Outcome, cancel, lock_serial_key,
};
use store::bus::Wake;

use super::support::{Notes, Process, Queue, Work, config, until, work};

fn job(n: i64) -> Work {
    Work {
        serial: Some("key".to_owned()),
        ..work(n)
    }
}

async fn cancel_it(queue: &Queue, id: JobId) -> (Cancelled, Wake) {
    let mut after = Wake::default();
    let mut tx = queue.pool.begin().await.unwrap();
    lock_serial_key(&mut tx, "key").await.unwrap();
    let cancelled = cancel(&mut tx, id, &mut after).await.unwrap();
    tx.commit().await.unwrap();
    (cancelled, after)
}

/// A worker whose handler runs until it is cancelled.
fn patient(queue: &Queue, started: &Notes<i64>) -> Process {
    let started = Arc::clone(started);
    queue.remote("worker", &config(), |runtime| {
        runtime.register::<Work, _, _>(move |job: Work, context: JobContext| {
            started.lock().push(job.n);
            async move {
                context.cancelled().await;
                HandlerResult::Ok(Outcome::Cancelled)
            }
        })
    })
}

#[tokio::test]
async fn a_ready_job_is_cancelled_at_once_and_the_next_of_its_key_becomes_ready() {
    let queue = Queue::new().await;
    let ids = queue.enqueue_all(&[job(1), job(2), job(3)]).await;
    let (cancelled, after) = cancel_it(&queue, ids[0]).await;
    assert_eq!(cancelled, Cancelled::Ended);
    assert!(after.queues.contains(Work::QUEUE));
    assert_eq!(queue.past(ids[0]).await.unwrap().outcome, "cancelled");
    assert_eq!(queue.live(ids[1]).await.unwrap().state, "ready");
    assert_eq!(queue.live(ids[2]).await.unwrap().state, "blocked");
    assert_eq!(cancel_it(&queue, ids[0]).await.0, Cancelled::NotLive);
}

#[tokio::test]
async fn a_blocked_job_is_cancelled_and_its_key_goes_on_as_before() {
    let queue = Queue::new().await;
    let ids = queue.enqueue_all(&[job(1), job(2), job(3)]).await;
    assert_eq!(cancel_it(&queue, ids[1]).await.0, Cancelled::Ended);
    assert_eq!(queue.live(ids[0]).await.unwrap().state, "ready");
    assert_eq!(queue.live(ids[2]).await.unwrap().state, "blocked");
}

#[tokio::test]
async fn the_handler_of_a_running_job_in_another_process_hears_of_its_cancellation() {
    let queue = Queue::new().await;
    let talking = queue.talk();
    let started = Notes::default();
    let process = patient(&queue, &started).listening().await;
    let ids = queue.enqueue_all(&[job(1), job(2)]).await;
    until("the job runs", async || {
        (*started.lock() == [1]).then_some(())
    })
    .await;
    let (cancelled, after) = cancel_it(&queue, ids[0]).await;
    assert_eq!(cancelled, Cancelled::Asked);
    queue.bus.publish(&after);
    assert_eq!(queue.ended(ids[0]).await.outcome, "cancelled");
    until("the next of its key runs", async || {
        (*started.lock() == [1, 2]).then_some(())
    })
    .await;
    process.kill().await;
    talking.stop().await;
}

#[tokio::test]
async fn a_cancellation_whose_wake_up_is_lost_is_found_by_the_next_renewal() {
    let queue = Queue::new().await;
    let started = Notes::default();
    let id = queue.enqueue(&job(1)).await;
    let _process = patient(&queue, &started);
    until("the job runs", async || {
        (*started.lock() == [1]).then_some(())
    })
    .await;
    assert_eq!(cancel_it(&queue, id).await.0, Cancelled::Asked);
    assert_eq!(queue.ended(id).await.outcome, "cancelled");
}

#[tokio::test]
async fn a_cancelled_job_whose_worker_dies_is_not_run_again() {
    let queue = Queue::new().await;
    let started = Notes::default();
    let id = queue.enqueue(&job(1)).await;
    let process = queue.remote("deaf", &config(), |runtime| {
        let started = Arc::clone(&started);
        runtime.register::<Work, _, _>(move |job: Work, _| {
            started.lock().push(job.n);
            std::future::pending::<HandlerResult>()
        })
    });
    until("the job runs", async || {
        (*started.lock() == [1]).then_some(())
    })
    .await;
    assert_eq!(cancel_it(&queue, id).await.0, Cancelled::Asked);
    process.kill().await;
    let _other = patient(&queue, &started);
    assert_eq!(queue.ended(id).await.outcome, "cancelled");
    assert_eq!(*started.lock(), [1]);
}
