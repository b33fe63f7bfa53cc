//! A database, a bucket, and what makes backups of the one in the other.

use std::{
    fs,
    io::{Seek, Write},
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
    process::Command,
    sync::Arc,
    time::Duration,
};

use sandbox::{
    postgres::{Installation, Places, Progress, TestDatabase},
    s3::S3,
};
use sha2::{Digest, Sha256};
use sqlx::{AssertSqlSafe, PgPool, query, query_as, query_scalar, raw_sql};
use store::{bus::Bus, db::DatabaseConfig, settings::Settings};
use tempfile::TempDir;
use workers::{
    backup::{Ask, BackupError, Backups, Manifest, Ran, Restorer, Say},
    clients::bucket::Patience,
    config::{BackupConfig, RestoreConfig},
    hex::hex,
    privacy::secret::PrivacySecret,
};

/// Short enough for a test that waits for a store that hangs, and longer than a part takes on a machine
/// under load.
pub(super) const PATIENCE: Patience = Patience {
    connect: Duration::from_secs(3),
    attempt: Duration::from_secs(4),
    tries: 2,
    first_wait: Duration::from_millis(1),
};

/// Where the real programs are.
pub(super) fn programs() -> Vec<(&'static str, String)> {
    let places = Places {
        given_server: None,
        ..Places::from_environment()
    };
    Installation::find(&places, &Progress::silent())
        .unwrap()
        .client_environment()
}

/// The folder of the real programs.
pub(super) fn real_folder() -> PathBuf {
    let programs = programs();
    let (_, folder) = programs
        .iter()
        .find(|(name, _)| *name == "PG_BIN_DIR")
        .unwrap();
    folder.into()
}

/// A database with some rows, and an empty bucket.
pub(super) struct World {
    pub(super) pool: PgPool,
    pub(super) s3: S3,
    /// Variables that win over those of the surroundings.
    pub(super) environment: Vec<(String, String)>,
    pub(super) patience: Patience,
    // Last: it is dropped when nobody uses it any more.
    pub(super) database: TestDatabase,
}

/// A run, as its row says.
#[derive(Debug, Clone, PartialEq, Eq, sqlx::FromRow)]
pub(super) struct Row {
    pub(super) status: String,
    pub(super) reason: Option<String>,
    pub(super) object_key: Option<String>,
}

impl World {
    pub(super) async fn new() -> Self {
        let _ = rustls::crypto::ring::default_provider().install_default();
        let database = TestDatabase::create().await.unwrap();
        let pool = database.pool().await.unwrap();
        let world = Self {
            pool,
            s3: S3::start(None, 0).await.unwrap(),
            environment: Vec::new(),
            patience: PATIENCE,
            database,
        };
        world.say_something(3).await;
        world
    }

    /// Sets a variable of what is made from now on.
    pub(super) fn set(&mut self, name: &str, value: &str) {
        self.environment.push((name.to_owned(), value.to_owned()));
    }

    /// All variables: of the surroundings, and the test's own.
    pub(super) fn variables(&self) -> Vec<(String, String)> {
        let own = self.s3.environment();
        let known = own.into_iter().chain(programs());
        known
            .map(|(name, value)| (name.to_owned(), value))
            .chain(self.environment.iter().cloned())
            .collect()
    }

    /// What makes backups, as another process would be.
    pub(super) fn backups(&self) -> Backups {
        self.backups_of(self.database.url())
    }

    /// Of another database.
    pub(super) fn backups_of(&self, url: &str) -> Backups {
        let mut settings = Settings::new(self.variables());
        let config = BackupConfig::read(&mut settings);
        let config = settings.finish(config).unwrap();
        let database = DatabaseConfig::new(url.to_owned(), 4).open().unwrap();
        Backups::new(config, database, Bus::new("test"), self.patience)
    }

    /// What restores them, told as `growth-chat restore` is.
    pub(super) fn restorer(&self) -> Restorer {
        let mut settings = Settings::new(self.variables());
        let config = RestoreConfig::read(&mut settings);
        Restorer::new(&settings.finish(config).unwrap(), self.patience)
    }

    /// A backup by hand.
    pub(super) async fn back_up(&self) -> Result<Ran, BackupError> {
        self.backups().run(&Ask::ByHand).await
    }

    /// Exchanges the object of a backup for one of other SQL, with a manifest that agrees with it.
    pub(super) fn replace(&self, manifest: &Manifest, sql: &str) -> Manifest {
        let object = packed(sql);
        let told = Manifest {
            bytes: object.len() as u64,
            sha256: hex(&Sha256::digest(&object)),
            dump_bytes: sql.len() as u64,
            ..manifest.clone()
        };
        fs::write(self.s3.path(&manifest.object), object).unwrap();
        let path = format!("backups/backup-{}.json", manifest.name);
        fs::write(self.s3.path(&path), told.to_json()).unwrap();
        told
    }

    /// More conversations.
    pub(super) async fn say_something(&self, sessions: i32) {
        query(
            "with session as (
                 insert into sessions (session_id, status, last_turn)
                 select 's-' || gen_random_uuid(), 'open', 0 from generate_series(1, $1) returning session_id)
             insert into messages (session_id, message_id, role, turn, body)
             select session_id, 'm-1', 'user', 1, 'it''s \"quoted\", tabbed\tand ümlauted' from session",
        )
        .bind(sessions)
        .execute(&self.pool)
        .await
        .unwrap();
    }

    /// A table that becomes several parts of an upload: noise of so many megabytes.
    pub(super) async fn make_noise(&self, megabytes: i32) {
        raw_sql("create table noise (id bigint primary key, text text not null)")
            .execute(&self.pool)
            .await
            .unwrap();
        query(
            "insert into noise
             select n, (select string_agg(md5(random()::text || i), '') from generate_series(n, n + 31) i)
             from generate_series(1, $1) n",
        )
        .bind(megabytes * 1_000)
        .execute(&self.pool)
        .await
        .unwrap();
    }

    /// The runs of a kind, the newest last.
    pub(super) async fn runs(&self, kind: &str) -> Vec<Row> {
        query_as(
            "select status, reason, object_key from backup_runs where kind = $1 order by run_id",
        )
        .bind(kind)
        .fetch_all(&self.pool)
        .await
        .unwrap()
    }

    /// The newest run is a failure for this reason.
    #[track_caller]
    pub(super) fn assert_failed(runs: &[Row], reason: &str) {
        let newest = runs.last().unwrap();
        assert_eq!(newest.status, "failed");
        let told = newest.reason.as_deref().unwrap();
        assert!(
            told.contains(reason),
            "{told:?} does not tell of {reason:?}"
        );
    }

    /// A number.
    pub(super) async fn count(&self, sql: &'static str) -> i64 {
        query_scalar(sql).fetch_one(&self.pool).await.unwrap()
    }

    /// Runs a statement.
    pub(super) async fn execute(&self, sql: impl Into<String>) {
        query(AssertSqlSafe(sql.into()))
            .execute(&self.pool)
            .await
            .unwrap();
    }
}

/// The manifest of a backup that was made.
#[track_caller]
pub(super) fn made(ran: Result<Ran, BackupError>) -> Manifest {
    match ran {
        Ok(Ran::Made(manifest)) => *manifest,
        other => panic!("it was not made: {other:?}"),
    }
}

/// What gzip itself makes of an object.
pub(super) fn unpacked(world: &World, key: &str) -> String {
    let object = fs::File::open(world.s3.path(key)).unwrap();
    String::from_utf8(gzip("--decompress", object)).unwrap()
}

fn packed(sql: &str) -> Vec<u8> {
    let mut file = tempfile::tempfile().unwrap();
    file.write_all(sql.as_bytes()).unwrap();
    file.rewind().unwrap();
    gzip("--fast", file)
}

fn gzip(how: &str, input: fs::File) -> Vec<u8> {
    let output = Command::new("gzip")
        .args([how, "--stdout"])
        .stdin(input)
        .output()
        .unwrap();
    assert!(output.status.success());
    output.stdout
}

/// The first line of a `pg_dump` that is a fake.
pub(super) const SAYS_ITS_VERSION: &str =
    "[ \"$1\" = --version ] && exec \"$REAL/pg_dump\" --version";
/// The last one of a `pg_dump` that does it after all.
pub(super) const DUMPS: &str = "exec \"$REAL/pg_dump\" \"$@\"";

/// A folder of programs that do what a script says; `$REAL` stands for the folder of the real ones.
#[derive(Debug)]
pub(super) struct Fakes(TempDir);

impl Fakes {
    /// A `pg_dump` that waits to be let go on, and then does what the script says; asked for its version it
    /// answers at once.
    pub(super) fn waiting(then: &str) -> Self {
        let wait = "while [ ! -e \"$(dirname \"$0\")/go\" ]; do sleep 0.01; done";
        let script = format!("{SAYS_ITS_VERSION}\n{wait}\n{then}");
        Self::new(&[("pg_dump", &script)])
    }

    /// Lets it go on.
    pub(super) fn go(&self) {
        fs::write(self.path().join("go"), "").unwrap();
    }

    /// Has the next one wait again.
    pub(super) fn wait(&self) {
        fs::remove_file(self.path().join("go")).unwrap();
    }

    pub(super) fn new(scripts: &[(&str, &str)]) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let real = real_folder();
        for (name, script) in scripts {
            let path = folder.path().join(name);
            let text = format!("#!/bin/sh\nREAL='{}'\n{script}\n", real.display());
            fs::write(&path, text).unwrap();
            fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
        }
        Self(folder)
    }

    pub(super) fn path(&self) -> &Path {
        self.0.path()
    }
}

/// As the ledger keeps an address.
pub(super) fn hash_of(address: &str, secret: &str) -> String {
    let mut settings = Settings::new([("PRIVACY_SECRET".to_owned(), secret.to_owned())]);
    PrivacySecret::read(&mut settings)
        .unwrap()
        .hash_email(address)
}

/// Waits for something that comes about by itself.
pub(super) async fn until(condition: impl AsyncFn() -> bool) {
    let waited = async {
        while !condition().await {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(20), waited)
        .await
        .expect("it does not come about");
}

/// Tells nobody.
pub(super) fn silently() -> Say {
    Arc::new(|_| ())
}
