//! What a backup says of itself, beside it in the bucket. Its being there is what makes an object a
//! backup.

use std::{collections::BTreeMap, fmt};

use bytes::Bytes;
use chrono::{DateTime, NaiveDateTime, Utc};
use serde::{Deserialize, Serialize};
use store::backups::Made;
use uuid::Uuid;

use super::{name::BackupName, tools::ToolVersion};

/// How the object is encrypted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Encryption {
    /// Not at all.
    None,
    /// By age, to `BACKUP_AGE_RECIPIENT`.
    Age,
}

/// Rows by table, `public.sessions`.
pub type Counts = BTreeMap<String, i64>;

/// A manifest.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Manifest {
    /// The form of the manifest.
    pub form: u32,
    /// The run that made it, `backup_runs.token`.
    pub run: Uuid,
    /// Its name.
    pub name: String,
    /// The object's key.
    pub object: String,
    /// The name of the database that is in it, for people.
    pub database: Option<String>,
    /// The due time that it is of, on the clock of `time_zone`.
    pub due: Option<NaiveDateTime>,
    /// `BACKUP_TIMEZONE`.
    pub time_zone: String,
    /// When the run began.
    pub started_at: DateTime<Utc>,
    /// The moment that is in it, by the database's clock.
    pub snapshot_at: DateTime<Utc>,
    /// How long the run took, in seconds.
    pub duration_seconds: f64,
    /// The object's length.
    pub bytes: u64,
    /// The object's SHA-256, in hex.
    pub sha256: String,
    /// The length of the SQL.
    pub dump_bytes: u64,
    /// How it is encrypted.
    pub encryption: Encryption,
    /// The server's version.
    pub server_version: ToolVersion,
    /// The version of `pg_dump`.
    pub pg_dump_version: ToolVersion,
    /// The newest migration that had been applied; none: the schema is not ours.
    pub schema_version: Option<i64>,
    /// How many rows each table has.
    pub tables: Counts,
}

/// A manifest can't be used.
#[derive(Debug, thiserror::Error)]
pub enum ManifestError {
    /// It is no manifest.
    #[error("the manifest can't be read")]
    Unreadable(#[source] serde_json::Error),
    /// It is of a newer version.
    #[error("the manifest has form {0}, which this version does not know")]
    Form(u32),
    /// It names an object that is none of ours.
    #[error("the manifest is not of the object that it names")]
    Foreign,
}

impl Manifest {
    /// The form of this version. A reader refuses others.
    pub const FORM: u32 = 1;

    /// Reads what stands at `name`'s key.
    pub fn read(name: &BackupName, body: &[u8]) -> Result<Self, ManifestError> {
        let manifest: Self = serde_json::from_slice(body).map_err(ManifestError::Unreadable)?;
        if manifest.form != Self::FORM {
            return Err(ManifestError::Form(manifest.form));
        }
        let encrypted = manifest.encryption == Encryption::Age;
        if manifest.name != name.to_string() || manifest.object != name.object_key(encrypted) {
            return Err(ManifestError::Foreign);
        }
        Ok(manifest)
    }

    /// As it is written.
    pub fn to_json(&self) -> Bytes {
        // Names, numbers and times: there is nothing that JSON can't hold.
        let mut text = serde_json::to_vec_pretty(self).unwrap_or_default();
        text.push(b'\n');
        text.into()
    }

    /// What its row says.
    pub fn made(&self) -> Made {
        let signed = |bytes| i64::try_from(bytes).unwrap_or(i64::MAX);
        Made {
            object_key: self.object.clone(),
            snapshot_at: self.snapshot_at,
            bytes: signed(self.bytes),
            dump_bytes: signed(self.dump_bytes),
            sha256: self.sha256.clone(),
        }
    }
}

/// Tables whose rows are not what they should be.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub struct Different {
    /// By table: what the manifest says, and what was found; none: there is no such table.
    pub tables: BTreeMap<String, (Option<i64>, Option<i64>)>,
}

impl fmt::Display for Different {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        const SHOWN: usize = 5;
        let rows = |count: Option<i64>| match count {
            Some(count) => format!("{count} rows"),
            None => "no table".to_owned(),
        };
        let told = self.tables.iter().take(SHOWN).map(|(table, counts)| {
            let (expected, found) = (rows(counts.0), rows(counts.1));
            format!("{table} has {found}, the manifest says {expected}")
        });
        f.write_str(&told.collect::<Vec<_>>().join("; "))?;
        match self.tables.len().saturating_sub(SHOWN) {
            0 => Ok(()),
            more => write!(f, "; and {more} more"),
        }
    }
}

/// Compares what was found with what a manifest says.
pub fn compare(expected: &Counts, found: &Counts) -> Result<(), Different> {
    let tables: BTreeMap<String, _> = expected
        .keys()
        .chain(found.keys())
        .map(|table| {
            let counts = (expected.get(table).copied(), found.get(table).copied());
            (table.clone(), counts)
        })
        .filter(|(_, (expected, found))| expected != found)
        .collect();
    if tables.is_empty() {
        Ok(())
    } else {
        Err(Different { tables })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_missing_an_additional_and_a_shorter_table_are_told() {
        let counts = |tables: &[(&str, i64)]| -> Counts {
            tables
                .iter()
                .map(|(name, count)| ((*name).to_owned(), *count))
                .collect()
        };
        let expected = counts(&[("a", 1), ("b", 2), ("c", 3)]);
        assert_eq!(compare(&expected, &expected), Ok(()));
        let found = counts(&[("a", 1), ("b", 0), ("d", 4)]);
        let different = compare(&expected, &found).unwrap_err().to_string();
        assert_eq!(
            different,
            "b has 0 rows, the manifest says 2 rows; c has no table, the manifest says 3 rows; \
             d has 4 rows, the manifest says no table"
        );
    }
}
