//! The index on the vectors, and its absence while an empty table is filled.
//!
//! A row costs an HNSW index several times as much when it is inserted by itself as when the index is
//! built over all of them, by several workers and in memory. So whoever fills an empty table may drop
//! the index first. Until it is built again a search reads all vectors, which is right and slow;
//! [`super::ensure_table`] builds it, whoever calls that next.

use std::time::Duration;

use sqlx::{AssertSqlSafe, Connection, PgConnection};

use super::KnowledgeTable;

/// Taken by everyone who makes or changes a chunks' table.
pub(super) const LOCK: &str = "growth-chat knowledge table";

/// How long to wait for searches that are under way, before it is left as it is.
const PATIENCE: Duration = Duration::from_secs(2);
/// The most memory that is asked for to build the index, in bytes: about 80,000 chunks of 1,536
/// dimensions. What does not fit is inserted row by row.
const MOST_MEMORY: i64 = 512 * 1024 * 1024;

/// Drops the index on the vectors of an empty table. False: it was left as it is, because there are
/// rows, or somebody uses the table.
pub async fn postpone_vector_index(
    conn: &mut PgConnection,
    table: &KnowledgeTable,
) -> sqlx::Result<bool> {
    let mut tx = conn.begin().await?;
    sqlx::query!(
        "select pg_advisory_xact_lock(hashtextextended($1, 0)),
                set_config('lock_timeout', $2, true)",
        LOCK,
        PATIENCE.as_millis().to_string(),
    )
    .fetch_one(&mut *tx)
    .await?;
    let sql = format!(r#"lock table "{table}" in access exclusive mode"#);
    match sqlx::query(AssertSqlSafe(sql)).execute(&mut *tx).await {
        Ok(_) => {}
        Err(error) if is_lock_timeout(&error) => return Ok(false),
        Err(error) => return Err(error),
    }
    let sql = format!(r#"select exists (select 1 from "{table}")"#);
    let has_rows: bool = sqlx::query_scalar(AssertSqlSafe(sql))
        .fetch_one(&mut *tx)
        .await?;
    if has_rows {
        return Ok(false);
    }
    let sql = format!(r#"drop index if exists "{table}_embedding""#);
    sqlx::query(AssertSqlSafe(sql)).execute(&mut *tx).await?;
    tx.commit().await?;
    Ok(true)
}

/// Builds the index unless it is there. Whoever writes to the table waits meanwhile.
pub(super) async fn build(
    tx: &mut PgConnection,
    table: &KnowledgeTable,
    dimensions: u16,
) -> sqlx::Result<()> {
    let sql = format!(
        r#"create index if not exists "{table}_embedding" on "{table}"
               using hnsw (embedding vector_cosine_ops) with (m = 16, ef_construction = 64)"#
    );
    let rows = format!(r#"select count(*) from "{table}""#);
    let rows: i64 = sqlx::query_scalar(AssertSqlSafe(rows))
        .fetch_one(&mut *tx)
        .await?;
    // A vector, its neighbours, and what the allocator adds.
    let wanted = rows.saturating_mul(i64::from(dimensions) * 4 + 1_024);
    let mut attempt = tx.begin().await?;
    sqlx::query!(
        "select set_config('maintenance_work_mem',
                           greatest(pg_size_bytes(current_setting('maintenance_work_mem')), $1) / 1024 || 'kB', true)",
        wanted.min(MOST_MEMORY),
    )
    .fetch_one(&mut *attempt)
    .await?;
    let built = sqlx::query(AssertSqlSafe(sql.clone()))
        .execute(&mut *attempt)
        .await;
    match built {
        Ok(_) => attempt.commit().await,
        // A container may have less shared memory than that: then with what its operator has set.
        Err(sqlx::Error::Database(error)) if is_out_of_memory(error.code().as_deref()) => {
            attempt.rollback().await?;
            sqlx::query(AssertSqlSafe(sql)).execute(tx).await?;
            Ok(())
        }
        Err(error) => Err(error),
    }
}

/// `insufficient_resources`: disk full (which is what shared memory says), out of memory.
fn is_out_of_memory(code: Option<&str>) -> bool {
    code.is_some_and(|code| code.starts_with("53"))
}

fn is_lock_timeout(error: &sqlx::Error) -> bool {
    // `lock_not_available`
    error
        .as_database_error()
        .is_some_and(|error| error.code().as_deref() == Some("55P03"))
}
