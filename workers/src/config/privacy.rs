//! How long texts are kept, and what receipts are signed with.

use store::{retention, settings::Settings};

use crate::privacy::secret::PrivacySecret;

/// What forgetting is told by its environment.
#[derive(Debug, Clone)]
pub struct PrivacyConfig {
    /// `RETENTION_DAYS`: so long after its close the texts of a session go.
    pub retention_days: i32,
    /// `PRIVACY_SECRET`: without it nobody is forgotten by their address, and receipts are not signed.
    pub secret: Option<PrivacySecret>,
}

impl PrivacyConfig {
    /// Reads the variables.
    pub fn read(settings: &mut Settings) -> Self {
        Self {
            retention_days: retention::read_days(settings),
            secret: PrivacySecret::read(settings),
        }
    }
}
