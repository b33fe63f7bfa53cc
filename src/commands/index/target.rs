//! What somebody wants to be indexed: a path, or the address of a site.

use std::{ffi::OsString, path::PathBuf};

use clap::builder::{OsStringValueParser, TypedValueParser};
use url::Url;

/// A path or an address.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Target {
    /// A file or a folder.
    Path(PathBuf),
    /// A site to crawl, from this page on.
    Site(Url),
}

impl Target {
    /// Reads a word of the command line.
    pub(crate) fn parser() -> impl TypedValueParser<Value = Self> {
        OsStringValueParser::new().try_map(Self::of)
    }

    fn of(word: OsString) -> Result<Self, String> {
        let is_address = |text: &str| {
            let text = text.to_ascii_lowercase();
            text.starts_with("http://") || text.starts_with("https://")
        };
        match word.to_str() {
            Some(text) if is_address(text) => text
                .parse()
                .map(Self::Site)
                .map_err(|error: url::ParseError| error.to_string()),
            _ => Ok(Self::Path(word.into())),
        }
    }
}

/// A rate of requests: more than none, and not as many as an attack.
pub(crate) fn parse_rate(text: &str) -> Result<f64, String> {
    text.parse()
        .ok()
        .filter(|rate| (0.01..=100.0).contains(rate))
        .ok_or_else(|| "a number of requests in a second from 0.01 to 100".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_is_told_from_a_path() {
        let site = Target::of("HTTPS://example.org/a".into());
        assert_eq!(
            site,
            Ok(Target::Site("https://example.org/a".parse().unwrap()))
        );
        for path in ["docs", "./http:/x", "https", "ftp://example.org"] {
            assert_eq!(Target::of(path.into()), Ok(Target::Path(path.into())));
        }
        assert!(Target::of("http://".into()).is_err());
    }

    #[test]
    fn a_rate_is_positive_and_polite() {
        assert_eq!(parse_rate("0.5"), Ok(0.5));
        for bad in ["0", "-1", "nan", "inf", "1000", "x"] {
            assert!(parse_rate(bad).is_err(), "{bad}");
        }
    }
}
