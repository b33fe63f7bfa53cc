//! Documents: what was brought in, and whether its chunks are of it.

use std::{fmt, str::FromStr};

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use sqlx::PgConnection;

use super::{KnowledgeError, KnowledgeTable};

/// What a document is; decides how a passage may be used.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum DocumentKind {
    /// A page of the site.
    #[default]
    Page,
    /// A customer's story.
    CaseStudy,
    /// Questions and answers.
    Faq,
    /// Documentation.
    Doc,
}

impl DocumentKind {
    /// As it stands in a row.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Page => "page",
            Self::CaseStudy => "case_study",
            Self::Faq => "faq",
            Self::Doc => "doc",
        }
    }
}

impl FromStr for DocumentKind {
    type Err = UnknownKind;

    fn from_str(text: &str) -> Result<Self, UnknownKind> {
        [Self::Page, Self::CaseStudy, Self::Faq, Self::Doc]
            .into_iter()
            .find(|kind| kind.as_str() == text)
            .ok_or(UnknownKind)
    }
}

impl fmt::Display for DocumentKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// Not one of the kinds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a document's kind is page, case_study, faq or doc")]
pub struct UnknownKind;

/// How a document's text is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum TextFormat {
    /// Markdown, perhaps with front matter. What comes from HTML is turned into it.
    Markdown,
    /// Plain text. What comes from a PDF is turned into it.
    Text,
}

impl TextFormat {
    /// As it stands in a row.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Markdown => "markdown",
            Self::Text => "text",
        }
    }

    /// Of a row. One that was written before the column was there tells by its source.
    fn of(format: Option<&str>, source: &str) -> Self {
        let is_text = format.map_or_else(
            || source.to_ascii_lowercase().ends_with(".txt"),
            |format| format == Self::Text.as_str(),
        );
        if is_text { Self::Text } else { Self::Markdown }
    }
}

/// Everything besides a document's text that decides what its chunks are.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct IndexProfile {
    /// The chunks' table.
    pub table: KnowledgeTable,
    /// The embeddings' model.
    pub model: String,
    /// Their length.
    pub dimensions: u16,
    /// The most tokens of a chunk.
    pub chunk_size: usize,
    /// The most tokens that two neighbours share.
    pub chunk_overlap: usize,
    /// The version of the rules by which text is cut.
    pub chunker: u16,
}

impl IndexProfile {
    /// The hash that stands in `indexed_hash` once a text with `content_hash` is indexed this way.
    pub fn fingerprint(&self, content_hash: &[u8]) -> Vec<u8> {
        let profile = format!(
            "{}\n{}\n{}\n{}\n{}\n{}\n",
            self.table,
            self.model,
            self.dimensions,
            self.chunk_size,
            self.chunk_overlap,
            self.chunker
        );
        let hash = Sha256::new()
            .chain_update(profile)
            .chain_update(content_hash);
        hash.finalize().to_vec()
    }
}

/// A document as it is brought in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NewDocument {
    /// What makes it the same document next time.
    pub source: String,
    /// What a citation links to.
    pub url: String,
    /// Its title.
    pub title: String,
    /// What it is.
    pub kind: DocumentKind,
    /// The language of its text: ISO 639-1, or 639-3 where that has none. `None`: not known.
    pub language: Option<String>,
    /// How its text is written.
    pub format: TextFormat,
    /// Its text, front matter included.
    pub content: String,
}

impl NewDocument {
    /// The SHA-256 of the text and of everything else that is said of it: a new title or address of
    /// a page is a change, even if its text stays.
    pub fn content_hash(&self) -> Vec<u8> {
        let mut hash = Sha256::new();
        for part in [
            self.url.as_str(),
            &self.title,
            self.kind.as_str(),
            self.language.as_deref().unwrap_or_default(),
            self.format.as_str(),
            &self.content,
        ] {
            // The lengths keep what moves from one part to the next from looking the same.
            hash.update(part.len().to_le_bytes());
            hash.update(part);
        }
        hash.finalize().to_vec()
    }
}

/// What became of a document that was brought in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Staged {
    /// The document.
    pub document_id: i64,
    /// Its [`NewDocument::content_hash`].
    pub content_hash: Vec<u8>,
    /// Whether its chunks are not (yet) of this text and profile.
    pub needs_index: bool,
}

/// A document as it waits for, or has, its chunks.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StagedDocument {
    /// What makes it the same document next time.
    pub source: String,
    /// Its title.
    pub title: String,
    /// How its text is written.
    pub format: TextFormat,
    /// Its text, front matter included.
    pub content: String,
    /// Its [`NewDocument::content_hash`].
    pub content_hash: Vec<u8>,
    /// The [`IndexProfile::fingerprint`] of what its chunks were made of.
    pub indexed_hash: Option<Vec<u8>>,
}

/// The document of a source, if there is one.
pub async fn document_id(conn: &mut PgConnection, source: &str) -> sqlx::Result<Option<i64>> {
    sqlx::query_scalar!(
        "select document_id from knowledge_documents where source = $1",
        source
    )
    .fetch_optional(conn)
    .await
}

/// The sources below a root that are as `profile` wants them: `(source, content hash)` of each
/// document whose chunks are up to date.
pub async fn staged_sources(
    conn: &mut PgConnection,
    root: &str,
    profile: &IndexProfile,
) -> sqlx::Result<Vec<(String, Vec<u8>)>> {
    let rows = sqlx::query!(
        r#"select source, content_hash, indexed_hash as "indexed_hash!"
           from knowledge_documents
           where starts_with(source, $1) and indexed_hash is not null"#,
        root
    )
    .fetch_all(conn)
    .await?;
    let current = rows
        .into_iter()
        .filter(|row| row.indexed_hash == profile.fingerprint(&row.content_hash))
        .map(|row| (row.source, row.content_hash));
    Ok(current.collect())
}

/// Brings a document in, or its newer text. Its chunks stay what they are.
pub async fn stage_document(
    conn: &mut PgConnection,
    document: &NewDocument,
    profile: &IndexProfile,
) -> sqlx::Result<Staged> {
    let content_hash = document.content_hash();
    let row = sqlx::query!(
        "insert into knowledge_documents as d (source, url, title, kind, content, content_hash, format,
                                               language)
         values ($1, $2, $3, $4, $5, $6, $7, $8)
         on conflict on constraint knowledge_documents_source_key do update
            set url = excluded.url, title = excluded.title, kind = excluded.kind,
                content = excluded.content, content_hash = excluded.content_hash,
                format = excluded.format, language = excluded.language,
                updated_at = case when d.content_hash = excluded.content_hash
                                  then d.updated_at else now() end
         returning document_id, indexed_hash",
        document.source,
        document.url,
        document.title,
        document.kind.as_str(),
        document.content,
        content_hash,
        document.format.as_str(),
        document.language,
    )
    .fetch_one(conn)
    .await?;
    Ok(Staged {
        document_id: row.document_id,
        needs_index: row.indexed_hash != Some(profile.fingerprint(&content_hash)),
        content_hash,
    })
}

/// A document with its text; `None` if it was removed.
pub async fn load_document(
    conn: &mut PgConnection,
    document_id: i64,
) -> Result<Option<StagedDocument>, KnowledgeError> {
    let row = sqlx::query!(
        "select source, title, format, content, content_hash, indexed_hash
         from knowledge_documents where document_id = $1",
        document_id
    )
    .fetch_optional(conn)
    .await?;
    Ok(row.map(|row| StagedDocument {
        format: TextFormat::of(row.format.as_deref(), &row.source),
        source: row.source,
        title: row.title,
        content: row.content,
        content_hash: row.content_hash,
        indexed_hash: row.indexed_hash,
    }))
}

/// Removes the documents below a root, and with them their chunks, whose source is not in `seen`.
/// Gives the sources that were removed, sorted.
pub async fn remove_vanished(
    conn: &mut PgConnection,
    root: &str,
    seen: &[String],
) -> sqlx::Result<Vec<String>> {
    let mut removed = sqlx::query_scalar!(
        "delete from knowledge_documents
         where starts_with(source, $1) and source <> all ($2)
         returning source",
        root,
        seen
    )
    .fetch_all(conn)
    .await?;
    removed.sort_unstable();
    Ok(removed)
}

/// Removes documents, and with them their chunks, by their sources. Gives the sources that were
/// removed, sorted.
pub async fn remove_documents(
    conn: &mut PgConnection,
    sources: &[String],
) -> sqlx::Result<Vec<String>> {
    let mut removed = sqlx::query_scalar!(
        "delete from knowledge_documents where source = any($1) returning source",
        sources
    )
    .fetch_all(conn)
    .await?;
    removed.sort_unstable();
    Ok(removed)
}
