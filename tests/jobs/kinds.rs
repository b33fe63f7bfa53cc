//! Kinds get new names, and go: what was enqueued before is not forgotten.

use std::time::Duration;

use jobs::{JobKind, Outcome};

use super::support::{Notes, Queue, Work, noting, noting_nothing, work};

#[derive(Debug, Clone, serde::Serialize, serde::Deserialize)]
struct Renamed {
    n: i64,
}

impl JobKind for Renamed {
    const KIND: &'static str = "test.Renamed";
    const ALIASES: &'static [&'static str] = &["test.Work"];
    const QUEUE: &'static str = Work::QUEUE;
    const RETRY_WAITS: &'static [i32] = &[];
    const TIMEOUT: Duration = Duration::from_mins(1);
}

#[tokio::test]
async fn a_job_under_the_old_name_of_its_kind_is_run_by_the_new_one() {
    let queue = Queue::new().await;
    let notes: Notes<i64> = Notes::default();
    let old = queue.enqueue(&work(1)).await;
    let new = queue.enqueue(&Renamed { n: 2 }).await;
    let seen = notes.clone();
    let _process = queue.process(|runtime| {
        runtime.register::<Renamed, _, _>(move |job: Renamed, _| {
            seen.lock().push(job.n);
            std::future::ready(Ok(Outcome::Done))
        })
    });
    assert_eq!(queue.ended(old).await.outcome, "done");
    assert_eq!(queue.ended(new).await.outcome, "done");
    let mut seen = notes.lock().clone();
    seen.sort_unstable();
    assert_eq!(seen, [1, 2]);
}

#[tokio::test]
async fn a_job_of_a_retired_kind_is_dead_at_once_and_says_so() {
    let queue = Queue::new().await;
    let retired = queue.enqueue(&work(1)).await;
    queue
        .execute("update queue.jobs set kind = 'test.Old'")
        .await;
    let other = queue.enqueue(&work(2)).await;
    let notes = Notes::default();
    let _process = queue.process(|runtime| {
        runtime
            .register::<Work, _, _>(noting(&notes))
            .retire("test.Old")
    });
    let past = queue.ended(retired).await;
    assert_eq!(past.outcome, "dead");
    assert_eq!(past.reasons(), [(1, "the job's kind was retired")]);
    queue.ended(other).await;
    assert_eq!(*notes.lock(), [2]);
}

#[derive(Debug, Clone, serde::Serialize, serde::Deserialize)]
struct Brief {}

impl JobKind for Brief {
    const KIND: &'static str = "test.Brief";
    const QUEUE: &'static str = Work::QUEUE;
    const RETRY_WAITS: &'static [i32] = &[];
    const TIMEOUT: Duration = Duration::from_millis(60);
}

#[tokio::test]
async fn kinds_of_one_queue_have_time_outs_of_their_own() {
    let queue = Queue::new().await;
    let brief = queue.enqueue(&Brief {}).await;
    let patient = queue.enqueue(&work(1)).await;
    let _process = queue.process(|runtime| {
        runtime
            .register::<Brief, _, _>(|_, _| std::future::pending())
            .register::<Work, _, _>(|job, context| async move {
                // Longer than the other kind may take.
                tokio::time::sleep(Duration::from_millis(200)).await;
                noting_nothing(job, context).await
            })
    });
    let past = queue.ended(brief).await;
    assert_eq!(past.reasons(), [(1, "took longer than 0.06 s")]);
    assert_eq!(queue.ended(patient).await.outcome, "done");
}
