//! The keys of encrypted backups: one half makes them, the other one reads them.

use std::{str::FromStr, sync::Arc};

use age::x25519::{Identity, Recipient};

/// To whom backups are encrypted.
#[derive(Clone)]
pub struct AgeRecipient(Recipient);

impl AgeRecipient {
    /// The key.
    pub fn key(&self) -> &Recipient {
        &self.0
    }
}

impl std::fmt::Debug for AgeRecipient {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("AgeRecipient")
    }
}

impl FromStr for AgeRecipient {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        text.parse().map(Self)
    }
}

/// Who can read encrypted backups: a secret.
#[derive(Clone)]
pub struct AgeIdentity(Arc<Identity>);

impl AgeIdentity {
    /// The key.
    pub fn key(&self) -> &Identity {
        &self.0
    }

    /// Whether it reads what is encrypted to a recipient.
    pub fn opens(&self, recipient: &AgeRecipient) -> bool {
        self.0.to_public().to_string() == recipient.0.to_string()
    }
}

impl std::fmt::Debug for AgeIdentity {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("AgeIdentity")
    }
}

impl FromStr for AgeIdentity {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        text.parse().map(|key| Self(Arc::new(key)))
    }
}
