//! The knowledge base: documents, the chunks they are cut into, and the search among them.
//!
//! ```text
//!            stage_document                 replace_chunks
//! a source ────────────────▶ staged ──────────────────────▶ indexed ──▶ found by search
//!                              ▲  newer content arrives        │
//!                              └───────────────────────────────┘
//! ```
//!
//! A document stays searchable by its old chunks until the swap, which replaces all of them in one
//! transaction. `knowledge_documents.indexed_hash` is the [`IndexProfile::fingerprint`] of what the
//! chunks were made of and how: another text, model, chunk size or table asks for a new index, but
//! the embeddings of chunks that come out the same are kept.
//!
//! The chunks' table has a name of the operator's choice (`KNOWLEDGE_TABLE_NAME`), so its
//! statements are put together here at run time, from a [`KnowledgeTable`] only.

mod calibration;
mod chunks;
mod documents;
mod embeddings;
mod lexical;
mod overview;
mod pages;
mod search;
mod table;
mod terms;
mod vector_index;

pub use calibration::{
    Calibration, CalibrationState, SearchSettings, calibration_state, corpus_hash, judge,
    publish_settings, published_state, save_calibration,
};
pub use chunks::{ChunkEmbedding, ChunkToStore, StoredChunk, replace_chunks, stored_chunks};
pub use documents::{
    DocumentKind, IndexProfile, NewDocument, Staged, StagedDocument, TextFormat, document_id,
    load_document, remove_documents, remove_vanished, stage_document, staged_sources,
};
pub use embeddings::{forget_embeddings, keep_embeddings, kept_embeddings};
pub use overview::{DocumentSource, KnowledgeOverview, document_sources, knowledge_overview};
pub use pages::{KnownPage, Page, known_pages, remember_page};
pub use search::{Candidate, Search, search};
pub use table::{
    BadTableName, Contents, KnowledgeTable, MAX_DIMENSIONS, OTHER_TABLES, contents, dimensions_of,
    ensure_table,
};
pub use terms::{refresh_terms, refresh_terms_if_stale};
pub use vector_index::postpone_vector_index;

/// The knowledge base could not be read or changed.
#[derive(Debug, thiserror::Error)]
pub enum KnowledgeError {
    /// Vectors longer than an index can hold.
    #[error("{0} dimensions are more than the 2000 that a vector index can hold")]
    TooManyDimensions(u16),
    /// The table holds vectors of another length.
    #[error(
        "the table {table} holds vectors of {found} dimensions and the configuration says {wanted}: \
         set OPENAI_EMBEDDING_DIMENSIONS={found}, or choose another KNOWLEDGE_TABLE_NAME and index again"
    )]
    Dimensions {
        /// The table.
        table: KnowledgeTable,
        /// What it holds.
        found: i32,
        /// What was asked for.
        wanted: u16,
    },
    /// A table of this name exists and is something else.
    #[error(
        "the table {0} exists and is not a table of knowledge chunks: choose another KNOWLEDGE_TABLE_NAME"
    )]
    NotAKnowledgeTable(KnowledgeTable),
    /// The document has newer content, or is gone: what was prepared is of no use.
    #[error("the document was changed or removed meanwhile")]
    Superseded,
    /// Another process changed the document's chunks meanwhile.
    #[error("the document's chunks were changed by another process meanwhile")]
    Conflict,
    /// The database did not do it.
    #[error("the knowledge base's database failed")]
    Database(#[from] sqlx::Error),
}
