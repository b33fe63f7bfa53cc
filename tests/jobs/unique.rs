//! Unique keys that hold longer than their job is live.

use std::time::Duration;

use futures::future::join_all;
use jobs::{JobError, JobKind, Outcome, UniqueFor};

use super::support::{Queue, noting_nothing};

macro_rules! unique_kind {
    ($name:ident, $holds:expr) => {
        #[derive(Debug, Clone, serde::Serialize, serde::Deserialize)]
        struct $name {
            key: String,
            fails: bool,
        }

        impl JobKind for $name {
            const KIND: &'static str = concat!("test.", stringify!($name));
            const QUEUE: &'static str = "queue.Unique";
            const RETRY_WAITS: &'static [i32] = &[];
            const TIMEOUT: Duration = Duration::from_mins(1);
            const UNIQUE: UniqueFor = $holds;

            fn unique_key(&self) -> Option<String> {
                Some(self.key.clone())
            }
        }

        impl $name {
            fn new(key: &str) -> Self {
                Self {
                    key: key.to_owned(),
                    fails: false,
                }
            }
        }
    };
}

unique_kind!(Hourly, UniqueFor::Period(Duration::from_hours(1)));
unique_kind!(Once, UniqueFor::Ever);

#[tokio::test]
async fn a_key_of_a_period_holds_after_its_job_was_done_and_no_longer_than_the_period() {
    let queue = Queue::new().await;
    let _process = queue.process(|runtime| runtime.register::<Hourly, _, _>(noting_nothing));
    let first = queue.enqueue(&Hourly::new("a")).await;
    queue.ended(first).await;
    assert_eq!(queue.enqueue(&Hourly::new("a")).await, first);
    assert_ne!(queue.enqueue(&Hourly::new("b")).await, first);

    queue
        .execute("update queue.unique_keys set expires_at = expires_at - interval '1 hour'")
        .await;
    let second = queue.enqueue(&Hourly::new("a")).await;
    assert_ne!(second, first);
    queue.ended(second).await;
    assert_eq!(queue.enqueue(&Hourly::new("a")).await, second);
}

#[tokio::test]
async fn a_key_whose_period_is_over_still_holds_while_its_job_is_live() {
    let queue = Queue::new().await;
    let first = queue.enqueue(&Hourly::new("a")).await;
    queue
        .execute("update queue.unique_keys set expires_at = now() - interval '1 second'")
        .await;
    assert_eq!(queue.enqueue(&Hourly::new("a")).await, first);
    assert_eq!(queue.count("select count(*) from queue.jobs").await, 1);
}

#[tokio::test]
async fn a_key_that_holds_for_ever_answers_with_its_job_though_that_is_dead() {
    let queue = Queue::new().await;
    let _process = queue.process(|runtime| {
        runtime.register::<Once, _, _>(|job: Once, _| {
            std::future::ready(if job.fails {
                Err(JobError::fatal("broken"))
            } else {
                Ok(Outcome::Done)
            })
        })
    });
    let job = Once {
        fails: true,
        ..Once::new("mail of handoff 7")
    };
    let dead = queue.enqueue(&job).await;
    assert_eq!(queue.ended(dead).await.outcome, "dead");
    assert_eq!(queue.enqueue(&Once::new("mail of handoff 7")).await, dead);
    assert_eq!(queue.count("select count(*) from queue.jobs").await, 0);
}

#[tokio::test]
async fn a_rollback_gives_the_key_back() {
    let queue = Queue::new().await;
    let mut tx = queue.pool.begin().await.unwrap();
    jobs::enqueue(&mut tx, &Once::new("a")).await.unwrap();
    tx.rollback().await.unwrap();
    let id = queue.enqueue(&Once::new("a")).await;
    assert!(queue.live(id).await.is_some());
}

#[tokio::test]
async fn fifty_parallel_enqueues_of_a_lasting_key_make_one_job() {
    let queue = Queue::new().await;
    let job = Once::new("a");
    let ids = join_all((0..50).map(|_| queue.enqueue(&job))).await;
    assert!(ids.iter().all(|id| *id == ids[0]));
    assert_eq!(queue.count("select count(*) from queue.jobs").await, 1);
}

#[tokio::test]
async fn a_kind_whose_keys_begin_to_last_takes_over_the_jobs_that_are_live() {
    let queue = Queue::new().await;
    let first = queue.enqueue(&Once::new("a")).await;
    // As the version before left it: a live job, and no lasting key.
    queue.execute("delete from queue.unique_keys").await;
    assert_eq!(queue.enqueue(&Once::new("a")).await, first);
    queue.execute("delete from queue.jobs").await;
    assert_eq!(queue.enqueue(&Once::new("a")).await, first);
}
