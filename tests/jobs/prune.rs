//! The queue's own tables stay bounded.

use jobs::{JobKind, QueueConfig, catalog::QueuePrune};
use sqlx::query;

use super::support::{Process, Queue, config};

/// Runs the job of a night to its end.
async fn prune(queue: &Queue, process: &Process) {
    let id = queue
        .enqueue(&QueuePrune {
            date: "2026-11-21".to_owned(),
        })
        .await;
    process.bus.jobs_ready(QueuePrune::QUEUE);
    let past = queue.ended(id).await;
    assert_eq!((past.outcome.as_str(), past.attempt), ("done", 1));
}

/// Jobs that ended `days` ago, a second apart.
async fn ended(queue: &Queue, kind: &str, outcome: &str, days: i32, count: i32) {
    query(
        "insert into queue.history (id, queue, kind, outcome, priority, attempt, max_attempts, retry_waits,
                                    payload, errors, created_at, finished_at)
         select nextval('queue.jobs_id_seq'), 'test', $1, $2, 0, 1, 1, '{}', '{}', '[]', now(),
                now() - make_interval(days => $3, secs => n)
         from generate_series(1, $4) n",
    )
    .bind(kind)
    .bind(outcome)
    .bind(days)
    .bind(count)
    .execute(&queue.pool)
    .await
    .unwrap();
}

#[tokio::test]
async fn what_is_old_enough_goes_in_batches_and_the_rest_stays() {
    let queue = Queue::new().await;
    for (kind, outcome, days, count) in [
        ("goes", "done", 8, 20_000),
        ("goes", "cancelled", 7, 3),
        ("goes", "dead", 90, 5_001),
        ("stays", "done", 6, 500),
        ("stays", "cancelled", 0, 2),
        ("stays", "dead", 88, 3_000),
    ] {
        ended(&queue, kind, outcome, days, count).await;
    }
    for statement in [
        "insert into queue.unique_keys (kind, key, job_id, expires_at)
         select 'goes', n::text, n, now() - make_interval(secs => n) from generate_series(1, 5002) n",
        "insert into queue.unique_keys (kind, key, job_id, expires_at)
         values ('stays', 'ever', 1, null), ('stays', 'longer', 2, now() + interval '1 hour')",
        "insert into queue.buckets (key, full_at, deferred_until)
         select 'goes' || n, now() - interval '1 s', now() - interval '1 s' from generate_series(1, 5002) n",
        "insert into queue.buckets (key, full_at, deferred_until)
         values ('stays empty', now() + interval '1 hour', now()), ('stays deferred', now(), now() + interval '1 hour')",
        "insert into queue.schedules (name, cron, time_zone, since, settled, next_fire_at)
         values ('goes', '* * * * *', 'UTC', now(), now(), now() - interval '91 days'),
                ('stays yearly', '0 0 1 1 *', 'UTC', now(), now() - interval '200 days', now() + interval '165 days')",
        "insert into knowledge_embeddings (content_hash, model, dimensions, embedding, created_at)
         select int4send(n), 'goes', 1, '[1]', now() - make_interval(days => 7, secs => n)
         from generate_series(1, 5002) n",
        "insert into knowledge_embeddings (content_hash, model, dimensions, embedding, created_at)
         values ('\\x01', 'stays', 1, '[1]', now() - interval '6 days')",
        "insert into edge_limits (key, full_at, taken)
         select decode(md5(n::text), 'hex'), now() - interval '1 s', true from generate_series(1, 5002) n",
        "insert into edge_limits (key, full_at, taken) values (decode(md5('stays'), 'hex'), now() + interval '1 hour', false)",
        "insert into edge_keys (day, key_id, key)
         select (now() at time zone 'UTC')::date - n, gen_random_uuid(), sha256(int4send(n)) from generate_series(0, 3) n",
        // How many rows each statement deletes.
        "create table batches (size bigint not null)",
        "create function note_batch() returns trigger language plpgsql as
         'begin insert into batches select count(*) from gone; return null; end'",
        "create trigger note_batch after delete on queue.history referencing old table as gone
         for each statement execute function note_batch()",
    ] {
        query(statement).execute(&queue.pool).await.unwrap();
    }
    let process = queue.process(jobs::Runtime::with_pruning);
    prune(&queue, &process).await;

    let of = "select count(*) from queue.history where kind = 'goes'";
    assert_eq!(queue.count(of).await, 0);
    let of = "select count(*) from queue.history where kind = 'stays'";
    assert_eq!(queue.count(of).await, 3_502);
    assert_eq!(queue.count("select max(size) from batches").await, 5_000);
    assert_eq!(
        queue.count("select sum(size)::bigint from batches").await,
        25_004
    );
    for left in [
        "select array_agg(key order by key) = '{ever,longer}' from queue.unique_keys",
        "select array_agg(key order by key) = '{stays deferred,stays empty}' from queue.buckets",
        "select array_agg(model) = '{stays}' from knowledge_embeddings",
        "select array_agg(key) = array[decode(md5('stays'), 'hex')] from edge_limits",
        "select array_agg(key) = array[sha256(int4send(0))] from edge_keys",
        "select array_agg(name order by name) = '{queue.prune,stays yearly}' from queue.schedules",
    ] {
        let exactly: bool = sqlx::query_scalar(left)
            .fetch_one(&queue.pool)
            .await
            .unwrap();
        assert!(exactly, "{left}");
    }
    process.stop().await;
}

#[tokio::test]
async fn rows_that_somebody_has_locked_are_passed_over() {
    let queue = Queue::new().await;
    ended(&queue, "test", "done", 8, 6_000).await;
    let mut tx = queue.pool.begin().await.unwrap();
    query("select from queue.history where id % 100 = 0 for update")
        .execute(&mut *tx)
        .await
        .unwrap();
    let process = queue.process(jobs::Runtime::with_pruning);
    prune(&queue, &process).await;
    let left = "select count(*) from queue.history where kind = 'test'";
    assert_eq!(queue.count(left).await, 60);
    tx.rollback().await.unwrap();
    prune(&queue, &process).await;
    assert_eq!(queue.count(left).await, 0);
    process.stop().await;
}

#[tokio::test]
async fn the_history_is_kept_as_long_as_it_is_configured_and_the_dead_not_shorter() {
    let queue = Queue::new().await;
    for (outcome, days) in [("done", 99), ("dead", 99), ("done", 100), ("dead", 100)] {
        ended(&queue, "test", outcome, days, 1).await;
    }
    let long = QueueConfig {
        history_days: 100,
        ..config()
    };
    let process = queue.remote("worker", &long, jobs::Runtime::with_pruning);
    prune(&queue, &process).await;
    let young = "select count(*) from queue.history where kind = 'test' and finished_at > now() - interval '100 days'";
    assert_eq!(queue.count(young).await, 2);
    let all = "select count(*) from queue.history where kind = 'test'";
    assert_eq!(queue.count(all).await, 2);
    process.stop().await;
}
