//! `knowledge.index_document`: cuts a staged document into chunks, embeds those that are new, and
//! exchanges them for the old ones.
//!
//! ```text
//! load ──▶ cut ──▶ what is stored or kept? ──▶ embed the rest ──▶ exchange and mark, in one transaction
//!   │                                          └ keep each answer      └ the same once more
//!   └ gone or newer text: superseded (its own job indexes it)
//!   └ already indexed this way: unchanged
//! ```
//!
//! No connection is held while the provider is called. Run twice, it finds its own work done. What the
//! provider has answered is kept before the next request, so that whoever goes on after a crash pays
//! at most for one request again.

use std::collections::{HashMap, HashSet};

use jobs::{JobError, Outcome, Runtime, catalog::KnowledgeIndexDocument};
use store::knowledge::{
    ChunkEmbedding, ChunkToStore, KnowledgeError, StoredChunk, forget_embeddings, keep_embeddings,
    kept_embeddings, load_document, refresh_terms_if_stale, replace_chunks, stored_chunks,
};

use crate::{
    clients::{ProviderError, RetryClass, embeddings::Embedder},
    hex::hex,
    knowledge::{
        KnowledgeDeps,
        chunk::{Chunk, ChunkSizes, chunks},
        document::body,
    },
};

/// Has `runtime` run the jobs of this kind.
pub fn register(runtime: Runtime, deps: &KnowledgeDeps) -> Runtime {
    let deps = deps.clone();
    runtime.register(move |job: KnowledgeIndexDocument, _context| {
        let deps = deps.clone();
        async move {
            let outcome = index_document(&deps, &job).await?;
            tracing::info!(
                document_id = job.document_id,
                ?outcome,
                "indexed a document"
            );
            Ok(Outcome::Done)
        }
    })
}

/// What became of the document.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum IndexOutcome {
    /// Its chunks are those of its text now.
    Indexed {
        /// How many chunks it has.
        chunks: usize,
        /// How many of them were embedded; the others were kept.
        embedded: usize,
        /// The tokens that the embeddings are billed for.
        tokens: u64,
    },
    /// They were so already.
    Unchanged,
    /// It has newer text, which another job indexes, or is gone.
    Superseded,
}

/// The document could not be indexed; its old chunks stand.
#[derive(Debug, thiserror::Error)]
pub enum IndexError {
    /// Its chunks could not be embedded.
    #[error("the document's chunks could not be embedded")]
    Embedding(#[from] ProviderError),
    /// It could not be loaded or stored.
    #[error("the document could not be loaded or stored")]
    Store(#[from] KnowledgeError),
    /// Cutting it did not end well.
    #[error("the document could not be cut into chunks")]
    Chunking(#[source] tokio::task::JoinError),
}

impl IndexError {
    /// Whether another attempt may succeed.
    pub fn retry(&self) -> RetryClass {
        match self {
            Self::Embedding(error) => error.retry(),
            Self::Store(KnowledgeError::Database(_) | KnowledgeError::Conflict) => {
                RetryClass::LATER
            }
            Self::Store(_) | Self::Chunking(_) => RetryClass::Never,
        }
    }
}

impl From<sqlx::Error> for IndexError {
    fn from(error: sqlx::Error) -> Self {
        Self::Store(error.into())
    }
}

impl From<IndexError> for JobError {
    fn from(error: IndexError) -> Self {
        let retry = error.retry().into();
        let reason = match error {
            // A database's message can quote a row.
            IndexError::Store(KnowledgeError::Database(source)) => return source.into(),
            IndexError::Embedding(source) => format!("the chunks could not be embedded: {source}"),
            IndexError::Store(source) => format!("the chunks could not be stored: {source}"),
            error @ IndexError::Chunking(_) => error.to_string(),
        };
        Self { retry, reason }
    }
}

/// Indexes the document that the job names.
pub async fn index_document(
    deps: &KnowledgeDeps,
    job: &KnowledgeIndexDocument,
) -> Result<IndexOutcome, IndexError> {
    let document = {
        let mut conn = deps.pool.acquire().await?;
        load_document(&mut conn, job.document_id).await?
    };
    let Some(document) =
        document.filter(|document| hex(&document.content_hash) == job.content_hash)
    else {
        return Ok(IndexOutcome::Superseded);
    };
    let fingerprint = deps.profile().fingerprint(&document.content_hash);
    if document.indexed_hash.as_ref() == Some(&fingerprint) {
        return Ok(IndexOutcome::Unchanged);
    }

    let sizes = ChunkSizes {
        size: deps.config.chunk_size,
        overlap: deps.config.chunk_overlap,
    };
    let content_hash = document.content_hash;
    // Some hundred milliseconds for a large document: too long for a thread that serves others.
    let cut = tokio::task::spawn_blocking(move || {
        let text = body(document.format, &document.content);
        chunks(&document.title, document.format, text, sizes)
    })
    .await
    .map_err(IndexError::Chunking)?;

    let stored = {
        let mut conn = deps.pool.acquire().await?;
        let model = deps.embedder.model();
        stored_chunks(&mut conn, &deps.config.table, job.document_id, model).await?
    };
    let kept = match_stored(&cut, stored);
    let new: Vec<&Chunk> = cut
        .iter()
        .zip(&kept)
        .filter(|(_, kept)| kept.is_none())
        .map(|(chunk, _)| chunk)
        .collect();
    let embedded = embed(deps, &new).await?;
    let outcome = IndexOutcome::Indexed {
        chunks: cut.len(),
        embedded: embedded.paid_for,
        tokens: embedded.tokens,
    };
    let hashes: Vec<[u8; 32]> = embedded.vectors.keys().copied().collect();

    let to_store: Vec<ChunkToStore> = cut
        .into_iter()
        .zip(kept)
        .map(|(chunk, kept)| ChunkToStore {
            heading_path: chunk.heading_path,
            content: chunk.content,
            token_count: i32::try_from(chunk.token_count).unwrap_or(i32::MAX),
            content_hash: chunk.content_hash.to_vec(),
            embedding: match kept {
                Some(chunk_id) => ChunkEmbedding::Kept(chunk_id),
                None => ChunkEmbedding::New(
                    // Each new chunk's hash was embedded; two chunks may share one.
                    embedded
                        .vectors
                        .get(&chunk.content_hash)
                        .cloned()
                        .unwrap_or_default(),
                ),
            },
        })
        .collect();
    let mut conn = deps.pool.acquire().await?;
    let exchanged = replace_chunks(
        &mut conn,
        &deps.config.table,
        job.document_id,
        &content_hash,
        &fingerprint,
        deps.embedder.model(),
        &to_store,
    )
    .await;
    match exchanged {
        Ok(()) => {
            // Not before: what is forgotten has to be stored. What a failure leaves here is pruned.
            let (model, dimensions) = (deps.embedder.model(), deps.embedder.dimensions());
            let forgotten = forget_embeddings(&mut conn, model, dimensions, &hashes).await;
            // The document is indexed, whatever becomes of the rest.
            if let Err(error) = forgotten {
                tracing::warn!(%error, "embeddings that are in use were not forgotten");
            }
            if let Err(error) = refresh_terms_if_stale(&mut conn, &deps.config.table).await {
                tracing::warn!(%error, "the terms of the chunks were not counted");
            }
            Ok(outcome)
        }
        Err(KnowledgeError::Superseded) => Ok(IndexOutcome::Superseded),
        Err(error) => Err(error.into()),
    }
}

/// The embeddings of new chunks.
#[derive(Debug, Default)]
struct NewEmbeddings {
    /// By the hash of what was embedded.
    vectors: HashMap<[u8; 32], Vec<f32>>,
    /// How many of them are on this attempt's bill, and with how many tokens.
    paid_for: usize,
    tokens: u64,
}

/// Embeds chunks, each text once, except those that an interrupted attempt has paid for. The requests
/// go one after the other, and what each brought is kept before the next.
async fn embed(deps: &KnowledgeDeps, chunks: &[&Chunk]) -> Result<NewEmbeddings, IndexError> {
    let (model, dimensions) = (deps.embedder.model(), deps.embedder.dimensions());
    let mut seen = HashSet::new();
    let mut wanted: Vec<&Chunk> = chunks
        .iter()
        .copied()
        .filter(|chunk| seen.insert(chunk.content_hash))
        .collect();
    if wanted.is_empty() {
        return Ok(NewEmbeddings::default());
    }
    let hashes: Vec<[u8; 32]> = wanted.iter().map(|chunk| chunk.content_hash).collect();
    let mut new = NewEmbeddings {
        vectors: {
            let mut conn = deps.pool.acquire().await?;
            kept_embeddings(&mut conn, model, dimensions, &hashes).await?
        },
        ..NewEmbeddings::default()
    };
    wanted.retain(|chunk| !new.vectors.contains_key(&chunk.content_hash));
    let texts: Vec<&str> = wanted
        .iter()
        .map(|chunk| chunk.embedded_text.as_str())
        .collect();
    for request in Embedder::requests(&texts) {
        let embedded = deps.embedder.embed(&texts[request.clone()]).await?;
        let hashes = wanted[request].iter().map(|chunk| chunk.content_hash);
        let brought: Vec<([u8; 32], Vec<f32>)> = hashes.zip(embedded.vectors).collect();
        let mut conn = deps.pool.acquire().await?;
        keep_embeddings(&mut conn, model, dimensions, &brought).await?;
        drop(conn);
        new.paid_for += brought.len();
        new.tokens += embedded.tokens;
        new.vectors.extend(brought);
    }
    Ok(new)
}

/// For each chunk the stored one with the same embedded text, each used once; among several the one
/// in the same place, so that as few rows as possible move.
fn match_stored(cut: &[Chunk], stored: Vec<StoredChunk>) -> Vec<Option<i64>> {
    let mut by_hash: HashMap<Vec<u8>, Vec<(i32, i64)>> = HashMap::new();
    for chunk in stored {
        by_hash
            .entry(chunk.content_hash)
            .or_default()
            .push((chunk.ordinal, chunk.chunk_id));
    }
    let mut take = |chunk: &Chunk, place: Option<usize>| {
        let same = by_hash.get_mut(chunk.content_hash.as_slice())?;
        let position = same.iter().position(|(ordinal, _)| {
            place.is_none_or(|place| usize::try_from(*ordinal).ok() == Some(place))
        })?;
        Some(same.swap_remove(position).1)
    };
    let in_place: Vec<Option<i64>> = cut
        .iter()
        .enumerate()
        .map(|(place, chunk)| take(chunk, Some(place)))
        .collect();
    cut.iter()
        .zip(in_place)
        .map(|(chunk, kept)| kept.or_else(|| take(chunk, None)))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn chunk(hash: u8) -> Chunk {
        Chunk {
            heading_path: Vec::new(),
            content: String::new(),
            token_count: 0,
            embedded_text: String::new(),
            content_hash: [hash; 32],
        }
    }

    fn stored(chunk_id: i64, ordinal: i32, hash: u8) -> StoredChunk {
        StoredChunk {
            chunk_id,
            ordinal,
            content_hash: vec![hash; 32],
        }
    }

    #[test]
    fn a_stored_chunk_is_kept_once_and_in_its_place_if_it_can_be() {
        let cut = [chunk(1), chunk(2), chunk(1), chunk(1), chunk(3)];
        let stored = vec![
            stored(10, 2, 1),
            stored(11, 0, 2),
            stored(12, 9, 1),
            stored(13, 1, 4),
        ];
        assert_eq!(
            match_stored(&cut, stored),
            [Some(12), Some(11), Some(10), None, None]
        );
    }
}
