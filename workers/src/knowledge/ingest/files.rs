//! Files and folders.

use std::{
    collections::HashSet,
    path::{Path, PathBuf},
};

use futures::{StreamExt, stream};
use store::knowledge::{NewDocument, remove_vanished, staged_sources};

use super::{
    AT_ONCE, Ingest, IngestError, Progress, SkipReason, StageSummary,
    walk::{self, Found, Root},
};
use crate::knowledge::{
    document::{Format, describe, describe_foreign},
    extract::Input,
};

/// What became of a file.
enum Outcome {
    Staged(Option<jobs::JobId>),
    Skipped(SkipReason),
    /// Staged, and something is missing of it.
    InPart(Option<jobs::JobId>, SkipReason),
}

impl Ingest {
    /// Stages everything below `paths` (folders or files) that is not indexed as the profile says, and
    /// removes what is gone from a folder that could be read completely.
    pub async fn paths(&self, paths: &[PathBuf]) -> Result<StageSummary, IngestError> {
        let mut summary = StageSummary::default();
        let mut roots: Vec<Root> = Vec::new();
        for path in paths {
            match Root::open(path) {
                Ok(root) if roots.iter().any(|other| other.collides(&root)) => {
                    summary.skip(path.display().to_string(), SkipReason::SameName);
                }
                Ok(root) => roots.push(root),
                Err(reason) => summary.skip(path.display().to_string(), reason),
            }
        }
        for root in roots {
            self.root(root, &mut summary).await?;
        }
        Ok(summary)
    }

    async fn root(&self, root: Root, summary: &mut StageSummary) -> Result<(), IngestError> {
        let walked = root.clone();
        let (found, skipped) = tokio::task::spawn_blocking(move || walk::walk(&walked)).await?;
        // A folder that is not readable throughout, or has nothing, may be a mistake: remove nothing.
        let complete =
            !found.is_empty() && skipped.iter().all(|skipped| !skipped.reason.is_error());
        summary.skipped.extend(skipped);

        let indexed: HashSet<(String, Vec<u8>)> = {
            let mut conn = self.pool.acquire().await?;
            let rows = staged_sources(&mut conn, &root.prefix, &self.profile).await?;
            rows.into_iter().collect()
        };
        // A file that can't be read for once keeps its document.
        let source = |file: &Found| format!("{}{}", root.prefix, file.below);
        let seen: Vec<String> = found.iter().map(source).collect();
        let mut outcomes = stream::iter(found)
            .map(|file| {
                let source = source(&file);
                let indexed = &indexed;
                async move {
                    let outcome = self.file(source.clone(), &file, indexed).await;
                    self.tell(Progress::Looked).await;
                    outcome.map(|outcome| (source, file.path, outcome))
                }
            })
            .buffer_unordered(AT_ONCE);
        let first = (summary.staged.len(), summary.skipped.len());
        while let Some(outcome) = outcomes.next().await {
            let (source, path, outcome) = outcome?;
            match outcome {
                Outcome::Staged(job) => summary.add(source, job),
                Outcome::Skipped(reason) => summary.skip(shown(&path), reason),
                Outcome::InPart(job, reason) => {
                    summary.add(source, job);
                    summary.skip(shown(&path), reason);
                }
            }
        }
        drop(outcomes);
        // They end in any order; people and tests like theirs.
        summary.staged[first.0..].sort_by(|one, other| one.source.cmp(&other.source));
        summary.skipped[first.1..].sort_by(|one, other| one.what.cmp(&other.what));
        if root.is_folder() && complete {
            let mut conn = self.pool.acquire().await?;
            let removed = remove_vanished(&mut conn, &root.prefix, &seen).await?;
            summary.removed.extend(removed);
        }
        Ok(())
    }

    async fn file(
        &self,
        source: String,
        file: &Found,
        indexed: &HashSet<(String, Vec<u8>)>,
    ) -> Result<Outcome, IngestError> {
        let (document, missing) = match self.open(source, file).await? {
            Ok(opened) => opened,
            Err(reason) => return Ok(Outcome::Skipped(reason)),
        };
        let hash = document.content_hash();
        let is_indexed = indexed.contains(&(document.source.clone(), hash));
        let job = if is_indexed {
            None
        } else {
            self.stage(&document).await?
        };
        Ok(match missing {
            None => Outcome::Staged(job),
            Some(missing) => Outcome::InPart(job, missing),
        })
    }

    /// Reads a file; gives with it what is missing of it.
    async fn open(
        &self,
        source: String,
        file: &Found,
    ) -> Result<Result<(NewDocument, Option<SkipReason>), SkipReason>, IngestError> {
        let (path, below) = (file.path.clone(), file.below.clone());
        match file.format {
            Format::Text(format) => {
                let read = move || {
                    let content = walk::read_text(&path)?;
                    Ok((describe(source, &below, format, content), None))
                };
                Ok(tokio::task::spawn_blocking(read).await?)
            }
            Format::Foreign(foreign) => {
                let read = tokio::task::spawn_blocking(move || walk::read(&path)).await?;
                let bytes = match read {
                    Ok(bytes) => bytes,
                    Err(reason) => return Ok(Err(reason)),
                };
                let input = Input {
                    foreign,
                    charset: None,
                    base: None,
                };
                let extracted = match self.extractor.extract(input, bytes).await {
                    Ok(extracted) => extracted,
                    Err(error) => return Ok(Err(error.into())),
                };
                if extracted.text.is_empty() {
                    return Ok(Err(SkipReason::Empty));
                }
                if extracted.noindex {
                    return Ok(Err(SkipReason::NoIndex));
                }
                let missing = extracted
                    .unreadable_pages
                    .map(|(unreadable, pages)| SkipReason::Pages(unreadable, pages));
                let document = describe_foreign(source, &below, foreign, extracted);
                Ok(Ok((document, missing)))
            }
        }
    }
}

fn shown(path: &Path) -> String {
    path.display().to_string()
}
