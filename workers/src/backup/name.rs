//! What a backup is called: by its local date, and by its time where a date has several.

use std::{fmt, str::FromStr};

use chrono::{NaiveDate, NaiveDateTime};

/// Where backups are; the lifecycle rule is about it.
pub const PREFIX: &str = "backups/";
const OBJECT: &str = "backups/backup-";
const PLAIN: &str = ".sql.gz";
const ENCRYPTED: &str = ".sql.gz.age";
const MANIFEST: &str = ".json";
const PROOF: &str = ".proof.json";
const DATE: &str = "%Y-%m-%d";
const MINUTE: &str = "%Y-%m-%dT%H%M";
const SECOND: &str = "%Y-%m-%dT%H%M%S";

/// The name of a backup: `2026-11-21`, `2026-11-21T0200` or `2026-11-21T020000`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct BackupName(String);

/// That is no name of a backup.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("is no date of a backup, such as 2026-11-21 or 2026-11-21T0200")]
pub struct BadName;

impl BackupName {
    /// The names that a backup may have, the best first: the date, where one a day is due; its time as
    /// well, where the date is taken; and the second of now.
    pub fn candidates(time: NaiveDateTime, now: NaiveDateTime, daily: bool) -> Vec<Self> {
        let date = daily.then(|| Self(time.format(DATE).to_string()));
        let minute = Self(time.format(MINUTE).to_string());
        let second = Self(now.format(SECOND).to_string());
        date.into_iter().chain([minute, second]).collect()
    }

    /// The key of its object.
    pub fn object_key(&self, encrypted: bool) -> String {
        let kind = if encrypted { ENCRYPTED } else { PLAIN };
        format!("{OBJECT}{}{kind}", self.0)
    }

    /// The key of its manifest.
    pub fn manifest_key(&self) -> String {
        format!("{OBJECT}{}{MANIFEST}", self.0)
    }

    /// The key of its proof.
    pub fn proof_key(&self) -> String {
        format!("{OBJECT}{}{PROOF}", self.0)
    }

    /// Of whichever of its keys.
    pub fn of_key(key: &str) -> Option<Self> {
        let rest = key.strip_prefix(OBJECT)?;
        let name = [ENCRYPTED, PLAIN, PROOF, MANIFEST]
            .iter()
            .find_map(|kind| rest.strip_suffix(kind))?;
        name.parse().ok()
    }

    /// Of the key of a manifest.
    pub fn of_manifest_key(key: &str) -> Option<Self> {
        Self::of_key(key).filter(|name| key == name.manifest_key())
    }

    /// Whether it is of this date.
    pub fn is_of(&self, date: NaiveDate) -> bool {
        self.0.starts_with(&date.format(DATE).to_string())
    }

    /// The date.
    pub fn date(&self) -> Option<NaiveDate> {
        self.0.get(..10)?.parse().ok()
    }
}

impl FromStr for BackupName {
    type Err = BadName;

    fn from_str(text: &str) -> Result<Self, BadName> {
        let canonical = if text.len() == 10 {
            NaiveDate::parse_from_str(text, DATE).map(|date| date.format(DATE).to_string())
        } else {
            let format = if text.len() == 15 { MINUTE } else { SECOND };
            NaiveDateTime::parse_from_str(text, format).map(|time| time.format(format).to_string())
        };
        match canonical {
            Ok(canonical) if canonical == text => Ok(Self(canonical)),
            _ => Err(BadName),
        }
    }
}

impl fmt::Display for BackupName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn time(text: &str) -> NaiveDateTime {
        text.parse().unwrap()
    }

    #[test]
    fn a_daily_backup_is_called_by_its_date_and_the_second_one_by_its_time() {
        let due = time("2026-03-29T02:00:00");
        let now = time("2026-03-29T03:00:07");
        let names = |daily| -> Vec<String> {
            BackupName::candidates(due, now, daily)
                .iter()
                .map(|name| name.object_key(false))
                .collect()
        };
        assert_eq!(
            names(true),
            [
                "backups/backup-2026-03-29.sql.gz",
                "backups/backup-2026-03-29T0200.sql.gz",
                "backups/backup-2026-03-29T030007.sql.gz",
            ]
        );
        assert_eq!(names(false), names(true)[1..]);
    }

    #[test]
    fn names_are_read_from_keys_and_from_people() {
        for name in ["2026-11-21", "2026-11-21T0200", "2026-11-21T020059"] {
            let parsed: BackupName = name.parse().unwrap();
            assert_eq!(parsed.to_string(), name);
            for key in [
                parsed.object_key(false),
                parsed.object_key(true),
                parsed.manifest_key(),
            ] {
                assert_eq!(BackupName::of_key(&key).as_ref(), Some(&parsed));
            }
            assert_eq!(
                BackupName::of_key(&parsed.proof_key()).as_ref(),
                Some(&parsed)
            );
            assert!(BackupName::of_manifest_key(&parsed.proof_key()).is_none());
            assert!(BackupName::of_manifest_key(&parsed.object_key(false)).is_none());
            assert!(parsed.is_of("2026-11-21".parse().unwrap()));
        }
        for wrong in [
            "",
            "latest",
            "2026-13-01",
            "2026-1-1aa",
            "2026-11-21T2500",
            "2026-11-21 0200",
            "+026-11-21",
            "../../../x",
        ] {
            assert_eq!(wrong.parse::<BackupName>(), Err(BadName), "{wrong}");
        }
        assert_eq!(BackupName::of_key("backups/other.sql.gz"), None);
    }
}
