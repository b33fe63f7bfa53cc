//! `PRIVACY_SECRET`: what addresses are recognised by, and receipts signed with.

use hmac::{Hmac, KeyInit, Mac};
use ring::signature::Ed25519KeyPair;
use secrecy::{ExposeSecret, SecretString};
use sha2::Sha256;
use store::settings::Settings;

use crate::hex::hex;

/// The shortest secret, in characters: what `openssl rand -hex 16` gives.
const SHORTEST: usize = 32;
/// Bytes before a hash that tell by which secret it was made: too few to find the secret by.
const KEY_ID: usize = 4;

/// `PRIVACY_SECRET`. Different keys are derived from it for different purposes.
#[derive(Debug, Clone)]
pub struct PrivacySecret(SecretString);

impl PrivacySecret {
    /// Reads the variable; `None`: it is not set, or something is wrong with it, which is noted.
    pub fn read(settings: &mut Settings) -> Option<Self> {
        let rule = "a random text of at least 32 characters";
        let secret = settings.optional_secret("PRIVACY_SECRET", rule)?;
        if secret.expose_secret().chars().count() < SHORTEST {
            settings.problem("PRIVACY_SECRET", format!("is too short: {rule}"));
            return None;
        }
        Some(Self(secret))
    }

    /// The hash by which an address is recognised, in hex, behind the id of the key. Capitals and blanks around
    /// it don't matter.
    pub fn hash_email(&self, address: &str) -> String {
        let address = address.trim().to_lowercase();
        self.key_id() + &hex(&self.derive(&format!("email\n{address}")))
    }

    /// Whether a hash was made by this secret: by another one nobody would be recognised.
    pub fn has_made(&self, hash: &str) -> bool {
        hash.starts_with(&self.key_id())
    }

    fn key_id(&self) -> String {
        hex(&self.derive("key id")[..KEY_ID])
    }

    /// The key that receipts are signed with.
    pub(super) fn signing_key(&self) -> Option<Ed25519KeyPair> {
        Ed25519KeyPair::from_seed_unchecked(&self.derive("receipt signing key")).ok()
    }

    fn derive(&self, purpose: &str) -> [u8; 32] {
        // HMAC takes a key of any length.
        let mut mac = Hmac::<Sha256>::new_from_slice(self.0.expose_secret().as_bytes())
            .unwrap_or_else(|_| unreachable!("HMAC takes a key of any length"));
        mac.update(b"growth-chat privacy\n");
        mac.update(purpose.as_bytes());
        mac.finalize().into_bytes().into()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn secret(text: &str) -> Option<PrivacySecret> {
        let variable = ("PRIVACY_SECRET".to_owned(), text.to_owned());
        let mut settings = Settings::new([variable]);
        let secret = PrivacySecret::read(&mut settings);
        settings.finish(Some(())).ok()?;
        secret
    }

    #[test]
    fn an_address_is_recognised_whatever_its_capitals_and_only_with_the_same_secret() {
        let mine = secret(&"a".repeat(32)).unwrap();
        let other = secret(&"b".repeat(32)).unwrap();
        assert_eq!(
            mine.hash_email("A@B.example "),
            mine.hash_email("a@b.example")
        );
        assert_ne!(
            mine.hash_email("a@b.example"),
            mine.hash_email("c@b.example")
        );
        assert_ne!(
            mine.hash_email("a@b.example"),
            other.hash_email("a@b.example")
        );
    }

    #[test]
    fn a_hash_tells_by_which_secret_it_was_made() {
        let mine = secret(&"a".repeat(32)).unwrap();
        let other = secret(&"b".repeat(32)).unwrap();
        let hash = mine.hash_email("a@b.example");
        assert_eq!(hash.len(), 2 * (KEY_ID + 32));
        assert!(mine.has_made(&hash));
        assert!(!other.has_made(&hash));
        assert_eq!(hash[..8], mine.hash_email("c@b.example")[..8]);
    }

    #[test]
    fn a_short_secret_is_refused() {
        assert!(secret(&"a".repeat(31)).is_none());
    }
}
