//! Migrations while others use the tables.

use std::time::Duration;

use sandbox::postgres::TestDatabase;
use sqlx::{Connection, PgConnection, PgPool, query, query_scalar, raw_sql};
use store::{db::DatabaseConfig, migration::MigrationError};
use tokio::{task::JoinHandle, time::sleep};

use crate::support::PATIENCE;

/// A database that has yet to make the index of 0026, and then the columns of 0027 and later.
async fn of_before() -> (TestDatabase, PgPool) {
    let database = TestDatabase::create().await.unwrap();
    let pool = database.pool().await.unwrap();
    raw_sql(
        "drop index sessions_to_forget;
         alter table privacy_requests drop column addresses;
         delete from _sqlx_migrations where version in (26, 27);",
    )
    .execute(&pool)
    .await
    .unwrap();
    (database, pool)
}

fn migrate(database: &TestDatabase) -> JoinHandle<Result<(), MigrationError>> {
    let config = DatabaseConfig::new(database.url(), 2);
    tokio::spawn(async move { config.open().unwrap().migrate().await })
}

async fn is_so(pool: &PgPool, condition: &'static str) -> bool {
    query_scalar(condition).fetch_one(pool).await.unwrap()
}

/// Waits until a query says so.
async fn until(pool: &PgPool, condition: &'static str) {
    let seen = async {
        while !is_so(pool, condition).await {
            sleep(Duration::from_millis(5)).await;
        }
    };
    tokio::time::timeout(PATIENCE, seen)
        .await
        .unwrap_or_else(|_| panic!("not so in time: {condition}"));
}

#[tokio::test]
async fn whoever_comes_after_a_migration_that_waits_for_a_table_gets_through() {
    let (database, pool) = of_before().await;
    // As pg_dump does, for as long as a backup takes.
    let mut reader = PgConnection::connect(database.url()).await.unwrap();
    let mut reading = reader.begin().await.unwrap();
    query("lock table privacy_requests in access share mode")
        .execute(&mut *reading)
        .await
        .unwrap();
    let migrating = migrate(&database);
    until(
        &pool,
        "select exists (select from pg_locks where relation = 'privacy_requests'::regclass
                        and mode = 'AccessExclusiveLock' and not granted)",
    )
    .await;
    let others = query("select count(*) from privacy_requests").execute(&pool);
    tokio::time::timeout(PATIENCE, others)
        .await
        .expect("everybody waits for as long as the backup takes")
        .unwrap();
    assert!(!migrating.is_finished());
    reading.rollback().await.unwrap();
    migrating.await.unwrap().unwrap();
    query("select addresses from privacy_requests")
        .execute(&pool)
        .await
        .unwrap();
}

const IS_UNFINISHED: &str = "select exists (select from pg_index join pg_class on oid = indexrelid
    where relname = 'sessions_to_forget' and not indisvalid)";
const IS_VALID: &str = "select exists (select from pg_index join pg_class on oid = indexrelid
    where relname = 'sessions_to_forget' and indisvalid)";

#[tokio::test]
async fn an_index_that_was_left_unfinished_is_made_anew() {
    let (database, pool) = of_before().await;
    // Whoever makes an index waits for every older snapshot.
    let mut reader = PgConnection::connect(database.url()).await.unwrap();
    let mut reading = reader.begin().await.unwrap();
    raw_sql("set transaction isolation level repeatable read; select count(*) from sessions")
        .execute(&mut *reading)
        .await
        .unwrap();
    let migrating = migrate(&database);
    until(&pool, IS_UNFINISHED).await;
    query(
        "select pg_terminate_backend(pid) from pg_stat_activity
         where datname = current_database() and query like '%sessions_to_forget on sessions%' and pid <> pg_backend_pid()",
    )
    .execute(&pool)
    .await
    .unwrap();
    migrating.await.unwrap().unwrap_err();
    reading.rollback().await.unwrap();
    assert!(is_so(&pool, IS_UNFINISHED).await);

    migrate(&database).await.unwrap().unwrap();
    assert!(is_so(&pool, IS_VALID).await);
}

#[tokio::test]
async fn an_unfinished_index_that_was_taken_for_a_finished_one_is_made_anew() {
    let database = TestDatabase::create().await.unwrap();
    let pool = database.pool().await.unwrap();
    query(
        "update pg_index set indisvalid = false where indexrelid = 'sessions_to_forget'::regclass",
    )
    .execute(&pool)
    .await
    .unwrap();
    migrate(&database).await.unwrap().unwrap();
    assert!(is_so(&pool, IS_VALID).await);
}

#[tokio::test]
async fn a_version_that_is_rolled_back_to_leaves_a_newer_schema_as_it_is() {
    let database = TestDatabase::create().await.unwrap();
    let pool = database.pool().await.unwrap();
    query(
        "insert into _sqlx_migrations (version, description, success, checksum, execution_time)
         values (9999, 'of a newer version', true, '\\x01', 0)",
    )
    .execute(&pool)
    .await
    .unwrap();
    migrate(&database).await.unwrap().unwrap();
}

#[tokio::test]
async fn a_database_with_other_migrations_is_refused() {
    let database = TestDatabase::create().await.unwrap();
    let pool = database.pool().await.unwrap();
    query("update _sqlx_migrations set checksum = '\\x01' where version = 5")
        .execute(&pool)
        .await
        .unwrap();
    let refused = migrate(&database).await.unwrap().unwrap_err();
    assert_eq!(
        refused.to_string(),
        "migration 5 of the database is not the one of this program"
    );
}
