//! An idle process lets the database sleep.

use std::time::Duration;

use jobs::{JobKind, schedule::Schedule};

use super::support::{Notes, Queue, Work, config, noting, until, work};

/// Transactions that have ended in the queue's database, this question's own included.
async fn transactions(queue: &Queue) -> i64 {
    // Backends report what they did when they are idle, at most every second; this one at once.
    let mut tx = queue.pool.begin().await.unwrap();
    sqlx::query("select pg_stat_force_next_flush()")
        .execute(&mut *tx)
        .await
        .unwrap();
    tx.commit().await.unwrap();
    queue
        .count("select xact_commit + xact_rollback from pg_stat_database where datname = current_database()")
        .await
}

/// How many transactions others than this test end in three seconds.
async fn noise(queue: &Queue) -> i64 {
    let before = transactions(queue).await;
    let own = transactions(queue).await - before;
    tokio::time::sleep(Duration::from_secs(3)).await;
    transactions(queue).await - before - 2 * own
}

#[tokio::test]
async fn an_idle_process_issues_no_statement() {
    let queue = Queue::new().await;
    let yearly = Schedule::parse("yearly", "0 0 1 1 *", "UTC").unwrap();
    let process = queue.remote("idle", &config(), |runtime| {
        runtime
            .register::<Work, _, _>(noting(&Notes::default()))
            .schedule(yearly, |_| work(0))
    });
    let process = process.listening().await;
    // It has worked, and something is left that is none of its business now.
    let id = queue.enqueue(&work(1)).await;
    process.bus.jobs_ready(Work::QUEUE);
    queue.ended(id).await;
    queue.enqueue(&work(2)).await;
    queue
        .execute("insert into queue.paused (queue) values ('queue.Work')")
        .await;
    process.bus.jobs_ready(Work::QUEUE);
    // What it did is reported, and the lease that it had announced is forgotten.
    let quiet = until("it is quiet", async || {
        let noise = noise(&queue).await;
        (noise <= 0).then_some(noise)
    })
    .await;
    assert!(quiet <= 0);
    // The same measure sees the fallback poll of a process that has one.
    let polling = jobs::QueueConfig {
        idle_poll: Some(Duration::from_millis(100)),
        ..config()
    };
    let _polling = queue.remote("polling", &polling, |runtime| {
        runtime.register::<Work, _, _>(noting(&Notes::default()))
    });
    until("its polls are seen", async || {
        (noise(&queue).await >= 10).then_some(())
    })
    .await;
}

#[tokio::test]
async fn due_jobs_that_somebody_has_locked_are_not_asked_for_without_pause() {
    let queue = Queue::new().await;
    let id = queue.enqueue(&work(1)).await;
    let mut tx = queue.pool.begin().await.unwrap();
    sqlx::query("select from queue.jobs for update")
        .execute(&mut *tx)
        .await
        .unwrap();
    let process = queue.remote("waiting", &config(), |runtime| {
        runtime.register::<Work, _, _>(noting(&Notes::default()))
    });
    let _process = process.listening().await;
    // Two statements a second and not two a millisecond.
    until("it has calmed down", async || {
        (noise(&queue).await < 30).then_some(())
    })
    .await;
    tx.rollback().await.unwrap();
    queue.ended(id).await;
}
