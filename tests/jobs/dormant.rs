//! A process without a poll whose LISTEN connection is cut while it has nothing to do: when it
//! comes back by itself. The processes' side of it is in `tests/faults/sleep.rs`.

use std::{sync::Arc, time::Duration};

use jobs::{JobKind, Outcome};
use tokio::{sync::Notify, time::Instant};

use super::support::{LEASE, Notes, Process, Queue, Work, config, noting, until, work};

/// Many times the first wait before a lost connection is made again (50 ms).
const LONG: Duration = Duration::from_secs(2);

/// Cuts every connection but the one that does so, as a host does that suspends the database.
async fn cut(queue: &Queue) {
    queue
        .execute(
            "select pg_terminate_backend(pid) from pg_stat_activity
             where datname = current_database() and pid <> pg_backend_pid()",
        )
        .await;
}

/// Waits until a process has a reason to listen: it may have just begun to.
async fn awake(why: &str, process: &Process) {
    until(why, async || process.bus.is_awake().then_some(())).await;
}

/// Whether it listens within a while.
async fn comes_back(process: &Process) -> bool {
    let end = Instant::now() + LONG;
    while !process.bus.is_listening() && Instant::now() < end {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    process.bus.is_listening()
}

/// Waits until a process has nothing to do, and cuts its connection: it lets it be.
async fn dormant(queue: &Queue, process: &Process) {
    until("it has nothing to do", async || {
        (!process.bus.is_awake()).then_some(())
    })
    .await;
    cut(queue).await;
    until("it notices", async || {
        (!process.bus.is_listening()).then_some(())
    })
    .await;
    assert!(!comes_back(process).await);
}

#[tokio::test]
async fn a_job_that_was_seen_to_be_due_later_runs_in_time_without_a_wake_up() {
    const LATER: Duration = Duration::from_secs(12);
    let queue = Queue::new().await;
    // Later than anything that is soon enough to stay awake for.
    assert!(LATER > LEASE + LONG);
    let id = queue.enqueue(&work(1)).await;
    queue
        .execute("update queue.jobs set state = 'scheduled', run_at = now() + interval '12 s'")
        .await;
    let notes = Notes::default();
    let process = queue.remote("worker", &config(), |runtime| {
        runtime.register::<Work, _, _>(noting(&notes))
    });
    let process = process.listening().await;
    let enqueued = Instant::now();
    until(
        "it watches leases that it may not have heard of",
        async || process.bus.is_awake().then_some(()),
    )
    .await;
    dormant(&queue, &process).await;
    assert!(notes.lock().is_empty());
    assert_eq!(queue.ended(id).await.outcome, "done");
    let took = enqueued.elapsed();
    assert!(
        took < LATER + LONG,
        "nobody waits for the end of {LATER:?} of sleep: {took:?}"
    );
    // Whoever has used the database hears of others again.
    process.listening().await;
}

#[tokio::test]
async fn a_process_that_watches_the_leases_of_another_one_stays_connected() {
    let queue = Queue::new().await;
    let release = Arc::new(Notify::new());
    let holder = queue.remote("holder", &config(), |runtime| {
        let release = Arc::clone(&release);
        runtime.register::<Work, _, _>(move |_, _| {
            let release = Arc::clone(&release);
            async move {
                release.notified().await;
                Ok(Outcome::Done)
            }
        })
    });
    let holder = holder.listening().await;
    let id = queue.enqueue(&work(1)).await;
    holder.bus.jobs_ready(Work::QUEUE);
    until("it runs", async || {
        (queue.live(id).await?.state == "running").then_some(())
    })
    .await;
    let peer = queue.remote("peer", &config(), |runtime| {
        runtime.register::<Work, _, _>(noting(&Notes::default()))
    });
    let peer = peer.listening().await;
    for _ in 0..3 {
        awake("it is busy", &holder).await;
        awake("it is alert", &peer).await;
        cut(&queue).await;
        assert!(comes_back(&holder).await);
        assert!(comes_back(&peer).await);
    }
    release.notify_one();
    assert_eq!(queue.ended(id).await.outcome, "done");
    until("the peer has nothing to do either", async || {
        (!peer.bus.is_awake()).then_some(())
    })
    .await;
    dormant(&queue, &holder).await;
    assert!(!peer.bus.is_listening());
    // Told from outside, they are there again.
    for process in [holder, peer] {
        process.bus.look_at_everything();
        assert!(comes_back(&process).await);
    }
}
