//! A migrated database of its own for every test.

use std::time::Duration;

use sha2::{Digest, Sha256};
use sqlx::{Connection, PgPool, migrate::Migrator, postgres::PgPoolOptions};
use tokio::sync::OnceCell;

use super::{
    Places, PostgresError, Server, ServerOptions,
    data_folder::random_hex,
    databases::{
        check_given_server, connect, create_database, database_url, drop_database, execute,
    },
    error::io,
};

/// The migrations of this build.
pub static MIGRATOR: Migrator = sqlx::migrate!("../migrations");

/// One server for all tests of a process. It ends with the process: see [`crate::watchdog`].
static HOST: OnceCell<Host> = OnceCell::const_new();

/// The advisory lock of whoever makes the template. Any number does that nobody else uses.
const TEMPLATE_LOCK: i64 = 0x6763_7465_7374;

/// Where test databases are made.
#[derive(Debug)]
struct Host {
    /// Kept alive; none: the server was given.
    server: Option<Server>,
    /// A connection to make databases by.
    admin_url: String,
    /// A database with the migrations applied.
    template: String,
}

/// A migrated database of its own, dropped with this value.
#[derive(Debug)]
pub struct TestDatabase {
    admin_url: &'static str,
    name: String,
    url: String,
    /// The server stays when this process has ended.
    is_given: bool,
}

impl TestDatabase {
    /// Makes one, on the server that all tests of this process share. Its `fsync` is off and so
    /// is its autovacuum; a test of faults starts a [`Server`] of its own.
    pub async fn create() -> Result<Self, PostgresError> {
        let host = HOST.get_or_try_init(Host::start).await?;
        let name = fresh_name()?;
        let mut admin = connect(&host.admin_url).await?;
        let sql = format!(r#"create database "{name}" template "{}""#, host.template);
        execute(&mut admin, sql, "creating a test's database").await?;
        Ok(Self {
            url: database_url(&host.admin_url, &name)?,
            admin_url: &host.admin_url,
            name,
            is_given: host.server.is_none(),
        })
    }

    /// Its address, for a process.
    pub fn url(&self) -> &str {
        &self.url
    }

    /// A pool of up to 10 connections. It belongs to the calling test's runtime.
    pub async fn pool(&self) -> Result<PgPool, PostgresError> {
        PgPoolOptions::new()
            .max_connections(10)
            .acquire_timeout(Duration::from_secs(10))
            .connect(&self.url)
            .await
            .map_err(|source| PostgresError::Database {
                doing: "connecting to a test's database",
                source,
            })
    }
}

impl Drop for TestDatabase {
    fn drop(&mut self) {
        let name = self.name.clone();
        let admin_url = self.admin_url;
        // A runtime can't be entered from within another one. What is left over here goes with the server.
        let dropper = std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread()
                .enable_all()
                .build();
            if let Ok(runtime) = runtime {
                let _ = runtime.block_on(drop_database(admin_url, &name));
            }
        });
        // Our own server is not waited for. This thread may be a test's only one, and one of the test's
        // connections half made: Postgres removes no database before every backend has heard of it, and
        // one that waits for its client's password hears nothing. It waited for this thread, this thread
        // for the removal, and all other removals with them, until the backend gave up after a minute.
        if self.is_given {
            let _ = dropper.join();
        }
    }
}

impl Host {
    async fn start() -> Result<Self, PostgresError> {
        let places = Places::from_environment();
        let (server, admin_url) = if let Some(url) = places.given_server.clone() {
            check_given_server(&url).await?;
            (None, url)
        } else {
            let server = Server::start(ServerOptions {
                places,
                ..ServerOptions::default()
            })
            .await?;
            let url = server.url("postgres");
            (Some(server), url)
        };
        let template = ensure_template(&admin_url).await?;
        Ok(Self {
            server,
            admin_url,
            template,
        })
    }
}

/// Makes the migrated template unless an earlier process has: on a given server it stays.
async fn ensure_template(admin_url: &str) -> Result<String, PostgresError> {
    let template = template_name();
    let mut admin = connect(admin_url).await?;
    let failed = |doing| move |source| PostgresError::Database { doing, source };
    // Held until this connection ends, so that parallel processes make it once.
    sqlx::query("select pg_advisory_lock($1)")
        .bind(TEMPLATE_LOCK)
        .execute(&mut admin)
        .await
        .map_err(failed("waiting for the template database"))?;
    let known: bool =
        sqlx::query_scalar("select exists (select from pg_database where datname = $1)")
            .bind(&template)
            .fetch_one(&mut admin)
            .await
            .map_err(failed("looking for the template database"))?;
    if known {
        return Ok(template);
    }
    // Under another name until it is whole: this process may be killed.
    let unfinished = format!("{template}_unfinished");
    drop_database(admin_url, &unfinished).await?;
    create_database(admin_url, &unfinished).await?;
    let mut connection = connect(&database_url(admin_url, &unfinished)?).await?;
    MIGRATOR
        .run(&mut connection)
        .await
        .map_err(PostgresError::Migrate)?;
    // A template must have no connection when it is copied.
    connection
        .close()
        .await
        .map_err(failed("closing the template database"))?;
    let sql = format!(r#"alter database "{unfinished}" rename to "{template}""#);
    execute(&mut admin, sql, "naming the template database").await?;
    Ok(template)
}

/// Names the migrations that it has.
fn template_name() -> String {
    use std::fmt::Write;
    let mut hash = Sha256::new();
    for migration in MIGRATOR.iter() {
        hash.update(migration.version.to_be_bytes());
        hash.update(&migration.checksum);
    }
    let mut name = "growth_chat_template_".to_owned();
    for byte in &hash.finalize()[..8] {
        let _ = write!(name, "{byte:02x}");
    }
    name
}

fn fresh_name() -> Result<String, PostgresError> {
    let random = random_hex().map_err(io("reading /dev/urandom"))?;
    Ok(format!("growth_chat_test_{random}"))
}
