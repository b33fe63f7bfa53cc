//! The search: the chunks whose embeddings are nearest to a question's.

use pgvector::Vector;
use sqlx::{AssertSqlSafe, FromRow, PgConnection};

use super::{DocumentKind, KnowledgeError, KnowledgeTable};

/// What is searched for.
#[derive(Debug, Clone, PartialEq)]
pub struct Search<'s> {
    /// The question's embedding.
    pub embedding: Vec<f32>,
    /// The model that made it: vectors of two models can't be compared.
    pub model: &'s str,
    /// The most chunks to find.
    pub top_k: u16,
    /// The least cosine similarity, 0 to 1.
    pub threshold: f64,
    /// How many neighbours the index looks at; at least `top_k` are.
    pub ef_search: u16,
}

/// A chunk that was found.
#[derive(Debug, Clone, PartialEq)]
pub struct FoundChunk {
    /// The chunk.
    pub chunk_id: i64,
    /// Its document's url.
    pub url: String,
    /// Its document's title.
    pub title: String,
    /// What its document is.
    pub kind: DocumentKind,
    /// The headings above it, outermost first.
    pub heading_path: Vec<String>,
    /// Its text.
    pub content: String,
    /// The cosine similarity to the question.
    pub cosine: f64,
}

#[derive(FromRow)]
struct Row {
    chunk_id: i64,
    url: String,
    title: String,
    kind: String,
    heading_path: Vec<String>,
    content: String,
    cosine: f64,
}

/// Finds the nearest chunks at or over the threshold, the nearest first. One round trip.
///
/// The index's settings are made by the statement itself, local to its transaction. The scan can't
/// begin before them because it stands in a lateral subquery that refers to them. The threshold is
/// held against the `top_k` that were found and not inside the scan, where an iterative scan would
/// look for more of what isn't there. A vector of zeros has no direction: its distance to anything
/// is not a number, which is over every limit, so that nothing is found.
pub async fn search(
    conn: &mut PgConnection,
    table: &KnowledgeTable,
    search: Search<'_>,
) -> Result<Vec<FoundChunk>, KnowledgeError> {
    let sql = format!(
        r#"select c.chunk_id, d.url, d.title, d.kind, c.heading_path, c.content, 1 - c.distance as cosine
           from (select set_config('hnsw.ef_search', $4, true) as ef_search,
                        set_config('hnsw.iterative_scan', 'strict_order', true) as iterative_scan) s
           cross join lateral (
               select chunk_id, document_id, heading_path, content, embedding <=> $1 as distance
               from "{table}"
               where embedding_model = $2 and s.ef_search is not null and s.iterative_scan is not null
               order by embedding <=> $1
               limit $3) c
           join knowledge_documents d using (document_id)
           where c.distance <= 1 - $5::float8
           order by c.distance, c.chunk_id"#
    );
    let ef_search = search.ef_search.max(search.top_k);
    let rows: Vec<Row> = sqlx::query_as(AssertSqlSafe(sql))
        .bind(Vector::from(search.embedding))
        .bind(search.model)
        .bind(i64::from(search.top_k))
        .bind(ef_search.to_string())
        .bind(search.threshold)
        .fetch_all(conn)
        .await?;
    Ok(rows
        .into_iter()
        .map(|row| FoundChunk {
            chunk_id: row.chunk_id,
            url: row.url,
            title: row.title,
            // The column's check keeps other values out.
            kind: row.kind.parse().unwrap_or_default(),
            heading_path: row.heading_path,
            content: row.content,
            cosine: row.cosine,
        })
        .collect())
}
