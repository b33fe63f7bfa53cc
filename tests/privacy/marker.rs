//! Finds a text wherever a database keeps it.

use sqlx::{PgPool, query_scalar};

/// The tables, of every schema of ours, with a row that has the text in any column: `schema.table: rows`.
pub(super) async fn tables_with(pool: &PgPool, text: &str) -> Vec<String> {
    let tables: Vec<String> = query_scalar(
        "select format('%I.%I', schemaname, tablename) from pg_tables
         where schemaname not in ('pg_catalog', 'information_schema') order by 1",
    )
    .fetch_all(pool)
    .await
    .unwrap();
    assert!(tables.len() > 20, "{tables:?}");
    let mut found = Vec::new();
    for table in tables {
        // What a visitor writes is stored as it is, and inside JSON with escapes: the text has none.
        let statement = format!("select count(*) from {table} t where strpos(t::text, $1) > 0");
        let rows: i64 = query_scalar(sqlx::AssertSqlSafe(statement))
            .bind(text)
            .fetch_one(pool)
            .await
            .unwrap();
        if rows > 0 {
            found.push(format!("{table}: {rows}"));
        }
    }
    found
}
