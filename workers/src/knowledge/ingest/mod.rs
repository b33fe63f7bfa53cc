//! Brings files in: each one that is new or changed is staged together with the job that indexes it,
//! in one transaction. So an interrupted call has lost nothing, and the next one goes on where it
//! stopped.
//!
//! This is the seam for pages that are crawled and for other formats: they make [`NewDocument`]s
//! as well and stage them by [`stage`].

mod walk;

use std::{
    collections::HashMap,
    path::{Path, PathBuf},
};

use jobs::{JobId, JobKind, QueueError, catalog::KnowledgeIndexDocument, enqueue, lock_serial_key};
use sqlx::PgPool;
use store::{
    bus::Bus,
    knowledge::{
        IndexProfile, NewDocument, document_id, remove_vanished, stage_document, staged_sources,
    },
};

use self::walk::{Found, Root};
pub use self::walk::{MAX_FILE_BYTES, SkipReason, Skipped};
use super::document::describe;
use crate::handlers::index_document::hex;

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

/// What was found.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct StageSummary {
    /// New or changed documents, by path.
    pub staged: Vec<StagedFile>,
    /// How many documents were indexed already.
    pub unchanged: usize,
    /// Sources of documents that are gone, and were removed.
    pub removed: Vec<String>,
    /// What was left out.
    pub skipped: Vec<Skipped>,
}

impl StageSummary {
    /// Whether something was left out that somebody should look at.
    pub fn has_errors(&self) -> bool {
        self.skipped.iter().any(|skipped| skipped.reason.is_error())
    }
}

/// Stages everything below `paths` (folders or files) that is not indexed as `profile` says, and
/// removes what is gone from a folder that could be read completely.
pub async fn stage_paths(
    pool: &PgPool,
    bus: &Bus,
    profile: &IndexProfile,
    paths: &[PathBuf],
) -> Result<StageSummary, IngestError> {
    let mut summary = StageSummary::default();
    let mut roots: Vec<Root> = Vec::new();
    for path in paths {
        match Root::open(path) {
            Ok(root) if roots.iter().any(|other| other.collides(&root)) => {
                summary.skip(path, SkipReason::SameName);
            }
            Ok(root) => roots.push(root),
            Err(reason) => summary.skip(path, reason),
        }
    }
    for root in roots {
        stage_root(pool, bus, profile, root, &mut summary).await?;
    }
    Ok(summary)
}

impl StageSummary {
    fn skip(&mut self, path: &Path, reason: SkipReason) {
        self.skipped.push(Skipped {
            path: path.to_owned(),
            reason,
        });
    }
}

async fn stage_root(
    pool: &PgPool,
    bus: &Bus,
    profile: &IndexProfile,
    root: Root,
    summary: &mut StageSummary,
) -> Result<(), IngestError> {
    let walked = root.clone();
    let (found, skipped) = tokio::task::spawn_blocking(move || walk::walk(&walked)).await?;
    // A folder that is not readable throughout, or has nothing, may be a mistake: remove nothing.
    let complete = !found.is_empty()
        && skipped
            .iter()
            .all(|skipped| skipped.reason == SkipReason::LinkOutside);
    summary.skipped.extend(skipped);

    let indexed: HashMap<String, Vec<u8>> = {
        let mut conn = pool.acquire().await?;
        let rows = staged_sources(&mut conn, &root.prefix, profile).await?;
        rows.into_iter().collect()
    };
    let mut seen = Vec::with_capacity(found.len());
    for file in found {
        let source = format!("{}{}", root.prefix, file.below);
        // A file that can't be read for once keeps its document.
        seen.push(source.clone());
        let path = file.path.clone();
        let document = match tokio::task::spawn_blocking(move || open(source, &file)).await? {
            Ok(document) => document,
            Err(reason) => {
                summary.skip(&path, reason);
                continue;
            }
        };
        if indexed.get(&document.source) == Some(&document.content_hash()) {
            summary.unchanged += 1;
            continue;
        }
        match stage(pool, bus, profile, &document).await? {
            Some(job) => summary.staged.push(StagedFile {
                source: document.source,
                job,
            }),
            None => summary.unchanged += 1,
        }
    }
    if root.is_folder() && complete {
        let mut conn = pool.acquire().await?;
        let removed = remove_vanished(&mut conn, &root.prefix, &seen).await?;
        summary.removed.extend(removed);
    }
    Ok(())
}

fn open(source: String, file: &Found) -> Result<NewDocument, SkipReason> {
    let content = walk::read(&file.path)?;
    Ok(describe(source, &file.below, file.format, content))
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
