//! One request of a crawl: its redirects, its limits, its pace.

use std::time::Duration;

use bytes::{Bytes, BytesMut};
use reqwest::{
    Method, Response, StatusCode,
    header::{
        ACCEPT, ETAG, IF_MODIFIED_SINCE, IF_NONE_MATCH, LAST_MODIFIED, LOCATION, RETRY_AFTER,
    },
};
use tokio::{
    sync::Mutex,
    time::{Instant, sleep, sleep_until, timeout},
};
use url::Url;

use super::{robots::Rules, site::Site};
use crate::{
    clients::{
        guarded::{GuardedClient, Refused},
        http::header,
    },
    knowledge::ingest::SkipReason,
};

/// A page with its redirects and its body takes no longer.
const TIME_LIMIT: Duration = Duration::from_secs(20);
/// The largest page, in bytes.
const MAX_BYTES: usize = 5 * 1024 * 1024;
/// The largest robots.txt (RFC 9309's figure); what is beyond is not read.
const MAX_ROBOTS_BYTES: usize = 500 * 1024;
/// The most redirects of one page.
const MAX_REDIRECTS: usize = 5;
/// A request that fails as if it could succeed is repeated once, after this long, or as long as the
/// server says up to [`LONGEST_RETRY_WAIT`].
const RETRY_WAIT: Duration = Duration::from_secs(1);
const LONGEST_RETRY_WAIT: Duration = Duration::from_secs(15);
/// What we read.
const ACCEPTED: &str =
    "text/html, application/xhtml+xml, text/markdown, text/plain;q=0.9, application/pdf;q=0.9";

/// What is asked for.
#[derive(Debug, Clone, Copy)]
pub(in crate::knowledge) enum Wanted<'w> {
    /// A page, if it is newer than what is known of it.
    Page {
        /// Where redirects must not lead.
        rules: Option<&'w Rules>,
        etag: Option<&'w str>,
        last_modified: Option<&'w str>,
    },
    /// A robots.txt.
    Robots,
    /// A sitemap.
    Sitemap,
}

impl Wanted<'_> {
    /// The same, whatever is known: what is known is of the address that redirected.
    fn whatever_is_known(self) -> Self {
        match self {
            Self::Page { rules, .. } => Self::Page {
                rules,
                etag: None,
                last_modified: None,
            },
            other => other,
        }
    }
}

/// What came back.
#[derive(Debug)]
pub(in crate::knowledge) enum Fetched {
    Got(Box<Got>),
    /// 304.
    NotModified,
    /// 404 or 410.
    Gone,
    /// It redirects to another host.
    Elsewhere,
    Failed(SkipReason),
}

/// A body and what was said of it.
#[derive(Debug)]
pub(in crate::knowledge) struct Got {
    /// Where it was found in the end.
    pub(in crate::knowledge) url: Url,
    pub(in crate::knowledge) body: Bytes,
    /// Without its parameters; empty if there is none.
    pub(in crate::knowledge) content_type: String,
    pub(in crate::knowledge) charset: Option<String>,
    pub(in crate::knowledge) etag: Option<String>,
    pub(in crate::knowledge) last_modified: Option<String>,
    /// `X-Robots-Tag`.
    pub(in crate::knowledge) noindex: bool,
}

/// Asks for pages, one request after another at a polite pace.
#[derive(Debug)]
pub(in crate::knowledge) struct Fetcher {
    client: GuardedClient,
    time_limit: Duration,
    pace: Mutex<Pace>,
}

#[derive(Debug)]
struct Pace {
    interval: Duration,
    next: Instant,
}

impl Fetcher {
    /// At most one request in every `interval`.
    pub(in crate::knowledge) fn new(client: GuardedClient, interval: Duration) -> Self {
        let pace = Pace {
            interval,
            next: Instant::now(),
        };
        Self {
            client,
            time_limit: TIME_LIMIT,
            pace: Mutex::new(pace),
        }
    }

    /// Slower from now on, if `interval` is longer.
    pub(in crate::knowledge) async fn slow_down(&self, interval: Duration) {
        let mut pace = self.pace.lock().await;
        pace.interval = pace.interval.max(interval);
    }

    /// Asks for an address of the site, following redirects on it.
    pub(in crate::knowledge) async fn fetch(
        &self,
        site: &Site,
        url: &Url,
        wanted: Wanted<'_>,
    ) -> Fetched {
        let (mut fetched, mut retry) = self.attempt(site, url, wanted).await;
        if let Some(wait) = retry.take() {
            sleep(wait).await;
            (fetched, _) = self.attempt(site, url, wanted).await;
        }
        fetched
    }

    /// Gives with what came back how long to wait before another attempt, if one may help.
    async fn attempt(
        &self,
        site: &Site,
        url: &Url,
        wanted: Wanted<'_>,
    ) -> (Fetched, Option<Duration>) {
        let mut url = url.clone();
        // The wait for our own pace is not the server's time.
        let mut spent = Duration::ZERO;
        let mut wanted = wanted;
        for _ in 0..=MAX_REDIRECTS {
            self.wait().await;
            let begun = Instant::now();
            let hop = timeout(
                self.time_limit.saturating_sub(spent),
                self.hop(&url, wanted),
            )
            .await;
            spent += begun.elapsed();
            match hop {
                Err(_) => return (Fetched::Failed(SkipReason::TooSlow), None),
                Ok(Hop::Redirect(next)) if !site.has(&next) => return (Fetched::Elsewhere, None),
                Ok(Hop::Redirect(next)) => {
                    if let Wanted::Page {
                        rules: Some(rules), ..
                    } = wanted
                        && !rules.allow(&next)
                    {
                        return (Fetched::Failed(SkipReason::Disallowed), None);
                    }
                    url = next;
                    wanted = wanted.whatever_is_known();
                }
                Ok(Hop::End(fetched)) => return (fetched, None),
                Ok(Hop::Retry(fetched, wait)) => return (fetched, Some(wait)),
            }
        }
        (Fetched::Failed(SkipReason::Redirects), None)
    }

    async fn wait(&self) {
        let until = {
            let mut pace = self.pace.lock().await;
            let until = pace.next.max(Instant::now());
            pace.next = until + pace.interval;
            until
        };
        sleep_until(until).await;
    }

    async fn hop(&self, url: &Url, wanted: Wanted<'_>) -> Hop {
        let mut request = match self.client.request(Method::GET, url) {
            Ok(request) => request,
            Err(refused) => return Hop::End(Fetched::Failed(refused.into())),
        };
        if let Wanted::Page {
            etag,
            last_modified,
            ..
        } = wanted
        {
            request = request.header(ACCEPT, ACCEPTED);
            if let Some(etag) = etag {
                request = request.header(IF_NONE_MATCH, etag);
            }
            if let Some(last_modified) = last_modified {
                request = request.header(IF_MODIFIED_SINCE, last_modified);
            }
        }
        let response = match request.send().await {
            Ok(response) => response,
            Err(error) => {
                return match Refused::behind(&error) {
                    Some(refused) => Hop::End(Fetched::Failed(refused.into())),
                    None => Hop::Retry(Fetched::Failed(SkipReason::Unreachable), RETRY_WAIT),
                };
            }
        };
        let status = response.status();
        match status {
            StatusCode::NOT_MODIFIED => Hop::End(Fetched::NotModified),
            StatusCode::NOT_FOUND | StatusCode::GONE => Hop::End(Fetched::Gone),
            _ if status.is_success() => self.body(url, response, wanted).await,
            _ if status.is_redirection() => {
                let target = header(response.headers(), LOCATION.as_str());
                match target.and_then(|target| url.join(target).ok()) {
                    Some(target) => Hop::Redirect(target),
                    None => Hop::End(Fetched::Failed(SkipReason::Status(status.as_u16()))),
                }
            }
            _ => {
                let failed = Fetched::Failed(SkipReason::Status(status.as_u16()));
                match status.as_u16() {
                    408 | 429 | 500.. => Hop::Retry(failed, retry_wait(&response)),
                    _ => Hop::End(failed),
                }
            }
        }
    }

    async fn body(&self, url: &Url, mut response: Response, wanted: Wanted<'_>) -> Hop {
        let headers = response.headers();
        let (content_type, charset) =
            content_type(header(headers, "content-type").unwrap_or_default());
        let noindex = headers.get_all("x-robots-tag").iter().any(|value| {
            let value = value.to_str().unwrap_or_default().to_ascii_lowercase();
            let mut words = value.split([',', ' ', ':']).map(str::trim);
            words.any(|word| matches!(word, "noindex" | "none"))
        });
        let etag = header(headers, ETAG.as_str()).map(str::to_owned);
        let last_modified = header(headers, LAST_MODIFIED.as_str()).map(str::to_owned);
        let (limit, is_cut) = match wanted {
            Wanted::Robots => (MAX_ROBOTS_BYTES, true),
            Wanted::Page { .. } | Wanted::Sitemap => (MAX_BYTES, false),
        };
        let announced = response.content_length().unwrap_or_default();
        if !is_cut && usize::try_from(announced).map_or(true, |announced| announced > limit) {
            return Hop::End(Fetched::Failed(SkipReason::TooLarge));
        }
        let mut body = BytesMut::new();
        loop {
            match response.chunk().await {
                Ok(Some(part)) if body.len() + part.len() <= limit => body.extend_from_slice(&part),
                Ok(Some(part)) if is_cut => {
                    body.extend_from_slice(&part[..limit - body.len()]);
                    break;
                }
                Ok(Some(_)) => return Hop::End(Fetched::Failed(SkipReason::TooLarge)),
                Ok(None) => break,
                Err(_) => {
                    return Hop::Retry(Fetched::Failed(SkipReason::Unreachable), RETRY_WAIT);
                }
            }
        }
        Hop::End(Fetched::Got(Box::new(Got {
            url: url.clone(),
            body: body.freeze(),
            content_type,
            charset,
            etag,
            last_modified,
            noindex,
        })))
    }
}

enum Hop {
    Redirect(Url),
    End(Fetched),
    Retry(Fetched, Duration),
}

fn retry_wait(response: &Response) -> Duration {
    header(response.headers(), RETRY_AFTER.as_str())
        .and_then(|seconds| seconds.trim().parse().ok())
        .map_or(RETRY_WAIT, Duration::from_secs)
        .min(LONGEST_RETRY_WAIT)
}

/// `text/html; charset="utf-8"` in its two parts.
fn content_type(value: &str) -> (String, Option<String>) {
    let mut parts = value.split(';');
    let essence = parts.next().unwrap_or_default().trim().to_ascii_lowercase();
    let charset = parts.find_map(|parameter| {
        let (name, value) = parameter.split_once('=')?;
        let is_charset = name.trim().eq_ignore_ascii_case("charset");
        is_charset.then(|| value.trim().trim_matches('"').to_owned())
    });
    (essence, charset)
}

#[cfg(test)]
mod tests;
