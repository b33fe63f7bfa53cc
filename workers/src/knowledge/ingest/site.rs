//! A site: its pages become documents while it is walked through.
//!
//! ```text
//! robots.txt ─▶ sitemaps ─┐
//!               start ────┼─▶ frontier ─▶ fetch ─▶ extract ─▶ stage
//!       known documents ──┘       ▲                   │ links
//!                                 └───────────────────┘
//! ```
//!
//! A page is a document under the address where it was found. A document of the site is removed when
//! the site does not give it any more (404, 410, `noindex`, moved, disallowed), and only if the crawl
//! was complete: nothing failed, nothing was left unasked. What no link leads to any more is asked for
//! by its address, so that a page that merely lost its links stays.

use std::{
    collections::{BTreeSet, HashMap, HashSet},
    time::Duration,
};

use futures::{StreamExt, stream::FuturesUnordered};
use parking_lot::Mutex;
use store::knowledge::{KnownPage, Page, known_pages, remember_page, remove_documents};
use url::Url;

use super::{AT_ONCE, Ingest, IngestError, Progress, SkipReason, StageSummary, walk};
use crate::{
    clients::guarded::GuardedClient,
    knowledge::{
        crawl::{
            fetch::{Fetched, Fetcher, Got, Wanted},
            frontier::{Frontier, Next},
            robots::Rules,
            site::Site,
            sitemap,
        },
        document::{Format, describe, describe_foreign},
        extract::{self, Extracted, Input},
    },
};

/// Sitemaps of one site, and how many indexes lead to one.
const MAX_SITEMAPS: usize = 50;
const MAX_SITEMAP_DEPTH: usize = 2;
/// How many links of a page are remembered for the next crawl, of which it then need not be sent.
const MAX_LINKS: usize = 1_000;

/// How far a crawl goes, and how fast.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct CrawlOptions {
    /// The most pages that are asked for.
    pub max_pages: usize,
    /// The most links that a page may be away from the start.
    pub max_depth: usize,
    /// The most requests in a second. A `Crawl-delay` of the site's own makes it slower.
    pub rate: f64,
}

/// What became of a page.
enum Visit {
    /// It is a document, or was one already.
    Document {
        source: Url,
        job: Option<jobs::JobId>,
        links: Vec<Url>,
        missing: Option<SkipReason>,
    },
    /// It is none, but leads on. `reason`: what to tell.
    Passed {
        links: Vec<Url>,
        reason: Option<SkipReason>,
    },
    /// It is not there any more.
    Gone,
    /// It could not be had this time: what is known of it stays.
    Failed(SkipReason),
}

/// A crawl under way.
struct Crawl<'c> {
    ingest: &'c Ingest,
    start: Url,
    site: Site,
    rules: Rules,
    fetcher: Fetcher,
    known: HashMap<Url, KnownPage>,
    /// Addresses whose documents somebody makes already.
    claimed: Mutex<HashSet<Url>>,
}

impl Ingest {
    /// Crawls the site of `start` and stages its pages that are not indexed as the profile says.
    pub async fn site(
        &self,
        client: &GuardedClient,
        start: &Url,
        options: CrawlOptions,
    ) -> Result<StageSummary, IngestError> {
        let mut summary = StageSummary::default();
        let page = Site::of(start).and_then(|site| Some((site.page(start)?, site)));
        let Some((start, site)) = page else {
            summary.skip(start.as_str(), SkipReason::UnknownFormat);
            return Ok(summary);
        };
        // The command line does not let a rate through that is not positive.
        let interval = Duration::try_from_secs_f64(options.rate.recip()).unwrap_or(Duration::MAX);
        let fetcher = Fetcher::new(client.clone(), interval);
        let rules = match Rules::of(&fetcher, &site, &start).await {
            Ok(rules) => rules,
            Err(reason) => {
                summary.skip(start, reason);
                return Ok(summary);
            }
        };
        if let Some(delay) = rules.delay() {
            fetcher.slow_down(delay).await;
        }
        let known = self.known(&site).await?;
        let crawl = Crawl {
            ingest: self,
            start,
            site,
            rules,
            fetcher,
            known,
            claimed: Mutex::default(),
        };
        crawl.run(options, &mut summary).await?;
        Ok(summary)
    }

    /// The documents of a site by their addresses.
    async fn known(&self, site: &Site) -> Result<HashMap<Url, KnownPage>, IngestError> {
        let mut conn = self.pool.acquire().await?;
        let mut known = HashMap::new();
        for prefix in site.prefixes() {
            for page in known_pages(&mut conn, &prefix, &self.profile).await? {
                if let Ok(url) = page.source.parse() {
                    known.insert(url, page);
                }
            }
        }
        Ok(known)
    }
}

impl Crawl<'_> {
    async fn run(
        &self,
        options: CrawlOptions,
        summary: &mut StageSummary,
    ) -> Result<(), IngestError> {
        let start = &self.start;
        let mut frontier = Frontier::new(options.max_pages, options.max_depth);
        frontier.add(start.clone(), 0);
        // Whoever asks for a page by itself wants that page.
        let is_whole_site = options.max_depth > 0;
        if is_whole_site {
            for page in self.sitemaps(options.max_pages, summary).await {
                frontier.add(page, 1);
            }
        }
        let mut complete = is_whole_site && !summary.has_errors();
        // Sources that the site still has, or that nobody could tell of.
        let mut alive = BTreeSet::new();
        let mut has_asked_for_known = !is_whole_site;
        let mut visits = FuturesUnordered::new();
        loop {
            while visits.len() < AT_ONCE
                && let Some(next) = frontier.next()
            {
                visits.push(self.visit(next));
            }
            let Some(visit) = visits.next().await else {
                if has_asked_for_known {
                    break;
                }
                has_asked_for_known = true;
                for url in self.known.keys() {
                    frontier.add(url.clone(), options.max_depth);
                }
                continue;
            };
            let (next, visit) = visit?;
            self.ingest.tell(Progress::Looked).await;
            let links = match visit {
                Visit::Document {
                    source,
                    job,
                    links,
                    missing,
                } => {
                    frontier.arrive(&source);
                    alive.insert(source.to_string());
                    if let Some(reason) = missing {
                        summary.skip(source.as_str(), reason);
                    }
                    summary.add(source.into(), job);
                    links
                }
                Visit::Passed { links, reason } => {
                    if let Some(reason) = reason {
                        summary.skip(next.url.as_str(), reason);
                    }
                    links
                }
                Visit::Gone => {
                    if next.url == *start {
                        complete = false;
                        summary.skip(next.url.as_str(), SkipReason::Gone);
                    }
                    Vec::new()
                }
                Visit::Failed(reason) => {
                    complete = false;
                    alive.insert(next.url.to_string());
                    summary.skip(next.url.as_str(), reason);
                    Vec::new()
                }
            };
            // What a page that nothing leads to any more leads to is nowhere on the way.
            if !(has_asked_for_known && next.depth == options.max_depth) {
                for link in links {
                    frontier.add(link, next.depth + 1);
                }
            }
        }
        drop(visits);
        if frontier.has_too_many() {
            complete = false;
            summary.skip(start.as_str(), SkipReason::TooManyPages);
        }
        if frontier.has_too_deep() {
            complete = false;
            summary.skip(start.as_str(), SkipReason::TooDeep);
        }
        if alive.is_empty() {
            complete = false;
            summary.skip(start.as_str(), SkipReason::NoDocuments);
        }
        if complete {
            self.remove_gone(&alive, summary).await?;
        }
        summary
            .staged
            .sort_by(|one, other| one.source.cmp(&other.source));
        summary
            .skipped
            .sort_by(|one, other| one.what.cmp(&other.what));
        Ok(())
    }

    async fn remove_gone(
        &self,
        alive: &BTreeSet<String>,
        summary: &mut StageSummary,
    ) -> Result<(), IngestError> {
        let gone: Vec<String> = self
            .known
            .values()
            .filter(|page| !alive.contains(&page.source))
            .map(|page| page.source.clone())
            .collect();
        if !gone.is_empty() {
            let mut conn = self.ingest.pool.acquire().await?;
            summary.removed = remove_documents(&mut conn, &gone).await?;
        }
        Ok(())
    }

    /// The pages that the site's sitemaps name, about `most` at most.
    async fn sitemaps(&self, most: usize, summary: &mut StageSummary) -> Vec<Url> {
        let mut named = self.rules.sitemaps().to_vec();
        let guessed = named.is_empty();
        if guessed {
            named.extend(self.start.join("/sitemap.xml").ok());
        }
        let mut open: Vec<(Url, usize)> = named.into_iter().map(|url| (url, 0)).collect();
        let mut seen = HashSet::new();
        let mut pages = Vec::new();
        while let Some((url, depth)) = open.pop() {
            let wanted = self.site.has(&url)
                && seen.len() < MAX_SITEMAPS
                && pages.len() <= most
                && depth <= MAX_SITEMAP_DEPTH
                && self.rules.allow(&url)
                && seen.insert(url.clone());
            if !wanted {
                continue;
            }
            match self.fetcher.fetch(&self.site, &url, Wanted::Sitemap).await {
                Fetched::Got(got) => match sitemap::read(&got.body) {
                    Ok(found) => {
                        let sitemaps = found.sitemaps.into_iter();
                        open.extend(sitemaps.map(|url| (url, depth + 1)));
                        pages.extend(found.pages.iter().filter_map(|url| self.site.page(url)));
                    }
                    // Many sites answer with a page to whatever is asked for.
                    Err(_) if guessed => {}
                    Err(_) => summary.skip(url, SkipReason::BadSitemap),
                },
                Fetched::Failed(_) | Fetched::Gone if guessed && depth == 0 => {}
                Fetched::Gone => summary.skip(url, SkipReason::Gone),
                Fetched::Failed(reason) => summary.skip(url, reason),
                Fetched::NotModified | Fetched::Elsewhere => {}
            }
        }
        pages
    }

    async fn visit(&self, next: Next) -> Result<(Next, Visit), IngestError> {
        let visit = self.look_at(&next).await?;
        Ok((next, visit))
    }

    async fn look_at(&self, next: &Next) -> Result<Visit, IngestError> {
        let is_start = next.url == self.start;
        // What was asked for is told of; what was come by only if somebody should know.
        let passed = |reason: SkipReason, links: Vec<Url>| Visit::Passed {
            links,
            reason: Some(reason).filter(|_| is_start || reason != SkipReason::OtherHost),
        };
        if !self.rules.allow(&next.url) {
            return Ok(passed(SkipReason::Disallowed, Vec::new()));
        }
        // Only what is indexed as it should be need not be sent again.
        let known = self
            .known
            .get(&next.url)
            .filter(|known| known.is_current)
            .and_then(|known| known.page.as_ref())
            .filter(|page| page.extractor == extract::VERSION);
        let wanted = Wanted::Page {
            rules: Some(&self.rules),
            etag: known.and_then(|page| page.etag.as_deref()),
            last_modified: known.and_then(|page| page.last_modified.as_deref()),
        };
        let got = match self.fetcher.fetch(&self.site, &next.url, wanted).await {
            Fetched::Got(got) => got,
            Fetched::NotModified => {
                return Ok(match known {
                    Some(page) => Visit::Document {
                        source: next.url.clone(),
                        job: None,
                        links: self.pages(&page.links),
                        missing: None,
                    },
                    // It was not asked whether it is.
                    None => Visit::Failed(SkipReason::Status(304)),
                });
            }
            Fetched::Gone => return Ok(Visit::Gone),
            Fetched::Elsewhere => return Ok(passed(SkipReason::OtherHost, Vec::new())),
            Fetched::Failed(SkipReason::Disallowed) => {
                return Ok(passed(SkipReason::Disallowed, Vec::new()));
            }
            Fetched::Failed(reason) => return Ok(Visit::Failed(reason)),
        };
        let Some(source) = self.site.page(&got.url) else {
            return Ok(passed(SkipReason::OtherFormat, Vec::new()));
        };
        // Another address led here already, or is on its way to.
        if !self.claimed.lock().insert(source.clone()) {
            return Ok(Visit::Passed {
                links: Vec::new(),
                reason: None,
            });
        }
        self.read(source, *got).await
    }

    /// Makes a document of what came.
    async fn read(&self, source: Url, got: Got) -> Result<Visit, IngestError> {
        let (noindex, etag, last_modified) = (got.noindex, got.etag, got.last_modified);
        let address = source.to_string();
        let format = if got.content_type.is_empty() {
            Format::of(source.path())
        } else {
            Format::of_content_type(&got.content_type)
        };
        let (document, links, missing) = match format {
            None => {
                return Ok(Visit::Passed {
                    links: Vec::new(),
                    reason: Some(SkipReason::OtherFormat),
                });
            }
            Some(Format::Text(format)) => {
                let text = extract::decode(&got.body, got.charset.as_deref());
                match walk::plain(&text) {
                    Ok(text) => {
                        let document = describe(address.clone(), &address, format, text);
                        (document, Vec::new(), None)
                    }
                    Err(SkipReason::Empty) => {
                        return Ok(Visit::Passed {
                            links: Vec::new(),
                            reason: Some(SkipReason::Empty),
                        });
                    }
                    Err(reason) => return Ok(Visit::Failed(reason)),
                }
            }
            Some(Format::Foreign(foreign)) => {
                let input = Input {
                    foreign,
                    charset: got.charset,
                    base: Some(source.clone()),
                };
                let extractor = &self.ingest.extractor;
                let extracted = match extractor.extract(input, got.body.into()).await {
                    Ok(extracted) => extracted,
                    // There was nothing to crash on: it is a page, and has no words.
                    Err(extract::ExtractError::NoText) => {
                        return Ok(Visit::Passed {
                            links: Vec::new(),
                            reason: Some(SkipReason::Empty),
                        });
                    }
                    Err(error) => return Ok(Visit::Failed(error.into())),
                };
                let links = self.pages(&extracted.links);
                if let Some(reason) = self.is_passed(&source, &extracted) {
                    let canonical = extracted.canonical.iter().cloned();
                    let links = self
                        .pages(&canonical.collect::<Vec<_>>())
                        .into_iter()
                        .chain(links);
                    return Ok(Visit::Passed {
                        links: links.collect(),
                        reason: Some(reason),
                    });
                }
                let missing = extracted
                    .unreadable_pages
                    .map(|(unreadable, pages)| SkipReason::Pages(unreadable, pages));
                let document = describe_foreign(address.clone(), &address, foreign, extracted);
                (document, links, missing)
            }
        };
        if noindex {
            return Ok(Visit::Passed {
                links,
                reason: Some(SkipReason::NoIndex),
            });
        }
        let job = self.ingest.stage(&document).await?;
        // A page whose links are too many to be remembered is sent again next time.
        let can_rest = links.len() <= MAX_LINKS;
        let page = Page {
            etag: etag.filter(|_| can_rest),
            last_modified: last_modified.filter(|_| can_rest),
            links: links.iter().take(MAX_LINKS).map(Url::to_string).collect(),
            extractor: extract::VERSION,
        };
        let mut conn = self.ingest.pool.acquire().await?;
        remember_page(&mut conn, &address, &page).await?;
        Ok(Visit::Document {
            source,
            job,
            links,
            missing,
        })
    }

    /// Why a page is no document of its own.
    fn is_passed(&self, source: &Url, extracted: &Extracted) -> Option<SkipReason> {
        let canonical = extracted
            .canonical
            .as_deref()
            .and_then(|url| url.parse().ok());
        if extracted.noindex {
            Some(SkipReason::NoIndex)
        } else if canonical
            .and_then(|url: Url| self.site.page(&url))
            .is_some_and(|canonical| canonical != *source)
        {
            Some(SkipReason::NotCanonical)
        } else if extracted.text.is_empty() {
            Some(SkipReason::Empty)
        } else {
            None
        }
    }

    /// Those of some addresses that are pages of the site.
    fn pages(&self, addresses: &[String]) -> Vec<Url> {
        addresses
            .iter()
            .filter_map(|address| self.site.page(&address.parse().ok()?))
            .collect()
    }
}
