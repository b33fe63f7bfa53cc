//! Embeddings that are paid for and that no chunk has yet.
//!
//! ```text
//! the provider answers ──▶ keep_embeddings ──▶ replace_chunks ──▶ forget_embeddings
//!                              │ killed here: the next attempt finds them
//! ```
//!
//! They are found by what was embedded (the SHA-256 of the text), the model and the length, so that
//! they are right whoever made them. Those that nobody came for go with the nightly pruning.

use std::collections::HashMap;

use pgvector::Vector;
use sqlx::PgConnection;

/// Those of `hashes` that were embedded before, by hash.
pub async fn kept_embeddings(
    conn: &mut PgConnection,
    model: &str,
    dimensions: u16,
    hashes: &[[u8; 32]],
) -> sqlx::Result<HashMap<[u8; 32], Vec<f32>>> {
    let hashes: Vec<&[u8]> = hashes.iter().map(<[u8; 32]>::as_slice).collect();
    let rows = sqlx::query!(
        r#"select content_hash, embedding as "embedding: Vector" from knowledge_embeddings
           where model = $1 and dimensions = $2 and content_hash = any($3)"#,
        model,
        i32::from(dimensions),
        hashes.as_slice() as _,
    )
    .fetch_all(conn)
    .await?;
    Ok(rows
        .into_iter()
        .filter_map(|row| {
            let hash = row.content_hash.try_into().ok()?;
            Some((hash, row.embedding.to_vec()))
        })
        .collect())
}

/// Keeps embeddings: `(hash of the text, vector of so many dimensions)`.
pub async fn keep_embeddings(
    conn: &mut PgConnection,
    model: &str,
    dimensions: u16,
    embeddings: &[([u8; 32], Vec<f32>)],
) -> sqlx::Result<()> {
    let (hashes, vectors): (Vec<&[u8]>, Vec<Vector>) = embeddings
        .iter()
        .map(|(hash, vector)| (hash.as_slice(), Vector::from(vector.clone())))
        .unzip();
    sqlx::query!(
        "insert into knowledge_embeddings (content_hash, model, dimensions, embedding)
         select content_hash, $1, $2, embedding
         from unnest($3::bytea[], $4::vector[]) as new (content_hash, embedding)
         on conflict on constraint knowledge_embeddings_pkey do nothing",
        model,
        i32::from(dimensions),
        hashes.as_slice() as _,
        vectors.as_slice() as _,
    )
    .execute(conn)
    .await?;
    Ok(())
}

/// Forgets embeddings whose chunks are stored now.
pub async fn forget_embeddings(
    conn: &mut PgConnection,
    model: &str,
    dimensions: u16,
    hashes: &[[u8; 32]],
) -> sqlx::Result<()> {
    let hashes: Vec<&[u8]> = hashes.iter().map(<[u8; 32]>::as_slice).collect();
    sqlx::query!(
        "delete from knowledge_embeddings
         where model = $1 and dimensions = $2 and content_hash = any($3)",
        model,
        i32::from(dimensions),
        hashes.as_slice() as _,
    )
    .execute(conn)
    .await?;
    Ok(())
}
