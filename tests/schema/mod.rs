//! What the schema promises to whoever builds on it: names, keys, and a safe way to it.

mod search;
mod while_running;

use std::collections::BTreeSet;

use sandbox::postgres::{MIGRATOR, TestDatabase};
use sqlx::{PgPool, Row, query, query_scalar};
use store::knowledge::{KnowledgeTable, OTHER_TABLES, TextFormat, document_id, load_document};

/// The tables of a session: each can be distributed by `session_id`.
const OF_A_SESSION: [&str; 13] = [
    "sessions",
    "turns",
    "messages",
    "checkpoints",
    "checkpoint_writes",
    "turn_events",
    "model_calls",
    "spend_reservations",
    "handoff_records",
    "handoff_deliveries",
    "handoff_attempts",
    "handoff_told",
    "feedback",
];

async fn migrated() -> (TestDatabase, PgPool) {
    let database = TestDatabase::create().await.unwrap();
    let pool = database.pool().await.unwrap();
    (database, pool)
}

/// `(table, constraint, columns)` of the constraints of some types below `public` and `queue`.
async fn constraints(pool: &PgPool, types: &str) -> Vec<(String, String, Vec<String>)> {
    query(
        "select c.conrelid::regclass::text, c.conname::text,
                array(select a.attname::text from unnest(c.conkey) with ordinality k (number, at)
                      join pg_attribute a on a.attrelid = c.conrelid and a.attnum = k.number order by k.at)
         from pg_constraint c
         join pg_namespace n on n.oid = c.connamespace
         where n.nspname in ('public', 'queue') and position(c.contype in $1) > 0",
    )
    .bind(types)
    .fetch_all(pool)
    .await
    .unwrap()
    .into_iter()
    .map(|row| (row.get(0), row.get(1), row.get(2)))
    .collect()
}

#[tokio::test]
async fn every_key_of_a_sessions_table_starts_with_the_session() {
    let (_database, pool) = migrated().await;
    let keys = constraints(&pool, "puf").await;
    let mut seen = BTreeSet::new();
    for (table, name, columns) in &keys {
        if OF_A_SESSION.contains(&table.as_str()) {
            assert_eq!(columns[0], "session_id", "{name} of {table}");
            seen.insert(table.as_str());
        }
    }
    assert_eq!(seen, BTreeSet::from(OF_A_SESSION));
    let unique_indexes: Vec<String> = query_scalar(
        "select i.indexrelid::regclass::text from pg_index i
         join pg_attribute a on a.attrelid = i.indrelid and a.attnum = i.indkey[0]
         where i.indisunique and i.indrelid::regclass::text = any($1) and a.attname <> 'session_id'",
    )
    .bind(OF_A_SESSION.map(str::to_owned).to_vec())
    .fetch_all(&pool)
    .await
    .unwrap();
    assert_eq!(unique_indexes, Vec::<String>::new());
}

#[tokio::test]
async fn the_queue_has_no_foreign_keys_and_nothing_refers_to_it_by_one() {
    let (_database, pool) = migrated().await;
    let touching: i64 = query_scalar(
        "select count(*) from pg_constraint c
         where c.contype = 'f'
           and 'queue'::regnamespace in ((select relnamespace from pg_class where oid = c.conrelid),
                                         (select relnamespace from pg_class where oid = c.confrelid))",
    )
    .fetch_one(&pool)
    .await
    .unwrap();
    assert_eq!(touching, 0);
}

#[tokio::test]
async fn every_constraint_was_given_its_name() {
    let (_database, pool) = migrated().await;
    for (table, name, _) in constraints(&pool, "pufc").await {
        if table == "_sqlx_migrations" {
            continue;
        }
        let bare = table.trim_start_matches("queue.");
        assert!(
            name.starts_with(bare),
            "{name} of {table} does not name its table"
        );
        // What Postgres makes up for a check that has no name.
        assert!(
            !name.ends_with("_check") && !name.ends_with("_check1"),
            "{name} of {table}"
        );
    }
}

#[tokio::test]
async fn the_chunks_are_indexed_as_the_product_promises() {
    let (_database, pool) = migrated().await;
    let definition: String =
        query_scalar("select pg_get_indexdef('knowledge_chunks_embedding'::regclass)")
            .fetch_one(&pool)
            .await
            .unwrap();
    assert!(
        definition.contains("USING hnsw (embedding vector_cosine_ops)"),
        "{definition}"
    );
    assert!(
        definition.contains("m='16'") && definition.contains("ef_construction='64'"),
        "{definition}"
    );
}

#[tokio::test]
async fn no_table_of_something_else_can_be_named_as_the_one_of_the_chunks() {
    let (_database, pool) = migrated().await;
    let tables: Vec<String> = query_scalar(
        "select relname::text from pg_class
         where relnamespace = 'public'::regnamespace and relkind in ('r', 'p') order by 1",
    )
    .fetch_all(&pool)
    .await
    .unwrap();
    let mut known = OTHER_TABLES.map(str::to_owned).to_vec();
    known.push(KnowledgeTable::default().to_string());
    known.sort();
    assert_eq!(tables, known);
    for table in OTHER_TABLES {
        assert!(table.parse::<KnowledgeTable>().is_err(), "{table}");
    }
}

#[tokio::test]
async fn migrations_can_be_repeated_and_run_by_several_processes_at_once() {
    let (_database, pool) = migrated().await;
    query("insert into sessions (session_id) values ('kept')")
        .execute(&pool)
        .await
        .unwrap();
    let all = (0..4).map(|_| async { MIGRATOR.run(&pool).await });
    for migrated in futures::future::join_all(all).await {
        migrated.unwrap();
    }
    let applied: i64 = query_scalar("select count(*) from _sqlx_migrations where success")
        .fetch_one(&pool)
        .await
        .unwrap();
    assert_eq!(usize::try_from(applied).unwrap(), MIGRATOR.iter().count());
    let kept: i64 = query_scalar("select count(*) from sessions")
        .fetch_one(&pool)
        .await
        .unwrap();
    assert_eq!(kept, 1);
}

#[tokio::test]
async fn a_session_that_is_deleted_takes_what_belongs_to_it_along() {
    let (_database, pool) = migrated().await;
    for statement in [
        "insert into sessions (session_id) values ('s')",
        "insert into turns (session_id, turn, message_id, answer_id) values ('s', 1, 'm', 'a')",
        "insert into messages (session_id, message_id, turn, role, body) values ('s', 'm', 1, 'user', 'x')",
        "insert into checkpoints (session_id, turn, state) values ('s', 1, '{}')",
        "insert into checkpoint_writes (session_id, turn, step, attempt, output) values ('s', 1, 'retrieved', 1, '{}')",
        "delete from sessions where session_id = 's'",
    ] {
        query(statement).execute(&pool).await.unwrap();
    }
    for table in ["turns", "messages", "checkpoints", "checkpoint_writes"] {
        let left: i64 = query_scalar(sqlx::AssertSqlSafe(format!("select count(*) from {table}")))
            .fetch_one(&pool)
            .await
            .unwrap();
        assert_eq!(left, 0, "{table}");
    }
}

#[tokio::test]
async fn every_constraint_was_held_to_the_rows_of_before_as_well() {
    let (_database, pool) = migrated().await;
    let unproved: Vec<String> =
        query_scalar("select conname::text from pg_constraint where not convalidated")
            .fetch_all(&pool)
            .await
            .unwrap();
    assert_eq!(unproved, Vec::<String>::new());
}

#[tokio::test]
async fn open_sessions_have_an_index_that_no_turn_has_to_change() {
    let (_database, pool) = migrated().await;
    // One that was not finished would be passed over, and never made again.
    let valid: bool = query_scalar(
        "select indisvalid from pg_index where indexrelid = 'sessions_open'::regclass",
    )
    .fetch_one(&pool)
    .await
    .unwrap();
    assert!(valid);
    let of: Vec<String> = query_scalar(
        "select a.attname::text from pg_attribute a where a.attrelid = 'sessions_open'::regclass",
    )
    .fetch_all(&pool)
    .await
    .unwrap();
    assert_eq!(of, ["session_id"]);
}

#[tokio::test]
async fn documents_from_before_formats_and_pages_stay_what_they_are() {
    let (_database, pool) = migrated().await;
    // Back to the version before; what it had is put in place, and the migration applied again.
    let ours = MIGRATOR.iter().find(|one| one.version == 11).unwrap();
    sqlx::raw_sql(
        "drop table knowledge_pages, knowledge_embeddings;
         alter table knowledge_documents drop column format, drop column language;
         insert into knowledge_documents (source, url, title, content, content_hash, indexed_hash)
         values ('k/a.md', 'a.md', 'A', '# A', '\\x01', '\\x02'), ('k/B.TXT', 'B.TXT', 'B', '# B', '\\x03', null);",
    )
    .execute(&pool)
    .await
    .unwrap();
    sqlx::raw_sql(ours.sql.clone())
        .execute(&pool)
        .await
        .unwrap();
    // The previous version goes on writing.
    query(
        "insert into knowledge_documents (source, url, title, content, content_hash)
         values ('k/c.md', 'c.md', 'C', '# C', '\\x04')",
    )
    .execute(&pool)
    .await
    .unwrap();
    let mut conn = pool.acquire().await.unwrap();
    for (source, format) in [
        ("k/a.md", TextFormat::Markdown),
        ("k/B.TXT", TextFormat::Text),
        ("k/c.md", TextFormat::Markdown),
    ] {
        let id = document_id(&mut conn, source).await.unwrap().unwrap();
        let document = load_document(&mut conn, id).await.unwrap().unwrap();
        assert_eq!(document.format, format, "{source}");
    }
    let refused =
        query("update knowledge_documents set language = 'German' where source = 'k/a.md'");
    let refused = refused.execute(&pool).await.unwrap_err();
    let constraint = refused
        .as_database_error()
        .and_then(|error| error.constraint());
    assert_eq!(constraint, Some("knowledge_documents_language_form"));
}

#[tokio::test]
async fn sessions_and_turns_from_before_people_spoke_stay_what_they_are() {
    let (_database, pool) = migrated().await;
    // Back to the version before; what it had is put in place, and the migration applied again.
    let ours = MIGRATOR.iter().find(|one| one.version == 20).unwrap();
    sqlx::raw_sql(
        "drop view ops.agents;
         drop table slack_inbound, slack_people;
         alter table sessions drop constraint sessions_agent_whole, drop column agent, drop column agent_id,
             drop column agent_since, drop column agent_typing_until;
         alter table turns drop constraint turns_status_known, drop constraint turns_finished_has_time;
         alter table turns add constraint turns_status_known check
             (status in ('queued', 'running', 'answered', 'cancelled', 'failed')),
             add constraint turns_finished_has_time check
             ((status in ('answered', 'cancelled', 'failed')) = (finished_at is not null));
         insert into sessions (session_id, last_turn) values ('s', 2);
         insert into turns (session_id, turn, message_id, answer_id, status, finished_at)
         values ('s', 1, 'm1', 'a1', 'answered', now()), ('s', 2, 'm2', 'a2', 'queued', null);",
    )
    .execute(&pool)
    .await
    .unwrap();
    sqlx::raw_sql(ours.sql.clone())
        .execute(&pool)
        .await
        .unwrap();
    // The previous version goes on writing.
    query("update turns set status = 'cancelled', finished_at = now() where turn = 2")
        .execute(&pool)
        .await
        .unwrap();
    let nobody: i64 = query_scalar("select count(*) from sessions where agent is null")
        .fetch_one(&pool)
        .await
        .unwrap();
    assert_eq!(nobody, 1);
    for refused in [
        "update turns set status = 'relayed', finished_at = null where turn = 1",
        "update sessions set agent = 'Ada'",
    ] {
        assert!(query(refused).execute(&pool).await.is_err(), "{refused}");
    }
    query("update turns set status = 'relayed' where turn = 1")
        .execute(&pool)
        .await
        .unwrap();
}
