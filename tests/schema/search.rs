//! The way of a database with knowledge in it to the full text search.

use sandbox::postgres::{MIGRATOR, TestDatabase};
use sqlx::{Connection, PgConnection, query, query_scalar};
use store::{db::DatabaseConfig, knowledge::KnowledgeTable};

/// The newest migration before it.
const BEFORE: i64 = 11;

/// A database as the version before left it, with one indexed document.
async fn of_before() -> TestDatabase {
    let database = TestDatabase::create().await.unwrap();
    let mut connection = PgConnection::connect(database.url()).await.unwrap();
    for schema in ["ops", "queue", "public"] {
        let sql = format!("drop schema {schema} cascade");
        query(sqlx::AssertSqlSafe(sql))
            .execute(&mut connection)
            .await
            .unwrap();
    }
    query("create schema public")
        .execute(&mut connection)
        .await
        .unwrap();
    MIGRATOR.run_to(BEFORE, &mut connection).await.unwrap();
    query(
        "with document as (
             insert into knowledge_documents (source, url, title, content, content_hash, indexed_hash)
             values ('a.md', '/a', 'A', 'Text.', 'hash', 'hash') returning document_id)
         insert into knowledge_chunks (document_id, ordinal, content, token_count, content_hash, embedding_model, embedding)
         select document_id, 0, 'Text.', 1, 'hash', 'm', array_fill(1, array[1536])::vector from document",
    )
    .execute(&mut connection)
    .await
    .unwrap();
    connection.close().await.unwrap();
    database
}

#[tokio::test]
async fn chunks_of_before_are_kept_without_words_and_can_be_found() {
    let database = of_before().await;
    let migrated = DatabaseConfig::new(database.url(), 5).open().unwrap();
    migrated.migrate().await.unwrap();
    let mut conn = migrated.pool().acquire().await.unwrap();
    let left: Vec<bool> = query_scalar("select search is null from knowledge_chunks")
        .fetch_all(&mut *conn)
        .await
        .unwrap();
    assert_eq!(left, [true]);
    let found = store::knowledge::search(
        &mut conn,
        &KnowledgeTable::default(),
        store::knowledge::Search {
            embedding: vec![1.0; 1_536],
            model: "m",
            question: "text",
            locale: None,
            nearest: 5,
            texts: 5,
            least_cosine: 0.5,
            ef_search: 40,
            explain: true,
        },
    )
    .await
    .unwrap();
    assert_eq!(found.len(), 1);
    assert_eq!(found[0].vector_rank, Some(1));
    // The previous version goes on writing chunks as it does.
    query(
        "insert into knowledge_chunks (document_id, ordinal, content, token_count, content_hash, embedding_model, embedding)
         select document_id, 1, content, token_count, content_hash, embedding_model, embedding from knowledge_chunks",
    )
    .execute(&mut *conn)
    .await
    .unwrap();
}

#[tokio::test]
async fn an_index_that_is_made_concurrently_does_not_wait_for_those_who_wait_to_migrate() {
    let database = of_before().await;
    let all = (0..4).map(|_| async {
        let one = DatabaseConfig::new(database.url(), 3).open().unwrap();
        one.migrate().await
    });
    for migrated in futures::future::join_all(all).await {
        migrated.unwrap();
    }
    let mut connection = PgConnection::connect(database.url()).await.unwrap();
    let is_valid: bool = query_scalar(
        "select indisvalid from pg_index where indexrelid = 'knowledge_chunks_search'::regclass",
    )
    .fetch_one(&mut connection)
    .await
    .unwrap();
    assert!(is_valid);
}
