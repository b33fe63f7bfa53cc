//! The database: how it is configured and reached.

mod address;

use std::time::Duration;

use backon::{BackoffBuilder, ExponentialBuilder};
use secrecy::{ExposeSecret, SecretString};
use sqlx::{
    Connection, PgConnection, PgPool,
    postgres::{PgConnectOptions, PgPoolOptions},
};
use tokio::time::{sleep, timeout};
use url::form_urlencoded;

pub use self::address::{AddressError, DatabaseAddress};
use crate::{migration, roundtrip, settings::Settings};

/// Connections of the shared pool, unless it is said otherwise.
const MAX_CONNECTIONS: u32 = 10;
/// How long a request for a pooled connection waits before it fails.
const ACQUIRE_TIMEOUT: Duration = Duration::from_secs(10);
/// Of [`Database::hot`]: claims, two batches of verdicts, wake-ups.
const HOT_CONNECTIONS: u32 = 4;

/// Between two looks at a schema that is too old: somebody has to migrate it.
const SCHEMA_LOOK: Duration = Duration::from_secs(5);

/// Where the database is, and how many connections this process may hold besides the two that the
/// wake-up bus and the lease renewal have for themselves.
#[derive(Debug, Clone)]
pub struct DatabaseConfig {
    url: SecretString,
    max_connections: u32,
}

impl DatabaseConfig {
    /// Reads `CHECKPOINT_DB_URL` (alias `DATABASE_URL`) and `DATABASE_MAX_CONNECTIONS`.
    pub fn read(settings: &mut Settings) -> Option<Self> {
        const RULE: &str = "a postgres:// URL of the database with its user and host, the direct one and not a \
            pooler's, with sslmode=require unless the host is local";
        const ALIAS_RULE: &str = "the same as CHECKPOINT_DB_URL, in its place";
        let max_connections = settings.with_default(
            "DATABASE_MAX_CONNECTIONS",
            MAX_CONNECTIONS,
            "2 to 1000",
            |count| (2..=1000).contains(count),
        );
        let only_alias = settings.is_set("DATABASE_URL") && !settings.is_set("CHECKPOINT_DB_URL");
        let name = if only_alias {
            "DATABASE_URL"
        } else {
            "CHECKPOINT_DB_URL"
        };
        let alias = settings.optional::<String>("DATABASE_URL", ALIAS_RULE);
        let url: String = settings.required(name, RULE)?;
        if alias.is_some_and(|alias| differ(&url, &alias)) {
            settings.problem(
                "DATABASE_URL",
                "differs from CHECKPOINT_DB_URL: set one of them",
            );
        }
        let config = Self::at(url, name, settings)?;
        Some(Self {
            max_connections,
            ..config
        })
    }

    /// The configuration for an address that is called `name`, held to the rules of every database.
    pub fn at(url: String, name: &str, settings: &mut Settings) -> Option<Self> {
        for (variable, parameter) in address::FOREIGN {
            if settings.is_set(variable) {
                settings.problem(
                    variable,
                    format!("does not count here: unset it, and say {parameter}=… in {name}"),
                );
            }
        }
        let config = Self::new(url, MAX_CONNECTIONS);
        let address = match config.address() {
            Ok(address) => address,
            Err(error) => {
                settings.problem(name, error.to_string());
                return None;
            }
        };
        if is_pooled(address.host(), config.url.expose_secret()) {
            settings.problem(
                name,
                "is the address of a pooler, which has no LISTEN and no session: give the direct one \
                 (at Neon the host's name without -pooler)",
            );
            return None;
        }
        if !address.demands_tls() && !is_local(address.host()) {
            settings.problem(
                name,
                "needs TLS: add ?sslmode=require (only a local host may do without)",
            );
            return None;
        }
        Some(config)
    }

    /// A configuration for a known URL.
    pub fn new(url: impl Into<SecretString>, max_connections: u32) -> Self {
        Self {
            url: url.into(),
            max_connections,
        }
    }

    /// The address as it was given: [`DatabaseAddress::parse`] takes it apart.
    pub fn url(&self) -> SecretString {
        self.url.clone()
    }

    /// The address, taken apart.
    pub fn address(&self) -> Result<DatabaseAddress, AddressError> {
        DatabaseAddress::parse(self.url.expose_secret())
    }

    fn options(&self) -> sqlx::Result<PgConnectOptions> {
        let address = self
            .address()
            .map_err(|error| sqlx::Error::Configuration(error.into()))?;
        Ok(address
            .connect_options()?
            .application_name("growth-chat")
            .options([
                // A statement or a transaction that hangs must not hold locks for ever.
                ("statement_timeout", "60s"),
                ("idle_in_transaction_session_timeout", "60s"),
                // The server's kernel asks every minute whether this end is there. That is no statement,
                // and keeps routers from forgetting a LISTEN connection that is silent for hours.
                ("tcp_keepalives_idle", "60"),
                ("tcp_keepalives_interval", "10"),
                ("tcp_keepalives_count", "6"),
            ]))
    }

    /// Opens the pools. Nothing is connected yet: a database that is down delays work, not the start.
    /// Nor does a pool ever connect by itself: it keeps no minimum, and what it closes because of its
    /// age stays closed until somebody asks for a connection.
    pub fn open(&self) -> sqlx::Result<Database> {
        let options = self.options()?;
        let pool = roundtrip::measured(PgPoolOptions::new())
            .max_connections(self.max_connections)
            .acquire_timeout(ACQUIRE_TIMEOUT)
            // What is read is in memory or on an SSD. By the default of 4, which is a disk's, a few
            // thousand chunks are searched by reading every vector instead of their index.
            .connect_lazy_with(options.clone().options([("random_page_cost", "1.1")]));
        let hot = PgPoolOptions::new()
            .max_connections(HOT_CONNECTIONS)
            .acquire_timeout(ACQUIRE_TIMEOUT)
            // One round trip less for each statement; whoever uses it repeats what failed.
            .test_before_acquire(false)
            // All of their statements have an index. A plan that was made while a table was empty is
            // kept for long, and must not be one that reads the whole table once it is full.
            .connect_lazy_with(options.clone().options([("enable_seqscan", "off")]));
        Ok(Database {
            pool,
            hot,
            options,
            url: self.url(),
        })
    }
}

/// Whether two addresses lead to different places, or in different ways.
fn differ(one: &str, other: &str) -> bool {
    match (DatabaseAddress::parse(one), DatabaseAddress::parse(other)) {
        (Ok(one), Ok(other)) => one.variables() != other.variables(),
        _ => one != other,
    }
}

/// Whether an address says of itself that it is a pooler's: at Neon and Supabase by the host's name, for
/// Prisma by a parameter. What the others are a process finds out once it listens
/// ([`crate::bus::Bus::deaf_from_the_start`]); a port says nothing, since anything may listen there.
fn is_pooled(host: &str, url: &str) -> bool {
    let host = host.to_ascii_lowercase();
    let named = host
        .split('.')
        .any(|label| label == "pooler" || label.ends_with("-pooler"));
    let parameters = url.split_once('?').map_or("", |(_, parameters)| parameters);
    let flagged = form_urlencoded::parse(parameters.as_bytes()).any(|(name, value)| {
        name.eq_ignore_ascii_case("pgbouncer") && value.eq_ignore_ascii_case("true")
    });
    named || flagged
}

fn is_local(host: &str) -> bool {
    host == "localhost"
        || host.starts_with('/')
        || host
            .parse::<std::net::IpAddr>()
            .is_ok_and(|ip| ip.is_loopback())
}

/// An open database. Clones share the pool.
#[derive(Debug, Clone)]
pub struct Database {
    pool: PgPool,
    hot: PgPool,
    options: PgConnectOptions,
    url: SecretString,
}

impl Database {
    /// Whether it is on this machine, where it needs no TLS.
    pub fn is_local(&self) -> bool {
        is_local(self.options.get_host())
    }

    /// The connections that everybody shares.
    pub fn pool(&self) -> &PgPool {
        &self.pool
    }

    /// A few connections for the tasks of the queue that issue the same statements all day: claims,
    /// verdicts, wake-ups. A statement may fail because its connection was lost a while ago:
    /// for those who repeat what failed, and need not be told that it was done twice.
    pub fn hot(&self) -> &PgPool {
        &self.hot
    }

    /// The address, for programs of PostgreSQL that connect by themselves.
    pub fn url(&self) -> &SecretString {
        &self.url
    }

    /// A pool of one connection of its own, for a task that must not wait for the others.
    pub fn own_connection(&self) -> PgPool {
        PgPoolOptions::new()
            .max_connections(1)
            .acquire_timeout(ACQUIRE_TIMEOUT)
            .connect_lazy_with(self.options.clone())
    }

    /// Brings the schema up to date: [`migration::migrate`].
    pub async fn migrate(&self) -> Result<(), migration::MigrationError> {
        migration::migrate(&self.options).await
    }

    /// Connects once, at once, besides all pools.
    pub async fn probe(&self) -> sqlx::Result<()> {
        self.connect().await?.close().await
    }

    /// A connection besides all pools, at once.
    pub(crate) async fn connect(&self) -> sqlx::Result<PgConnection> {
        let connected = timeout(ACQUIRE_TIMEOUT, PgConnection::connect_with(&self.options));
        connected.await.map_err(|_| sqlx::Error::PoolTimedOut)?
    }

    /// Returns once the schema is as this build needs it, and says in the log what to do meanwhile.
    /// Waits for a database that is not there.
    pub async fn wait_until_migrated(&self) {
        let mut waits = reconnect_waits();
        loop {
            match migration::is_migrated(&self.pool).await {
                Ok(true) => return,
                Ok(false) => {
                    tracing::error!(
                        "the database's schema is older than this program: run `growth-chat migrate`"
                    );
                    sleep(SCHEMA_LOOK).await;
                }
                Err(error) => {
                    tracing::warn!(error = %error, "the database is not there yet");
                    sleep(waits.next().unwrap_or(SCHEMA_LOOK)).await;
                }
            }
        }
    }
}

/// The longest wait between two attempts to reach the database.
pub const MAX_RECONNECT_WAIT: Duration = Duration::from_secs(5);

/// Waits between attempts to reach the database, without an end.
pub type ReconnectWaits = <ExponentialBuilder as BackoffBuilder>::Backoff;

/// 50 ms, doubled up to [`MAX_RECONNECT_WAIT`], with jitter, for ever.
pub fn reconnect_waits() -> ReconnectWaits {
    ExponentialBuilder::default()
        .with_min_delay(Duration::from_millis(50))
        .with_max_delay(MAX_RECONNECT_WAIT)
        .with_jitter()
        .without_max_times()
        .build()
}

/// Whether a failed connection may succeed later without anybody changing the configuration.
pub fn is_temporary(error: &sqlx::Error) -> bool {
    match error {
        // 53: out of resources; 57P: starting, stopping or crashed; 08: the connection was lost.
        sqlx::Error::Database(error) => error.code().is_some_and(|code| {
            ["53", "57P", "08"]
                .iter()
                .any(|class| code.starts_with(class))
        }),
        sqlx::Error::Io(_) | sqlx::Error::PoolTimedOut => true,
        _ => false,
    }
}

#[cfg(test)]
mod tests;
