//! One page of a crawl: asked for, read, staged.

use store::knowledge::{Page, remember_page};
use url::Url;

use super::Crawl;
use crate::knowledge::{
    crawl::{
        fetch::{Fetched, Got, Wanted},
        frontier::Next,
    },
    document::{Format, describe, describe_foreign},
    extract::{self, Extracted, Input},
    ingest::{IngestError, SkipReason, walk},
};

/// How many links of a page are remembered for the next crawl, of which it then need not be sent.
const MAX_LINKS: usize = 1_000;

/// What became of a page.
pub(super) enum Visit {
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

impl Crawl<'_> {
    /// Asks for a page and makes a document of it.
    pub(super) async fn visit(&self, next: Next) -> Result<(Next, Visit), IngestError> {
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
