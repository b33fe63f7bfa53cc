//! The kinds that forget (docs/decisions/0023).

use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::kind::JobKind;

/// Sees to a wish to be forgotten.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PrivacyErase {
    /// The row in `privacy_requests`.
    pub request_id: String,
}

impl JobKind for PrivacyErase {
    const KIND: &'static str = "privacy.erase";
    const QUEUE: &'static str = "maintenance";
    /// A provider or the bucket may be away for a day (migration 0025 has the same).
    const RETRY_WAITS: &'static [i32] = &[1, 3, 9, 60, 300, 1_800, 7_200, 28_800, 43_200];
    const TIMEOUT: Duration = Duration::from_mins(5);

    fn unique_key(&self) -> Option<String> {
        Some(self.request_id.clone())
    }
}

/// Forgets the texts of sessions that were closed long ago.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RetentionSweep {
    /// The ISO week, `2026-W47`.
    pub week: String,
}

impl JobKind for RetentionSweep {
    const KIND: &'static str = "retention.sweep";
    const QUEUE: &'static str = "maintenance";
    const RETRY_WAITS: &'static [i32] = &[60, 300, 900];
    const TIMEOUT: Duration = Duration::from_mins(10);

    fn unique_key(&self) -> Option<String> {
        Some(self.week.clone())
    }

    /// One at a time.
    fn serial_key(&self) -> Option<String> {
        Some(Self::KIND.to_owned())
    }
}
