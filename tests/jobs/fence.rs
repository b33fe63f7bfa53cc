//! A worker that lost its lease writes nothing.

use std::sync::Arc;

use jobs::{Ended, Fence, HandlerResult, JobContext, JobError, Outcome, end};
use store::bus::Wake;
use tokio::sync::Notify;

use super::support::{Eager, Leaving, Notes, Queue, Work, eager, until, work};

#[tokio::test]
async fn a_worker_whose_job_was_taken_over_can_not_end_it_or_put_it_back() {
    let queue = Queue::new().await;
    let fences: Notes<Fence> = Notes::default();
    let go = Arc::new(Notify::new());
    let (seen, wait) = (Arc::clone(&fences), Arc::clone(&go));
    let process = queue.process(|runtime| {
        runtime.register::<Work, _, _>(move |_, context: JobContext| {
            let (seen, wait) = (Arc::clone(&seen), Arc::clone(&wait));
            async move {
                let woken = wait.notified();
                seen.lock().push(context.fence);
                woken.await;
                Err::<Outcome, _>(JobError::fatal("too late"))
            }
        })
    });
    let id = queue.enqueue(&work(1)).await;
    let fence = until("the job runs", async || fences.lock().first().copied()).await;
    // Somebody else takes it over, as a claim after a rescue does.
    queue
        .execute("update queue.jobs set lease = lease + 1, attempt = attempt + 1, worker = gen_random_uuid(), lease_until = now() + interval '1 hour'")
        .await;
    let mut tx = queue.pool.begin().await.unwrap();
    assert!(
        !end(&mut tx, fence, Ended::Done, &mut Wake::default())
            .await
            .unwrap()
    );
    tx.rollback().await.unwrap();
    go.notify_waiters();
    process.stop().await;
    let job = queue.live(id).await.unwrap();
    assert_eq!(
        (job.state.as_str(), job.attempt, job.lease),
        ("running", 2, 2)
    );
    assert_eq!(job.errors, serde_json::json!([]));
    // Its new holder still can.
    let new = Fence {
        lease: fence.lease + 1,
        ..fence
    };
    let mut tx = queue.pool.begin().await.unwrap();
    assert!(
        end(&mut tx, new, Ended::Done, &mut Wake::default())
            .await
            .unwrap()
    );
    tx.commit().await.unwrap();
    assert_eq!(queue.ended(id).await.outcome, "done");
}

#[tokio::test]
async fn a_handler_is_dropped_when_its_lease_was_lost() {
    let queue = Queue::new().await;
    let left: Notes<i64> = Notes::default();
    let noted = Arc::clone(&left);
    let _process = queue.process(|runtime| {
        runtime.register::<Eager, _, _>(move |job: Eager, _| {
            let leaving = Leaving(Arc::clone(&noted), job.n);
            async move {
                let _leaving = leaving;
                std::future::pending::<HandlerResult>().await
            }
        })
    });
    let taken_over = queue.enqueue(&eager(1)).await;
    let ended = queue.enqueue(&eager(2)).await;
    for id in [taken_over, ended] {
        until("the job runs", async || {
            (queue.live(id).await?.state == "running").then_some(())
        })
        .await;
    }
    queue
        .execute("update queue.jobs set lease = lease + 1 where payload ->> 'n' = '1'")
        .await;
    queue
        .execute("delete from queue.jobs where payload ->> 'n' = '2'")
        .await;
    until("both are dropped", async || {
        (left.lock().len() == 2).then_some(())
    })
    .await;
    // The one whose job is gone may have been its end: it gets a renewal's time to return.
    assert_eq!(*left.lock(), [1, 2]);
}

#[tokio::test]
async fn the_next_job_of_a_key_runs_though_its_handler_was_cut_off_after_the_commit() {
    let queue = Queue::new().await;
    let database = queue.database();
    let _process = queue.process(|runtime| {
        runtime.register::<Work, _, _>(move |job: Work, context: JobContext| {
            let database = database.clone();
            async move {
                let mut tx = database.pool().begin().await?;
                jobs::lock_serial_key(&mut tx, "key").await?;
                assert!(end(&mut tx, context.fence, Ended::Done, &mut Wake::default()).await?);
                tx.commit().await?;
                if job.n == 1 {
                    // Never gets to publish the wake-up.
                    std::future::pending::<()>().await;
                }
                Ok(Outcome::Committed)
            }
        })
    });
    let job = |n| Work {
        serial: Some("key".to_owned()),
        ..work(n)
    };
    let ids = queue.enqueue_all(&[job(1), job(2)]).await;
    for id in ids {
        assert_eq!(queue.ended(id).await.outcome, "done");
    }
}

#[tokio::test]
async fn an_outcome_that_the_database_refuses_frees_the_slot_and_ends_with_the_lease() {
    let queue = Queue::new().await;
    queue
        .execute(
            "create function refuse() returns trigger language plpgsql as
             $$ begin raise exception 'refused'; end $$",
        )
        .await;
    queue
        .execute(
            "create trigger refuse before insert on queue.history for each row
             when (new.attempt = 1) execute function refuse()",
        )
        .await;
    let _process = queue.process(|runtime| {
        runtime.register::<Eager, _, _>(|_, _| std::future::ready(Ok(Outcome::Done)))
    });
    let id = queue.enqueue(&eager(1)).await;
    let past = queue.ended(id).await;
    assert_eq!((past.outcome.as_str(), past.attempt), ("done", 2));
}
