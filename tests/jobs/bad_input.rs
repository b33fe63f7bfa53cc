//! What can't be a job is refused with a typed error, and spoils nothing.

use std::time::Duration;

use jobs::{
    EnqueueOptions, MAX_DELAY, MAX_KEY, MAX_PAYLOAD, QueueError, cancel, enqueue, enqueue_raw,
    enqueue_with,
};
use serde_json::json;
use store::bus::Wake;

use super::support::{Notes, Queue, Work, noting, work};

fn with_keys(serial: Option<String>, unique: Option<String>) -> Work {
    Work {
        serial,
        unique,
        ..work(1)
    }
}

#[tokio::test]
async fn keys_that_are_empty_too_long_or_unprintable_are_refused_by_their_name() {
    let queue = Queue::new().await;
    let mut tx = queue.pool.begin().await.unwrap();
    for wrong in [
        String::new(),
        "k".repeat(MAX_KEY + 1),
        "a\nb".into(),
        "a\0b".into(),
    ] {
        let serial = enqueue(&mut tx, &with_keys(Some(wrong.clone()), None)).await;
        assert!(
            matches!(serial, Err(QueueError::Key { key: "serial", .. })),
            "{serial:?}"
        );
        let unique = enqueue(&mut tx, &with_keys(None, Some(wrong))).await;
        assert!(
            matches!(unique, Err(QueueError::Key { key: "unique", .. })),
            "{unique:?}"
        );
    }
    // The longest that is allowed, in the transaction that all the others were refused in.
    let longest = "ü".repeat(MAX_KEY / 2);
    let job = with_keys(Some(longest.clone()), Some(longest));
    assert!(enqueue(&mut tx, &job).await.unwrap().new);
    tx.commit().await.unwrap();
    assert_eq!(queue.count("select count(*) from queue.jobs").await, 1);
}

#[tokio::test]
async fn a_delay_beyond_a_year_is_refused_and_one_of_a_year_is_kept() {
    let queue = Queue::new().await;
    let mut tx = queue.pool.begin().await.unwrap();
    for delay in [MAX_DELAY + Duration::from_secs(1), Duration::MAX] {
        let options = EnqueueOptions {
            delay,
            ..EnqueueOptions::default()
        };
        let refused = enqueue_with(&mut tx, &work(1), &options).await;
        assert!(matches!(refused, Err(QueueError::Delay)), "{refused:?}");
    }
    let options = EnqueueOptions {
        delay: MAX_DELAY,
        ..EnqueueOptions::default()
    };
    enqueue_with(&mut tx, &work(1), &options).await.unwrap();
    tx.commit().await.unwrap();
    let kept = "select count(*) from queue.jobs
                where state = 'scheduled' and run_at = created_at + interval '366 days'";
    assert_eq!(queue.count(kept).await, 1);
}

#[tokio::test]
async fn a_job_is_run_by_the_name_of_its_kind_and_what_no_kind_takes_is_refused() {
    let queue = Queue::new().await;
    let mut tx = queue.pool.begin().await.unwrap();
    let options = EnqueueOptions::default();
    let unknown = enqueue_raw(&mut tx, "turn.proces", json!({}), &options).await;
    let Err(error @ QueueError::UnknownKind { .. }) = unknown else {
        panic!("{unknown:?}");
    };
    assert!(error.to_string().contains("turn.process"), "{error}");
    for malformed in [
        json!({}),
        json!([]),
        json!({ "session_id": "not an id!", "turn": 1 }),
    ] {
        let refused = enqueue_raw(&mut tx, "turn.process", malformed, &options).await;
        assert!(
            matches!(
                refused,
                Err(QueueError::Payload {
                    kind: "turn.process",
                    ..
                })
            ),
            "{refused:?}"
        );
    }
    let payload = json!({ "document_id": 1, "content_hash": "00" });
    let (enqueued, name) = enqueue_raw(&mut tx, "knowledge.index_document", payload, &options)
        .await
        .unwrap();
    tx.commit().await.unwrap();
    assert_eq!(name, "knowledge");
    let job = queue.live(enqueued.id).await.unwrap();
    assert_eq!(job.state, "ready");
}

#[tokio::test]
async fn a_payload_that_the_database_can_not_store_is_refused() {
    let queue = Queue::new().await;
    let mut tx = queue.pool.begin().await.unwrap();
    let options = EnqueueOptions::default();
    for hash in ["a\0b".to_owned(), "x".repeat(MAX_PAYLOAD)] {
        let payload = json!({ "document_id": 1, "content_hash": hash });
        let refused = enqueue_raw(&mut tx, "knowledge.index_document", payload, &options).await;
        assert!(
            matches!(
                refused,
                Err(QueueError::PayloadContent { .. } | QueueError::Key { .. })
            ),
            "{refused:?}"
        );
    }
    // A backslash and the digits are text like any other.
    let payload = json!({ "document_id": 1, "content_hash": "\\u0000" });
    enqueue_raw(&mut tx, "knowledge.index_document", payload, &options)
        .await
        .unwrap();
}

#[tokio::test]
async fn a_job_that_does_not_exist_is_not_cancelled() {
    let queue = Queue::new().await;
    let mut conn = queue.pool.acquire().await.unwrap();
    for id in [i64::MIN, -1, 0, i64::MAX] {
        let cancelled = cancel(&mut conn, jobs::JobId(id), &mut Wake::default()).await;
        assert_eq!(cancelled.unwrap(), jobs::Cancelled::NotLive);
    }
}

#[tokio::test]
async fn a_row_that_breaks_every_rule_kills_itself_and_not_the_queue() {
    let queue = Queue::new().await;
    let notes = Notes::default();
    // As a person with SQL might write it.
    queue
        .execute(
            "insert into queue.jobs (queue, kind, max_attempts, retry_waits, payload, run_at)
             values ('queue.Work', 'test.Work', 3, '{}', '[1, {}]', '4000-01-01 BC'),
                    ('queue.Work', 'test.Work', 1, '{}', 'null', '1970-01-01'),
                    ('queue.Work', '', 1, '{}', '{}', now() - interval '2 days')",
        )
        .await;
    queue
        .execute("update queue.jobs set created_at = now() - interval '2 days'")
        .await;
    let good = queue.enqueue(&work(7)).await;
    let _process = queue.process(|runtime| runtime.register::<Work, _, _>(noting(&notes)));
    queue.ended(good).await;
    super::support::until("the others are dead", async || {
        (queue
            .count("select count(*) from queue.history where outcome = 'dead'")
            .await
            == 3)
            .then_some(())
    })
    .await;
    assert_eq!(*notes.lock(), [7]);
}
