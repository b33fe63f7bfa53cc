//! Workers die; their jobs do not.

use std::time::Duration;

use jobs::{HandlerResult, JobContext, JobKind, Outcome, QueueConfig};
use tokio::time::Instant;

use super::support::{
    Eager, LEASE, Notes, Process, Queue, Work, config, eager, noting, until, work,
};

fn hanging(queue: &Queue, name: &str) -> Process {
    queue.remote(name, &config(), |runtime| {
        runtime
            .register::<Work, _, _>(|_, _| std::future::pending::<HandlerResult>())
            .register::<Eager, _, _>(|_, _| std::future::pending::<HandlerResult>())
    })
}

async fn running(queue: &Queue, id: jobs::JobId) {
    until("the job runs", async || {
        (queue.live(id).await?.state == "running").then_some(())
    })
    .await;
}

#[tokio::test]
async fn the_job_of_a_killed_worker_runs_again_within_a_lease_and_a_second() {
    let queue = Queue::new().await;
    let notes = Notes::default();
    let id = queue.enqueue(&work(1)).await;
    let victim = hanging(&queue, "victim").listening().await;
    running(&queue, id).await;
    // The other one has nothing to do and no fallback poll.
    let other = queue.remote("other", &config(), |runtime| {
        runtime.register::<Work, _, _>(noting(&notes))
    });
    let _other = other.listening().await;
    let killed = Instant::now();
    victim.kill().await;
    let past = queue.ended(id).await;
    let took = killed.elapsed();
    assert!(took < LEASE + Duration::from_secs(1), "took {took:?}");
    assert_eq!((past.outcome.as_str(), past.attempt), ("done", 2));
    assert_eq!(
        past.reasons(),
        [(1, "the lease ended: its worker was lost")]
    );
}

#[tokio::test]
async fn a_silent_peer_learns_of_a_lease_that_began_after_it_fell_asleep() {
    let queue = Queue::new().await;
    let notes = Notes::default();
    // It works on another queue: no wake-up of the job's queue makes it look.
    let bystander = queue.remote("bystander", &config(), |runtime| {
        runtime.register::<Eager, _, _>(noting(&notes))
    });
    let _bystander = bystander.listening().await;
    let victim = hanging(&queue, "victim").listening().await;
    // Claims that follow each other closely are announced once.
    let first = queue.enqueue(&work(1)).await;
    victim.bus.jobs_ready(Work::QUEUE);
    running(&queue, first).await;
    let second = queue.enqueue(&work(2)).await;
    victim.bus.jobs_ready(Work::QUEUE);
    running(&queue, second).await;
    victim.kill().await;
    for id in [first, second] {
        let job = queue.failed(id, 1).await;
        assert_eq!(job.lease, 1);
    }
}

#[tokio::test]
async fn a_job_that_kills_its_worker_each_time_is_dead_at_its_last_attempt() {
    let queue = Queue::new().await;
    let poison = queue.enqueue(&work(1)).await;
    let max_attempts = i16::try_from(Work::RETRY_WAITS.len()).unwrap() + 1;
    for attempt in 1..=max_attempts {
        let victim = hanging(&queue, &format!("victim {attempt}"));
        until("it runs", async || {
            let job = queue.live(poison).await?;
            (job.state == "running" && job.attempt == attempt).then_some(())
        })
        .await;
        victim.kill().await;
        queue
            .execute("update queue.jobs set lease_until = now() - interval '1 second' where state = 'running'")
            .await;
    }
    let _survivor = hanging(&queue, "survivor");
    let past = queue.ended(poison).await;
    assert_eq!(
        (past.outcome.as_str(), past.attempt),
        ("dead", max_attempts)
    );
    assert_eq!(past.reasons().len(), usize::try_from(max_attempts).unwrap());
}

#[tokio::test]
async fn a_job_that_can_not_be_rescued_does_not_keep_others_from_it() {
    let queue = Queue::new().await;
    let ids = queue.enqueue_all(&[work(1), work(2)]).await;
    let victim = hanging(&queue, "victim");
    for id in &ids {
        running(&queue, *id).await;
    }
    victim.kill().await;
    queue
        .execute(
            "create function refuse() returns trigger language plpgsql as
             $$ begin raise exception 'refused'; end $$",
        )
        .await;
    queue
        .execute(
            "create trigger refuse before update on queue.jobs for each row
             when (old.payload ->> 'n' = '1' and new.state = 'ready') execute function refuse()",
        )
        .await;
    queue
        .execute("update queue.jobs set lease_until = now() - interval '1 second' * (3 - (payload ->> 'n')::int)")
        .await;
    let survivor =
        queue.process(|runtime| runtime.register::<Work, _, _>(noting(&Notes::default())));
    assert_eq!(queue.ended(ids[1]).await.outcome, "done");
    assert!(survivor.is_alive());
    assert_eq!(queue.live(ids[0]).await.unwrap().state, "running");
}

#[tokio::test]
async fn a_long_job_stays_with_its_worker() {
    let queue = Queue::new().await;
    let notes: Notes<i16> = Notes::default();
    let quick = QueueConfig {
        lease: Duration::from_millis(1_200),
        ..config()
    };
    let handler = |notes: &Notes<i16>| {
        let seen = std::sync::Arc::clone(notes);
        move |_: Eager, context: JobContext| {
            seen.lock().push(context.attempt);
            async {
                // The length of the job is what is tested.
                tokio::time::sleep(Duration::from_secs(3)).await;
                Ok(Outcome::Done)
            }
        }
    };
    let one = queue.remote("one", &quick, |runtime| runtime.register(handler(&notes)));
    let two = queue.remote("two", &quick, |runtime| runtime.register(handler(&notes)));
    let (one, _two) = (one.listening().await, two.listening().await);
    let id = queue.enqueue(&eager(1)).await;
    one.bus.jobs_ready(Eager::QUEUE);
    let past = queue.ended(id).await;
    assert_eq!((past.outcome.as_str(), past.attempt), ("done", 1));
    assert_eq!(*notes.lock(), [1]);
}
