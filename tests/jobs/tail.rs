//! What a follower of the queue sees of real runtimes.

use std::collections::HashMap;

use jobs::{
    JobContext, JobError, JobId, JobKind, Outcome,
    operator::{Tail, TailFilter, Transition},
};

use tokio::time::timeout;

use super::support::{PATIENCE, Queue, Work, work};

/// Everything that a follower has seen so far.
struct Follower {
    tail: Tail,
    seen: Vec<Transition>,
}

impl Follower {
    async fn new(queue: &Queue) -> Self {
        let tail = Tail::new(&queue.pool, TailFilter::default()).await.unwrap();
        Self {
            tail,
            seen: Vec::new(),
        }
    }

    async fn look(&mut self, queue: &Queue) {
        let look = self.tail.look(&queue.pool).await.unwrap();
        assert!(!look.incomplete);
        self.seen.extend(look.transitions);
    }

    fn ends(&self) -> usize {
        let ends = self.seen.iter().filter(|seen| seen.event == "done");
        ends.count()
    }

    /// What happened to each job, in the order in which it was told.
    fn lives(&self) -> HashMap<i64, Vec<(&str, Option<i16>)>> {
        let mut lives: HashMap<i64, Vec<_>> = HashMap::new();
        for transition in &self.seen {
            let life = lives.entry(transition.id).or_default();
            life.push((transition.event.as_str(), transition.attempt));
        }
        lives
    }
}

#[tokio::test]
async fn every_transition_of_a_failing_and_retried_job_is_told_once_and_in_order() {
    let queue = Queue::new().await;
    let mut follower = Follower::new(&queue).await;
    follower.look(&queue).await;
    let _process = queue.process(|runtime| {
        runtime.register::<Work, _, _>(async |job: Work, context: JobContext| {
            match (job.n, context.attempt) {
                (0, 1 | 2) => Err(JobError::retry("busy")),
                (1, _) => Err(JobError::fatal("gone")),
                _ => Ok(Outcome::Done),
            }
        })
    });
    let mut ids = Vec::new();
    for n in 0..3 {
        ids.push(queue.enqueue(&work(n)).await.0);
    }
    queue.bus.jobs_ready(Work::QUEUE);
    for attempt in [1, 2] {
        queue.failed(JobId(ids[0]), attempt).await;
        follower.look(&queue).await;
        queue.let_time_pass().await;
    }
    for id in &ids {
        queue.ended(JobId(*id)).await;
    }
    follower.look(&queue).await;
    follower.look(&queue).await;
    let lives = follower.lives();
    let failing = [
        ("enqueued", None),
        ("running", Some(1)),
        ("failed", Some(1)),
        ("running", Some(2)),
        ("failed", Some(2)),
        ("running", Some(3)),
        ("done", Some(3)),
    ];
    assert_eq!(lives[&ids[0]], failing);
    let fatal = [
        ("enqueued", None),
        ("running", Some(1)),
        ("failed", Some(1)),
        ("dead", Some(1)),
    ];
    assert_eq!(lives[&ids[1]], fatal);
    let done = [("enqueued", None), ("running", Some(1)), ("done", Some(1))];
    assert_eq!(lives[&ids[2]], done);
}

#[tokio::test]
async fn whatever_the_moments_of_the_looks_each_end_is_told_once() {
    const JOBS: usize = 500;
    let queue = Queue::new().await;
    let mut follower = Follower::new(&queue).await;
    follower.look(&queue).await;
    let _process = queue.process(|runtime| {
        runtime.register::<Work, _, _>(async |_: Work, _: JobContext| Ok(Outcome::Done))
    });
    let looked = timeout(PATIENCE, async {
        while follower.ends() < JOBS {
            follower.look(&queue).await;
        }
    });
    let enqueued = async {
        for n in 0..JOBS {
            queue.enqueue(&work(i64::try_from(n).unwrap())).await;
        }
    };
    let (looked, ()) = tokio::join!(looked, enqueued);
    looked.expect("not every end is told");
    follower.look(&queue).await;
    let lives = follower.lives();
    assert_eq!(lives.len(), JOBS);
    let done = [("enqueued", None), ("running", Some(1)), ("done", Some(1))];
    for (id, life) in lives {
        assert_eq!(life, done, "job {id}");
    }
}
