//! What a job costs the database must not grow: neither with the history, nor while somebody keeps an
//! old snapshot, as a dump or a forgotten session does. Counted in what is read, not in time.

use sandbox::postgres::{MIGRATOR, Server, ServerOptions};
use sqlx::{AssertSqlSafe, Connection, PgConnection, query, query_scalar};

use super::support::{Eager, Notes, Queue, eager, noting, until};

/// Jobs of one measurement; the process runs 16 at a time.
const JOBS: u16 = 3_000;
/// Far more than a job needs: it is inserted, claimed, and ended by its id. A plan or a scan that comes
/// by what others have left behind reads hundreds.
const ENTRIES: f64 = 20.0;

/// What was read of the queue's tables so far.
#[derive(Debug, sqlx::FromRow)]
struct Reads {
    /// Entries of the indexes of the live jobs, those of dead rows included.
    entries: f64,
    /// Claims and ends of jobs.
    changes: i64,
}

async fn reads(queue: &Queue) -> Reads {
    sqlx::query_as(
        "select (select sum(idx_tup_read)::float8 from pg_stat_user_indexes
                 where schemaname = 'queue' and relname = 'jobs') as entries,
                (select n_tup_upd + n_tup_del from pg_stat_user_tables
                 where schemaname = 'queue' and relname = 'jobs') as changes",
    )
    .fetch_one(&queue.pool)
    .await
    .unwrap()
}

/// What one job reads on its way through a process, from a full queue.
async fn reads_of_a_job(queue: &Queue) -> Reads {
    let jobs: Vec<Eager> = (0..i64::from(JOBS)).map(eager).collect();
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
    let notes = Notes::default();
    let process = queue.process(|runtime| runtime.register::<Eager, _, _>(noting(&notes)));
    until("all have run", async || {
        (notes.lock().len() == jobs.len()).then_some(())
    })
    .await;
    let pool = process.database.pool().clone();
    process.stop().await;
    // A connection that ends reports all that it did.
    pool.close().await;
    let after = until("every claim and every end is reported", async || {
        let now = reads(queue).await;
        let all = before.changes + 2 * i64::from(JOBS);
        (now.changes >= all).then_some(now)
    })
    .await;
    Reads {
        entries: (after.entries - before.entries) / f64::from(JOBS),
        changes: after.changes - before.changes,
    }
}

#[tokio::test]
async fn a_job_reads_as_little_with_a_long_history() {
    // A transaction that writes in any database of the server keeps dead entries from being marked.
    let server = Server::start(ServerOptions::default()).await.unwrap();
    let url = server.url("postgres");
    let mut connection = PgConnection::connect(&url).await.unwrap();
    MIGRATOR.run(&mut connection).await.unwrap();
    connection.close().await.unwrap();
    let queue = Queue::at(&url);
    // Its snapshots would keep a scan from marking what is dead.
    for table in ["jobs", "history"] {
        let still = format!("alter table queue.{table} set (autovacuum_enabled = off)");
        query(AssertSqlSafe(still))
            .execute(&queue.pool)
            .await
            .unwrap();
    }
    let empty = reads_of_a_job(&queue).await;
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
    let long = reads_of_a_job(&queue).await;
    assert!(empty.entries < ENTRIES, "{empty:?}");
    assert!(long.entries < ENTRIES, "{long:?}");
}

#[tokio::test]
async fn claims_pass_by_what_an_old_snapshot_keeps() {
    let queue = Queue::new().await;
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
    // What some time of work has left in the indexes, a minute ago.
    for statement in [
        "insert into queue.jobs (queue, kind, max_attempts, retry_waits, payload, run_at)
         select 'queue.Eager', 'test.Eager', 1, '{}', '{}', now() - interval '1 minute' + n * interval '1 ms'
         from generate_series(1, 20000) n",
        "update queue.jobs set state = 'running', worker = gen_random_uuid(), lease_until = run_at",
        "delete from queue.jobs",
    ] {
        query(statement).execute(&queue.pool).await.unwrap();
    }
    let before = reads(&queue).await;
    let notes = Notes::default();
    let process = queue.process(|runtime| runtime.register::<Eager, _, _>(noting(&notes)));
    // The first finds out from where on there is nothing.
    queue.ended(queue.enqueue(&eager(0)).await).await;
    for round in 1..=100 {
        let few: Vec<Eager> = (0..5).map(|n| eager(round * 5 + n)).collect();
        queue.enqueue_all(&few).await;
        let all = usize::try_from(round * 5 + 1).unwrap();
        until("they have run", async || {
            (notes.lock().len() == all).then_some(())
        })
        .await;
    }
    let pool = process.database.pool().clone();
    process.stop().await;
    pool.close().await;
    let after = until("every claim and every end is reported", async || {
        let now = reads(&queue).await;
        (now.changes >= before.changes + 2 * 501).then_some(now)
    })
    .await;
    snapshot.rollback().await.unwrap();
    // From the beginning each claim alone would read 20,000 entries, that is 4,000 a job.
    let of_a_job = (after.entries - before.entries) / 501.0;
    assert!(of_a_job < 1_000.0, "{of_a_job}");
}
