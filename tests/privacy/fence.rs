//! Whoever was overtaken changes nothing, and nobody stands in another's way.

use std::time::Duration;

use sandbox::postgres::{MIGRATOR, TestDatabase};
use serde_json::{Value, json};
use sqlx::{Connection, PgPool, query, query_scalar, raw_sql};
use store::{
    bus::Wake,
    ids::SessionId,
    privacy::{
        self, Erased, LedgerEntry, NewEntry, NewRequest, Outside, OutsideState, OutsideSystem,
        RequestedBy, Scope,
    },
};
use tokio::time::{sleep, timeout};

use crate::support::PATIENCE;

async fn database() -> (TestDatabase, PgPool) {
    let database = TestDatabase::create().await.unwrap();
    let pool = database.pool().await.unwrap();
    (database, pool)
}

/// A request with two places outside.
async fn request(pool: &PgPool) -> Vec<Outside> {
    let mut conn = pool.acquire().await.unwrap();
    let new = NewRequest {
        request_id: "r",
        scope: Scope::Person,
        session_id: Some(&"s1".parse().unwrap()),
        email: None,
        requested_by: RequestedBy::Operator,
        waits: false,
    };
    privacy::add(&mut conn, &new).await.unwrap();
    let outside = [1, 2].map(|contact| Outside {
        system: OutsideSystem::Crm,
        reference: json!({"contact": contact}),
        state: OutsideState::Pending,
        error: None,
    });
    query("update privacy_requests set outside = $1")
        .bind(json!(outside))
        .execute(pool)
        .await
        .unwrap();
    outside.into()
}

async fn states(pool: &PgPool) -> Vec<OutsideState> {
    let mut conn = pool.acquire().await.unwrap();
    let request = privacy::by_id(&mut conn, "r").await.unwrap().unwrap();
    request.outside.iter().map(|place| place.state).collect()
}

fn in_state(outside: &Outside, state: OutsideState) -> Outside {
    Outside {
        state,
        ..outside.clone()
    }
}

#[tokio::test]
async fn each_place_is_marked_by_itself_and_what_has_forgotten_stays_so() {
    let (_database, pool) = database().await;
    let outside = request(&pool).await;
    let mut conn = pool.acquire().await.unwrap();
    let done = in_state(&outside[0], OutsideState::Done);
    assert!(
        privacy::mark_outside(&mut conn, "r", 0, &done)
            .await
            .unwrap()
    );
    let remains = in_state(&outside[1], OutsideState::Remains);
    assert!(
        privacy::mark_outside(&mut conn, "r", 1, &remains)
            .await
            .unwrap()
    );
    // Somebody who read it before.
    let late = in_state(&outside[0], OutsideState::Remains);
    assert!(
        !privacy::mark_outside(&mut conn, "r", 0, &late)
            .await
            .unwrap()
    );
    let other = in_state(&outside[0], OutsideState::Done);
    assert!(
        !privacy::mark_outside(&mut conn, "r", 1, &other)
            .await
            .unwrap()
    );
    assert_eq!(
        states(&pool).await,
        [OutsideState::Done, OutsideState::Remains]
    );
}

#[tokio::test]
async fn a_request_is_finished_once_and_not_before_everybody_outside_was_asked() {
    let (_database, pool) = database().await;
    let outside = request(&pool).await;
    let mut conn = pool.acquire().await.unwrap();
    let finish = async |conn: &mut sqlx::PgConnection| {
        let receipt = json!({"text": "done"});
        privacy::finish(conn, "r", &receipt).await.unwrap()
    };
    assert!(!finish(&mut conn).await);
    for (place, it) in outside.iter().enumerate() {
        let done = in_state(it, OutsideState::Done);
        privacy::mark_outside(&mut conn, "r", place, &done)
            .await
            .unwrap();
    }
    assert!(finish(&mut conn).await);
    assert!(!finish(&mut conn).await);
    assert!(!privacy::lock(&mut conn, "r").await.unwrap());
    let late = in_state(&outside[0], OutsideState::Pending);
    assert!(
        !privacy::mark_outside(&mut conn, "r", 0, &late)
            .await
            .unwrap()
    );
}

fn entry<'a>(session: Option<&'a SessionId>, erased: &'a Erased) -> NewEntry<'a> {
    NewEntry {
        entry_id: "r",
        scope: Scope::Conversation,
        session_id: session,
        email_hash: None,
        requested_by: RequestedBy::Operator,
        requested_at: None,
        erased,
    }
}

#[tokio::test]
async fn an_entry_that_grew_while_it_was_put_into_the_bucket_is_not_kept() {
    let (_database, pool) = database().await;
    let mut conn = pool.acquire().await.unwrap();
    let (one, two): (SessionId, SessionId) = ("s1".parse().unwrap(), "s2".parse().unwrap());
    let nothing = Erased::default();
    privacy::add_entry(&mut conn, &entry(Some(&one), &nothing))
        .await
        .unwrap();
    let read = privacy::entry(&mut conn, "r").await.unwrap().unwrap();
    privacy::add_entry(&mut conn, &entry(Some(&two), &nothing))
        .await
        .unwrap();
    assert!(!privacy::keep_entry(&mut conn, &read).await.unwrap());
    assert_eq!(privacy::unkept(&mut conn, "", 10).await.unwrap(), ["r"]);
    let read = privacy::entry(&mut conn, "r").await.unwrap().unwrap();
    assert!(privacy::keep_entry(&mut conn, &read).await.unwrap());
    // Nothing new: it stays kept.
    privacy::add_entry(&mut conn, &entry(Some(&two), &nothing))
        .await
        .unwrap();
    assert!(privacy::unkept(&mut conn, "", 10).await.unwrap().is_empty());
}

#[tokio::test]
async fn the_wider_of_two_records_is_believed() {
    let (_database, pool) = database().await;
    let mut conn = pool.acquire().await.unwrap();
    let one: SessionId = "s1".parse().unwrap();
    privacy::add_entry(&mut conn, &entry(Some(&one), &Erased::default()))
        .await
        .unwrap();
    let here = privacy::entry(&mut conn, "r").await.unwrap().unwrap();
    let in_the_bucket = LedgerEntry {
        scope: Scope::Person,
        session_ids: vec!["s2".to_owned()],
        ..here.clone()
    };
    for entry in [&in_the_bucket, &here] {
        privacy::put_back_entry(&mut conn, entry).await.unwrap();
    }
    let put_back = privacy::entry(&mut conn, "r").await.unwrap().unwrap();
    assert_eq!(put_back.scope, Scope::Person);
    assert_eq!(put_back.session_ids, ["s1", "s2"]);
    // The bucket's have less.
    assert!(!put_back.kept);
}

#[tokio::test]
async fn an_erasure_and_retention_take_their_rows_in_the_same_order() {
    let (_database, pool) = database().await;
    raw_sql(
        "insert into sessions (session_id, status, closed_at, termination_type)
         values ('s1', 'closed', now() - interval '200 days', 'visitor_closed');
         insert into messages (session_id, message_id, turn, role, body) values ('s1', 'm', 1, 'user', 'x')",
    )
    .execute(&pool)
    .await
    .unwrap();
    let mut retention = pool.begin().await.unwrap();
    query("select from sessions where session_id = 's1' for no key update")
        .execute(&mut *retention)
        .await
        .unwrap();
    let erasing = tokio::spawn({
        let pool = pool.clone();
        async move {
            let mut transaction = pool.begin().await?;
            let id: SessionId = "s1".parse().unwrap();
            let after = &mut Wake::default();
            jobs::erase_session(&mut transaction, &id, Scope::Conversation, after).await?;
            transaction.commit().await
        }
    });
    let waits = async {
        let waits = "select exists (select from pg_stat_activity
                                    where datname = current_database() and wait_event_type = 'Lock')";
        while !query_scalar::<_, bool>(waits)
            .fetch_one(&pool)
            .await
            .unwrap()
        {
            sleep(Duration::from_millis(5)).await;
        }
    };
    timeout(PATIENCE, waits).await.expect("nobody waits");
    query("delete from messages where session_id = 's1'")
        .execute(&mut *retention)
        .await
        .unwrap();
    retention.commit().await.unwrap();
    erasing.await.unwrap().unwrap();
}

#[tokio::test]
async fn a_database_of_before_an_erasure_was_done_forgets_the_address_of_the_wish() {
    let (_database, pool) = database().await;
    raw_sql(
        "insert into privacy_requests (request_id, scope, email, requested_by, status, addresses)
         values ('done', 'person', 'ann@example.com', 'operator', 'pending', '{\"h\": \"ann@example.com\"}'),
                ('open', 'person', 'bob@example.com', 'operator', 'pending', '{}');
         insert into erasure_ledger (entry_id, scope, session_ids, requested_by, erased, done)
         values ('done', 'person', '{}', 'operator', '{}', true), ('open', 'person', '{}', 'operator', '{}', false)",
    )
    .execute(&pool)
    .await
    .unwrap();
    let mut conn = pool.acquire().await.unwrap();
    privacy::forget_addresses(&mut conn).await.unwrap();
    let rows: Vec<(String, Option<String>, Value)> =
        sqlx::query_as("select status, email, addresses from privacy_requests order by request_id")
            .fetch_all(&pool)
            .await
            .unwrap();
    assert_eq!(
        rows,
        [
            ("done".to_owned(), None, json!({})),
            (
                "pending".to_owned(),
                Some("bob@example.com".to_owned()),
                json!({})
            )
        ]
    );
}

#[tokio::test]
async fn requests_and_records_of_before_are_shown_as_what_they_are() {
    let database = TestDatabase::create().await.unwrap();
    let mut conn = sqlx::PgConnection::connect(database.url()).await.unwrap();
    raw_sql("drop schema ops cascade; drop schema queue cascade; drop schema public cascade; create schema public")
        .execute(&mut conn)
        .await
        .unwrap();
    MIGRATOR.run_to(28, &mut conn).await.unwrap();
    raw_sql(
        "insert into privacy_requests (request_id, scope, session_id, requested_by, status, finished_at)
         values ('done', 'person', 's1', 'operator', 'done', now()), ('open', 'person', 's2', 'operator', 'pending', null);
         insert into erasure_ledger (entry_id, scope, session_ids, requested_by, erased, kept_at)
         values ('done', 'person', '{s1}', 'operator', '{}', now())",
    )
    .execute(&mut conn)
    .await
    .unwrap();
    MIGRATOR.run(&mut conn).await.unwrap();
    let rows: Vec<(String, Option<bool>, Option<String>)> = sqlx::query_as(
        "select request_id, record_kept, problem from ops.privacy_requests order by request_id",
    )
    .fetch_all(&mut conn)
    .await
    .unwrap();
    assert_eq!(
        rows,
        [
            ("done".to_owned(), Some(true), None),
            ("open".to_owned(), None, None)
        ]
    );
    let entry = privacy::entry(&mut conn, "done").await.unwrap().unwrap();
    assert_eq!(entry.until(), entry.erased_at);
    assert!(entry.kept && !entry.done);
}
