//! One moment of the database, for `pg_dump` and the manifest alike.

use chrono::{DateTime, Utc};
use sqlx::{AssertSqlSafe, PgConnection, PgPool};
use store::db::Database;
use tokio::sync::oneshot;

use super::{manifest::Counts, tools::ToolVersion};

/// What is seen.
#[derive(Debug, Clone)]
pub(super) struct Moment {
    /// For `pg_dump --snapshot`.
    pub(super) exported: String,
    /// The moment, by the database's clock.
    pub(super) at: DateTime<Utc>,
    /// The database's name.
    pub(super) database: String,
    pub(super) schema_version: Option<i64>,
}

/// A transaction that sees one moment, and lends it to others for as long as it lives.
pub(super) struct Snapshot {
    /// Its own, and no pool's: dropped, it is closed, whatever it was asked last.
    connection: PgConnection,
    pub(super) moment: Moment,
}

impl Snapshot {
    pub(super) async fn export(database: &Database) -> sqlx::Result<Self> {
        let mut connection = database.own_connection().acquire().await?.detach();
        let conn = &mut connection;
        // A server that counts for somebody who has gone would keep the moment, and vacuum waiting. Servers
        // on some systems can't look whether anybody is there: those count to the end.
        let _ = sqlx::query!("set client_connection_check_interval = '1s'")
            .execute(&mut *conn)
            .await;
        // It waits for pg_dump, which may take long to begin. A count may take long, too.
        sqlx::query!("set idle_in_transaction_session_timeout = 0")
            .execute(&mut *conn)
            .await?;
        sqlx::query!("set statement_timeout = '1h'")
            .execute(&mut *conn)
            .await?;
        sqlx::query!("begin isolation level repeatable read read only")
            .execute(&mut *conn)
            .await?;
        let moment = sqlx::query!(
            r#"select pg_export_snapshot() as "exported!", clock_timestamp() as "at!",
                      current_database()::text as "database!""#
        )
        .fetch_one(&mut *conn)
        .await?;
        let schema_version = schema_version(conn).await?;
        Ok(Self {
            connection,
            moment: Moment {
                exported: moment.exported,
                at: moment.at,
                database: moment.database,
                schema_version,
            },
        })
    }

    /// Counts every table, and keeps the moment until it was taken, or nobody will.
    pub(super) async fn count(mut self, taken: oneshot::Receiver<()>) -> sqlx::Result<Counts> {
        let counts = count_tables(&mut self.connection).await?;
        // The sender is dropped when pg_dump has ended.
        let _ = taken.await;
        Ok(counts)
    }
}

/// How new the server is.
pub(super) async fn server_version(pool: &PgPool) -> sqlx::Result<ToolVersion> {
    let number = sqlx::query_scalar!(
        r#"select current_setting('server_version_num')::integer as "version!""#
    )
    .fetch_one(pool)
    .await?;
    Ok(ToolVersion::of_number(number.unsigned_abs()))
}

/// The newest migration that was applied.
async fn schema_version(conn: &mut PgConnection) -> sqlx::Result<Option<i64>> {
    let ours = sqlx::query_scalar!(
        r#"select to_regclass('public._sqlx_migrations') is not null as "ours!""#
    )
    .fetch_one(&mut *conn)
    .await?;
    if !ours {
        return Ok(None);
    }
    // Not checked at compile time: the table is sqlx's own.
    sqlx::query_scalar("select max(version) from public._sqlx_migrations where success")
        .fetch_one(conn)
        .await
}

/// How many rows each table has, but for those of extensions.
pub(super) async fn count_tables(conn: &mut PgConnection) -> sqlx::Result<Counts> {
    let tables = sqlx::query_scalar!(
        r#"select format('%I.%I', n.nspname, c.relname) as "name!"
           from pg_class c join pg_namespace n on n.oid = c.relnamespace
           where c.relkind = 'r' and c.relpersistence = 'p' and n.nspname <> 'information_schema' and n.nspname !~ '^pg_'
             and not exists (select from pg_depend d
                             where d.classid = 'pg_class'::regclass and d.objid = c.oid and d.deptype = 'e')
           order by 1"#
    )
    .fetch_all(&mut *conn)
    .await?;
    let mut counts = Counts::new();
    for table in tables {
        // The name comes quoted from the catalogue.
        let sql = format!("select count(*) from {table}");
        let count = sqlx::query_scalar(AssertSqlSafe(sql))
            .fetch_one(&mut *conn)
            .await?;
        counts.insert(table, count);
    }
    Ok(counts)
}
