//! What an attempt may come to.

use std::{sync::Arc, time::Duration};

use jobs::{HandlerResult, JobContext, JobError, JobKind, Outcome, Retry};
use tokio::{sync::Notify, time::Instant};

use super::support::{Hasty, LEASE, Notes, Queue, Work, noting, reasons, until, work};

fn failing(
    error: impl Fn(i64) -> JobError + Clone + Send + Sync + 'static,
) -> impl Fn(Work, JobContext) -> std::future::Ready<HandlerResult> + Clone + Send + Sync + 'static
{
    move |job, _| std::future::ready(Err(error(job.n)))
}

#[track_caller]
fn assert_wait(wait: Option<f64>, seconds: f64) {
    let wait = wait.unwrap();
    assert!((wait - seconds).abs() < 0.05, "{wait} instead of {seconds}");
}

#[tokio::test]
async fn a_failing_job_waits_1_3_and_9_seconds_and_is_dead_after_its_fourth_attempt() {
    let queue = Queue::new().await;
    let _process = queue
        .process(|runtime| runtime.register::<Work, _, _>(failing(|_| JobError::retry("broken"))));
    let id = queue.enqueue(&work(1)).await;
    for (attempt, wait) in [(1, 1.0), (2, 3.0), (3, 9.0)] {
        let job = queue.failed(id, attempt).await;
        assert_wait(job.wait, wait);
        assert_eq!(
            reasons(&job.errors).len(),
            usize::try_from(attempt).unwrap()
        );
        queue.let_time_pass().await;
    }
    let past = queue.ended(id).await;
    assert_eq!((past.outcome.as_str(), past.attempt), ("dead", 4));
    let each = [1, 2, 3, 4].map(|attempt| (attempt, "broken"));
    assert_eq!(past.reasons(), each);
}

#[tokio::test]
async fn the_process_wakes_by_itself_when_a_wait_is_over() {
    let queue = Queue::new().await;
    let _process = queue.process(|runtime| {
        runtime.register::<Work, _, _>(async |_, context: JobContext| match context.attempt {
            1 => Err(JobError::retry("broken")),
            _ => Ok(Outcome::Done),
        })
    });
    let id = queue.enqueue(&work(1)).await;
    assert_eq!(queue.ended(id).await.outcome, "done");
    let waited = queue
        .count("select extract(epoch from started_at - (errors -> 0 ->> 'at')::timestamptz)::bigint from queue.history")
        .await;
    assert!((1..5).contains(&waited), "{waited}");
}

#[tokio::test]
async fn a_servers_retry_after_counts_when_it_is_longer_than_the_planned_wait() {
    let queue = Queue::new().await;
    let _process = queue.process(|runtime| {
        runtime.register::<Work, _, _>(failing(|seconds| JobError {
            retry: Retry::NotBefore(Duration::from_secs(seconds.unsigned_abs())),
            reason: "rate limited".to_owned(),
        }))
    });
    // The second wait is planned as 3 s.
    let longer = queue.enqueue(&work(60)).await;
    let shorter = queue.enqueue(&work(2)).await;
    assert_wait(queue.failed(longer, 1).await.wait, 60.0);
    assert_wait(queue.failed(shorter, 1).await.wait, 2.0);
    queue.let_time_pass().await;
    assert_wait(queue.failed(longer, 2).await.wait, 60.0);
    assert_wait(queue.failed(shorter, 2).await.wait, 3.0);
}

#[tokio::test]
async fn a_wait_beyond_all_ranges_is_a_year_and_not_the_end_of_the_process() {
    let queue = Queue::new().await;
    let process = queue.process(|runtime| {
        runtime.register::<Work, _, _>(failing(|_| JobError {
            retry: Retry::NotBefore(Duration::MAX),
            reason: "nonsense".to_owned(),
        }))
    });
    let id = queue.enqueue(&work(1)).await;
    assert_wait(queue.failed(id, 1).await.wait, 366.0 * 86_400.0);
    queue
        .execute("update queue.jobs set run_at = '290000-01-01'")
        .await;
    queue.bus.jobs_ready(Work::QUEUE);
    let other = queue.enqueue(&work(2)).await;
    queue.failed(other, 1).await;
    assert!(process.is_alive());
}

#[tokio::test]
async fn a_reason_that_postgres_does_not_take_is_stored_without_what_it_refuses() {
    let queue = Queue::new().await;
    let _process = queue.process(|runtime| {
        runtime.register::<Work, _, _>(failing(|_| {
            JobError::fatal(format!("a\0b{}", "x".repeat(9_000)))
        }))
    });
    let id = queue.enqueue(&work(1)).await;
    let past = queue.ended(id).await;
    let (_, reason) = past.reasons()[0];
    assert!(reason.starts_with("a\u{fffd}bx") && reason.chars().count() == 2_000);
}

#[tokio::test]
async fn a_fatal_error_is_the_end_at_once() {
    let queue = Queue::new().await;
    let _process = queue
        .process(|runtime| runtime.register::<Work, _, _>(failing(|_| JobError::fatal("refused"))));
    let id = queue.enqueue(&work(1)).await;
    let past = queue.ended(id).await;
    assert_eq!((past.outcome.as_str(), past.attempt), ("dead", 1));
    assert_eq!(past.reasons(), [(1, "refused")]);
}

#[tokio::test]
async fn a_snooze_burns_no_attempt() {
    let queue = Queue::new().await;
    let notes: Notes<i16> = Notes::default();
    let seen = Arc::clone(&notes);
    let _process = queue.process(|runtime| {
        runtime.register::<Work, _, _>(move |_, context: JobContext| {
            seen.lock().push(context.attempt);
            let outcome = if seen.lock().len() < 7 {
                Outcome::Snooze(Duration::from_millis(1))
            } else {
                Outcome::Done
            };
            async move {
                // Long enough for its process to look around and fall asleep meanwhile.
                tokio::time::sleep(Duration::from_millis(20)).await;
                Ok(outcome)
            }
        })
    });
    let began = Instant::now();
    let id = queue.enqueue(&work(1)).await;
    let past = queue.ended(id).await;
    assert_eq!((past.outcome.as_str(), past.attempt), ("done", 1));
    assert_eq!(*notes.lock(), [1; 7]);
    // Each due time was told, and not found when some lease seemed to end.
    assert!(began.elapsed() < 3 * LEASE, "took {:?}", began.elapsed());
}

#[tokio::test]
async fn a_panic_is_a_failed_attempt_and_the_others_of_its_kind_go_on() {
    let queue = Queue::new().await;
    let go = Arc::new(Notify::new());
    let running: Notes<i64> = Notes::default();
    let (wait, started) = (Arc::clone(&go), Arc::clone(&running));
    let _process = queue.process(|runtime| {
        runtime.register::<Work, _, _>(move |job: Work, _| {
            let (wait, started) = (Arc::clone(&wait), Arc::clone(&started));
            async move {
                assert!(job.n >= 0, "expected in the test's output");
                let woken = wait.notified();
                started.lock().push(job.n);
                woken.await;
                Ok(Outcome::Done)
            }
        })
    });
    let others = queue
        .enqueue_all(&[work(0), work(1), work(2), work(3), work(4)])
        .await;
    until("the others run", async || {
        (running.lock().len() == 5).then_some(())
    })
    .await;
    let bad = queue.enqueue(&work(-1)).await;
    let failed = queue.failed(bad, 1).await;
    assert_eq!(reasons(&failed.errors), [(1, "the handler panicked")]);
    go.notify_waiters();
    for id in others {
        let past = queue.ended(id).await;
        assert_eq!((past.outcome.as_str(), past.attempt), ("done", 1));
    }
}

#[tokio::test]
async fn an_attempt_that_takes_too_long_has_failed() {
    let queue = Queue::new().await;
    let _process = queue.process(|runtime| {
        runtime.register::<Hasty, _, _>(|_, _| std::future::pending::<HandlerResult>())
    });
    let id = queue.enqueue(&Hasty::default()).await;
    let job = queue.failed(id, 1).await;
    assert_eq!(reasons(&job.errors), [(1, "took longer than 0.05 s")]);
    queue.let_time_pass().await;
    assert_eq!(queue.ended(id).await.outcome, "dead");
}

#[tokio::test]
async fn a_payload_that_does_not_decode_is_dead_with_the_reason_and_the_worker_goes_on() {
    let queue = Queue::new().await;
    let notes = Notes::default();
    let bad = queue.enqueue(&work(1)).await;
    let good = queue.enqueue(&work(2)).await;
    queue
        .execute(
            r#"update queue.jobs set payload = '{"n": "no number"}' where payload ->> 'n' = '1'"#,
        )
        .await;
    let _process = queue.process(|runtime| runtime.register::<Work, _, _>(noting(&notes)));
    let past = queue.ended(bad).await;
    assert_eq!((past.outcome.as_str(), past.attempt), ("dead", 1));
    assert_eq!(
        past.reasons(),
        [(1, "the payload does not decode as this kind's")]
    );
    assert_eq!(queue.ended(good).await.outcome, "done");
}

#[tokio::test]
async fn a_job_of_an_unknown_kind_waits_for_a_version_that_knows_it() {
    let queue = Queue::new().await;
    let notes = Notes::default();
    let id = queue.enqueue(&work(1)).await;
    queue
        .execute("update queue.jobs set kind = 'test.Newer'")
        .await;
    let process = queue.process(|runtime| runtime.register::<Work, _, _>(noting(&notes)));
    // Claimed, put back for later, and nothing counted.
    let job = until("it is put back", async || {
        let job = queue.live(id).await?;
        (job.state == "scheduled" && job.lease == 1).then_some(job)
    })
    .await;
    assert_eq!(job.attempt, 0);
    process.stop().await;

    queue
        .execute("update queue.jobs set kind = 'test.Work'")
        .await;
    queue.let_time_pass().await;
    let _newer = queue.process(|runtime| runtime.register::<Work, _, _>(noting(&notes)));
    assert_eq!(queue.ended(id).await.attempt, 1);
}

#[tokio::test]
async fn a_job_of_a_kind_that_nobody_has_known_for_a_day_is_dead() {
    let queue = Queue::new().await;
    let id = queue.enqueue(&work(1)).await;
    queue
        .execute(
            "update queue.jobs set kind = 'test.Retired', created_at = now() - interval '25 hours'",
        )
        .await;
    let notes = Notes::default();
    let _process = queue.process(|runtime| runtime.register::<Work, _, _>(noting(&notes)));
    let past = queue.ended(id).await;
    assert_eq!((past.outcome.as_str(), past.attempt), ("dead", 1));
    assert_eq!(
        past.reasons(),
        [(1, "no version in a day has known the job's kind")]
    );
}
