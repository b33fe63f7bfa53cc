//! Where the process runs: what is refused in the real world may be a convenience on a desk.

use std::str::FromStr;

use crate::settings::Settings;

/// Where the process runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Environment {
    /// A developer's machine.
    Development,
    /// Like production, with nobody's real visitors.
    Staging,
    /// The real thing.
    Production,
}

impl Environment {
    /// Reads `ENVIRONMENT`, by default the strictest.
    pub fn read(settings: &mut Settings) -> Self {
        settings.with_default(
            "ENVIRONMENT",
            Self::Production,
            "development, staging or production",
            |_| true,
        )
    }

    /// Its name, as it is configured.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Development => "development",
            Self::Staging => "staging",
            Self::Production => "production",
        }
    }
}

impl FromStr for Environment {
    type Err = ();

    fn from_str(text: &str) -> Result<Self, ()> {
        match text {
            "development" => Ok(Self::Development),
            "staging" => Ok(Self::Staging),
            "production" => Ok(Self::Production),
            _ => Err(()),
        }
    }
}
