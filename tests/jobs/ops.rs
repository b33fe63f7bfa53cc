//! What a person on duty sees and does with nothing but SQL, as the role that is meant for it.

use std::{sync::Arc, time::Duration};

use jobs::{
    EnqueueOptions, HandlerResult, JobContext, JobError, JobId, JobKind, Outcome, enqueue_with,
};
use sandbox::postgres::{MIGRATOR, TestDatabase};
use sqlx::{AssertSqlSafe, PgPool, Row, postgres::PgPoolOptions, query, query_scalar};

use super::support::{Notes, Queue, Work, config, eager, noting, open, until, work};

/// Connections of the operator's role.
async fn operator(queue: &Queue) -> PgPool {
    PgPoolOptions::new()
        .max_connections(1)
        .after_connect(|connection, _| {
            Box::pin(async move {
                query("set role growth_chat_operator")
                    .execute(connection)
                    .await?;
                Ok(())
            })
        })
        .connect_with((*queue.pool.connect_options()).clone())
        .await
        .unwrap()
}

async fn text(pool: &PgPool, sql: &'static str, id: JobId) -> Result<String, String> {
    query_scalar(sql)
        .bind(id.0)
        .fetch_one(pool)
        .await
        .map_err(|error| error.as_database_error().unwrap().message().to_owned())
}

async fn retry(pool: &PgPool, id: JobId) -> Result<String, String> {
    text(pool, "select ops.retry_job($1)", id).await
}

async fn cancel(pool: &PgPool, id: JobId) -> Result<String, String> {
    text(pool, "select ops.cancel_job($1)", id).await
}

/// A job that died by its first attempt.
async fn dead(queue: &Queue, job: Work) -> JobId {
    let id = queue.enqueue(&job).await;
    let process = queue.process(|runtime| {
        runtime.register::<Work, _, _>(|_, _| async {
            HandlerResult::Err(JobError::fatal("the endpoint is gone"))
        })
    });
    assert_eq!(queue.ended(id).await.outcome, "dead");
    process.stop().await;
    id
}

fn keyed(n: i64) -> Work {
    Work {
        serial: Some("key".to_owned()),
        ..work(n)
    }
}

#[tokio::test]
async fn a_person_with_only_sql_finds_why_a_job_died_and_runs_it_again() {
    let queue = Queue::new().await;
    let operator = operator(&queue).await;
    let id = dead(&queue, keyed(7)).await;
    let row = query("select id, last_error, attempt, state from ops.failed_jobs where kind = $1")
        .bind(Work::KIND)
        .fetch_one(&operator)
        .await
        .unwrap();
    assert_eq!(row.get::<i64, _>("id"), id.0);
    assert_eq!(row.get::<String, _>("last_error"), "the endpoint is gone");
    assert_eq!(row.get::<i16, _>("attempt"), 1);
    assert_eq!(row.get::<String, _>("state"), "dead");

    let notes = Notes::default();
    // On a bus of its own: it hears of the retry by Postgres alone.
    let process = queue
        .remote("worker", &config(), |runtime| {
            runtime.register::<Work, _, _>(noting(&notes))
        })
        .listening()
        .await;
    assert_eq!(retry(&operator, id).await.unwrap(), "ready");
    let past = queue.ended(id).await;
    assert_eq!(past.outcome, "done");
    assert_eq!(past.reasons(), [(1, "the endpoint is gone")]);
    assert_eq!(*notes.lock(), [7]);
    process.stop().await;
}

#[tokio::test]
async fn a_job_that_is_brought_back_never_has_an_old_lease_number_again() {
    let queue = Queue::new().await;
    let id = dead(&queue, work(1)).await;
    retry(&queue.pool, id).await.unwrap();
    let live = queue.live(id).await.unwrap();
    assert_eq!((live.lease, live.attempt), (1, 0));
    assert!(queue.past(id).await.is_none());
}

#[tokio::test]
async fn a_retried_job_waits_behind_a_live_one_of_its_serial_key() {
    let queue = Queue::new().await;
    let id = dead(&queue, keyed(1)).await;
    let other = queue.enqueue(&keyed(2)).await;
    assert_eq!(retry(&queue.pool, id).await.unwrap(), "blocked");
    assert_eq!(
        retry(&queue.pool, id).await.unwrap_err(),
        format!("job {} is blocked: there is nothing to retry", id.0)
    );
    let notes = Notes::default();
    let _process = queue.process(|runtime| runtime.register::<Work, _, _>(noting(&notes)));
    queue.bus.jobs_ready(Work::QUEUE);
    queue.ended(other).await;
    queue.ended(id).await;
    assert_eq!(*notes.lock(), [2, 1]);
}

#[tokio::test]
async fn what_cannot_be_retried_or_cancelled_is_refused_with_the_reason() {
    let queue = Queue::new().await;
    let unknown = JobId(4_711);
    assert_eq!(
        retry(&queue.pool, unknown).await.unwrap_err(),
        "job 4711 is not known: it never was, or its history has been pruned"
    );
    assert_eq!(
        cancel(&queue.pool, unknown).await.unwrap_err(),
        "job 4711 is not live: it has ended, or never was"
    );
    let unique = Work {
        unique: Some("one".to_owned()),
        ..work(1)
    };
    let id = dead(&queue, unique.clone()).await;
    let live = queue.enqueue(&unique).await;
    assert_eq!(
        retry(&queue.pool, id).await.unwrap_err(),
        format!(
            "job {} can't be retried: job {} does the same and is live",
            id.0, live.0
        )
    );
    // It is still there to look at.
    assert_eq!(queue.past(id).await.unwrap().outcome, "dead");
    let _process =
        queue.process(|runtime| runtime.register::<Work, _, _>(noting(&Notes::default())));
    queue.bus.jobs_ready(Work::QUEUE);
    queue.ended(live).await;
    assert_eq!(
        retry(&queue.pool, live).await.unwrap_err(),
        format!(
            "job {} is done: only a job that failed can be retried",
            live.0
        )
    );
}

#[tokio::test]
async fn a_dead_job_of_a_finished_turn_is_not_retried_to_no_effect() {
    let queue = Queue::new().await;
    queue
        .execute("insert into sessions (session_id) values ('s')")
        .await;
    queue
        .execute(
            "insert into turns (session_id, turn, message_id, answer_id, status, finished_at)
             values ('s', 1, 'm', 'a', 'failed', now())",
        )
        .await;
    queue
        .execute(
            r#"insert into queue.history (id, queue, kind, outcome, priority, attempt, max_attempts, retry_waits,
                                          payload, errors, created_at)
               values (9, 'turns', 'turn.process', 'dead', 0, 4, 4, '{1,3,9}',
                       '{"session_id": "s", "turn": 1}', '[]', now())"#,
        )
        .await;
    let refused = retry(&queue.pool, JobId(9)).await.unwrap_err();
    assert!(refused.contains("a turn that is finished"), "{refused}");
}

#[tokio::test]
async fn the_dead_jobs_of_a_kind_are_retried_together_and_those_that_cannot_be_are_passed_over() {
    let queue = Queue::new().await;
    let operator = operator(&queue).await;
    let unique = Work {
        unique: Some("one".to_owned()),
        ..work(1)
    };
    let refused = dead(&queue, unique.clone()).await;
    let old = dead(&queue, work(2)).await;
    let wanted = dead(&queue, work(3)).await;
    queue.enqueue(&unique).await;
    query("update queue.history set finished_at = now() - interval '2 hours' where id = $1")
        .bind(old.0)
        .execute(&queue.pool)
        .await
        .unwrap();
    let retried: Vec<i64> =
        query_scalar("select * from ops.retry_failed($1, now() - interval '1 hour')")
            .bind(Work::KIND)
            .fetch_all(&operator)
            .await
            .unwrap();
    assert_eq!(retried, [wanted.0]);
    for id in [refused, old] {
        assert_eq!(queue.past(id).await.unwrap().outcome, "dead");
    }
}

#[tokio::test]
async fn a_waiting_attempt_is_made_now() {
    let queue = Queue::new().await;
    let id = queue.enqueue(&work(1)).await;
    queue
        .execute("update queue.jobs set state = 'scheduled', run_at = now() + interval '1 hour'")
        .await;
    let notes = Notes::default();
    let process = queue
        .remote("worker", &config(), |runtime| {
            runtime.register::<Work, _, _>(noting(&notes))
        })
        .listening()
        .await;
    assert_eq!(retry(&queue.pool, id).await.unwrap(), "ready");
    assert_eq!(queue.ended(id).await.outcome, "done");
    process.stop().await;
}

#[tokio::test]
async fn a_paused_queue_waits_and_goes_on_when_it_is_resumed() {
    let queue = Queue::new().await;
    let operator = operator(&queue).await;
    let notes = Notes::default();
    let process = queue
        .remote("worker", &config(), |runtime| {
            runtime
                .register::<Work, _, _>(noting(&notes))
                .register::<super::support::Eager, _, _>(noting(&notes))
        })
        .listening()
        .await;
    let flip = async |sql: &'static str| -> bool {
        query_scalar(sql)
            .bind(Work::QUEUE)
            .fetch_one(&operator)
            .await
            .unwrap()
    };
    assert!(flip("select ops.pause_queue($1)").await);
    assert!(!flip("select ops.pause_queue($1)").await);
    let id = queue.enqueue(&work(1)).await;
    // A job of another queue that is enqueued later and runs: this one would have, too.
    let talking = queue.talk();
    queue.bus.jobs_ready(Work::QUEUE);
    let other = queue.enqueue(&eager(2)).await;
    queue.ended(other).await;
    let row = query("select paused, ready, running from ops.queues where queue = $1")
        .bind(Work::QUEUE)
        .fetch_one(&operator)
        .await
        .unwrap();
    assert!(row.get::<bool, _>("paused"));
    assert_eq!((row.get::<i64, _>(1), row.get::<i64, _>(2)), (1, 0));
    assert!(flip("select ops.resume_queue($1)").await);
    assert!(!flip("select ops.resume_queue($1)").await);
    queue.ended(id).await;
    assert_eq!(*notes.lock(), [2, 1]);
    talking.stop().await;
    process.stop().await;
}

#[tokio::test]
async fn a_name_that_no_queue_can_have_is_not_paused() {
    let queue = Queue::new().await;
    for name in [Some(""), Some("a queue"), None] {
        let refused = query("select ops.pause_queue($1)")
            .bind(name)
            .execute(&queue.pool)
            .await;
        let refused = refused.unwrap_err().to_string();
        assert!(refused.contains("no name of a queue"), "{refused}");
    }
}

#[tokio::test]
async fn running_and_waiting_jobs_are_cancelled_by_their_workers() {
    let queue = Queue::new().await;
    let operator = operator(&queue).await;
    let started: Notes<i64> = Notes::default();
    let noted = Arc::clone(&started);
    let process = queue
        .remote("worker", &config(), move |runtime| {
            runtime.register::<Work, _, _>(move |job: Work, context: JobContext| {
                noted.lock().push(job.n);
                async move {
                    context.cancelled().await;
                    HandlerResult::Ok(Outcome::Cancelled)
                }
            })
        })
        .listening()
        .await;
    let running = queue.enqueue(&keyed(1)).await;
    let blocked = queue.enqueue(&keyed(2)).await;
    // Never due for a moment: the worker may just be looking.
    let mut tx = queue.pool.begin().await.unwrap();
    let in_an_hour = EnqueueOptions {
        delay: Duration::from_hours(1),
        ..EnqueueOptions::default()
    };
    let later = enqueue_with(&mut tx, &work(3), &in_an_hour)
        .await
        .unwrap()
        .id;
    tx.commit().await.unwrap();
    query("select pg_notify('growth_chat', E'test\\nr')")
        .execute(&queue.pool)
        .await
        .unwrap();
    until("the job runs", async || {
        (*started.lock() == [1]).then_some(())
    })
    .await;
    assert_eq!(cancel(&operator, blocked).await.unwrap(), "blocked");
    assert_eq!(cancel(&operator, later).await.unwrap(), "ready");
    assert_eq!(queue.ended(later).await.outcome, "cancelled");
    assert!(queue.past(blocked).await.is_none());
    assert_eq!(cancel(&operator, running).await.unwrap(), "running");
    for id in [running, blocked] {
        assert_eq!(queue.ended(id).await.outcome, "cancelled");
    }
    process.stop().await;
}

#[tokio::test]
async fn the_operator_sees_every_view_and_no_message() {
    let queue = Queue::new().await;
    let operator = operator(&queue).await;
    queue.enqueue(&keyed(1)).await;
    for view in [
        "queues",
        "jobs",
        "failed_jobs",
        "turns",
        "sessions",
        "handoffs",
    ] {
        let sql = format!("select * from ops.{view}");
        query(AssertSqlSafe(sql))
            .fetch_all(&operator)
            .await
            .unwrap();
    }
    for sql in [
        "select body from messages",
        "select event from turn_events",
        "select output from checkpoint_writes",
        "select page_url from sessions",
        "select lead from handoff_records",
        "select comment from feedback",
        "select payload from queue.jobs",
        "select payload from queue.history",
        "delete from queue.jobs",
        "select queue.bring_back(1)",
        "select ops.grant_operator()",
    ] {
        let refused = query(sql).execute(&operator).await.unwrap_err();
        let refused = refused.as_database_error().unwrap();
        assert_eq!(refused.code().unwrap(), "42501", "{sql}: {refused}");
    }
    let texts: i64 = query_scalar(
        "select count(*) from information_schema.columns
         where table_schema = 'ops' and column_name in ('payload', 'body', 'event', 'content', 'output', 'page_url', 'lead', 'summary',
                                                       'comment', 'secret_hash')
           -- The name of what an endpoint was told.
           and (table_name, column_name) <> ('webhook_attempts', 'event')",
    )
    .fetch_one(&queue.pool)
    .await
    .unwrap();
    assert_eq!(texts, 0);
}

#[tokio::test]
async fn everything_for_operators_says_what_it_is_and_acts_in_a_fixed_search_path() {
    let queue = Queue::new().await;
    let silent: Vec<String> = query_scalar(
        "select 'ops' where obj_description('ops'::regnamespace) is null
         union all
         select relname::text from pg_class
         where relnamespace = 'ops'::regnamespace and relkind in ('v', 'r', 'm')
           and obj_description(oid, 'pg_class') is null
         union all
         select proname::text from pg_proc
         where pronamespace = 'ops'::regnamespace and obj_description(oid, 'pg_proc') is null
         union all
         select rolname::text from pg_roles
         where rolname = 'growth_chat_operator' and shobj_description(oid, 'pg_authid') is null",
    )
    .fetch_all(&queue.pool)
    .await
    .unwrap();
    assert_eq!(silent, Vec::<String>::new());
    let open: Vec<String> = query_scalar(
        "select proname::text from pg_proc
         where pronamespace in ('ops'::regnamespace, 'queue'::regnamespace)
           and (proconfig is null or has_function_privilege('public', oid, 'execute'))",
    )
    .fetch_all(&queue.pool)
    .await
    .unwrap();
    assert_eq!(open, Vec::<String>::new());
}

#[tokio::test]
async fn the_migration_keeps_the_history_that_is_there_and_lets_it_be_retried() {
    let database = TestDatabase::create().await.unwrap();
    let pool = open(database.url()).pool().clone();
    let back = "drop schema ops cascade; drop function queue.bring_back;
                alter table queue.history drop column lease;
                insert into queue.history (id, queue, kind, outcome, priority, attempt, max_attempts,
                                           retry_waits, payload, errors, created_at)
                values (1, 'q', 'k', 'dead', 0, 2, 2, '{1}', '{}',
                        '[{\"attempt\": 2, \"at\": \"2026-01-01\", \"error\": \"why\"}]', now())";
    sqlx::raw_sql(back).execute(&pool).await.unwrap();
    let ours = MIGRATOR.iter().find(|one| one.version == 4).unwrap();
    sqlx::raw_sql(ours.sql.clone())
        .execute(&pool)
        .await
        .unwrap();
    assert_eq!(retry(&pool, JobId(1)).await.unwrap(), "ready");
    let error: String = query_scalar("select last_error from ops.jobs where attempt = 0")
        .fetch_one(&pool)
        .await
        .unwrap();
    assert_eq!(error, "why");
}
