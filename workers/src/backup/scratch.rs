//! The database that a verify restores into: on the same server, gone afterwards, by whomever.

use secrecy::{ExposeSecret, SecretString};
use sqlx::{AssertSqlSafe, PgPool};
use store::{
    backups::Run,
    db::{AddressError, DatabaseConfig},
};
use url::Url;

use super::{error::RestoreError, tools::ToolError};

/// Connections to it.
const CONNECTIONS: u32 = 3;

/// A scratch database.
#[derive(Debug)]
pub(super) struct Scratch {
    name: String,
    pub(super) config: DatabaseConfig,
}

impl Scratch {
    /// Makes one for a run, and drops what dead runs have left. Its name tells of the database that it is
    /// for, so that another one on the same server keeps its own.
    pub(super) async fn create(
        pool: &PgPool,
        url: &SecretString,
        run: &Run,
    ) -> Result<Self, RestoreError> {
        let prefix = sqlx::query_scalar!(
            r#"select 'growth_chat_verify_' || oid || '_' as "prefix!"
               from pg_database where datname = current_database()"#
        )
        .fetch_one(pool)
        .await?;
        // We hold the one running verify: whoever made these is gone.
        let left = sqlx::query_scalar!(
            r#"select datname::text as "name!" from pg_database where starts_with(datname, $1)"#,
            prefix
        )
        .fetch_all(pool)
        .await?;
        for name in left {
            tracing::info!(database = name, "dropping what a dead verify left");
            drop_database(pool, &name).await?;
        }
        let name = format!("{prefix}{}", run.token.simple());
        // From the template that nobody has put anything into.
        let sql = format!(r#"create database "{name}" template template0"#);
        sqlx::query(AssertSqlSafe(sql)).execute(pool).await?;
        let config = DatabaseConfig::new(on_server(url, &name)?, CONNECTIONS);
        Ok(Self { name, config })
    }

    /// Ends it and whoever is connected to it.
    pub(super) async fn remove(self, pool: &PgPool) -> sqlx::Result<()> {
        drop_database(pool, &self.name).await
    }
}

async fn drop_database(pool: &PgPool, name: &str) -> sqlx::Result<()> {
    // A name of ours has no quote.
    let sql = format!(r#"drop database if exists "{name}" with (force)"#);
    sqlx::query(AssertSqlSafe(sql)).execute(pool).await?;
    Ok(())
}

/// The address of another database on the same server.
fn on_server(url: &SecretString, name: &str) -> Result<SecretString, ToolError> {
    let mut url = Url::parse(url.expose_secret()).map_err(|_| AddressError::Form)?;
    url.set_path(name);
    let others: Vec<(String, String)> = url
        .query_pairs()
        .filter(|(key, _)| key != "dbname")
        .map(|(key, value)| (key.into_owned(), value.into_owned()))
        .collect();
    url.set_query(None);
    if !others.is_empty() {
        url.query_pairs_mut().extend_pairs(others);
    }
    Ok(String::from(url).into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_address_of_the_scratch_database_keeps_all_but_the_name() {
        let at = |url: &str| {
            let url = on_server(&url.to_owned().into(), "scratch").unwrap();
            url.expose_secret().to_owned()
        };
        assert_eq!(
            at("postgres://u:p%2Bw@h:5/x?sslmode=require&dbname=y"),
            "postgres://u:p%2Bw@h:5/scratch?sslmode=require"
        );
        assert_eq!(at("postgres://u@h/x"), "postgres://u@h/scratch");
    }
}
