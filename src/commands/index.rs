//! `growth-chat index PATH…`: brings files into the knowledge base and works the jobs that index
//! them, so that no worker is needed. A worker that runs meanwhile shares the work.

pub(crate) mod command;

use std::{
    collections::BTreeMap,
    io::{self, Write},
    path::PathBuf,
    process::ExitCode,
    time::{Duration, Instant},
};

use anyhow::Context;
use jobs::{JobId, JobStatus};
use sqlx::PgPool;
use store::bus::Bus;
use tokio_util::sync::CancellationToken;
use workers::knowledge::{
    KnowledgeDeps,
    ingest::{StageSummary, stage_paths},
};

/// How often the jobs are looked at.
const POLL: Duration = Duration::from_millis(200);
/// How often the progress is told.
const PROGRESS: Duration = Duration::from_secs(2);

/// What to index.
#[derive(Debug, Clone, clap::Args)]
pub(crate) struct IndexArgs {
    /// Folders or files: Markdown (.md, .markdown) and text (.txt).
    #[arg(required = true)]
    pub(crate) paths: Vec<PathBuf>,
}

/// Stages the files and waits until their jobs have ended. `work` runs the knowledge queue's jobs
/// until its token is cancelled. `shutdown` ends the waiting early; the jobs stay in the queue.
///
/// The exit code is 1 if a document failed, was left out by an error or is still waiting.
pub(crate) async fn run<W>(
    args: &IndexArgs,
    deps: &KnowledgeDeps,
    bus: &Bus,
    shutdown: CancellationToken,
    work: impl FnOnce(CancellationToken) -> W,
    out: &mut impl Write,
) -> anyhow::Result<ExitCode>
where
    W: Future<Output = anyhow::Result<()>>,
{
    deps.prepare()
        .await
        .context("preparing the table of chunks")?;
    let staged = stage_paths(&deps.pool, bus, &deps.profile(), &args.paths)
        .await
        .context("reading the files")?;
    let worked = if staged.staged.is_empty() {
        Outcomes::default()
    } else {
        let stop = shutdown.child_token();
        let waiting = async {
            let outcomes = wait(&deps.pool, &staged, &stop, out).await;
            stop.cancel();
            outcomes
        };
        // The worker may end first only by an error, or by the shutdown that ends the waiting too.
        let working = work(stop.clone());
        let ((), outcomes) = tokio::try_join!(
            async { working.await.inspect_err(|_| stop.cancel()) },
            waiting
        )?;
        outcomes
    };
    // Which words are rare is known best when all of them are there.
    deps.refresh_terms()
        .await
        .context("counting the words of the chunks")?;
    report(&staged, &worked, out)?;
    let failed = staged.has_errors() || !worked.failed.is_empty() || worked.waiting > 0;
    Ok(ExitCode::from(u8::from(failed)))
}

/// What has become of the staged documents.
#[derive(Debug, Default)]
struct Outcomes {
    indexed: usize,
    /// By source, why.
    failed: BTreeMap<String, String>,
    waiting: usize,
}

async fn wait(
    pool: &PgPool,
    staged: &StageSummary,
    stop: &CancellationToken,
    out: &mut impl Write,
) -> anyhow::Result<Outcomes> {
    let mut outcomes = Outcomes::default();
    let mut live: BTreeMap<JobId, &str> = staged
        .staged
        .iter()
        .map(|file| (file.job, file.source.as_str()))
        .collect();
    let total = live.len();
    let begun = Instant::now();
    let mut told = begun;
    loop {
        let ids: Vec<JobId> = live.keys().copied().collect();
        let statuses = {
            let mut conn = pool.acquire().await.context("looking at the jobs")?;
            jobs::statuses(&mut conn, &ids)
                .await
                .context("looking at the jobs")?
        };
        for (id, status) in statuses {
            let failure = match status {
                JobStatus::Live { .. } => continue,
                JobStatus::Done => None,
                JobStatus::Cancelled => Some("the job was cancelled".to_owned()),
                JobStatus::Dead { error } => Some(error.unwrap_or_else(|| "unknown".to_owned())),
            };
            let Some(source) = live.remove(&id) else {
                continue;
            };
            match failure {
                None => outcomes.indexed += 1,
                Some(why) => {
                    outcomes.failed.insert(source.to_owned(), why);
                }
            }
        }
        outcomes.waiting = live.len();
        if live.is_empty() || stop.is_cancelled() {
            return Ok(outcomes);
        }
        if told.elapsed() >= PROGRESS {
            told = Instant::now();
            progress(out, total - live.len(), total, begun.elapsed())?;
        }
        tokio::select! {
            () = tokio::time::sleep(POLL) => {}
            () = stop.cancelled() => {}
        }
    }
}

#[expect(clippy::cast_precision_loss, reason = "a rate for people")]
fn progress(out: &mut impl Write, done: usize, total: usize, took: Duration) -> io::Result<()> {
    let rate = done as f64 / took.as_secs_f64();
    writeln!(out, "{done} of {total} documents, {rate:.1} a second")
}

fn report(staged: &StageSummary, worked: &Outcomes, out: &mut impl Write) -> io::Result<()> {
    let left_out = staged.skipped.len();
    for (what, count) in [
        ("indexed", worked.indexed),
        ("unchanged", staged.unchanged),
        ("removed", staged.removed.len()),
        ("left out", left_out),
        ("failed", worked.failed.len()),
        ("still waiting", worked.waiting),
    ] {
        writeln!(out, "{what:<14}{count:>6}")?;
    }
    for skipped in &staged.skipped {
        writeln!(
            out,
            "left out: {} {}",
            skipped.path.display(),
            skipped.reason
        )?;
    }
    for (source, why) in &worked.failed {
        writeln!(out, "failed: {source}: {why}")?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use sandbox::postgres::TestDatabase;
    use workers::{
        clients::{embeddings::Embedder, http_client},
        config::{EmbeddingsConfig, KnowledgeConfig},
    };

    use super::*;

    /// A knowledge base whose provider is never called: the jobs are ended by hand.
    async fn deps(database: &TestDatabase) -> KnowledgeDeps {
        // Another test may have installed it.
        let _ = rustls::crypto::ring::default_provider().install_default();
        let embeddings = EmbeddingsConfig {
            api_key: "sk-test".into(),
            base_url: "http://127.0.0.1:9".into(),
            model: "m".into(),
            dimensions: 3,
        };
        KnowledgeDeps {
            pool: database.pool().await.unwrap(),
            embedder: Embedder::new(embeddings, http_client().unwrap()),
            config: KnowledgeConfig {
                relevance_threshold: 0.5,
                proactive_threshold: 0.6,
                top_k: 5,
                ef_search: 40,
                chunk_size: 512,
                chunk_overlap: 64,
                table: "chunks".parse().unwrap(),
            },
        }
    }

    /// Ends every live job with an outcome that its source asks for.
    async fn end_jobs(pool: PgPool, stop: CancellationToken) -> anyhow::Result<()> {
        sqlx::query(
            "with ended as (delete from queue.jobs returning *)
             insert into queue.history (id, queue, kind, outcome, priority, attempt, max_attempts,
                                        retry_waits, payload, errors, created_at)
             select e.id, queue, e.kind, case when source like '%bad%' then 'dead' else 'done' end,
                    priority, 1, max_attempts, retry_waits, payload,
                    jsonb_build_array(jsonb_build_object('error', 'it broke')), created_at
             from ended e
             join knowledge_documents on document_id = (payload ->> 'document_id')::bigint",
        )
        .execute(&pool)
        .await?;
        stop.cancelled().await;
        Ok(())
    }

    async fn index(files: &[(&str, &str)]) -> (bool, String) {
        let database = TestDatabase::create().await.unwrap();
        let deps = deps(&database).await;
        let place = tempfile::tempdir().unwrap();
        for (name, content) in files {
            std::fs::write(place.path().join(name), content).unwrap();
        }
        let args = IndexArgs {
            paths: vec![place.path().to_owned()],
        };
        let mut out = Vec::new();
        let pool = deps.pool.clone();
        let code = run(
            &args,
            &deps,
            &Bus::new("test"),
            CancellationToken::new(),
            |stop| end_jobs(pool, stop),
            &mut out,
        )
        .await
        .unwrap();
        (code == ExitCode::SUCCESS, String::from_utf8(out).unwrap())
    }

    #[tokio::test]
    async fn documents_that_are_indexed_are_counted() {
        let (success, told) = index(&[("a.md", "# A"), ("b.md", "# B"), ("c.txt", " ")]).await;
        assert!(success, "{told}");
        assert!(told.contains("indexed            2"), "{told}");
        assert!(told.contains("c.txt is empty"), "{told}");
    }

    #[tokio::test]
    async fn a_document_that_fails_is_named_and_fails_the_command() {
        let (success, told) = index(&[("a.md", "# A"), ("bad.md", "# B")]).await;
        assert!(!success);
        assert!(told.contains("indexed            1"), "{told}");
        assert!(told.contains("bad.md: it broke"), "{told}");
    }

    #[tokio::test]
    async fn nothing_to_index_fails_the_command() {
        let (success, told) = index(&[]).await;
        assert!(!success);
        assert!(
            told.contains("has no Markdown or text file in it"),
            "{told}"
        );
    }

    #[tokio::test]
    async fn a_worker_that_can_not_work_ends_the_command() {
        let database = TestDatabase::create().await.unwrap();
        let deps = deps(&database).await;
        let place = tempfile::tempdir().unwrap();
        std::fs::write(place.path().join("a.md"), "# A").unwrap();
        let args = IndexArgs {
            paths: vec![place.path().to_owned()],
        };
        let broken = |_| async { Err(anyhow::anyhow!("no database")) };
        let ended = run(
            &args,
            &deps,
            &Bus::new("test"),
            CancellationToken::new(),
            broken,
            &mut Vec::new(),
        )
        .await;
        assert!(ended.is_err());
    }
}
