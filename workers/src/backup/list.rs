//! Which backups there are. The bucket says so: the database is what may be lost.

use std::{collections::HashMap, fmt, str::FromStr};

use chrono::{DateTime, NaiveDate, Utc};
use futures::{StreamExt, TryStreamExt, stream};

use super::{
    error::{RestoreError, told},
    manifest::{Manifest, ManifestError},
    name::{BackupName, BadName, PREFIX},
    restore::Restorer,
};
use crate::clients::bucket::Listed;

/// Manifests that are read at the same time.
const AT_ONCE: usize = 16;

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

impl Which {
    fn means(&self, name: &BackupName) -> bool {
        match self {
            Self::Latest => true,
            Self::Of(date) => name.is_of(*date),
            Self::Named(wanted) => name == wanted,
        }
    }
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
#[derive(Debug)]
pub struct Found {
    /// Its name.
    pub name: BackupName,
    /// The length of its object.
    pub bytes: u64,
    /// What it says of itself.
    pub manifest: Result<Manifest, ManifestError>,
    /// When it was first restored for a proof; none: never.
    pub proved_at: Option<DateTime<Utc>>,
}

/// A manifest whose object is there, not read yet.
struct Candidate {
    name: BackupName,
    bytes: u64,
    /// When it was written, by the store's clock.
    written: Option<DateTime<Utc>>,
    has_proof: bool,
}

/// A manifest whose object is there.
struct Read {
    candidate: Candidate,
    manifest: Result<Manifest, ManifestError>,
}

impl Read {
    /// The moment that is in the backup. Of one that can't be read, about when it was made.
    fn moment(&self) -> Option<DateTime<Utc>> {
        match &self.manifest {
            Ok(manifest) => Some(manifest.snapshot_at),
            Err(_) => self.candidate.written,
        }
    }
}

impl Restorer {
    /// All backups, by the moments that are in them, the oldest first: the manifests whose object is there.
    pub async fn list(&self) -> Result<Vec<Found>, RestoreError> {
        stream::iter(self.read_all(self.candidates().await?).await?)
            .map(|read| self.look_at(read))
            .buffered(AT_ONCE)
            .try_collect()
            .await
    }

    /// The newest by its moment of those that are meant. One that can't be read does not stand in the way of
    /// others: it is passed over, and the log names it.
    pub async fn find(&self, which: &Which) -> Result<Manifest, RestoreError> {
        let mut meant = self.candidates().await?;
        meant.retain(|it| which.means(&it.name));
        let mut unreadable = None;
        for read in self.read_all(meant).await?.into_iter().rev() {
            match read.manifest {
                Ok(manifest) => return Ok(manifest),
                Err(source) => {
                    let name = read.candidate.name.to_string();
                    tracing::warn!(
                        name,
                        error = told(&source),
                        "a backup can't be used, and is passed over"
                    );
                    unreadable.get_or_insert(RestoreError::Manifest { name, source });
                }
            }
        }
        Err(unreadable.unwrap_or_else(|| RestoreError::Missing(which.to_string())))
    }

    async fn candidates(&self) -> Result<Vec<Candidate>, RestoreError> {
        let listed = self.bucket().list(PREFIX).await?;
        let lengths: HashMap<&str, u64> = listed
            .iter()
            .map(|object| (object.key.as_str(), object.bytes))
            .collect();
        let candidate = |object: &Listed| {
            let name = BackupName::of_manifest_key(&object.key)?;
            let bytes = [false, true]
                .iter()
                .find_map(|encrypted| lengths.get(name.object_key(*encrypted).as_str()))?;
            Some(Candidate {
                bytes: *bytes,
                written: object.modified,
                has_proof: lengths.contains_key(name.proof_key().as_str()),
                name,
            })
        };
        Ok(listed.iter().filter_map(candidate).collect())
    }

    /// Reads their manifests, and puts them into the order of their moments.
    async fn read_all(&self, candidates: Vec<Candidate>) -> Result<Vec<Read>, RestoreError> {
        let read: Vec<Option<Read>> = stream::iter(candidates)
            .map(|candidate| self.read(candidate))
            .buffered(AT_ONCE)
            .try_collect()
            .await?;
        let mut read: Vec<Read> = read.into_iter().flatten().collect();
        read.sort_by(|one, other| {
            (one.moment(), &one.candidate.name).cmp(&(other.moment(), &other.candidate.name))
        });
        Ok(read)
    }

    /// `None`: it is gone since it was listed.
    async fn read(&self, candidate: Candidate) -> Result<Option<Read>, RestoreError> {
        let body = self.bucket().get(&candidate.name.manifest_key()).await?;
        Ok(body.map(|body| Read {
            manifest: Manifest::read(&candidate.name, &body),
            candidate,
        }))
    }

    /// Looks for its proof.
    async fn look_at(&self, read: Read) -> Result<Found, RestoreError> {
        let Read {
            candidate,
            manifest,
        } = read;
        let proved_at = match &manifest {
            Ok(manifest) if candidate.has_proof => self.proved_at(manifest).await?,
            _ => None,
        };
        Ok(Found {
            name: candidate.name,
            bytes: candidate.bytes,
            manifest,
            proved_at,
        })
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
