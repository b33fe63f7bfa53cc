//! The knowledge base's two ways: documents come in ([`ingest`], [`extract`], [`document`], [`chunk`]
//! and the job [`crate::handlers::index_document`]), and passages come out ([`mod@retrieve`]).

mod calibration;
pub mod chunk;
mod crawl;
pub mod document;
mod duplicate;
pub mod extract;
mod front_matter;
pub mod ingest;
mod language;
pub mod rank;
pub mod retrieve;
pub mod tokens;

use sqlx::PgPool;
use store::knowledge::{
    IndexProfile, KnowledgeError, ensure_table, postpone_vector_index, refresh_terms,
};

use crate::{clients::embeddings::Embedder, config::KnowledgeConfig};

pub use rank::{Ranked, SearchMode, Verdict};
pub use retrieve::{Passage, RetrieveError, Retrieved, embed_question, nearest, rank, retrieve};

/// What indexing and retrieval work with. A clone shares the connections.
#[derive(Debug, Clone)]
pub struct KnowledgeDeps {
    /// The database. A connection is never held while the provider is called.
    pub pool: PgPool,
    /// The embeddings.
    pub embedder: Embedder,
    /// How text is cut and searched.
    pub config: KnowledgeConfig,
}

impl KnowledgeDeps {
    /// Makes the chunks' table if need be and checks that it fits the embeddings. To be called once
    /// before anything is indexed or searched.
    pub async fn prepare(&self) -> Result<(), KnowledgeError> {
        let mut conn = self.pool.acquire().await?;
        ensure_table(&mut conn, &self.config.table, self.embedder.dimensions()).await
    }

    /// Leaves the index on the vectors away while an empty table is filled; [`Self::prepare`] brings it
    /// back.
    pub async fn begin_filling(&self) -> Result<(), KnowledgeError> {
        let mut conn = self.pool.acquire().await?;
        let postponed = postpone_vector_index(&mut conn, &self.config.table).await?;
        tracing::debug!(postponed, "looked whether the table of chunks is empty");
        Ok(())
    }

    /// Counts the words of the chunks anew: to be called when many documents have been indexed.
    pub async fn refresh_terms(&self) -> Result<(), KnowledgeError> {
        let mut conn = self.pool.acquire().await?;
        refresh_terms(&mut conn, &self.config.table).await?;
        Ok(())
    }

    /// What, besides a text, decides its chunks.
    pub fn profile(&self) -> IndexProfile {
        IndexProfile {
            table: self.config.table.clone(),
            model: self.embedder.model().to_owned(),
            dimensions: self.embedder.dimensions(),
            chunk_size: self.config.chunk_size,
            chunk_overlap: self.config.chunk_overlap,
            chunker: chunk::VERSION,
        }
    }
}
