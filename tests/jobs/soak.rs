//! What a job costs the database must not grow: neither with the history, nor while somebody keeps an
//! old snapshot, as a dump or a forgotten session does. Counted in what is read, not in time.

use sqlx::{Connection, PgConnection, query, query_scalar};

use super::support::{Eager, Queue, eager, noting, until};

/// Jobs of one measurement; a process runs 16 at a time.
const JOBS: i64 = 3_000;

/// What was read of the queue's tables so far.
#[derive(Debug, Clone, Copy, sqlx::FromRow)]
struct Reads {
    /// Entries of the indexes of live jobs, those of dead rows included.
    entries: i64,
    /// Pages of the tables and their indexes.
    pages: i64,
}

async fn reads(queue: &Queue) -> Reads {
    sqlx::query_as(
        "select (select sum(idx_tup_read)::bigint from pg_stat_user_indexes
                 where schemaname = 'queue' and relname = 'jobs') as entries,
                (select sum(coalesce(heap_blks_hit, 0) + coalesce(heap_blks_read, 0)
                            + coalesce(idx_blks_hit, 0) + coalesce(idx_blks_read, 0))::bigint
                 from pg_statio_user_tables where schemaname = 'queue') as pages",
    )
    .fetch_one(&queue.pool)
    .await
    .unwrap()
}

/// What one job reads on its way through a process, from a full queue.
async fn reads_of_a_job(queue: &Queue) -> (f64, f64) {
    let jobs: Vec<Eager> = (0..JOBS).map(eager).collect();
    let mut tx = queue.pool.begin().await.unwrap();
    jobs::enqueue_all(&mut tx, &jobs, &jobs::EnqueueOptions::default())
        .await
        .unwrap();
    query("select pg_stat_force_next_flush()")
        .execute(&mut *tx)
        .await
        .unwrap();
    tx.commit().await.unwrap();
    let before = reads(queue).await;
    let notes = super::support::Notes::default();
    let process = queue.process(|runtime| runtime.register::<Eager, _, _>(noting(&notes)));
    let all = usize::try_from(JOBS).unwrap();
    until("all have run", async || {
        (notes.lock().len() == all).then_some(())
    })
    .await;
    let pool = process.database.pool().clone();
    process.stop().await;
    pool.close().await;
    // A connection that ends reports all it did.
    until("its connections have ended", async || {
        let others = queue.count(
            "select count(*) from pg_stat_activity
             where datname = current_database() and backend_type = 'client backend'
               and application_name = 'growth-chat' and pid <> pg_backend_pid()",
        );
        (others.await == 0).then_some(())
    })
    .await;
    let after = reads(queue).await;
    #[expect(clippy::cast_precision_loss, reason = "small numbers")]
    let of_a_job = |before: i64, after: i64| (after - before) as f64 / JOBS as f64;
    (
        of_a_job(before.entries, after.entries),
        of_a_job(before.pages, after.pages),
    )
}

#[tokio::test]
async fn a_job_reads_no_more_with_a_long_history_nor_while_an_old_snapshot_is_held() {
    let queue = Queue::new().await;
    let (entries, pages) = reads_of_a_job(&queue).await;
    println!("empty: {entries} {pages}");
    query(
        "insert into queue.history (id, queue, kind, outcome, priority, attempt, max_attempts, retry_waits,
                                    payload, errors, created_at, finished_at)
         select nextval('queue.jobs_id_seq'), 'turns', 'turn.process', 'done', 0, 1, 4, '{1,3,9}', '{}', '[]',
                now(), now() - make_interval(secs => n)
         from generate_series(1, 200000) n",
    )
    .execute(&queue.pool)
    .await
    .unwrap();
    let (entries, pages) = reads_of_a_job(&queue).await;
    println!("history: {entries} {pages}");
    let mut elsewhere = PgConnection::connect_with(&queue.pool.connect_options())
        .await
        .unwrap();
    let mut snapshot = elsewhere
        .begin_with("begin isolation level repeatable read")
        .await
        .unwrap();
    let _: i64 = query_scalar("select count(*) from sessions")
        .fetch_one(&mut *snapshot)
        .await
        .unwrap();
    let (entries, pages) = reads_of_a_job(&queue).await;
    println!("snapshot: {entries} {pages}");
    let (entries, pages) = reads_of_a_job(&queue).await;
    println!("snapshot: {entries} {pages}");
    snapshot.rollback().await.unwrap();
}
