//! Wake-ups between processes, and a database that goes away.

use std::{sync::Arc, time::Duration};

use jobs::{JobKind, Outcome, QueueConfig};
use sandbox::postgres::{MIGRATOR, Server, ServerOptions};
use sqlx::{Connection, PgConnection};
use tokio::time::Instant;

use super::support::{Eager, Notes, Process, Queue, Work, config, eager, noting, until, work};

#[tokio::test]
async fn a_commit_wakes_a_worker_in_another_process() {
    let queue = Queue::new().await;
    let talking = queue.talk();
    let notes = Notes::default();
    let process = queue.remote("worker", &config(), |runtime| {
        runtime.register::<Work, _, _>(noting(&notes))
    });
    let _process = process.listening().await;
    let mut fastest = Duration::MAX;
    for n in 0..10 {
        queue.enqueue(&work(n)).await;
        let told = Instant::now();
        until("the job runs", async || {
            notes.lock().contains(&n).then_some(())
        })
        .await;
        fastest = fastest.min(told.elapsed());
    }
    assert!(fastest < Duration::from_millis(50), "took {fastest:?}");
    talking.stop().await;
}

#[tokio::test]
async fn everything_goes_on_after_all_connections_were_cut() {
    let queue = Queue::new().await;
    let talking = queue.talk();
    let notes = Notes::default();
    // It polls, and so it keeps listening; but none of the polls falls into this test.
    let config = QueueConfig {
        idle_poll: Some(Duration::from_hours(1)),
        ..config()
    };
    let process = queue.remote("worker", &config, |runtime| {
        runtime.register::<Work, _, _>(noting(&notes))
    });
    let process = process.listening().await;
    for n in 0..5 {
        queue
            .execute(
                "select pg_terminate_backend(pid) from pg_stat_activity
                 where datname = current_database() and pid <> pg_backend_pid()",
            )
            .await;
        let id = queue.enqueue(&work(n)).await;
        assert_eq!(queue.ended(id).await.outcome, "done");
    }
    assert!(process.is_alive());
    talking.stop().await;
}

fn slow_worker(queue: &Queue, name: &str, notes: &Notes<i64>) -> Process {
    let notes = Arc::clone(notes);
    queue.remote(name, &config(), |runtime| {
        runtime.register::<Eager, _, _>(move |job: Eager, _| {
            let notes = Arc::clone(&notes);
            async move {
                tokio::time::sleep(Duration::from_millis(20)).await;
                notes.lock().push(job.n);
                Ok(Outcome::Done)
            }
        })
    })
}

#[tokio::test]
async fn a_crash_of_postgres_loses_no_job_and_no_process() {
    let server = Server::start(ServerOptions {
        durable: true,
        ..ServerOptions::default()
    })
    .await
    .unwrap();
    let url = server.url("postgres");
    let mut connection = PgConnection::connect(&url).await.unwrap();
    MIGRATOR.run(&mut connection).await.unwrap();
    connection.close().await.unwrap();
    let queue = Queue::at(&url);
    let notes = Notes::default();
    let processes = [
        slow_worker(&queue, "one", &notes),
        slow_worker(&queue, "two", &notes),
    ];
    let jobs: Vec<Eager> = (0..300)
        .map(|n| Eager {
            // Every third one of a key.
            serial: (n % 3 == 0).then(|| format!("k{}", n % 15)),
            ..eager(n)
        })
        .collect();
    queue.enqueue_all(&jobs).await;
    processes[0].bus.jobs_ready(Eager::QUEUE);
    until("some have ended", async || {
        (notes.lock().len() > 50).then_some(())
    })
    .await;
    server.kill().await.unwrap();
    let until_crash = notes.lock().len();
    server.restart().await.unwrap();
    until("all have ended", async || {
        let left: i64 = sqlx::query_scalar("select count(*) from queue.jobs")
            .fetch_one(&queue.pool)
            .await
            .ok()?;
        (left == 0).then_some(())
    })
    .await;
    assert!(
        until_crash < 300,
        "the crash came too late to test anything"
    );
    let done = queue
        .count("select count(*) from queue.history where outcome = 'done'")
        .await;
    assert_eq!(done, 300);
    // Who lived through the crash keeps its jobs: only claims whose answer was lost are repeated.
    let mut ran = notes.lock().clone();
    ran.sort_unstable();
    ran.dedup();
    assert_eq!(ran, (0..300).collect::<Vec<_>>());
    assert!(processes.iter().all(Process::is_alive));
    let next = queue.enqueue(&eager(1_000)).await;
    processes[1].bus.jobs_ready(Eager::QUEUE);
    assert_eq!(queue.ended(next).await.outcome, "done");
}
