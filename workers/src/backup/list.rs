//! Which backups there are. The bucket says so: the database is what may be lost.

use std::{collections::HashMap, fmt, str::FromStr};

use chrono::NaiveDate;

use super::{
    error::RestoreError,
    manifest::Manifest,
    name::{BackupName, BadName, PREFIX},
    restore::Restorer,
};

/// So many of the newest by name are looked at for the newest by moment: names tell local times.
const LOOKED_AT: usize = 4;

/// Which backup is meant.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Which {
    /// The newest.
    Latest,
    /// The newest of a date.
    Of(NaiveDate),
    /// The one of this name.
    Named(BackupName),
}

impl FromStr for Which {
    type Err = BadName;

    fn from_str(text: &str) -> Result<Self, BadName> {
        if text == "latest" {
            return Ok(Self::Latest);
        }
        let name: BackupName = text.parse()?;
        match name.date() {
            Some(date) if text.len() == 10 => Ok(Self::Of(date)),
            _ => Ok(Self::Named(name)),
        }
    }
}

impl fmt::Display for Which {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Latest => f.write_str("at all"),
            Self::Of(date) => write!(f, "of {date}"),
            Self::Named(name) => name.fmt(f),
        }
    }
}

/// A backup in the bucket.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Found {
    /// Its name.
    pub name: BackupName,
    /// The length of its object.
    pub bytes: u64,
}

impl Restorer {
    /// All backups, the oldest first: the manifests whose object is there.
    pub async fn list(&self) -> Result<Vec<Found>, RestoreError> {
        let listed = self.bucket().list(PREFIX).await?;
        let lengths: HashMap<&str, u64> = listed
            .iter()
            .map(|object| (object.key.as_str(), object.bytes))
            .collect();
        let mut found: Vec<Found> = listed
            .iter()
            .filter_map(|object| {
                let name = BackupName::of_manifest_key(&object.key)?;
                let bytes = [false, true]
                    .iter()
                    .find_map(|encrypted| lengths.get(name.object_key(*encrypted).as_str()))?;
                Some(Found {
                    bytes: *bytes,
                    name,
                })
            })
            .collect();
        found.sort();
        Ok(found)
    }

    /// The manifest of the one that is meant.
    pub async fn find(&self, which: &Which) -> Result<Manifest, RestoreError> {
        let names = self.list().await?.into_iter().map(|found| found.name);
        let meant: Vec<BackupName> = match which {
            Which::Latest => names.collect(),
            Which::Of(date) => names.filter(|name| name.is_of(*date)).collect(),
            Which::Named(wanted) => names.filter(|name| name == wanted).collect(),
        };
        let mut newest: Option<Manifest> = None;
        let looked_at = if *which == Which::Latest {
            LOOKED_AT
        } else {
            meant.len()
        };
        for name in meant.iter().rev().take(looked_at) {
            let manifest = self.manifest(name).await?;
            if newest
                .as_ref()
                .is_none_or(|newest| manifest.snapshot_at > newest.snapshot_at)
            {
                newest = Some(manifest);
            }
        }
        newest.ok_or_else(|| RestoreError::Missing(which.to_string()))
    }

    /// A backup's manifest.
    pub async fn manifest(&self, name: &BackupName) -> Result<Manifest, RestoreError> {
        let body = self.bucket().get(&name.manifest_key()).await?;
        let body = body.ok_or_else(|| RestoreError::Missing(name.to_string()))?;
        Ok(Manifest::read(name, &body)?)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_date_means_its_newest_and_a_time_means_one() {
        let which = |text: &str| text.parse::<Which>();
        assert_eq!(which("latest"), Ok(Which::Latest));
        assert_eq!(
            which("2026-11-21"),
            Ok(Which::Of("2026-11-21".parse().unwrap()))
        );
        assert!(matches!(which("2026-11-21T0200"), Ok(Which::Named(_))));
        assert_eq!(which("yesterday"), Err(BadName));
    }
}
