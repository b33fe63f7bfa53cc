//! Brings documents in: each one that is new or changed is staged together with the job that indexes
//! it, in one transaction. So an interrupted call has lost nothing, and the next one goes on where it
//! stopped.
//!
//! ```text
//! files ── walk ──┐
//!                 ├─▶ read, or extract (HTML, PDF) ─▶ NewDocument ─▶ staged + job ─▶ indexed
//! site  ── crawl ─┘
//! ```

mod files;
mod site;
mod skip;
mod walk;

use std::path::PathBuf;

use jobs::{JobId, JobKind, QueueError, catalog::KnowledgeIndexDocument, enqueue, lock_serial_key};
use sqlx::PgPool;
use store::{
    bus::Bus,
    knowledge::{IndexProfile, NewDocument, document_id, stage_document},
};
use tokio::sync::mpsc;

pub use self::{
    site::CrawlOptions,
    skip::{SkipReason, Skipped},
    walk::MAX_FILE_BYTES,
};
use super::extract::Extractor;
use crate::hex::hex;

/// How many documents are read and staged at once.
const AT_ONCE: usize = 4;

/// The documents could not be brought in; those before are.
#[derive(Debug, thiserror::Error)]
pub enum IngestError {
    /// The database did not do it.
    #[error("the knowledge base's database failed")]
    Database(#[from] sqlx::Error),
    /// The job could not be enqueued.
    #[error("the document's job could not be enqueued")]
    Queue(#[from] QueueError),
    /// The walk through the folder did not end well.
    #[error("the folder could not be read")]
    Walk(#[from] tokio::task::JoinError),
}

/// A document that is to be indexed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StagedFile {
    /// Its source.
    pub source: String,
    /// The job that indexes it.
    pub job: JobId,
}

/// What happens while documents are brought in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Progress {
    /// A file or a page was looked at, whatever came of it.
    Looked,
    /// A document is to be indexed.
    Staged(StagedFile),
}

/// What was found.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct StageSummary {
    /// New or changed documents, by source.
    pub staged: Vec<StagedFile>,
    /// How many documents were indexed already.
    pub unchanged: usize,
    /// Sources of documents that are gone, and were removed.
    pub removed: Vec<String>,
    /// What was left out, wholly or in part.
    pub skipped: Vec<Skipped>,
}

impl StageSummary {
    /// Whether something was left out that somebody should look at.
    pub fn has_errors(&self) -> bool {
        self.skipped.iter().any(|skipped| skipped.reason.is_error())
    }

    /// Adds what was found elsewhere.
    pub fn append(&mut self, other: Self) {
        self.staged.extend(other.staged);
        self.unchanged += other.unchanged;
        self.removed.extend(other.removed);
        self.skipped.extend(other.skipped);
    }

    fn skip(&mut self, what: impl Into<String>, reason: SkipReason) {
        self.skipped.push(Skipped {
            what: what.into(),
            reason,
        });
    }

    /// Adds what became of a document.
    fn add(&mut self, source: String, job: Option<JobId>) {
        match job {
            Some(job) => self.staged.push(StagedFile { source, job }),
            None => self.unchanged += 1,
        }
    }
}

/// Brings documents into one knowledge base. A clone does the same.
#[derive(Debug, Clone)]
pub struct Ingest {
    pool: PgPool,
    bus: Bus,
    profile: IndexProfile,
    extractor: Extractor,
    progress: Option<mpsc::Sender<Progress>>,
}

impl Ingest {
    /// Documents are to be indexed as `profile` says.
    pub fn new(pool: PgPool, bus: Bus, profile: IndexProfile, extractor: Extractor) -> Self {
        Self {
            pool,
            bus,
            profile,
            extractor,
            progress: None,
        }
    }

    /// Tells what happens to somebody, and goes as fast as it is listened to.
    #[must_use]
    pub fn telling(self, progress: mpsc::Sender<Progress>) -> Self {
        Self {
            progress: Some(progress),
            ..self
        }
    }

    async fn tell(&self, progress: Progress) {
        if let Some(sender) = &self.progress {
            // Nobody listens any more at a shutdown.
            let _ = sender.send(progress).await;
        }
    }

    /// Stages one document and enqueues its job; `None` if it is indexed already.
    async fn stage(&self, document: &NewDocument) -> Result<Option<JobId>, IngestError> {
        let job = stage(&self.pool, &self.bus, &self.profile, document).await?;
        if let Some(job) = job {
            let source = document.source.clone();
            self.tell(Progress::Staged(StagedFile { source, job }))
                .await;
        }
        Ok(job)
    }
}

/// Stages everything below `paths`, reading HTML and PDF in threads of this process.
pub async fn stage_paths(
    pool: &PgPool,
    bus: &Bus,
    profile: &IndexProfile,
    paths: &[PathBuf],
) -> Result<StageSummary, IngestError> {
    let extractor = Extractor::of_threads();
    Ingest::new(pool.clone(), bus.clone(), profile.clone(), extractor)
        .paths(paths)
        .await
}

/// Stages one document and enqueues its job; `None` if it is indexed already.
pub async fn stage(
    pool: &PgPool,
    bus: &Bus,
    profile: &IndexProfile,
    document: &NewDocument,
) -> Result<Option<JobId>, IngestError> {
    let mut tx = pool.begin().await?;
    // The queue's rule: a serial key's lock before any row. A new document has no job to wait for.
    if let Some(document_id) = document_id(&mut tx, &document.source).await? {
        let job = KnowledgeIndexDocument {
            document_id,
            content_hash: String::new(),
        };
        if let Some(key) = job.serial_key() {
            lock_serial_key(&mut tx, &key).await?;
        }
    }
    let staged = stage_document(&mut tx, document, profile).await?;
    let job = if staged.needs_index {
        let job = KnowledgeIndexDocument {
            document_id: staged.document_id,
            content_hash: hex(&staged.content_hash),
        };
        Some(enqueue(&mut tx, &job).await?.id)
    } else {
        None
    };
    tx.commit().await?;
    if job.is_some() {
        bus.jobs_ready(KnowledgeIndexDocument::QUEUE);
    }
    Ok(job)
}
