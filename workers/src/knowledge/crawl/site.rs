//! Which addresses are pages of a site, and which are the same page.

use url::Url;

/// A longer address is a trap.
const MAX_ADDRESS: usize = 2_000;
/// Parameters that say where a visitor came from and not what they see.
const TRACKING: &[&str] = &["fbclid", "gclid", "mc_cid", "mc_eid", "msclkid", "ref_src"];
/// Endings of what is no document. Whatever else is none says so by its content type.
const NO_DOCUMENTS: &[&str] = &[
    "7z",
    "apk",
    "avi",
    "avif",
    "bmp",
    "bz2",
    "css",
    "csv",
    "dmg",
    "doc",
    "docx",
    "eot",
    "epub",
    "exe",
    "gif",
    "gz",
    "ico",
    "ics",
    "iso",
    "jpeg",
    "jpg",
    "js",
    "json",
    "m4a",
    "map",
    "mjs",
    "mov",
    "mp3",
    "mp4",
    "mpeg",
    "msi",
    "ods",
    "odt",
    "ogg",
    "otf",
    "png",
    "ppt",
    "pptx",
    "rar",
    "rss",
    "svg",
    "tar",
    "tgz",
    "tif",
    "tiff",
    "ttf",
    "wasm",
    "wav",
    "webm",
    "webmanifest",
    "webp",
    "woff",
    "woff2",
    "xls",
    "xlsx",
    "xml",
    "zip",
];

/// One host.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::knowledge) struct Site {
    host: String,
    /// `None`: the scheme's own, so that a site may move its pages from http to https.
    port: Option<u16>,
}

impl Site {
    /// The site that an address is of; `None` if it is not http or https.
    pub(in crate::knowledge) fn of(url: &Url) -> Option<Self> {
        if !matches!(url.scheme(), "http" | "https") {
            return None;
        }
        Some(Self {
            host: url.host_str()?.to_owned(),
            port: url.port(),
        })
    }

    /// Whether an address is on the site.
    pub(in crate::knowledge) fn has(&self, url: &Url) -> bool {
        Self::of(url).as_ref() == Some(self)
    }

    /// A page's address in its one spelling, if it may be one of the site.
    pub(in crate::knowledge) fn page(&self, url: &Url) -> Option<Url> {
        let url = normalise(url);
        let is_page = self.has(&url)
            && url.as_str().len() <= MAX_ADDRESS
            && url.username().is_empty()
            && url.password().is_none()
            && may_be_document(&url);
        is_page.then_some(url)
    }

    /// How the sources of its documents begin, over http and https.
    pub(in crate::knowledge) fn prefixes(&self) -> [String; 2] {
        let port = self
            .port
            .map_or_else(String::new, |port| format!(":{port}"));
        ["http", "https"].map(|scheme| format!("{scheme}://{}{port}/", self.host))
    }
}

/// Without a fragment, parameters of tracking, or a question mark with nothing behind it. What else a
/// spelling can differ in, `Url` has levelled already.
pub(in crate::knowledge) fn normalise(url: &Url) -> Url {
    let mut url = url.clone();
    url.set_fragment(None);
    if url.query().is_some() {
        let is_tracking = |name: &str| name.starts_with("utm_") || TRACKING.contains(&name);
        let query = url.query().unwrap_or_default();
        // The rest stays as it is written: an order or an escape may matter to the server.
        let kept: Vec<&str> = query
            .split('&')
            .filter(|pair| {
                let name = pair.split('=').next().unwrap_or_default();
                !pair.is_empty() && !is_tracking(&name.to_ascii_lowercase())
            })
            .collect();
        let kept = (!kept.is_empty()).then(|| kept.join("&"));
        url.set_query(kept.as_deref());
    }
    url
}

fn may_be_document(url: &Url) -> bool {
    let file = url.path().rsplit('/').next().unwrap_or_default();
    file.rsplit_once('.').is_none_or(|(_, ending)| {
        let ending = ending.to_ascii_lowercase();
        !NO_DOCUMENTS.contains(&ending.as_str())
    })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn url(text: &str) -> Url {
        text.parse().unwrap()
    }

    fn site(text: &str) -> Site {
        Site::of(&url(text)).unwrap()
    }

    #[test]
    fn spellings_of_one_page_are_one() {
        for (spelling, one) in [
            ("HTTPS://Example.ORG:443/a/../b", "https://example.org/b"),
            ("https://example.org/b#part", "https://example.org/b"),
            ("https://example.org/b?", "https://example.org/b"),
            (
                "https://example.org/b?utm_source=x&b=2&a=1&GCLID=3",
                "https://example.org/b?b=2&a=1",
            ),
            ("https://example.org", "https://example.org/"),
            (
                "https://bücher.example/ü",
                "https://xn--bcher-kva.example/%C3%BC",
            ),
        ] {
            assert_eq!(normalise(&url(spelling)).as_str(), one);
        }
        assert_ne!(
            normalise(&url("https://a.org/b")),
            normalise(&url("https://a.org/b/"))
        );
    }

    #[test]
    fn a_site_is_a_host_over_http_and_https() {
        let site = site("https://example.org/start");
        for inside in ["https://example.org/", "http://example.org/a?b"] {
            assert!(site.has(&url(inside)), "{inside}");
        }
        for outside in [
            "https://www.example.org/",
            "https://example.org:8443/",
            "https://example.org.evil.example/",
            "https://evil.example/https://example.org/",
            "mailto:a@example.org",
            "javascript:alert(1)",
        ] {
            assert!(!site.has(&url(outside)), "{outside}");
        }
        assert_eq!(Site::of(&url("file:///etc/passwd")), None);
        let site = Site::of(&url("http://127.0.0.1:8080/")).unwrap();
        assert!(site.has(&url("http://127.0.0.1:8080/a")));
        assert!(!site.has(&url("http://127.0.0.1:9090/a")));
        assert_eq!(site.prefixes()[0], "http://127.0.0.1:8080/");
    }

    #[test]
    fn what_is_no_document_is_no_page() {
        let site = site("https://example.org/");
        for page in ["/", "/a.html", "/a.pdf", "/v1.2", "/a.md", "/a?file=x.png"] {
            let page = url(&format!("https://example.org{page}"));
            assert!(site.page(&page).is_some(), "{page}");
        }
        let long = format!("/{}", "a".repeat(MAX_ADDRESS));
        for other in ["/a.JPG", "/a/b.zip", "/feed.xml", long.as_str()] {
            let other = url(&format!("https://example.org{other}"));
            assert_eq!(site.page(&other), None, "{other}");
        }
        assert_eq!(site.page(&url("https://a:b@example.org/")), None);
    }

    proptest! {
        #[test]
        fn a_normalised_address_is_normal(path in "[a-z/.%]{0,20}", query in "[a-z&=_]{0,30}", fragment in "[a-z]{0,5}") {
            let once = normalise(&url(&format!("https://example.org/{path}?{query}#{fragment}")));
            prop_assert_eq!(normalise(&once), once);
        }
    }
}
