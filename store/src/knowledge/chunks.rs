//! The chunks of one document, and their exchange for newer ones.

use pgvector::Vector;
use serde_json::Value;
use sqlx::{AssertSqlSafe, Connection, FromRow, PgConnection};

use super::{KnowledgeError, KnowledgeTable};

/// How many chunks one statement inserts: with 1,536 dimensions about 1.5 MB.
const INSERT_BATCH: usize = 256;

/// A chunk that is stored, as far as it takes to recognise it.
#[derive(Debug, Clone, PartialEq, Eq, FromRow)]
pub struct StoredChunk {
    /// The chunk.
    pub chunk_id: i64,
    /// Its place in the document, from 0.
    pub ordinal: i32,
    /// SHA-256 of the text that was embedded.
    pub content_hash: Vec<u8>,
}

/// A chunk that is to be stored. Its place in the document is its place in the list.
#[derive(Debug, Clone, PartialEq)]
pub struct ChunkToStore {
    /// The headings above it, outermost first.
    pub heading_path: Vec<String>,
    /// Its text.
    pub content: String,
    /// How many tokens the text has.
    pub token_count: i32,
    /// SHA-256 of the text that was embedded.
    pub content_hash: Vec<u8>,
    /// Where its embedding comes from.
    pub embedding: ChunkEmbedding,
}

/// Where a chunk's embedding comes from.
#[derive(Debug, Clone, PartialEq)]
pub enum ChunkEmbedding {
    /// The stored chunk with this id is the same one; it moves to the new place.
    Kept(i64),
    /// A new embedding.
    New(Vec<f32>),
}

/// A document's chunks that `model` embedded, in order.
pub async fn stored_chunks(
    conn: &mut PgConnection,
    table: &KnowledgeTable,
    document_id: i64,
    model: &str,
) -> sqlx::Result<Vec<StoredChunk>> {
    let sql = format!(
        r#"select chunk_id, ordinal, content_hash from "{table}"
           where document_id = $1 and embedding_model = $2 order by ordinal"#
    );
    sqlx::query_as(AssertSqlSafe(sql))
        .bind(document_id)
        .bind(model)
        .fetch_all(conn)
        .await
}

/// Exchanges all chunks of a document and marks it as indexed, in one transaction.
///
/// Nothing is written and the error is [`KnowledgeError::Superseded`] if the document's text is no
/// longer the one with `content_hash`, [`KnowledgeError::Conflict`] if a chunk that was to be kept
/// is gone.
pub async fn replace_chunks(
    conn: &mut PgConnection,
    table: &KnowledgeTable,
    document_id: i64,
    content_hash: &[u8],
    indexed_hash: &[u8],
    model: &str,
    chunks: &[ChunkToStore],
) -> Result<(), KnowledgeError> {
    let mut tx = conn.begin().await?;
    // The document's row is what two exchanges of the same document wait for.
    let marked = sqlx::query!(
        "update knowledge_documents set indexed_hash = $3, indexed_at = now()
         where document_id = $1 and content_hash = $2",
        document_id,
        content_hash,
        indexed_hash
    )
    .execute(&mut *tx)
    .await?;
    if marked.rows_affected() == 0 {
        return Err(KnowledgeError::Superseded);
    }
    keep(&mut tx, table, document_id, chunks).await?;
    let new: Vec<_> = chunks
        .iter()
        .enumerate()
        .filter_map(|(place, chunk)| match &chunk.embedding {
            ChunkEmbedding::New(embedding) => Some((ordinal(place), chunk, embedding)),
            ChunkEmbedding::Kept(_) => None,
        })
        .collect();
    for batch in new.chunks(INSERT_BATCH) {
        insert(&mut tx, table, document_id, model, batch).await?;
    }
    tx.commit().await?;
    Ok(())
}

/// Deletes what is not kept and moves what is to its new place.
async fn keep(
    conn: &mut PgConnection,
    table: &KnowledgeTable,
    document_id: i64,
    chunks: &[ChunkToStore],
) -> Result<(), KnowledgeError> {
    let (kept, places): (Vec<i64>, Vec<i32>) = chunks
        .iter()
        .enumerate()
        .filter_map(|(place, chunk)| match chunk.embedding {
            ChunkEmbedding::Kept(chunk_id) => Some((chunk_id, ordinal(place))),
            ChunkEmbedding::New(_) => None,
        })
        .unzip();
    let sql = format!(r#"delete from "{table}" where document_id = $1 and chunk_id <> all ($2)"#);
    sqlx::query(AssertSqlSafe(sql))
        .bind(document_id)
        .bind(&kept)
        .execute(&mut *conn)
        .await?;
    // Two chunks may change places: those that move leave theirs first. A chunk that stays is not
    // written, so that its entry in the vector index stays as well.
    let sql = format!(
        r#"update "{table}" c set ordinal = -1 - c.ordinal
           from unnest($2::bigint[], $3::integer[]) as place (chunk_id, ordinal)
           where c.document_id = $1 and c.chunk_id = place.chunk_id and c.ordinal <> place.ordinal"#
    );
    sqlx::query(AssertSqlSafe(sql))
        .bind(document_id)
        .bind(&kept)
        .bind(&places)
        .execute(&mut *conn)
        .await?;
    let sql = format!(
        r#"update "{table}" c set ordinal = place.ordinal
           from unnest($2::bigint[], $3::integer[]) as place (chunk_id, ordinal)
           where c.document_id = $1 and c.chunk_id = place.chunk_id and c.ordinal < 0"#
    );
    sqlx::query(AssertSqlSafe(sql))
        .bind(document_id)
        .bind(&kept)
        .bind(&places)
        .execute(&mut *conn)
        .await?;
    let sql = format!(r#"select count(*) from "{table}" where document_id = $1"#);
    let left: i64 = sqlx::query_scalar(AssertSqlSafe(sql))
        .bind(document_id)
        .fetch_one(conn)
        .await?;
    if usize::try_from(left).ok() == Some(kept.len()) {
        Ok(())
    } else {
        Err(KnowledgeError::Conflict)
    }
}

async fn insert(
    conn: &mut PgConnection,
    table: &KnowledgeTable,
    document_id: i64,
    model: &str,
    batch: &[(i32, &ChunkToStore, &Vec<f32>)],
) -> sqlx::Result<()> {
    let ordinals: Vec<i32> = batch.iter().map(|(ordinal, ..)| *ordinal).collect();
    // An array of arrays would have to be rectangular.
    let heading_paths: Vec<Value> = batch
        .iter()
        .map(|(_, chunk, _)| Value::from(chunk.heading_path.clone()))
        .collect();
    let contents: Vec<&str> = batch
        .iter()
        .map(|(_, chunk, _)| chunk.content.as_str())
        .collect();
    let token_counts: Vec<i32> = batch
        .iter()
        .map(|(_, chunk, _)| chunk.token_count)
        .collect();
    let hashes: Vec<&[u8]> = batch
        .iter()
        .map(|(_, chunk, _)| chunk.content_hash.as_slice())
        .collect();
    let embeddings: Vec<Vector> = batch
        .iter()
        .map(|(.., embedding)| Vector::from((*embedding).clone()))
        .collect();
    let sql = format!(
        r#"insert into "{table}" (document_id, ordinal, heading_path, content, token_count,
                                  content_hash, embedding_model, embedding)
           select $1, ordinal, array(select jsonb_array_elements_text(heading_path)), content,
                  token_count, content_hash, $2, embedding
           from unnest($3::integer[], $4::jsonb[], $5::text[], $6::integer[], $7::bytea[], $8::vector[])
                as new (ordinal, heading_path, content, token_count, content_hash, embedding)"#
    );
    sqlx::query(AssertSqlSafe(sql))
        .bind(document_id)
        .bind(model)
        .bind(&ordinals)
        .bind(&heading_paths)
        .bind(&contents)
        .bind(&token_counts)
        .bind(&hashes)
        .bind(&embeddings)
        .execute(conn)
        .await?;
    Ok(())
}

/// A place as it stands in a row. A document of 5 MB has far fewer chunks than an `i32` can count.
fn ordinal(place: usize) -> i32 {
    i32::try_from(place).unwrap_or(i32::MAX)
}
