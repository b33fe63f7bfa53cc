//! A process ends in peace.

use std::{sync::Arc, time::Duration};

use jobs::{HandlerResult, JobContext, Outcome};
use tokio::{sync::Notify, time::Instant};

use super::support::{Eager, LEASE, Notes, Queue, Work, config, eager, noting, until, work};

#[tokio::test]
async fn a_process_that_is_told_to_end_lets_its_jobs_end_and_claims_no_more() {
    let queue = Queue::new().await;
    let go = Arc::new(Notify::new());
    let started: Notes<i64> = Notes::default();
    let (wait, seen) = (Arc::clone(&go), Arc::clone(&started));
    let process = queue.process(|runtime| {
        runtime.register::<Work, _, _>(move |job: Work, _| {
            let (wait, seen) = (Arc::clone(&wait), Arc::clone(&seen));
            async move {
                let woken = wait.notified();
                seen.lock().push(job.n);
                woken.await;
                Ok(Outcome::Done)
            }
        })
    });
    let first = queue.enqueue(&work(1)).await;
    until("it runs", async || {
        (started.lock().len() == 1).then_some(())
    })
    .await;
    let stopping = tokio::spawn(process.stop());
    // The stop is under way once the task has run.
    tokio::task::yield_now().await;
    let second = queue.enqueue(&work(2)).await;
    go.notify_waiters();
    stopping.await.unwrap();
    assert_eq!(queue.ended(first).await.outcome, "done");
    let left = queue.live(second).await.unwrap();
    assert_eq!((left.state.as_str(), left.attempt), ("ready", 0));
}

#[tokio::test]
async fn what_does_not_end_in_time_is_handed_back_and_runs_elsewhere_at_once() {
    let queue = Queue::new().await;
    let notes = Notes::default();
    let leaving = queue.process_with_drain(Duration::from_millis(50), |runtime| {
        runtime.register::<Eager, _, _>(|_, _| std::future::pending::<HandlerResult>())
    });
    let leaving = leaving.listening().await;
    let id = queue.enqueue(&eager(1)).await;
    leaving.bus.jobs_ready("queue.Eager");
    until("it runs", async || {
        (queue.live(id).await?.state == "running").then_some(())
    })
    .await;
    let seen = Arc::clone(&notes);
    let other = queue.remote("other", &config(), |runtime| {
        runtime.register::<Eager, _, _>(move |_, context: JobContext| {
            seen.lock().push(context.attempt);
            std::future::ready(Ok(Outcome::Done))
        })
    });
    let _other = other.listening().await;
    let told = Instant::now();
    leaving.stop().await;
    let past = queue.ended(id).await;
    // No lease had to end for it.
    let took = told.elapsed();
    assert!(took < LEASE / 2, "took {took:?}");
    assert_eq!((past.outcome.as_str(), past.attempt), ("done", 1));
    assert_eq!(*notes.lock(), [1_i16]);
    assert!(past.reasons().is_empty());
}

#[tokio::test]
async fn a_process_that_ends_while_it_claims_leaves_nothing_under_its_leases() {
    for round in 0..10 {
        let queue = Queue::new().await;
        let notes = Notes::default();
        let process = queue.process_with_drain(Duration::ZERO, |runtime| {
            runtime.register::<Eager, _, _>(noting(&notes))
        });
        let jobs: Vec<Eager> = (0..40).map(eager).collect();
        queue.enqueue_all(&jobs).await;
        process.bus.jobs_ready("queue.Eager");
        // At another moment in each round.
        tokio::time::sleep(Duration::from_micros(700 * round)).await;
        process.stop().await;
        let left = queue
            .count("select count(*) from queue.jobs where state <> 'ready' or attempt > 0")
            .await;
        assert_eq!(left, 0, "round {round}");
    }
}
