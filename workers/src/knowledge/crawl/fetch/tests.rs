use sandbox::site::{Page, Site as Served};

use super::*;
use crate::clients::guarded::AddressRules;

const PAGE: Wanted<'_> = Wanted::Page {
    rules: None,
    etag: None,
    last_modified: None,
};

struct World {
    served: Served,
    fetcher: Fetcher,
}

impl World {
    async fn new() -> Self {
        let _ = rustls::crypto::ring::default_provider().install_default();
        let rules = AddressRules {
            loopback: true,
            ..AddressRules::default()
        };
        let client = GuardedClient::new(rules).unwrap();
        Self {
            served: Served::start().await.unwrap(),
            fetcher: Fetcher::new(client, Duration::ZERO),
        }
    }

    fn url(&self, path: &str) -> Url {
        self.served.url(path).parse().unwrap()
    }

    async fn fetch(&self, path: &str, wanted: Wanted<'_>) -> Fetched {
        let url = self.url(path);
        let site = Site::of(&url).unwrap();
        self.fetcher.fetch(&site, &url, wanted).await
    }

    /// Why a page could not be had.
    async fn failure(&self, path: &str) -> SkipReason {
        match self.fetch(path, PAGE).await {
            Fetched::Failed(reason) => reason,
            other => panic!("{other:?}"),
        }
    }
}

#[test]
fn a_content_type_is_taken_apart() {
    for (value, essence, charset) in [
        ("Text/HTML", "text/html", None),
        (
            "text/html; charset=\"ISO-8859-1\"",
            "text/html",
            Some("ISO-8859-1"),
        ),
        (
            "text/plain;format=flowed; Charset=utf-8",
            "text/plain",
            Some("utf-8"),
        ),
        ("", "", None),
    ] {
        let (found, of) = content_type(value);
        assert_eq!(
            (found.as_str(), of.as_deref()),
            (essence, charset),
            "{value}"
        );
    }
}

#[tokio::test]
async fn a_page_comes_with_what_was_said_of_it_and_is_asked_for_politely() {
    let world = World::new().await;
    let page = Page::of("text/html; charset=latin1", "<p>\u{fc}")
        .with("etag", "\"1\"")
        .with("last-modified", "Sat, 21 Nov 2026 08:00:00 GMT")
        .with("x-robots-tag", "growth-chat: noindex");
    world.served.put("/a", page);
    let Fetched::Got(got) = world.fetch("/a", PAGE).await else {
        panic!("nothing came");
    };
    assert_eq!(
        (got.content_type.as_str(), got.charset.as_deref()),
        ("text/html", Some("latin1"))
    );
    assert_eq!(got.etag.as_deref(), Some("\"1\""));
    assert_eq!(
        got.last_modified.as_deref(),
        Some("Sat, 21 Nov 2026 08:00:00 GMT")
    );
    assert!(got.noindex);
    let known = Wanted::Page {
        rules: None,
        etag: Some("\"1\""),
        last_modified: None,
    };
    assert!(matches!(
        world.fetch("/a", known).await,
        Fetched::NotModified
    ));
    // What is known of a page is not known of another one that it redirects to.
    world.served.put("/moved", Page::redirect("/a"));
    assert!(matches!(
        world.fetch("/moved", known).await,
        Fetched::Got(_)
    ));
    let received = world.served.received();
    let agent = received[0].headers["user-agent"].to_str().unwrap();
    assert!(agent.starts_with("growth-chat/"), "{agent}");
}

#[tokio::test]
async fn redirects_are_followed_on_the_site_and_not_for_ever() {
    let world = World::new().await;
    world.served.put("/a", Page::redirect("b"));
    world.served.put("/b", Page::redirect("/c?d"));
    world.served.put("/c?d", Page::html("<p>Text."));
    let Fetched::Got(got) = world.fetch("/a", PAGE).await else {
        panic!("nothing came");
    };
    assert_eq!(got.url, world.url("/c?d"));
    world.served.put("/loop", Page::redirect("/loop"));
    world.served.forget();
    assert_eq!(world.failure("/loop").await, SkipReason::Redirects);
    assert_eq!(world.served.received().len(), MAX_REDIRECTS + 1);
    for elsewhere in [
        "http://169.254.169.254/latest/meta-data",
        "http://10.0.0.1/",
        "http://localhost/",
        "//other.example/",
        "file:///etc/passwd",
    ] {
        world.served.put("/out", Page::redirect(elsewhere));
        assert!(
            matches!(world.fetch("/out", PAGE).await, Fetched::Elsewhere),
            "{elsewhere}"
        );
    }
    world.served.put("/nowhere", Page::status(302));
    assert_eq!(world.failure("/nowhere").await, SkipReason::Status(302));
}

#[tokio::test]
async fn a_page_that_is_too_large_or_never_ends_is_left_out() {
    let world = World::new().await;
    world
        .served
        .put("/large", Page::html(vec![b'a'; MAX_BYTES + 1]));
    world
        .served
        .put("/endless", Page::html(vec![b'a'; 64 * 1024]).endless());
    world
        .served
        .put("/largest", Page::html(vec![b'a'; MAX_BYTES]));
    assert_eq!(world.failure("/large").await, SkipReason::TooLarge);
    assert_eq!(world.failure("/endless").await, SkipReason::TooLarge);
    assert!(matches!(
        world.fetch("/largest", PAGE).await,
        Fetched::Got(_)
    ));
    // Of a robots.txt the beginning counts.
    world.served.put(
        "/robots.txt",
        Page::of("text/plain", vec![b'#'; 1024]).endless(),
    );
    match world.fetch("/robots.txt", Wanted::Robots).await {
        Fetched::Got(got) => assert_eq!(got.body.len(), MAX_ROBOTS_BYTES),
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn a_page_that_takes_too_long_is_left_out() {
    let mut world = World::new().await;
    world.fetcher.time_limit = Duration::from_millis(300);
    world.served.put(
        "/slow",
        Page::html("<p>Text.").after(Duration::from_mins(1)),
    );
    assert_eq!(world.failure("/slow").await, SkipReason::TooSlow);
    // The time is that of all redirects together.
    for number in 0..5 {
        let next = Page::redirect(&format!("/hop{}", number + 1)).after(Duration::from_millis(100));
        world.served.put(&format!("/hop{number}"), next);
    }
    assert_eq!(world.failure("/hop0").await, SkipReason::TooSlow);
}

#[tokio::test]
async fn what_may_heal_is_tried_once_more_and_the_rest_is_not() {
    let world = World::new().await;
    world
        .served
        .put("/busy", Page::status(503).with("retry-after", "0"));
    world.served.put("/forbidden", Page::status(403));
    world.served.put("/gone", Page::status(410));
    world.served.put("/cut", Page::html("<p>half").cut());
    assert_eq!(world.failure("/busy").await, SkipReason::Status(503));
    assert_eq!(world.failure("/forbidden").await, SkipReason::Status(403));
    assert_eq!(world.failure("/cut").await, SkipReason::Unreachable);
    assert!(matches!(world.fetch("/gone", PAGE).await, Fetched::Gone));
    assert!(matches!(world.fetch("/nothing", PAGE).await, Fetched::Gone));
    assert_eq!(
        world.served.paths(),
        [
            "/busy",
            "/busy",
            "/forbidden",
            "/cut",
            "/cut",
            "/gone",
            "/nothing"
        ]
    );
}

#[tokio::test]
async fn requests_keep_their_distance() {
    let mut world = World::new().await;
    world.fetcher.slow_down(Duration::from_millis(50)).await;
    world.fetcher.time_limit = Duration::from_secs(5);
    let begun = Instant::now();
    let requests = (0..5).map(|_| world.fetch("/a", PAGE));
    futures::future::join_all(requests).await;
    assert!(
        begun.elapsed() >= Duration::from_millis(200),
        "{:?}",
        begun.elapsed()
    );
}
