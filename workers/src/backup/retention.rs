//! Old backups go: by the store's own rule, or by us where it has none.

use std::collections::BTreeSet;

use chrono::{DateTime, TimeDelta, Utc};
use store::backups::newest_verified;

use super::{
    Backups,
    error::BackupError,
    name::{BackupName, PREFIX},
};
use crate::clients::bucket::{Expiry, Listed};

/// So many of the newest that were verified stay, however old they are, and so many of the newest at all.
const KEPT: usize = 3;

impl Backups {
    /// Sees to it that backups older than `BACKUP_RETENTION_DAYS` go. Returns how many it deleted itself.
    pub(super) async fn retain(&self, now: DateTime<Utc>) -> Result<usize, BackupError> {
        let days = self.config.retention_days;
        let expiry = Expiry {
            prefix: PREFIX.to_owned(),
            days,
        };
        if self.bucket().expire(&expiry).await? {
            return Ok(0);
        }
        let kept = i64::try_from(KEPT).unwrap_or(i64::MAX);
        let verified = newest_verified(self.database.pool(), kept).await?;
        let listed = self.bucket().list(PREFIX).await?;
        let expired = expired(&listed, &verified, now - TimeDelta::days(days.into()));
        for key in &expired {
            self.bucket().delete(key).await?;
        }
        Ok(expired.len())
    }
}

/// The keys of what was written before `limit`, without those that stay.
fn expired(listed: &[Listed], verified: &[String], limit: DateTime<Utc>) -> Vec<String> {
    let committed: BTreeSet<BackupName> = listed
        .iter()
        .filter_map(|object| BackupName::of_manifest_key(&object.key))
        .collect();
    let mut stay: BTreeSet<&BackupName> = committed.iter().rev().take(KEPT).collect();
    let good: Vec<BackupName> = verified
        .iter()
        .filter_map(|key| BackupName::of_key(key))
        .collect();
    stay.extend(&good);
    let mut expired: Vec<String> = listed
        .iter()
        .filter(|object| object.modified.is_some_and(|at| at < limit))
        .filter(|object| BackupName::of_key(&object.key).is_some_and(|name| !stay.contains(&name)))
        .map(|object| object.key.clone())
        .collect();
    // Manifests first: what is left when a deletion fails is no backup.
    expired.sort_by_key(|key| BackupName::of_manifest_key(key).is_none());
    expired
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_old_goes_but_never_the_newest_good_ones() {
        let at =
            |day: u32| -> DateTime<Utc> { format!("2026-01-{day:02}T02:00:00Z").parse().unwrap() };
        let name = |day: u32| -> BackupName { format!("2026-01-{day:02}").parse().unwrap() };
        let mut listed = Vec::new();
        for day in 1..=10 {
            for key in [
                name(day).object_key(false),
                name(day).manifest_key(),
                name(day).proof_key(),
            ] {
                listed.push(Listed {
                    key,
                    bytes: 1,
                    modified: Some(at(day)),
                });
            }
        }
        // Somebody else's.
        listed.push(Listed {
            key: "backups/notes.txt".to_owned(),
            bytes: 1,
            modified: Some(at(1)),
        });
        let good = [name(2).object_key(false)];
        let days = |gone: Vec<String>| -> Vec<String> {
            gone.iter()
                .filter_map(|key| BackupName::of_manifest_key(key))
                .map(|name| name.to_string())
                .collect()
        };
        let gone = expired(&listed, &good, at(4));
        assert_eq!(gone.len(), 6);
        assert_eq!(days(gone), ["2026-01-01", "2026-01-03"]);
        // Nothing was made for long: everything is old.
        let gone = expired(&listed, &good, at(31));
        assert_eq!(
            days(gone),
            [
                "2026-01-01",
                "2026-01-03",
                "2026-01-04",
                "2026-01-05",
                "2026-01-06",
                "2026-01-07"
            ]
        );
    }
}
