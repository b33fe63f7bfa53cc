//! Limits of the whole fleet hold for every process together, whatever happens to some of them.

use std::{sync::Arc, time::Duration};

use jobs::{Concurrency, JobContext, JobError, JobKind, Outcome, QueueConfig, Runtime};
use parking_lot::Mutex;

use super::support::{
    Dice, Eager, Notes, Process, Queue, Work, config, eager, noting, until, work,
};

const FLEET: u32 = 3;
const JOBS: i64 = 60;

fn limited(most: u32) -> QueueConfig {
    QueueConfig {
        concurrency: Concurrency::of_every_queue(8),
        fleet: [(Eager::QUEUE.to_owned(), most)].into(),
        ..config()
    }
}

fn start(queue: &Queue, name: &str, seed: u64) -> Process {
    let dice = Arc::new(Mutex::new(Dice(seed)));
    queue.remote(name, &limited(FLEET), |runtime: Runtime| {
        runtime.register::<Eager, _, _>(move |_, context: JobContext| {
            // Few enough that no job runs out of its ten attempts.
            let fails = dice.lock().roll(5) == 0 && context.attempt < 6;
            async move {
                tokio::time::sleep(Duration::from_millis(3)).await;
                if fails {
                    Err(JobError::retry("rolled a one"))
                } else {
                    Ok(Outcome::Done)
                }
            }
        })
    })
}

/// The database itself watches: every claim notes how many of the queue run with it.
const WATCH: &str = "
    create table seen (running bigint, jobs bigint);
    create function watch() returns trigger language plpgsql as $$
    begin
        insert into seen select count(*) filter (where state = 'running'), count(*) from queue.jobs;
        return null;
    end $$;
    create trigger watch after update on queue.jobs for each statement execute function watch()";

async fn the_limit_holds(seed: u64) {
    let queue = Queue::new().await;
    sqlx::raw_sql(WATCH).execute(&queue.pool).await.unwrap();
    let mut dice = Dice(seed);
    let talking = queue.talk();
    let mut processes: Vec<Process> = (0..3)
        .map(|number| start(&queue, &format!("w{seed}-{number}"), dice.roll(u64::MAX)))
        .collect();
    for round in 0..4 {
        let jobs: Vec<Eager> = (0..JOBS / 4).map(eager).collect();
        queue.enqueue_all(&jobs).await;
        let victim = usize::try_from(dice.roll(3)).unwrap();
        processes.swap_remove(victim).kill().await;
        let name = format!("w{seed}-{round}-again");
        processes.push(start(&queue, &name, dice.roll(u64::MAX)));
    }
    until("all jobs have ended", async || {
        (queue.count("select count(*) from queue.jobs").await == 0).then_some(())
    })
    .await;
    let done = "select count(*) from queue.history where outcome = 'done'";
    assert_eq!(queue.count(done).await, JOBS, "seed {seed}");
    let most = queue.count("select max(running) from seen").await;
    assert_eq!(most, i64::from(FLEET), "seed {seed}");
    for process in processes {
        process.stop().await;
    }
    talking.stop().await;
}

#[tokio::test]
async fn no_more_jobs_run_in_the_fleet_than_its_limit_under_failures_and_kills_1() {
    the_limit_holds(1).await;
}

#[tokio::test]
async fn no_more_jobs_run_in_the_fleet_than_its_limit_under_failures_and_kills_2() {
    the_limit_holds(2).await;
}

#[tokio::test]
async fn a_queue_that_is_at_its_limit_elsewhere_goes_on_when_a_job_there_ends() {
    let queue = Queue::new().await;
    let (release, released) = tokio::sync::watch::channel(false);
    // Nothing but the wake-up at the job's end tells the other process in time.
    let patient = QueueConfig {
        lease: Duration::from_mins(5),
        ..limited(1)
    };
    let busy = queue.remote("busy", &patient, |runtime| {
        runtime.register::<Eager, _, _>(move |_, _| {
            let mut released = released.clone();
            async move {
                let _ = released.wait_for(|released| *released).await;
                Ok(Outcome::Done)
            }
        })
    });
    let first = queue.enqueue(&eager(1)).await;
    busy.bus.jobs_ready(Eager::QUEUE);
    until("it runs", async || {
        (queue.live(first).await?.state == "running").then_some(())
    })
    .await;
    let notes = Notes::default();
    let other = queue.remote("other", &patient, |runtime| {
        runtime
            .register::<Eager, _, _>(noting(&notes))
            .register::<Work, _, _>(noting(&notes))
    });
    let other = other.listening().await;
    let second = queue.enqueue(&eager(2)).await;
    let elsewhere = queue.enqueue(&work(3)).await;
    other.bus.jobs_ready(Eager::QUEUE);
    other.bus.jobs_ready(Work::QUEUE);
    // The limit of one queue does not hold up another one.
    queue.ended(elsewhere).await;
    assert_eq!(queue.live(second).await.unwrap().state, "ready");

    release.send_replace(true);
    queue.ended(first).await;
    queue.ended(second).await;
    busy.stop().await;
    other.stop().await;
}
