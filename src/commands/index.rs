//! `growth-chat index PATH|URL…`: brings files and the pages of sites into the knowledge base, and works
//! the jobs that index them, so that no worker is needed. A worker that runs meanwhile shares the work.
//!
//! ```text
//! read, crawl ──staged──▶ jobs ──▶ work (the knowledge queue of this process)
//!      └──────────────────▶ watch: progress, and the outcome of each job
//! ```

pub(crate) mod command;
mod progress;
mod report;
mod target;

use std::{
    collections::BTreeMap,
    io::Write,
    process::ExitCode,
    time::{Duration, Instant},
};

use anyhow::Context;
use jobs::{JobId, JobStatus};
use sqlx::PgPool;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;
use workers::{
    clients::guarded::GuardedClient,
    knowledge::{
        KnowledgeDeps,
        ingest::{CrawlOptions, Ingest, Progress as Event, StageSummary},
    },
};

use self::{
    progress::{Counts, Progress},
    report::{Outcomes, report},
    target::{Target, parse_rate},
};

/// How often the jobs are looked at.
const POLL: Duration = Duration::from_millis(200);
/// Jobs that are looked at at once, the oldest: they end about in order.
const LOOKED_AT: usize = 1_000;
/// Events that may wait to be told.
const EVENTS: usize = 256;

/// What to index.
#[derive(Debug, Clone, clap::Args)]
pub(crate) struct IndexArgs {
    /// Files or folders with Markdown (.md, .markdown), text (.txt), HTML (.html, .htm) and PDF (.pdf),
    /// or the http(s) address of a site to crawl
    #[arg(required = true, value_name = "PATH|URL", value_parser = Target::parser())]
    pub(crate) targets: Vec<Target>,
    /// The most pages of a site that are asked for
    #[arg(long, default_value_t = 500, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=100_000))]
    pub(crate) max_pages: u32,
    /// The most links that a page may be away from the address given
    #[arg(long, default_value_t = 5, value_name = "N")]
    pub(crate) max_depth: u8,
    /// The most requests to a site in a second; its own Crawl-delay may make it slower
    #[arg(long, default_value_t = 2.0, value_name = "N", value_parser = parse_rate)]
    pub(crate) rate: f64,
}

impl IndexArgs {
    /// Brings in all targets.
    async fn bring_in(
        &self,
        ingest: &Ingest,
        client: &GuardedClient,
    ) -> anyhow::Result<StageSummary> {
        let paths = self.targets.iter().filter_map(|target| match target {
            Target::Path(path) => Some(path.clone()),
            Target::Site(_) => None,
        });
        let paths: Vec<_> = paths.collect();
        let files = Box::pin(ingest.paths(&paths)).await;
        let mut all = files.context("reading the files")?;
        let options = CrawlOptions {
            max_pages: usize::try_from(self.max_pages).unwrap_or(usize::MAX),
            max_depth: self.max_depth.into(),
            rate: self.rate,
        };
        for target in &self.targets {
            if let Target::Site(start) = target {
                let site = Box::pin(ingest.site(client, start, options)).await;
                all.append(site.context("crawling the site")?);
            }
        }
        Ok(all)
    }
}

/// What the command works with.
pub(crate) struct Indexing<'i> {
    pub(crate) args: &'i IndexArgs,
    pub(crate) deps: &'i KnowledgeDeps,
    pub(crate) ingest: Ingest,
    pub(crate) client: &'i GuardedClient,
    /// Ends the waiting early; the jobs stay in the queue.
    pub(crate) shutdown: CancellationToken,
    /// Whether a person looks on.
    pub(crate) is_terminal: bool,
}

/// Brings the documents in and waits until their jobs have ended. `work` runs the knowledge queue's
/// jobs until its token is cancelled.
///
/// The exit code is 1 if a document failed, was left out by an error or is still waiting.
pub(crate) async fn run<W>(
    indexing: Indexing<'_>,
    work: impl FnOnce(CancellationToken) -> W,
    out: &mut impl Write,
) -> anyhow::Result<ExitCode>
where
    W: Future<Output = anyhow::Result<()>>,
{
    let Indexing {
        args,
        deps,
        ingest,
        client,
        shutdown,
        is_terminal,
    } = indexing;
    deps.prepare()
        .await
        .context("preparing the table of chunks")?;
    deps.begin_filling()
        .await
        .context("preparing the table of chunks")?;
    let begun = Instant::now();
    let stop = shutdown.child_token();
    let (tell, events) = mpsc::channel(EVENTS);
    let bringing_in = async {
        // The events end with it.
        let ingest = ingest.telling(tell);
        let brought_in = args.bring_in(&ingest, client);
        let brought_in = stop.run_until_cancelled(brought_in).await;
        brought_in.transpose().inspect_err(|_| stop.cancel())
    };
    let watching = async {
        let outcomes = watch(&deps.pool, events, &stop, is_terminal, out).await;
        stop.cancel();
        outcomes
    };
    // The worker may end first only by an error, or by the shutdown that ends the others too.
    let working = work(stop.clone());
    let working = async { working.await.inspect_err(|_| stop.cancel()) };
    let ended = tokio::try_join!(bringing_in, watching, working);
    // However it ended, what is there is to be found.
    deps.prepare().await.context("indexing the vectors")?;
    let (staged, worked, ()) = ended?;
    // Which words are rare is known best when all of them are there.
    deps.refresh_terms()
        .await
        .context("counting the words of the chunks")?;
    let is_whole = staged.is_some();
    let staged = staged.unwrap_or_default();
    report(&staged, &worked, begun.elapsed(), out)?;
    let failed =
        !is_whole || staged.has_errors() || !worked.failed.is_empty() || worked.waiting > 0;
    Ok(ExitCode::from(u8::from(failed)))
}

/// Tells the progress until every job has ended, or there is to be an end.
async fn watch(
    pool: &PgPool,
    mut events: mpsc::Receiver<Event>,
    stop: &CancellationToken,
    is_terminal: bool,
    out: &mut impl Write,
) -> anyhow::Result<Outcomes> {
    let mut outcomes = Outcomes::default();
    let mut live: BTreeMap<JobId, String> = BTreeMap::new();
    let mut counts = Counts::default();
    let mut progress = Progress::new(is_terminal);
    let mut is_open = true;
    let mut look = tokio::time::interval(POLL);
    while (is_open || !live.is_empty()) && !stop.is_cancelled() {
        tokio::select! {
            event = events.recv(), if is_open => match event {
                Some(Event::Looked) => counts.looked += 1,
                Some(Event::Staged(file)) => {
                    counts.staged += 1;
                    live.insert(file.job, file.source);
                }
                None => is_open = false,
            },
            _ = look.tick() => {
                settle(pool, &mut live, &mut outcomes).await?;
                counts.ended = counts.staged - live.len();
                progress.tell(counts, out)?;
            }
            () = stop.cancelled() => {}
        }
    }
    progress.end();
    outcomes.waiting = live.len();
    Ok(outcomes)
}

/// Takes the jobs that have ended out of those that live.
async fn settle(
    pool: &PgPool,
    live: &mut BTreeMap<JobId, String>,
    outcomes: &mut Outcomes,
) -> anyhow::Result<()> {
    let ids: Vec<JobId> = live.keys().copied().take(LOOKED_AT).collect();
    if ids.is_empty() {
        return Ok(());
    }
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
                outcomes.failed.insert(source, why);
            }
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests;
