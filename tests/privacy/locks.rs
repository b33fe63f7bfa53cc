//! Erasing beside everybody else: nobody waits crosswise, and nobody waits for a search through the queue.

use std::time::Duration;

use jobs::{JobKind as _, catalog::SlackPerson};
use sandbox::postgres::TestDatabase;
use sqlx::{PgPool, query, query_scalar};
use store::{
    bus::Wake,
    ids::SessionId,
    privacy::{Erased, Scope},
    retention,
};

use crate::support::PATIENCE;

/// A session that was closed long ago, with something in every table that is emptied.
const OLD: &str = "
    with s as (insert into sessions (session_id, status, termination_type, closed_at, last_turn)
               values ('s1', 'closed', 'session_expiry', now() - interval '91 days', 1) returning 1),
         t as (insert into turns (session_id, turn, status, message_id, answer_id, finished_at)
               values ('s1', 1, 'answered', 'm1', 'a1', now()) returning 1),
         m as (insert into messages (session_id, message_id, turn, role, body)
               values ('s1', 'm1', 1, 'user', 'Hello') returning 1),
         c as (insert into checkpoints (session_id, turn, state) values ('s1', 1, '{}') returning 1)
    insert into turn_events (session_id, turn, attempt, seq, event) values ('s1', 1, 1, 1, '{}')";

fn s1() -> SessionId {
    "s1".parse().unwrap()
}

async fn erase(pool: PgPool, scope: Scope) -> sqlx::Result<Erased> {
    let mut after = Wake::default();
    let mut transaction = pool.begin().await?;
    let erased = jobs::erase_session(&mut transaction, &s1(), scope, &mut after).await?;
    transaction.commit().await?;
    Ok(erased)
}

/// Waits until so many transactions of this database wait for a lock.
async fn until_waiting(pool: &PgPool, count: i64) {
    let waiting = async {
        loop {
            let waits: i64 = query_scalar(
                "select count(*) from pg_stat_activity
                 where datname = current_database() and wait_event_type = 'Lock'",
            )
            .fetch_one(pool)
            .await
            .unwrap();
            if waits == count {
                return;
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    tokio::time::timeout(PATIENCE, waiting)
        .await
        .expect("they do not wait");
}

#[tokio::test]
async fn erasure_and_retention_of_one_session_wait_for_each_other_and_both_come_to_an_end() {
    let database = TestDatabase::create().await.unwrap();
    let pool = database.pool().await.unwrap();
    query(OLD).execute(&pool).await.unwrap();
    let mut holder = pool.begin().await.unwrap();
    query("select from messages for update")
        .execute(&mut *holder)
        .await
        .unwrap();
    // It has the session, and waits in the middle of its work.
    let forgetting = {
        let pool = pool.clone();
        tokio::spawn(async move { retention::forget_batch(&pool, 90, 10, 1_000).await })
    };
    until_waiting(&pool, 1).await;
    let erasing = tokio::spawn(erase(pool.clone(), Scope::Person));
    until_waiting(&pool, 2).await;
    holder.rollback().await.unwrap();
    assert_eq!(forgetting.await.unwrap().unwrap().messages, 1);
    let erased = erasing.await.unwrap().unwrap();
    // Of what both want to delete, only the session's mark was left.
    assert_eq!(erased.0, [("sessions".to_owned(), 1)].into());
}

#[tokio::test]
async fn erasing_looks_at_its_own_jobs_and_not_at_the_whole_queue() {
    let database = TestDatabase::create().await.unwrap();
    let pool = database.pool().await.unwrap();
    query(OLD).execute(&pool).await.unwrap();
    query(
        "insert into queue.jobs (queue, kind, state, run_at, max_attempts, retry_waits, serial_key, unique_key, payload)
         select q, k, s, now() + interval '1 day', 1, '{}', key || n, n, jsonb_build_object('session_id', 'x' || n)
         from generate_series(1, 20000) n,
              (values ('turns', 'turn.process', 'scheduled', 'session:x'), ('handoff', $1, 'ready', null)) v (q, k, s, key)",
    )
    .bind(SlackPerson::KIND)
    .execute(&pool)
    .await
    .unwrap();
    query("analyze").execute(&pool).await.unwrap();
    let read = async || -> i64 {
        query("select pg_stat_force_next_flush()")
            .execute(&pool)
            .await
            .unwrap();
        query_scalar(
            "select seq_tup_read from pg_stat_user_tables where relid = 'queue.jobs'::regclass",
        )
        .fetch_one(&pool)
        .await
        .unwrap()
    };
    let before = read().await;
    for scope in [Scope::Conversation, Scope::Person] {
        erase(pool.clone(), scope).await.unwrap();
    }
    assert_eq!(read().await, before);
}
