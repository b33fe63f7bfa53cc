//! The backups: where they go, when they are due, how long they are kept.

use std::path::PathBuf;

use jobs::schedule::Schedule;
use secrecy::SecretString;
use store::{retention, settings::Settings};

use super::{
    PrivacyConfig,
    age_keys::{AgeIdentity, AgeRecipient},
};
use crate::privacy::secret::PrivacySecret;

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
        let rule = "the name of the bucket: 3 to 63 lower-case letters, digits, dots and dashes, with a letter or \
            a digit at both ends and between dots";
        let name = settings.required::<String>(REQUIRED[0], rule);
        if name.as_ref().is_some_and(|name| !is_bucket_name(name)) {
            settings.problem(REQUIRED[0], format!("is not valid: {rule}"));
        }
        let access_key_id = settings.secret(REQUIRED[1], "the id of the bucket's access key");
        let secret_access_key = settings.secret(REQUIRED[2], "the bucket's secret access key");
        let place = read_place(settings);
        Some(Self {
            name: name?,
            access_key_id: access_key_id?,
            secret_access_key: secret_access_key?,
            endpoint: place.endpoint,
            path_style: place.path_style,
            region: place.region,
        })
    }

    /// Whether any of the variables is set that have no default, be it to what is no text.
    fn is_meant(settings: &Settings) -> bool {
        REQUIRED.iter().any(|name| settings.is_set(name))
    }
}

/// Where the store is, which has defaults.
struct Place {
    endpoint: String,
    path_style: bool,
    region: String,
}

fn read_place(settings: &mut Settings) -> Place {
    let path_style = settings.is_set("TIGRIS_ENDPOINT_URL");
    let endpoint = super::base_url(settings, "TIGRIS_ENDPOINT_URL", TIGRIS);
    let region = settings.with_default(
        "TIGRIS_REGION",
        "auto".to_owned(),
        "a region such as auto or eu-central-1",
        |region| is_region(region),
    );
    Place {
        endpoint,
        path_style,
        region,
    }
}

fn is_bucket_name(name: &str) -> bool {
    let legal = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit();
    let label = |label: &str| {
        let ends = [label.bytes().next(), label.bytes().last()];
        ends.into_iter().all(|end| end.is_some_and(legal))
            && label.bytes().all(|byte| legal(byte) || byte == b'-')
    };
    (3..=63).contains(&name.len()) && name.split('.').all(label)
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

/// What reading a backup needs.
#[derive(Debug, Clone)]
pub struct RestoreConfig {
    /// The bucket.
    pub bucket: BucketConfig,
    /// The programs.
    pub tools: ToolsConfig,
    /// `BACKUP_AGE_IDENTITY`, a secret: for encrypted backups.
    pub identity: Option<AgeIdentity>,
    /// `PRIVACY_SECRET`: recognises whoever is to be forgotten again.
    pub secret: Option<PrivacySecret>,
    /// `RETENTION_DAYS`, if a restore is told it. Otherwise the database forgets by the rule of the lost one.
    pub retention_days: Option<i32>,
}

impl RestoreConfig {
    /// Reads what a restore needs.
    pub fn read(settings: &mut Settings) -> Option<Self> {
        let bucket = BucketConfig::read(settings);
        let config = Self::read_with(bucket, settings);
        let days = retention::read_days(settings);
        Some(Self {
            retention_days: settings.is_set("RETENTION_DAYS").then_some(days),
            ..config?
        })
    }

    /// Everything is read before anything is given up, so that all problems are told at once.
    fn read_with(bucket: Option<BucketConfig>, settings: &mut Settings) -> Option<Self> {
        let tools = ToolsConfig::read(settings);
        let identity = settings.optional(
            "BACKUP_AGE_IDENTITY",
            "an age identity (AGE-SECRET-KEY-1…): the private half of BACKUP_AGE_RECIPIENT",
        );
        let privacy = PrivacyConfig::read(settings);
        Some(Self {
            bucket: bucket?,
            tools,
            identity,
            secret: privacy.secret,
            // A drill goes by the rule in the backup, as whoever restores it without the variable would.
            retention_days: None,
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
        let bucket = BucketConfig::read(settings);
        Self::read_with(bucket, settings)
    }

    fn read_with(bucket: Option<BucketConfig>, settings: &mut Settings) -> Option<Self> {
        let restore = RestoreConfig::read_with(bucket, settings);
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
        let recipient: Option<AgeRecipient> = settings.optional(
            "BACKUP_AGE_RECIPIENT",
            "an age recipient (age1…), such as age-keygen makes",
        );
        let identity = restore.as_ref().and_then(|it| it.identity.as_ref());
        if let (Some(identity), Some(recipient)) = (identity, &recipient)
            && !identity.opens(recipient)
        {
            settings.problem(
                "BACKUP_AGE_IDENTITY",
                "is not the private half of BACKUP_AGE_RECIPIENT: it would open no backup that is made here",
            );
        }
        Some(Self {
            restore: restore?,
            schedule: schedule?,
            retention_days,
            recipient,
        })
    }

    /// The same for a worker, which does without backups where neither the bucket nor its keys are named.
    /// The other variables are held to their rules all the same.
    pub fn read_if_meant(settings: &mut Settings) -> Option<Option<Self>> {
        if BucketConfig::is_meant(settings) {
            Self::read(settings).map(Some)
        } else {
            read_place(settings);
            Self::read_with(None, settings);
            Some(None)
        }
    }
}

#[cfg(test)]
mod tests {
    use age::{secrecy::ExposeSecret, x25519::Identity};

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
    fn a_bucket_whose_name_is_no_text_is_meant_all_the_same() {
        let mut settings = Settings::default().with_unreadable([BUCKET[0].0.to_owned()]);
        let config = BackupConfig::read_if_meant(&mut settings);
        let error = settings.finish(config).unwrap_err();
        let names: Vec<_> = error.problems.iter().map(|(name, _)| &**name).collect();
        assert_eq!(names, BUCKET.map(|(name, _)| name));
    }

    #[test]
    fn without_a_bucket_the_other_variables_are_held_to_their_rules() {
        for wrong in [
            ("BACKUP_SCHEDULE", "x"),
            ("BACKUP_RETENTION_DAYS", "0"),
            ("BACKUP_AGE_RECIPIENT", "x"),
            ("PG_BIN_DIR", "/none"),
            ("TIGRIS_ENDPOINT_URL", "x"),
            ("TIGRIS_REGION", "eu central"),
        ] {
            assert_eq!(problems(&[wrong]), [wrong.0]);
        }
        assert!(problems(&[("BACKUP_SCHEDULE", "0 3 * * *")]).is_empty());
    }

    #[test]
    fn a_buckets_name_is_one_that_stores_take() {
        for name in ["...", "-a-", "a..b", "ab", "a.-b", "A-b", "a_b"] {
            let named = [("TIGRIS_BUCKET_NAME", name), BUCKET[1], BUCKET[2]];
            assert_eq!(problems(&named), ["TIGRIS_BUCKET_NAME"], "{name}");
        }
        assert!(problems(&[("TIGRIS_BUCKET_NAME", "a-1.b"), BUCKET[1], BUCKET[2]]).is_empty());
    }

    #[test]
    fn a_restore_tells_everything_that_is_wrong_at_once() {
        let variables = [("PRIVACY_SECRET", "short"), ("RETENTION_DAYS", "0")];
        let owned = variables.map(|(name, value)| (name.to_owned(), value.to_owned()));
        let mut settings = Settings::new(owned);
        let config = RestoreConfig::read(&mut settings);
        let problems = settings.finish(config).unwrap_err().problems;
        let mut names: Vec<_> = problems.into_iter().map(|(name, _)| name).collect();
        names.sort();
        let bucket = BUCKET.map(|(name, _)| name);
        let mut expected = [&bucket[..], &["PRIVACY_SECRET", "RETENTION_DAYS"]].concat();
        expected.sort_unstable();
        assert_eq!(names, expected);
    }

    #[test]
    fn an_identity_that_does_not_open_what_is_made_here_is_refused() {
        let (mine, other) = (Identity::generate(), Identity::generate());
        for (identity, expected) in [(&mine, &[][..]), (&other, &["BACKUP_AGE_IDENTITY"][..])] {
            let (secret, recipient) = (identity.to_string(), mine.to_public().to_string());
            let keys = [
                ("BACKUP_AGE_IDENTITY", secret.expose_secret()),
                ("BACKUP_AGE_RECIPIENT", recipient.as_str()),
            ];
            assert_eq!(problems(&[&BUCKET[..], &keys].concat()), expected);
        }
    }

    #[test]
    fn a_restore_knows_whether_the_days_were_told() {
        for (told, expected) in [
            (None, None),
            (Some("90"), Some(90)),
            (Some("365"), Some(365)),
        ] {
            let days = told.map(|days| ("RETENTION_DAYS", days));
            let variables = BUCKET.into_iter().chain(days);
            let mut settings =
                Settings::new(variables.map(|(name, value)| (name.to_owned(), value.to_owned())));
            let config = RestoreConfig::read(&mut settings).unwrap();
            assert_eq!(config.retention_days, expected);
        }
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
