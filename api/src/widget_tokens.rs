//! The site keys that the widget may come with.

use sha2::{Digest, Sha256};
use subtle::{Choice, ConstantTimeEq};

/// Which site key a request came with, as a hash.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct SiteKey(pub(crate) [u8; 32]);

/// The site keys that are accepted, as hashes: what is compared has one length.
#[derive(Debug, Clone)]
pub(crate) struct WidgetTokens(Vec<[u8; 32]>);

impl WidgetTokens {
    /// Accepts these keys.
    pub(crate) fn new(tokens: &[String]) -> Self {
        Self(
            tokens
                .iter()
                .map(|token| Sha256::digest(token.as_bytes()).into())
                .collect(),
        )
    }

    /// The key as it is counted by, if it is one of them; takes the same time whichever it is.
    pub(crate) fn accept(&self, token: &[u8]) -> Option<SiteKey> {
        let hash: [u8; 32] = Sha256::digest(token).into();
        let known: bool = self
            .0
            .iter()
            .fold(Choice::from(0), |found, known| found | hash.ct_eq(known))
            .into();
        known.then_some(SiteKey(hash))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_configured_site_keys_are_accepted() {
        let tokens = WidgetTokens::new(&["one".to_owned(), "two".to_owned()]);
        let one = tokens.accept(b"one");
        assert!(one.is_some());
        assert_ne!(tokens.accept(b"two"), one);
        assert_eq!(tokens.accept(b"three"), None);
        assert_eq!(tokens.accept(b""), None);
        assert_eq!(WidgetTokens::new(&[]).accept(b""), None);
    }
}
