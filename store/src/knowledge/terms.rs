//! How often terms stand in the chunks: what makes a rare word of a question count for more.
//!
//! Postgres ranks a text by how often it has a word, and knows nothing of how many texts have it. So
//! the terms of a table are counted now and then, in a sample of bounded size: the common ones come
//! out well, and one that is not in the sample is rare, which is all that has to be known of it. The
//! count is renewed when the table has grown by half, and at the end of every run of the indexing.

use sqlx::{AssertSqlSafe, Connection, PgConnection};

use super::{KnowledgeTable, lexical};

/// The most chunks that are counted, about.
const SAMPLE: i64 = 10_000;
/// The most languages in which a question is read, besides as it is written.
const MOST_LANGUAGES: usize = 4;
/// With the table's name: taken by whoever counts.
const LOCK: &str = "growth-chat knowledge terms of ";

/// Counts the terms of a table's chunks again if there are many more chunks than the last time.
pub async fn refresh_terms_if_stale(
    conn: &mut PgConnection,
    table: &KnowledgeTable,
) -> sqlx::Result<()> {
    let sql = format!(r#"select max(chunk_id) from "{table}""#);
    let newest: Option<i64> = sqlx::query_scalar(AssertSqlSafe(sql))
        .fetch_one(&mut *conn)
        .await?;
    let is_fresh = sqlx::query_scalar!(
        r#"select ($2 - last_chunk_id) * 2 <= chunks as "is_fresh!"
           from knowledge_corpora where table_name = $1"#,
        table.as_str(),
        newest.unwrap_or_default()
    )
    .fetch_optional(&mut *conn)
    .await?;
    if is_fresh == Some(true) {
        Ok(())
    } else {
        refresh_terms(conn, table).await
    }
}

/// Counts the terms of a table's chunks. Does nothing while somebody else does.
pub async fn refresh_terms(conn: &mut PgConnection, table: &KnowledgeTable) -> sqlx::Result<()> {
    let mut tx = conn.begin().await?;
    let alone = sqlx::query_scalar!(
        r#"select pg_try_advisory_xact_lock(hashtextextended($1, 0)) as "alone!""#,
        format!("{LOCK}{table}")
    )
    .fetch_one(&mut *tx)
    .await?;
    if !alone {
        return Ok(());
    }
    let sql = format!(r#"select count(*), coalesce(max(chunk_id), 0) from "{table}""#);
    let (chunks, last_chunk_id): (i64, i64) = sqlx::query_as(AssertSqlSafe(sql))
        .fetch_one(&mut *tx)
        .await?;
    let sample = sample(table, chunks);
    let sql = format!("select count(*) from {sample}");
    let sampled: i64 = sqlx::query_scalar(AssertSqlSafe(sql))
        .fetch_one(&mut *tx)
        .await?;
    sqlx::query!(
        r#"with counted as materialized (
               select word as term, ndoc * ($3::bigint::float8 / greatest($4::bigint, 1)) as chunks
               from ts_stat($2) where ndoc > 1
           ), gone as (
               delete from knowledge_terms t where t.table_name = $1
                   and not exists (select from counted c where c.term = t.term)
           )
           insert into knowledge_terms as t (table_name, term, chunks)
           select $1, term, chunks from counted
           on conflict (table_name, term) do update set chunks = excluded.chunks
               where t.chunks <> excluded.chunks"#,
        table.as_str(),
        format!("select search from {sample}"),
        chunks,
        sampled,
    )
    .execute(&mut *tx)
    .await?;
    let configurations = configurations(&mut tx, table).await?;
    sqlx::query!(
        "insert into knowledge_corpora (table_name, chunks, sampled, last_chunk_id, configurations)
         values ($1, $2, $3, $4, $5)
         on conflict (table_name) do update
         set chunks = excluded.chunks, sampled = excluded.sampled, last_chunk_id = excluded.last_chunk_id,
             configurations = excluded.configurations, refreshed_at = now()",
        table.as_str(),
        chunks,
        sampled,
        last_chunk_id,
        &configurations,
    )
    .execute(&mut *tx)
    .await?;
    tx.commit().await
}

/// The chunks that are counted, as they stand behind `from`: whole pages of the table, always the same.
fn sample(table: &KnowledgeTable, chunks: i64) -> String {
    if chunks <= SAMPLE {
        format!(r#""{table}" where search is not null"#)
    } else {
        format!(
            r#""{table}" tablesample system ({SAMPLE} * 100.0 / {chunks}) repeatable (0)
               where search is not null"#
        )
    }
}

/// The configurations in which a question has to be read: those of the commonest languages.
async fn configurations(
    conn: &mut PgConnection,
    table: &KnowledgeTable,
) -> sqlx::Result<Vec<String>> {
    let sql = format!(
        r#"select search_configuration from knowledge_documents d
           where search_configuration is not null
             and exists (select from "{table}" c where c.document_id = d.document_id)
           group by search_configuration order by count(*) desc, search_configuration"#
    );
    let used: Vec<String> = sqlx::query_scalar(AssertSqlSafe(sql))
        .fetch_all(conn)
        .await?;
    let languages = used.into_iter().filter(|one| one != lexical::SIMPLE);
    Ok(languages
        .take(MOST_LANGUAGES)
        .chain([lexical::SIMPLE.to_owned()])
        .collect())
}
