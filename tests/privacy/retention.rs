//! `retention.sweep` and `growth-chat retention`.

use sandbox::postgres::TestDatabase;
use serde_json::{Value, json};
use sqlx::{PgPool, query, query_scalar, raw_sql};
use store::retention::{BATCH_SESSIONS, BATCH_TURNS, forget_batch};
use workers::retention::{Pace, RetentionDeps};

use super::marker::tables_with;
use crate::support::TestSystem;

const MARKER: &str = "forget-me-XQJ";

/// A closed session with something in every table that holds texts.
async fn conversation(pool: &PgPool, id: &str, closed_days_ago: Option<i32>) {
    let text = r#"
        insert into sessions (session_id, status, closed_at, termination_type, page_url, locale, last_turn)
        select $id, case when $days is null then 'open' else 'closed' end,
               now() - make_interval(days => $days, mins => 1),
               case when $days is null then null else 'visitor_closed' end,
               'https://x.example/?forget-me-XQJ', 'de', 1;
        insert into turns (session_id, turn, status, message_id, answer_id, finished_at)
        values ($id, 1, 'answered', 'm', 'a', now());
        insert into messages (session_id, message_id, turn, role, body)
        values ($id, 'm', 1, 'user', 'forget-me-XQJ'), ($id, 'a', 1, 'assistant', 'forget-me-XQJ');
        insert into checkpoints (session_id, turn, state) values ($id, 1, '{"summary": {"text": "forget-me-XQJ"}}');
        insert into checkpoint_writes (session_id, turn, attempt, step, output)
        values ($id, 1, 1, 'called.1', '{"blocks": ["forget-me-XQJ"]}');
        insert into turn_events (session_id, turn, attempt, seq, event, created_at)
        values ($id, 1, 1, 1, '{"delta": "forget-me-XQJ"}', now() - interval '25 hours'),
               ($id, 1, 1, 2, '{"delta": "young"}', now() - interval '23 hours');
        insert into feedback (session_id, turn, rating, comment) values ($id, 1, 'up', 'forget-me-XQJ');
        insert into handoff_records (session_id, handoff_id, trigger, summary)
        values ($id, 'h-' || $id, 'contact_form', 'kept');
    "#;
    let days = closed_days_ago.map_or("null::int".to_owned(), |days| days.to_string());
    let text = text
        .replace("$id", &format!("'{id}'"))
        .replace("$days", &days);
    raw_sql(sqlx::AssertSqlSafe(text))
        .execute(pool)
        .await
        .unwrap();
}

async fn sweep(pool: &PgPool, days: i32) -> store::retention::Gone {
    let deps = RetentionDeps {
        pool: pool.clone(),
        days,
    };
    let (gone, finished) = deps.sweep(None, Pace::Alone).await.unwrap();
    assert!(finished);
    gone
}

#[tokio::test]
async fn a_session_that_was_closed_long_ago_loses_its_texts_and_keeps_its_handoff() {
    let database = TestDatabase::create().await.unwrap();
    let pool = PgPool::connect(database.url()).await.unwrap();
    conversation(&pool, "old", Some(90)).await;
    let gone = sweep(&pool, 90).await;
    assert_eq!((gone.sessions, gone.messages, gone.checkpoints), (1, 2, 1));
    assert_eq!(
        (gone.checkpoint_writes, gone.turn_events, gone.feedback),
        (1, 2, 1)
    );
    assert_eq!(tables_with(&pool, MARKER).await, Vec::<String>::new());
    let kept: i64 = query_scalar("select count(*) from handoff_records where summary = 'kept'")
        .fetch_one(&pool)
        .await
        .unwrap();
    assert_eq!(kept, 1);
    assert_eq!(sweep(&pool, 90).await, store::retention::Gone::default());
}

#[tokio::test]
async fn a_session_that_is_open_or_was_closed_lately_keeps_everything_but_old_frames() {
    let database = TestDatabase::create().await.unwrap();
    let pool = PgPool::connect(database.url()).await.unwrap();
    conversation(&pool, "open", None).await;
    conversation(&pool, "lately", Some(89)).await;
    let gone = sweep(&pool, 90).await;
    assert_eq!((gone.sessions, gone.messages, gone.turn_events), (0, 0, 2));
    let frames: Vec<String> = query_scalar("select event::text from turn_events")
        .fetch_all(&pool)
        .await
        .unwrap();
    assert_eq!(frames, [r#"{"delta": "young"}"#; 2]);
    let messages: i64 = query_scalar("select count(*) from messages")
        .fetch_one(&pool)
        .await
        .unwrap();
    assert_eq!(messages, 4);
}

#[tokio::test]
async fn old_frames_go_in_the_end_however_little_of_them_a_run_has_time_for() {
    let database = TestDatabase::create().await.unwrap();
    let pool = PgPool::connect(database.url()).await.unwrap();
    conversation(&pool, "open", None).await;
    query(
        "insert into turn_events (session_id, turn, attempt, seq, event, created_at)
         select 'open', 1, 1, seq, jsonb_build_object('delta', repeat(md5(seq::text), 50)), now() - interval '25 hours'
         from generate_series(10, 2000) seq",
    )
    .execute(&pool)
    .await
    .unwrap();
    let mut runs = Vec::new();
    while runs.iter().sum::<i64>() < 1_992 {
        let told = |deleted| runs.push(deleted);
        let over = Some(tokio::time::Instant::now());
        let ended = store::retention::forget_old_events(&pool, over, 0, told).await;
        assert!(!ended.unwrap());
        assert!(runs.len() < 1_000, "{runs:?}");
    }
    let of_the_first = runs[0];
    assert!(of_the_first < 1_992, "one run had time for all of them");
}

#[tokio::test]
async fn a_session_that_somebody_has_locked_is_passed_over_and_comes_later() {
    let database = TestDatabase::create().await.unwrap();
    let pool = PgPool::connect(database.url()).await.unwrap();
    for id in ["a", "b"] {
        conversation(&pool, id, Some(200)).await;
    }
    let mut holder = pool.begin().await.unwrap();
    query("select 1 from sessions where session_id = 'a' for update")
        .execute(&mut *holder)
        .await
        .unwrap();
    assert_eq!(sweep(&pool, 90).await.sessions, 1);
    holder.rollback().await.unwrap();
    assert_eq!(sweep(&pool, 90).await.sessions, 1);
}

#[tokio::test]
async fn a_session_with_more_turns_than_a_batch_has_room_for_goes_alone() {
    let database = TestDatabase::create().await.unwrap();
    let pool = PgPool::connect(database.url()).await.unwrap();
    for id in ["a", "b", "c"] {
        conversation(&pool, id, Some(200)).await;
    }
    query("update sessions set last_turn = 5000 where session_id = 'a'")
        .execute(&pool)
        .await
        .unwrap();
    for together in [1, 2, 0] {
        let gone = forget_batch(&pool, 90, BATCH_SESSIONS, BATCH_TURNS).await;
        assert_eq!(gone.unwrap().sessions, together);
    }
}

#[tokio::test]
async fn a_dry_run_says_what_would_go_and_changes_nothing() {
    let system = TestSystem::new().await;
    let pool = system.pool().await;
    conversation(&pool, "old", Some(100)).await;
    conversation(&pool, "young", Some(10)).await;
    let before = tables_with(&pool, MARKER).await;
    let said = system.run(&["retention", "--dry-run", "--json"]).await;
    assert!(said.status.success(), "{said:?}");
    let said: Value = serde_json::from_slice(&said.stdout).unwrap();
    assert_eq!(
        (&said["days"], &said["dry_run"]),
        (&json!(90), &json!(true))
    );
    let rows = &said["rows"];
    assert_eq!(
        (&rows["sessions"], &rows["messages"]),
        (&json!(1), &json!(2))
    );
    // Those of the old session, and the old one of the young session.
    assert_eq!(rows["turn_events"], 3);
    assert_eq!(tables_with(&pool, MARKER).await, before);

    let said = system.run(&["retention"]).await;
    let text = String::from_utf8(said.stdout).unwrap();
    assert!(
        text.starts_with("1 session forgotten, closed more than 90 days ago\n"),
        "{text}"
    );
}

#[tokio::test]
async fn retention_days_out_of_range_are_refused_by_name() {
    let mut system = TestSystem::new().await;
    system.set("RETENTION_DAYS", "0");
    let said = system.run(&["retention"]).await;
    assert_eq!(said.status.code(), Some(2));
    let text = String::from_utf8(said.stderr).unwrap();
    assert!(text.contains("RETENTION_DAYS"), "{text}");
}

#[tokio::test]
async fn a_worker_writes_down_how_long_texts_are_kept_for_whoever_restores_the_database() {
    let system = TestSystem::new().await;
    let pool = system.pool().await;
    assert_eq!(store::retention::load_days(&pool).await.unwrap(), None);
    for days in [365, 30] {
        let _worker = system
            .worker_with(&[("RETENTION_DAYS", &days.to_string())])
            .await;
        let told = async {
            while store::retention::load_days(&pool).await.unwrap() != Some(days) {
                tokio::time::sleep(std::time::Duration::from_millis(20)).await;
            }
        };
        tokio::time::timeout(crate::support::PATIENCE, told)
            .await
            .expect("the worker does not write it down");
    }
}
