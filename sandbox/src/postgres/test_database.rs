//! A migrated database of its own for every test.

use std::{str::FromStr, time::Duration};

use sqlx::{
    AssertSqlSafe, ConnectOptions, Connection, PgConnection, PgPool,
    migrate::Migrator,
    postgres::{PgConnectOptions, PgPoolOptions},
};
use tokio::sync::OnceCell;

use super::{Places, PostgresError, Server, ServerOptions, error::io, server::random_hex};

/// The migrations of this build.
pub static MIGRATOR: Migrator = sqlx::migrate!("../migrations");

/// One server for all tests of a process. It ends with the process: see [`crate::watchdog`].
static HOST: OnceCell<Host> = OnceCell::const_new();

/// Where test databases are made.
#[derive(Debug)]
struct Host {
    /// Kept alive; none: the server was given.
    _server: Option<Server>,
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
        let sql = format!(r#"drop database if exists "{}" with (force)"#, self.name);
        let admin_url = self.admin_url;
        // A runtime can't be entered from within another one. What is left over by a failure here
        // goes with the server.
        let dropper = std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread()
                .enable_all()
                .build();
            if let Ok(runtime) = runtime {
                let _ = runtime.block_on(async {
                    let mut admin = connect(admin_url).await?;
                    execute(&mut admin, sql, "dropping a test's database").await
                });
            }
        });
        let _ = dropper.join();
    }
}

impl Host {
    async fn start() -> Result<Self, PostgresError> {
        let places = Places::from_environment();
        let (server, admin_url) = if let Some(url) = places.given_server.clone() {
            (None, admin_url_for(&url).await?)
        } else {
            let server = Server::start(ServerOptions {
                places,
                ..ServerOptions::default()
            })
            .await?;
            let url = server.url("postgres");
            (Some(server), url)
        };
        let template = fresh_name()?;
        create_database(&admin_url, &template).await?;
        let mut connection = connect(&database_url(&admin_url, &template)?).await?;
        MIGRATOR
            .run(&mut connection)
            .await
            .map_err(PostgresError::Migrate)?;
        // A template must have no connection when it is copied.
        connection
            .close()
            .await
            .map_err(|source| PostgresError::Database {
                doing: "closing the template database",
                source,
            })?;
        Ok(Self {
            _server: server,
            admin_url,
            template,
        })
    }
}

/// Checks that a given server has pgvector, and tells how to connect to it to make databases.
pub async fn admin_url_for(given: &str) -> Result<String, PostgresError> {
    let mut connection = connect(given).await?;
    let version: Option<String> = sqlx::query_scalar(
        "select default_version from pg_available_extensions where name = 'vector'",
    )
    .fetch_optional(&mut connection)
    .await
    .map_err(|source| PostgresError::Database {
        doing: "asking the given server for pgvector",
        source,
    })?
    .flatten();
    let numbers = |version: &str| -> Option<(u32, u32)> {
        let mut parts = version.split('.');
        Some((parts.next()?.parse().ok()?, parts.next()?.parse().ok()?))
    };
    match version.as_deref().and_then(numbers) {
        Some(version) if version >= (0, 8) => Ok(given.to_owned()),
        _ => Err(PostgresError::GivenServerLacksVector),
    }
}

/// Makes an empty database.
pub async fn create_database(admin_url: &str, name: &str) -> Result<(), PostgresError> {
    let mut admin = connect(admin_url).await?;
    let sql = format!(r#"create database "{}""#, name.replace('"', "\"\""));
    execute(&mut admin, sql, "creating a database").await
}

/// The same server's address with another database.
pub fn database_url(url: &str, database: &str) -> Result<String, PostgresError> {
    let options = PgConnectOptions::from_str(url).map_err(|source| PostgresError::Database {
        doing: "reading DATABASE_URL",
        source,
    })?;
    Ok(options.database(database).to_url_lossy().to_string())
}

async fn connect(url: &str) -> Result<PgConnection, PostgresError> {
    PgConnection::connect(url)
        .await
        .map_err(|source| PostgresError::Database {
            doing: "connecting to PostgreSQL",
            source,
        })
}

async fn execute(
    connection: &mut PgConnection,
    sql: String,
    doing: &'static str,
) -> Result<(), PostgresError> {
    sqlx::raw_sql(AssertSqlSafe(sql))
        .execute(connection)
        .await
        .map_err(|source| PostgresError::Database { doing, source })?;
    Ok(())
}

fn fresh_name() -> Result<String, PostgresError> {
    let random = random_hex().map_err(io("reading /dev/urandom"))?;
    Ok(format!("growth_chat_test_{random}"))
}
