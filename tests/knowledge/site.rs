//! A site is crawled as its owner wants it to be, and as nobody can misuse it.

use std::collections::BTreeSet;

use sandbox::site::{Page, Site};

use super::{chunks, documents, sources};
use crate::support::TestSystem;

fn page(title: &str, text: &str, links: &[&str]) -> Page {
    let links: Vec<String> = links
        .iter()
        .map(|link| format!("<a href='{link}'>link</a>"))
        .collect();
    let links = links.join(" ");
    Page::html(format!(
        "<html><head><title>{title} | Site</title></head><body><nav>{links}</nav>
         <main><h1>{title}</h1><p>{text}</p></main></body></html>"
    ))
}

/// Crawls with the arguments of a test.
async fn crawl(system: &TestSystem, start: &str) -> (bool, String) {
    system.run_index(&[start, "--rate", "100"]).await
}

/// A site with something of everything.
async fn varied_site() -> Site {
    let site = Site::start().await.unwrap();
    site.put(
        "/robots.txt",
        Page::of(
            "text/plain",
            format!(
                "User-agent: *\nDisallow: /private\n\nSitemap: {}\n",
                site.url("/maps.xml")
            ),
        ),
    );
    let index = format!(
        "<sitemapindex><sitemap><loc>{}</loc></sitemap></sitemapindex>",
        site.url("/map.xml")
    );
    site.put("/maps.xml", Page::of("application/xml", index));
    let map = format!(
        "<urlset><url><loc>{}</loc></url><url><loc>https://elsewhere.example/</loc></url></urlset>",
        site.url("/orphan")
    );
    site.put("/map.xml", Page::of("application/xml", map));
    site.put(
        "/",
        page(
            "Start",
            "Welcome to the start of it all.",
            &[
                "/a",
                "/a?utm_source=x#part",
                "/private/b",
                "/old",
                "/secret",
                "/copy",
                "/file.txt",
                "/picture.png",
                "/picture",
                "/broken-off",
                "https://elsewhere.example/",
                "mailto:a@example.org",
            ],
        ),
    );
    site.put("/a", page("A", "The page about apples.", &["/deep", "/"]));
    site.put("/deep", page("Deep", "The page about depths.", &[]));
    site.put(
        "/orphan",
        page("Orphan", "The page that only the sitemap knows.", &[]),
    );
    site.put("/old", Page::redirect("/new"));
    site.put("/new", page("New", "The page that moved.", &[]));
    site.put(
        "/private/b",
        page("Private", "The page about secrets.", &[]),
    );
    site.put(
        "/secret",
        Page::html("<meta name=robots content=noindex><p>Hidden.<a href=/behind>B</a>"),
    );
    site.put("/behind", page("Behind", "The page behind.", &[]));
    site.put(
        "/copy",
        Page::html("<link rel=canonical href=/a><p>The page about apples."),
    );
    let file = Page::of(
        "text/plain; charset=iso-8859-1",
        &b"A file for \xfcber."[..],
    );
    site.put("/file.txt", file);
    site.put("/picture", Page::of("image/png", "PNG"));
    site
}

#[tokio::test]
async fn a_site_is_crawled_by_its_links_and_sitemaps_and_as_it_allows() {
    let system = TestSystem::new().await;
    let site = varied_site().await;
    let (success, told) = crawl(&system, &site.url("/")).await;
    assert!(success, "{told}");

    let pool = system.pool().await;
    let expected = [
        "/",
        "/a",
        "/behind",
        "/deep",
        "/file.txt",
        "/new",
        "/orphan",
    ];
    assert_eq!(sources(&pool).await, expected.map(|path| site.url(path)));
    let start = &documents(&pool).await[0];
    assert_eq!(start.1, "Start");
    assert_eq!(
        chunks(&pool, &site.url("/a")).await,
        ["# A\n\nThe page about apples."]
    );
    assert_eq!(
        chunks(&pool, &site.url("/file.txt")).await,
        ["A file for über."]
    );
    for line in [
        "/private/b is not to be crawled",
        "/secret asks not to be indexed",
        "/copy names another page",
        "/picture is of a format",
    ] {
        assert!(told.contains(line), "{line}: {told}");
    }
    let asked = site.paths();
    let once: BTreeSet<&String> = asked.iter().collect();
    assert_eq!(asked.len(), once.len(), "{asked:?}");
    for never in ["/private/b", "/picture.png", "/sitemap.xml"] {
        assert!(!asked.iter().any(|path| path == never), "{never}");
    }
    assert_eq!(asked[0], "/robots.txt");
}

#[tokio::test]
async fn a_second_crawl_asks_for_what_is_newer_and_removes_what_is_gone() {
    let system = TestSystem::new().await;
    let site = Site::start().await.unwrap();
    let start = page("Start", "Welcome.", &["/a", "/b"]).with("etag", "\"1\"");
    site.put("/", start.clone());
    site.put(
        "/a",
        page("A", "About apples.", &["/c"]).with("etag", "\"a\""),
    );
    site.put("/b", page("B", "About bees.", &[]));
    site.put("/c", page("C", "About clouds.", &[]));
    assert!(crawl(&system, &site.url("/")).await.0);
    let pool = system.pool().await;
    assert_eq!(sources(&pool).await.len(), 4);

    // One page changes, one is gone, one has lost its only link.
    let calls = system.openai.calls();
    site.put("/b", page("B", "About bears.", &[]));
    site.put("/a", page("A", "About apples.", &[]).with("etag", "\"b\""));
    site.forget();
    let (success, told) = crawl(&system, &site.url("/")).await;
    assert!(success && told.contains("indexed            1"), "{told}");
    assert!(told.contains("unchanged          3"), "{told}");
    assert_eq!(system.openai.calls(), calls + 1);
    assert_eq!(
        chunks(&pool, &site.url("/b")).await,
        ["# B\n\nAbout bears."]
    );
    let first = site
        .received()
        .into_iter()
        .find(|it| it.path == "/")
        .unwrap();
    assert_eq!(first.headers["if-none-match"], "\"1\"");

    // A page that fails keeps its document, and so does everything else while the crawl is not whole.
    site.remove("/c");
    site.put("/b", Page::status(500));
    let (success, told) = crawl(&system, &site.url("/")).await;
    assert!(
        !success && told.contains("/b answered with status 500"),
        "{told}"
    );
    assert_eq!(sources(&pool).await.len(), 4);

    site.put("/b", page("B", "About bears.", &[]));
    let (success, told) = crawl(&system, &site.url("/")).await;
    assert!(success && told.contains("removed            1"), "{told}");
    let expected = ["/", "/a", "/b"];
    assert_eq!(sources(&pool).await, expected.map(|path| site.url(path)));
}

#[tokio::test]
async fn a_crawl_ends_at_its_limits_and_says_so() {
    let system = TestSystem::new().await;
    let site = Site::start().await.unwrap();
    for number in 0..8 {
        let links = [format!("/{}", number + 1), format!("/{number}/endless")];
        let links: Vec<&str> = links.iter().map(String::as_str).collect();
        site.put(
            &format!("/{number}"),
            page("P", &format!("Page {number}."), &links),
        );
    }
    site.put(
        "/robots.txt",
        Page::of("text/plain", "User-agent: *\nDisallow: /*/endless\n"),
    );
    let start = site.url("/0");
    let (success, told) = system
        .run_index(&[&start, "--rate", "100", "--max-depth", "2"])
        .await;
    assert!(
        success && told.contains("deeper than --max-depth"),
        "{told}"
    );
    let pool = system.pool().await;
    assert_eq!(sources(&pool).await.len(), 3);
    let (success, told) = system
        .run_index(&[&start, "--rate", "100", "--max-pages", "4"])
        .await;
    assert!(
        success && told.contains("more pages than --max-pages"),
        "{told}"
    );
    assert!(sources(&pool).await.len() <= 4);

    // A page by itself leaves everything else alone.
    site.forget();
    let (success, told) = system
        .run_index(&[&site.url("/7"), "--max-depth", "0"])
        .await;
    assert!(success, "{told}");
    assert_eq!(site.paths(), ["/robots.txt", "/7"]);
    assert!(sources(&pool).await.contains(&site.url("/7")));
}

#[tokio::test]
async fn a_hostile_page_is_left_out_and_the_rest_is_indexed() {
    let system = TestSystem::new().await;
    let site = Site::start().await.unwrap();
    site.put(
        "/",
        page(
            "Start",
            "Welcome.",
            &["/loop", "/huge", "/cut", "/deep", "/out", "/fine"],
        ),
    );
    site.put("/loop", Page::redirect("/loop"));
    site.put("/huge", Page::html("<p>word ".repeat(1024)).endless());
    site.put("/cut", Page::html("<p>half").cut());
    site.put("/deep", Page::html("<div>".repeat(2_000)));
    site.put(
        "/out",
        Page::redirect("http://169.254.169.254/latest/meta-data"),
    );
    site.put("/fine", page("Fine", "A fine page.", &[]));
    let (success, told) = crawl(&system, &site.url("/")).await;
    assert!(!success, "{told}");
    for line in [
        "/loop redirects too often",
        "/huge is larger than 5 MB",
        "/cut can't be reached",
        "/deep is empty",
    ] {
        assert!(told.contains(line), "{line}: {told}");
    }
    let pool = system.pool().await;
    assert_eq!(
        sources(&pool).await,
        ["/", "/fine"].map(|path| site.url(path))
    );
}

#[tokio::test]
async fn a_private_address_is_not_reached_unless_it_is_exempt() {
    let mut system = TestSystem::new().await;
    let site = Site::start().await.unwrap();
    site.put("/", page("Start", "Welcome.", &[]));
    system.set("ENVIRONMENT", "staging");
    for address in [
        site.url("/"),
        format!("http://localhost:{}/", site.port()),
        format!("http://[::ffff:127.0.0.1]:{}/", site.port()),
    ] {
        let (success, told) = crawl(&system, &address).await;
        assert!(
            !success && told.contains("leads to a private address"),
            "{address}: {told}"
        );
    }
    assert_eq!(site.paths().len(), 0);
    system.set("ALLOW_PRIVATE_ADDRESSES", "10.0.0.0/8, 127.0.0.1");
    let (success, told) = crawl(&system, &site.url("/")).await;
    assert!(success, "{told}");
}

#[tokio::test]
async fn a_site_whose_robots_txt_can_not_be_had_is_left_alone() {
    let system = TestSystem::new().await;
    let site = Site::start().await.unwrap();
    site.put("/", page("Start", "Welcome.", &[]));
    site.put("/robots.txt", Page::status(500).with("retry-after", "0"));
    let (success, told) = crawl(&system, &site.url("/")).await;
    assert!(
        !success && told.contains("its robots.txt can't be had"),
        "{told}"
    );
    assert_eq!(site.paths(), ["/robots.txt", "/robots.txt"]);
}
