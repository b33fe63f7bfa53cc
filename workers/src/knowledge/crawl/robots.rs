//! What a site allows: its robots.txt (RFC 9309, with `Crawl-delay` and `Sitemap`).

use std::time::Duration;

use robotxt::{AccessResult, Robots};
use url::Url;

use super::{
    fetch::{Fetched, Fetcher, Wanted},
    site::Site,
};
use crate::knowledge::ingest::SkipReason;

/// Our name there.
const AGENT: &str = "growth-chat";
/// A longer delay between two requests than this is not kept: the crawl would take days.
const LONGEST_DELAY: Duration = Duration::from_secs(30);

/// What a site allows.
#[derive(Debug)]
pub(in crate::knowledge) struct Rules(Robots);

impl Rules {
    /// Asks the site. One without a robots.txt allows everything; from one that can't be had we stay
    /// away.
    pub(in crate::knowledge) async fn of(
        fetcher: &Fetcher,
        site: &Site,
        start: &Url,
    ) -> Result<Self, SkipReason> {
        let Ok(address) = robotxt::robots_url(start) else {
            return Err(SkipReason::RobotsUnreachable);
        };
        match fetcher.fetch(site, &address, Wanted::Robots).await {
            Fetched::Got(got) => Ok(Self::read(&got.body)),
            // 4xx, or one that redirects elsewhere: there is none.
            Fetched::Gone | Fetched::Elsewhere => Ok(Self(Robots::allow_all())),
            Fetched::Failed(SkipReason::Status(400..=428 | 430..=499) | SkipReason::Redirects) => {
                Ok(Self(Robots::allow_all()))
            }
            // That the site itself must not be reached says more.
            Fetched::Failed(refused @ SkipReason::Refused(_)) => Err(refused),
            Fetched::Failed(_) | Fetched::NotModified => Err(SkipReason::RobotsUnreachable),
        }
    }

    fn read(body: &[u8]) -> Self {
        Self(Robots::from_access(AccessResult::Successful(body), AGENT))
    }

    /// Whether a page may be asked for.
    pub(in crate::knowledge) fn allow(&self, url: &Url) -> bool {
        self.0.is_url_allowed(url)
    }

    /// How long to wait between two requests, if it says.
    pub(in crate::knowledge) fn delay(&self) -> Option<Duration> {
        self.0.crawl_delay().map(|delay| delay.min(LONGEST_DELAY))
    }

    /// The sitemaps that it names.
    pub(in crate::knowledge) fn sitemaps(&self) -> &[Url] {
        self.0.sitemaps()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn allows(robots: &str, path: &str) -> bool {
        let url = format!("https://example.org{path}").parse().unwrap();
        Rules::read(robots.as_bytes()).allow(&url)
    }

    #[test]
    fn our_own_group_counts_and_else_everybodys() {
        let robots = "User-agent: *\nDisallow: /\n\nUser-agent: Growth-Chat\nDisallow: /cart\n";
        assert!(allows(robots, "/about"));
        assert!(!allows(robots, "/cart/1"));
        let robots = "User-agent: other\nDisallow: /\n\nUser-agent: *\nDisallow: /cart\n";
        assert!(allows(robots, "/about"));
        assert!(!allows(robots, "/cart"));
    }

    #[test]
    fn the_longest_rule_wins_and_an_allow_among_equals() {
        let robots = "User-agent: *\nDisallow: /docs\nAllow: /docs/public\nDisallow: /*.pdf$\n";
        assert!(!allows(robots, "/docs/x"));
        assert!(allows(robots, "/docs/public/x"));
        assert!(!allows(robots, "/a.pdf"));
        assert!(allows(robots, "/a.pdf?b"));
        assert!(allows("User-agent: *\nDisallow: /a\nAllow: /a\n", "/a"));
        assert!(allows("User-agent: *\nDisallow:\n", "/a"));
    }

    #[test]
    fn a_delay_is_kept_within_reason() {
        let delay = |text: &str| Rules::read(text.as_bytes()).delay();
        assert_eq!(
            delay("User-agent: *\nCrawl-delay: 2\n"),
            Some(Duration::from_secs(2))
        );
        assert_eq!(
            delay("User-agent: *\nCrawl-delay: 99999999\n"),
            Some(LONGEST_DELAY)
        );
        assert_eq!(delay("User-agent: *\nDisallow: /a\n"), None);
        assert_eq!(delay("User-agent: *\nCrawl-delay: -5\n"), None);
    }

    #[test]
    fn anything_can_stand_in_it() {
        for junk in [
            &b"\xff\xfe\0\0"[..],
            b"<html>404</html>",
            b"",
            b"Disallow: /",
            &"a".repeat(600_000).into_bytes(),
        ] {
            assert!(Rules::read(junk).allow(&"https://example.org/a".parse().unwrap()));
        }
    }
}
