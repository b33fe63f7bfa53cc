//! At most one running job per serial key, in order, whatever happens to workers.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use jobs::{Concurrency, JobContext, JobError, JobKind, Outcome, QueueConfig, Runtime};

use super::support::{
    Dice, Eager, Notes, Process, Queue, Work, config, eager, noting, until, work,
};

const KEYS: i64 = 6;
const JOBS_OF_KEY: i64 = 8;

/// The work of one attempt, as the database saw it: it began, and under the fence it ended.
async fn attempt(
    database: store::db::Database,
    job: Eager,
    context: JobContext,
    fails: bool,
) -> Result<Outcome, JobError> {
    let key = job.serial.unwrap_or_default();
    sqlx::query("insert into seen (key, n, lease, what) values ($1, $2, $3, 'begin')")
        .bind(&key)
        .bind(job.n)
        .bind(context.fence.lease)
        .execute(database.pool())
        .await?;
    tokio::time::sleep(Duration::from_millis(2)).await;
    if fails {
        return Err(JobError::retry("rolled a one"));
    }
    let mut tx = database.pool().begin().await?;
    jobs::lock_serial_key(&mut tx, &key).await?;
    let mut after = store::bus::Wake::default();
    if !jobs::end(&mut tx, context.fence, jobs::Ended::Done, &mut after).await? {
        return Err(JobError::retry("the lease was lost"));
    }
    sqlx::query("insert into seen (key, n, lease, what) values ($1, $2, $3, 'end')")
        .bind(&key)
        .bind(job.n)
        .bind(context.fence.lease)
        .execute(&mut *tx)
        .await?;
    tx.commit().await?;
    Ok(Outcome::Committed)
}

fn start(queue: &Queue, name: &str, seed: u64) -> Process {
    let database = queue.database();
    let dice = Arc::new(parking_lot::Mutex::new(Dice(seed)));
    let config = QueueConfig {
        concurrency: Concurrency::of_every_queue(4),
        ..config()
    };
    queue.remote(name, &config, |runtime: Runtime| {
        let bus = queue.bus.clone();
        runtime.register::<Eager, _, _>(move |job: Eager, context| {
            // Few enough that no job runs out of its ten attempts.
            let fails = dice.lock().roll(6) == 0 && context.attempt < 6;
            let (database, bus) = (database.clone(), bus.clone());
            async move {
                let outcome = attempt(database, job, context, fails).await;
                bus.jobs_ready(Eager::QUEUE);
                outcome
            }
        })
    })
}

async fn keys_keep_their_order(seed: u64) {
    let queue = Queue::new().await;
    queue
        .execute("create table seen (id bigint generated always as identity, key text, n bigint, lease int, what text)")
        .await;
    let mut dice = Dice(seed);
    let talking = queue.talk();
    let mut processes = Vec::new();
    for number in 0..3 {
        processes.push(start(
            &queue,
            &format!("w{seed}-{number}"),
            dice.roll(u64::MAX),
        ));
    }
    let mut batch = Vec::new();
    for n in 0..JOBS_OF_KEY {
        for key in 0..KEYS {
            batch.push(Eager {
                serial: Some(format!("k{key}")),
                ..eager(n)
            });
        }
        if dice.roll(2) == 0 {
            queue.enqueue_all(&std::mem::take(&mut batch)).await;
        }
        if n % 3 == 1 {
            let victim = usize::try_from(dice.roll(3)).unwrap();
            processes.swap_remove(victim).kill().await;
            processes.push(start(
                &queue,
                &format!("w{seed}-{n}-again"),
                dice.roll(u64::MAX),
            ));
        }
    }
    queue.enqueue_all(&batch).await;
    until("all jobs have ended", async || {
        (queue.count("select count(*) from queue.jobs").await == 0).then_some(())
    })
    .await;

    let done = queue
        .count("select count(*) from queue.history where outcome = 'done'")
        .await;
    assert_eq!(done, KEYS * JOBS_OF_KEY, "seed {seed}");
    let steps: Vec<(String, i64, String)> =
        sqlx::query_as("select key, n, what from seen order by id")
            .fetch_all(&queue.pool)
            .await
            .unwrap();
    let mut ended: BTreeMap<String, i64> = BTreeMap::new();
    for (key, n, what) in steps {
        let next = ended.entry(key.clone()).or_default();
        // Nothing of a later job before the end of the earlier one, and each end once.
        assert_eq!(n, *next, "seed {seed}: {what} of {key}");
        if what == "end" {
            *next += 1;
        }
    }
    assert!(ended.len() == 6 && ended.values().all(|count| *count == JOBS_OF_KEY));
    for process in processes {
        process.stop().await;
    }
    talking.stop().await;
}

#[tokio::test]
async fn keys_keep_their_order_under_failures_and_kills_1() {
    keys_keep_their_order(1).await;
}

#[tokio::test]
async fn keys_keep_their_order_under_failures_and_kills_2() {
    keys_keep_their_order(2).await;
}

#[tokio::test]
async fn keys_keep_their_order_under_failures_and_kills_3() {
    keys_keep_their_order(3).await;
}

#[tokio::test]
async fn a_blocked_key_does_not_starve_others() {
    let queue = Queue::new().await;
    let notes = Notes::default();
    // Far more jobs of the blocked key than slots, and all of them older.
    let blocked: Vec<Work> = (0..100)
        .map(|n| Work {
            serial: Some("blocked".to_owned()),
            ..work(n)
        })
        .collect();
    let first = queue.enqueue_all(&blocked).await[0];
    queue
        .execute("update queue.jobs set state = 'scheduled', run_at = now() + interval '1 hour' where state = 'ready'")
        .await;
    let other = queue.enqueue(&work(1_000)).await;
    let _process = queue.process(|runtime| runtime.register::<Work, _, _>(noting(&notes)));
    queue.ended(other).await;
    assert_eq!(*notes.lock(), [1_000]);

    queue.let_time_pass().await;
    until("the key's jobs have ended", async || {
        (queue.count("select count(*) from queue.jobs").await == 0).then_some(())
    })
    .await;
    let in_order: Vec<i64> = [1_000].into_iter().chain(0..100).collect();
    assert_eq!(*notes.lock(), in_order);
    assert!(queue.past(first).await.is_some());
}

#[tokio::test]
async fn a_retry_of_a_key_is_not_overtaken() {
    let queue = Queue::new().await;
    let notes: Notes<(i64, i16)> = Notes::default();
    let seen = Arc::clone(&notes);
    let _process = queue.process(|runtime| {
        runtime.register::<Work, _, _>(move |job: Work, context: JobContext| {
            seen.lock().push((job.n, context.attempt));
            std::future::ready(match context.attempt {
                1 if job.n == 0 => Err(JobError::retry("broken")),
                _ => Ok(Outcome::Done),
            })
        })
    });
    let job = |n| Work {
        serial: Some("key".to_owned()),
        ..work(n)
    };
    let ids = queue.enqueue_all(&[job(0), job(1)]).await;
    queue.failed(ids[0], 1).await;
    assert_eq!(queue.live(ids[1]).await.unwrap().state, "blocked");
    queue.let_time_pass().await;
    queue.ended(ids[1]).await;
    assert_eq!(*notes.lock(), [(0, 1), (0, 2), (1, 1)]);
}
