//! What a site says it has: sitemaps and indexes of sitemaps, plain or packed by gzip.

use std::io::Read;

use flate2::read::MultiGzDecoder;
use quick_xml::{Reader, events::Event};
use url::Url;

/// The most addresses of one sitemap (the protocol's limit).
const MAX_ADDRESSES: usize = 50_000;
/// The most bytes of one, unpacked. The protocol's limit is 50 MB, the addresses of which nobody asks
/// for in one crawl.
const MAX_BYTES: u64 = 16 * 1024 * 1024;

/// The addresses in a sitemap.
#[derive(Debug, Default, PartialEq, Eq)]
pub(in crate::knowledge) struct Sitemap {
    pub(in crate::knowledge) pages: Vec<Url>,
    pub(in crate::knowledge) sitemaps: Vec<Url>,
}

/// It is not a sitemap.
#[derive(Debug, PartialEq, Eq)]
pub(in crate::knowledge) struct NoSitemap;

/// Reads a sitemap; what comes after an error in it is left out.
pub(in crate::knowledge) fn read(bytes: &[u8]) -> Result<Sitemap, NoSitemap> {
    let mut unpacked = Vec::new();
    let bytes = if bytes.starts_with(&[0x1f, 0x8b]) {
        // One that is cut off still has a beginning.
        let _ = MultiGzDecoder::new(bytes)
            .take(MAX_BYTES)
            .read_to_end(&mut unpacked);
        unpacked.as_slice()
    } else {
        bytes
    };
    let text = String::from_utf8_lossy(bytes);
    let text = text.trim_start_matches('\u{feff}').trim_start();
    if text.starts_with('<') {
        xml(text)
    } else {
        lines(text)
    }
}

/// The plain form: an address a line.
fn lines(text: &str) -> Result<Sitemap, NoSitemap> {
    let pages: Vec<Url> = text
        .lines()
        .take(MAX_ADDRESSES)
        .filter_map(|line| line.trim().parse().ok())
        .collect();
    if pages.is_empty() {
        return Err(NoSitemap);
    }
    Ok(Sitemap {
        pages,
        sitemaps: Vec::new(),
    })
}

fn xml(text: &str) -> Result<Sitemap, NoSitemap> {
    let mut reader = Reader::from_str(text);
    reader.config_mut().check_end_names = false;
    let mut found = Sitemap::default();
    let mut is_index = None;
    // The text of the `<loc>` that is open.
    let mut address: Option<String> = None;
    while let Ok(event) = reader.read_event() {
        match event {
            Event::Start(start) => match start.local_name().as_ref() {
                "urlset" => is_index = is_index.or(Some(false)),
                "sitemapindex" => is_index = is_index.or(Some(true)),
                "loc" => address = Some(String::new()),
                _ => {}
            },
            Event::Text(text) => {
                if let Some(address) = &mut address {
                    address.push_str(&text.xml10_content());
                }
            }
            Event::CData(text) => {
                if let Some(address) = &mut address {
                    address.push_str(&text.xml10_content());
                }
            }
            Event::GeneralRef(name) => {
                if let Some(address) = &mut address {
                    let sign = match name.resolve_char_ref() {
                        Ok(Some(sign)) => Some(sign),
                        _ => match &*name.xml10_content() {
                            "amp" => Some('&'),
                            "lt" => Some('<'),
                            "gt" => Some('>'),
                            "quot" => Some('"'),
                            "apos" => Some('\''),
                            _ => None,
                        },
                    };
                    address.extend(sign);
                }
            }
            Event::End(end) if end.local_name().as_ref() == "loc" => {
                let url = address.take().and_then(|text| text.trim().parse().ok());
                let of_kind = if is_index == Some(true) {
                    &mut found.sitemaps
                } else {
                    &mut found.pages
                };
                of_kind.extend(url);
                if of_kind.len() == MAX_ADDRESSES {
                    break;
                }
            }
            Event::Eof => break,
            _ => {}
        }
    }
    is_index.map(|_| found).ok_or(NoSitemap)
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use flate2::{Compression, write::GzEncoder};

    use super::*;

    fn texts(urls: &[Url]) -> Vec<&str> {
        urls.iter().map(Url::as_str).collect()
    }

    const PAGES: &str = r#"<?xml version="1.0" encoding="UTF-8"?>
        <!-- made by hand -->
        <urlset xmlns="http://www.sitemaps.org/schemas/sitemap/0.9" xmlns:image="http://x.org/i">
          <url><loc> https://example.org/a?b=1&amp;c=2 </loc><lastmod>2026-01-01</lastmod>
               <image:image><image:title>https://example.org/no</image:title></image:image></url>
          <url><loc><![CDATA[https://example.org/b]]></loc></url>
          <url><loc>https://example.org/&#x63;</loc></url>
          <url><loc>not an address</loc></url>
        </urlset>"#;

    #[test]
    fn pages_are_read_plain_and_packed() {
        let plain = read(PAGES.as_bytes()).unwrap();
        assert_eq!(
            texts(&plain.pages),
            [
                "https://example.org/a?b=1&c=2",
                "https://example.org/b",
                "https://example.org/c"
            ]
        );
        assert_eq!(plain.sitemaps, []);
        let mut packed = GzEncoder::new(Vec::new(), Compression::fast());
        packed.write_all(PAGES.as_bytes()).unwrap();
        assert_eq!(read(&packed.finish().unwrap()), Ok(plain));
    }

    #[test]
    fn an_index_leads_to_sitemaps() {
        let index = "<sitemapindex><sitemap><loc>https://example.org/1.xml.gz</loc></sitemap></sitemapindex>";
        let index = read(index.as_bytes()).unwrap();
        assert_eq!(texts(&index.sitemaps), ["https://example.org/1.xml.gz"]);
        assert_eq!(index.pages, []);
    }

    #[test]
    fn a_list_of_lines_is_a_sitemap_and_a_page_is_not() {
        let lines = read(b"https://example.org/a\nhttps://example.org/b\n").unwrap();
        assert_eq!(lines.pages.len(), 2);
        assert_eq!(
            read(b"<!doctype html><html><body>Not found</body></html>"),
            Err(NoSitemap)
        );
        assert_eq!(read(b"nothing here"), Err(NoSitemap));
        assert_eq!(read(b""), Err(NoSitemap));
        assert_eq!(read(b"\x1f\x8bjunk"), Err(NoSitemap));
    }

    #[test]
    fn one_that_breaks_off_or_never_ends_is_read_so_far() {
        let broken = &PAGES[..PAGES.find("<![CDATA").unwrap() + 12];
        assert_eq!(read(broken.as_bytes()).unwrap().pages.len(), 1);
        // Entities are not expanded.
        let bomb = r#"<!DOCTYPE x [<!ENTITY a "https://e.org/">]><urlset><url><loc>&a;</loc></url></urlset>"#;
        assert_eq!(read(bomb.as_bytes()).unwrap().pages, []);
        let mut packed = GzEncoder::new(Vec::new(), Compression::best());
        packed.write_all(b"<urlset>").unwrap();
        let zeros = vec![b' '; 1024 * 1024];
        for _ in 0..64 {
            packed.write_all(&zeros).unwrap();
        }
        assert_eq!(read(&packed.finish().unwrap()), Ok(Sitemap::default()));
    }
}
