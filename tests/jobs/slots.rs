//! A queue's slots bound what runs at once.

use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use jobs::{Concurrency, JobKind, Outcome, QueueConfig};

use super::support::{Eager, Notes, Queue, Work, config, eager, noting, until, work};

#[tokio::test]
async fn no_more_jobs_run_at_once_than_a_queue_has_slots() {
    let queue = Queue::new().await;
    let (now, most) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
    let jobs: Vec<Eager> = (0..60).map(eager).collect();
    queue.enqueue_all(&jobs).await;
    let three = QueueConfig {
        concurrency: Concurrency::of_every_queue(3),
        ..config()
    };
    let (running, peak) = (Arc::clone(&now), Arc::clone(&most));
    let _process = queue.remote("three", &three, |runtime| {
        runtime.register::<Eager, _, _>(move |_, _| {
            let (running, peak) = (Arc::clone(&running), Arc::clone(&peak));
            async move {
                peak.fetch_max(running.fetch_add(1, Ordering::SeqCst) + 1, Ordering::SeqCst);
                tokio::time::sleep(Duration::from_millis(3)).await;
                running.fetch_sub(1, Ordering::SeqCst);
                Ok(Outcome::Done)
            }
        })
    });
    until("all have ended", async || {
        (queue.count("select count(*) from queue.history").await == 60).then_some(())
    })
    .await;
    assert_eq!(most.load(Ordering::SeqCst), 3);
}

#[tokio::test]
async fn a_full_queue_does_not_delay_another_one() {
    let queue = Queue::new().await;
    let notes = Notes::default();
    let one = QueueConfig {
        concurrency: Concurrency::of_every_queue(1),
        ..config()
    };
    let process = queue.remote("one", &one, |runtime| {
        runtime
            .register::<Eager, _, _>(|_, _| std::future::pending())
            .register::<Work, _, _>(noting(&notes))
    });
    queue.enqueue_all(&[eager(1), eager(2), eager(3)]).await;
    process.bus.jobs_ready(Eager::QUEUE);
    until("the queue is full", async || {
        (queue
            .count("select count(*) from queue.jobs where state = 'running'")
            .await
            == 1)
            .then_some(())
    })
    .await;
    let id = queue.enqueue(&work(1)).await;
    process.bus.jobs_ready(Work::QUEUE);
    assert_eq!(queue.ended(id).await.outcome, "done");
}

#[tokio::test]
async fn a_paused_queue_is_not_claimed_from_until_it_is_resumed() {
    let queue = Queue::new().await;
    let notes = Notes::default();
    queue
        .execute("insert into queue.paused (queue) values ('queue.Work')")
        .await;
    let paused = queue.enqueue(&work(1)).await;
    let _process = queue.process(|runtime| {
        runtime
            .register::<Work, _, _>(noting(&notes))
            .register::<Eager, _, _>(noting(&notes))
    });
    queue.bus.jobs_ready(Work::QUEUE);
    let other = queue.enqueue(&eager(2)).await;
    queue.ended(other).await;
    let job = queue.live(paused).await.unwrap();
    assert_eq!((job.state.as_str(), job.lease), ("ready", 0));

    queue.execute("delete from queue.paused").await;
    queue.bus.jobs_ready(Work::QUEUE);
    queue.ended(paused).await;
    assert_eq!(*notes.lock(), [2, 1]);
}
