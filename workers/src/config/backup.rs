//! The backups: where they go, when they are due, how long they are kept.

use std::{path::PathBuf, str::FromStr, sync::Arc};

use age::x25519::{Identity, Recipient};
use jobs::schedule::Schedule;
use secrecy::SecretString;
use store::settings::Settings;

use super::PrivacyConfig;

/// Where Tigris answers when no other store is named.
const TIGRIS: &str = "https://fly.storage.tigris.dev";
/// The three that have no default.
const REQUIRED: [&str; 3] = [
    "TIGRIS_BUCKET_NAME",
    "TIGRIS_ACCESS_KEY_ID",
    "TIGRIS_SECRET_ACCESS_KEY",
];

/// The bucket.
#[derive(Debug, Clone)]
pub struct BucketConfig {
    /// `TIGRIS_BUCKET_NAME`.
    pub name: String,
    /// `TIGRIS_ACCESS_KEY_ID`, a secret.
    pub access_key_id: SecretString,
    /// `TIGRIS_SECRET_ACCESS_KEY`, a secret.
    pub secret_access_key: SecretString,
    /// `TIGRIS_ENDPOINT_URL`, or Tigris's own.
    pub endpoint: String,
    /// Whether the bucket stands in the path: where `TIGRIS_ENDPOINT_URL` is set.
    pub path_style: bool,
    /// `TIGRIS_REGION`.
    pub region: String,
}

impl BucketConfig {
    /// Reads the bucket's variables.
    pub fn read(settings: &mut Settings) -> Option<Self> {
        let rule = "the name of the bucket: 3 to 63 lower-case letters, digits, dots and dashes";
        let name = settings.required::<String>(REQUIRED[0], rule);
        if name.as_ref().is_some_and(|name| !is_bucket_name(name)) {
            settings.problem(REQUIRED[0], format!("is not valid: {rule}"));
        }
        let access_key_id = settings.secret(REQUIRED[1], "the id of the bucket's access key");
        let secret_access_key = settings.secret(REQUIRED[2], "the bucket's secret access key");
        let path_style = settings.get("TIGRIS_ENDPOINT_URL").is_some();
        let endpoint = super::base_url(settings, "TIGRIS_ENDPOINT_URL", TIGRIS);
        let region = settings.with_default(
            "TIGRIS_REGION",
            "auto".to_owned(),
            "a region such as auto or eu-central-1",
            |region| is_region(region),
        );
        Some(Self {
            name: name?,
            access_key_id: access_key_id?,
            secret_access_key: secret_access_key?,
            endpoint,
            path_style,
            region,
        })
    }

    /// Whether any of the variables is set that have no default.
    fn is_meant(settings: &Settings) -> bool {
        REQUIRED.iter().any(|name| settings.get(name).is_some())
    }
}

fn is_bucket_name(name: &str) -> bool {
    let legal = |byte: u8| {
        byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-' || byte == b'.'
    };
    (3..=63).contains(&name.len()) && name.bytes().all(legal)
}

fn is_region(region: &str) -> bool {
    region.len() <= 64
        && region
            .bytes()
            .all(|byte| byte.is_ascii_alphanumeric() || byte == b'-')
}

/// Where `pg_dump` and psql are.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ToolsConfig {
    /// `PG_BIN_DIR`; none: they are found by `PATH`.
    pub folder: Option<PathBuf>,
    /// What of this process's environment they are given.
    pub environment: Vec<(String, String)>,
}

/// What a program needs to be found and to check a certificate. The rest is not its business: it holds
/// our secrets.
const PASSED_ON: [&str; 5] = [
    "PATH",
    "LD_LIBRARY_PATH",
    "HOME",
    "SSL_CERT_FILE",
    "SSL_CERT_DIR",
];

impl ToolsConfig {
    /// Reads `PG_BIN_DIR`.
    pub fn read(settings: &mut Settings) -> Self {
        let rule = "the folder of pg_dump and psql";
        let folder: Option<PathBuf> = settings.optional("PG_BIN_DIR", rule);
        if folder.as_ref().is_some_and(|folder| !folder.is_dir()) {
            settings.problem(
                "PG_BIN_DIR",
                format!("is no folder: {rule}, or leave it unset"),
            );
        }
        let environment = PASSED_ON
            .into_iter()
            .filter_map(|name| Some((name.to_owned(), settings.get(name)?.to_owned())))
            .collect();
        Self {
            folder,
            environment,
        }
    }
}

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

/// What reading a backup needs.
#[derive(Debug, Clone)]
pub struct RestoreConfig {
    /// The bucket.
    pub bucket: BucketConfig,
    /// The programs.
    pub tools: ToolsConfig,
    /// `BACKUP_AGE_IDENTITY`, a secret: for encrypted backups.
    pub identity: Option<AgeIdentity>,
    /// What a restored database forgets again.
    pub privacy: PrivacyConfig,
}

impl RestoreConfig {
    /// Reads what a restore needs.
    pub fn read(settings: &mut Settings) -> Option<Self> {
        let bucket = BucketConfig::read(settings);
        let tools = ToolsConfig::read(settings);
        let identity = settings.optional(
            "BACKUP_AGE_IDENTITY",
            "an age identity (AGE-SECRET-KEY-1…): the private half of BACKUP_AGE_RECIPIENT",
        );
        Some(Self {
            bucket: bucket?,
            tools,
            identity,
            privacy: PrivacyConfig::read(settings),
        })
    }
}

/// What making backups needs.
#[derive(Debug, Clone)]
pub struct BackupConfig {
    /// What reading them needs: a backup is verified.
    pub restore: RestoreConfig,
    /// `BACKUP_SCHEDULE` in `BACKUP_TIMEZONE`.
    pub schedule: Schedule,
    /// `BACKUP_RETENTION_DAYS`.
    pub retention_days: u16,
    /// `BACKUP_AGE_RECIPIENT`: encrypts for whoever has its private half.
    pub recipient: Option<AgeRecipient>,
}

impl BackupConfig {
    /// Reads the variables of the backups; the bucket's are required.
    pub fn read(settings: &mut Settings) -> Option<Self> {
        let restore = RestoreConfig::read(settings);
        let schedule = Schedule::read(
            settings,
            "backup.run",
            ("BACKUP_SCHEDULE", "0 2 * * *"),
            ("BACKUP_TIMEZONE", "Europe/Berlin"),
        );
        let retention_days = settings.with_default(
            "BACKUP_RETENTION_DAYS",
            90,
            "a number of days from 1 to 3650",
            |days| (1..=3_650).contains(days),
        );
        let recipient = settings.optional(
            "BACKUP_AGE_RECIPIENT",
            "an age recipient (age1…), such as age-keygen makes",
        );
        Some(Self {
            restore: restore?,
            schedule: schedule?,
            retention_days,
            recipient,
        })
    }

    /// The same for a worker, which does without backups where no variable of the bucket is set.
    pub fn read_if_meant(settings: &mut Settings) -> Option<Option<Self>> {
        if BucketConfig::is_meant(settings) {
            Self::read(settings).map(Some)
        } else {
            Some(None)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const BUCKET: [(&str, &str); 3] = [
        ("TIGRIS_BUCKET_NAME", "backups.example"),
        ("TIGRIS_ACCESS_KEY_ID", "id"),
        ("TIGRIS_SECRET_ACCESS_KEY", "hunter2"),
    ];

    fn problems(variables: &[(&str, &str)]) -> Vec<String> {
        let variables = variables
            .iter()
            .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()));
        let mut settings = Settings::new(variables);
        let config = BackupConfig::read_if_meant(&mut settings);
        match settings.finish(config) {
            Ok(_) => Vec::new(),
            Err(error) => {
                assert!(!error.to_string().contains("hunter2"));
                error.problems.into_iter().map(|(name, _)| name).collect()
            }
        }
    }

    #[test]
    fn a_worker_needs_no_bucket_and_half_a_bucket_is_a_mistake() {
        assert!(problems(&[]).is_empty());
        assert!(problems(&BUCKET).is_empty());
        assert_eq!(
            problems(&BUCKET[..1]),
            ["TIGRIS_ACCESS_KEY_ID", "TIGRIS_SECRET_ACCESS_KEY"]
        );
    }

    #[test]
    fn every_wrong_variable_is_named_at_once() {
        let wrong = [
            ("TIGRIS_BUCKET_NAME", "Back/ups"),
            ("TIGRIS_ENDPOINT_URL", "ftp://x"),
            ("TIGRIS_REGION", "eu central"),
            ("PG_BIN_DIR", "/there/is/no/such/folder"),
            ("BACKUP_AGE_IDENTITY", "age1x"),
            ("BACKUP_SCHEDULE", "at two"),
            ("BACKUP_TIMEZONE", "Berlin"),
            ("BACKUP_RETENTION_DAYS", "0"),
            ("BACKUP_AGE_RECIPIENT", "AGE-SECRET-KEY-1"),
        ];
        let mut found = problems(&[&BUCKET[1..], &wrong].concat());
        let mut expected: Vec<String> = wrong.iter().map(|(name, _)| (*name).to_owned()).collect();
        found.sort();
        expected.sort();
        assert_eq!(found, expected);
    }
}
