//! Databases on a server: our own or a given one.

use sqlx::{AssertSqlSafe, Connection, PgConnection};
use url::Url;

use super::{
    PostgresError,
    installation::{OLDEST_VECTOR, major_and_minor},
};

/// Checks that a given server has a pgvector that is new enough.
pub async fn check_given_server(url: &str) -> Result<(), PostgresError> {
    let mut connection = connect(url).await?;
    let version: Option<String> = sqlx::query_scalar(
        "select default_version from pg_available_extensions where name = 'vector'",
    )
    .fetch_optional(&mut connection)
    .await
    .map_err(|source| PostgresError::Database {
        doing: "asking the given server for pgvector",
        source,
    })?;
    match version.as_deref().and_then(major_and_minor) {
        Some(version) if version >= OLDEST_VECTOR => Ok(()),
        _ => Err(PostgresError::GivenServerLacksVector),
    }
}

/// Makes an empty database.
pub async fn create_database(admin_url: &str, name: &str) -> Result<(), PostgresError> {
    let mut admin = connect(admin_url).await?;
    let sql = format!("create database {}", quoted(name));
    execute(&mut admin, sql, "creating a database").await
}

/// Makes an empty database unless there is one of this name.
pub async fn ensure_database(admin_url: &str, name: &str) -> Result<(), PostgresError> {
    match create_database(admin_url, name).await {
        Err(PostgresError::Database { source, .. }) if is_duplicate(&source) => Ok(()),
        outcome => outcome,
    }
}

/// Removes a database, if it is there, with everybody's connections to it.
pub async fn drop_database(admin_url: &str, name: &str) -> Result<(), PostgresError> {
    let mut admin = connect(admin_url).await?;
    let sql = format!("drop database if exists {} with (force)", quoted(name));
    execute(&mut admin, sql, "removing a database").await
}

fn quoted(name: &str) -> String {
    format!("\"{}\"", name.replace('"', "\"\""))
}

fn is_duplicate(error: &sqlx::Error) -> bool {
    let code = error
        .as_database_error()
        .and_then(sqlx::error::DatabaseError::code);
    // duplicate_database
    code.as_deref() == Some("42P04")
}

/// The same server's address with another database.
pub fn database_url(url: &str, database: &str) -> Result<String, PostgresError> {
    let mut url = Url::parse(url).map_err(|_| PostgresError::GivenUrlNotValid)?;
    url.set_path(database);
    Ok(url.into())
}

pub(super) async fn connect(url: &str) -> Result<PgConnection, PostgresError> {
    PgConnection::connect(url)
        .await
        .map_err(|source| PostgresError::Database {
            doing: "connecting to PostgreSQL",
            source,
        })
}

pub(super) async fn execute(
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_database_of_an_address_changes() {
        let changed = database_url("postgres://u:p%20w@h:1/old?sslmode=require", "new").unwrap();
        assert_eq!(changed, "postgres://u:p%20w@h:1/new?sslmode=require");
        assert_eq!(
            database_url("postgresql://h", "new").unwrap(),
            "postgresql://h/new"
        );
        assert!(database_url("nonsense", "new").is_err());
    }
}
