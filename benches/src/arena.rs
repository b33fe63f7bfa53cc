//! Where queues are compared: a private, durable Postgres with a fresh database for each run.
//!
//! Its autovacuum never comes by, so that the statistics are exactly as stale or as fresh as a run
//! makes them, and no run pays for the tables of another one.

use std::sync::atomic::{AtomicU32, Ordering};

use anyhow::Context;
use sandbox::postgres::{MIGRATOR, Server, ServerOptions, create_database, drop_database};
use sqlx::{Connection, PgConnection};

const SETTINGS: [(&str, &str); 6] = [
    ("autovacuum_naptime", "1d"),
    ("shared_buffers", "256MB"),
    // A checkpoint comes between the runs, not in one of them.
    ("max_wal_size", "8GB"),
    ("checkpoint_timeout", "1d"),
    ("shared_preload_libraries", "pg_stat_statements"),
    ("pg_stat_statements.track_utility", "on"),
];
/// From which we look at the others.
const ADMIN: &str = "postgres";

/// The server.
pub(crate) struct Arena {
    server: Server,
    made: AtomicU32,
}

/// A database of a run.
pub(crate) struct Ground {
    pub(crate) name: String,
    pub(crate) url: String,
}

impl Arena {
    pub(crate) async fn start() -> anyhow::Result<Self> {
        let server = Server::start(ServerOptions {
            durable: true,
            settings: SETTINGS
                .map(|(name, value)| (name.into(), value.into()))
                .into(),
            ..ServerOptions::default()
        })
        .await?;
        let mut template = PgConnection::connect(&server.url("template1")).await?;
        sqlx::query("create extension vector")
            .execute(&mut template)
            .await?;
        template.close().await?;
        let arena = Self {
            server,
            made: AtomicU32::new(0),
        };
        let mut admin = arena.admin().await?;
        sqlx::query("create extension pg_stat_statements")
            .execute(&mut admin)
            .await?;
        Ok(arena)
    }

    async fn admin(&self) -> anyhow::Result<PgConnection> {
        PgConnection::connect(&self.server.url(ADMIN))
            .await
            .context("connecting to the arena")
    }

    /// An empty database, after a checkpoint.
    pub(crate) async fn fresh(&self) -> anyhow::Result<Ground> {
        let name = format!("run_{}", self.made.fetch_add(1, Ordering::Relaxed));
        create_database(&self.server.url(ADMIN), &name).await?;
        self.checkpoint().await?;
        let url = self.server.url(&name);
        Ok(Ground { name, url })
    }

    /// A database with our schema, after a checkpoint.
    pub(crate) async fn migrated(&self) -> anyhow::Result<Ground> {
        let ground = self.fresh().await?;
        let mut connection = PgConnection::connect(&ground.url).await?;
        MIGRATOR.run(&mut connection).await?;
        connection.close().await?;
        Ok(ground)
    }

    /// Writes out what earlier runs left, so that a later one does not.
    pub(crate) async fn checkpoint(&self) -> anyhow::Result<()> {
        sqlx::query("checkpoint")
            .execute(&mut self.admin().await?)
            .await?;
        Ok(())
    }

    /// Ends a database and whoever is connected to it.
    pub(crate) async fn clear(&self, ground: Ground) -> anyhow::Result<()> {
        Ok(drop_database(&self.server.url(ADMIN), &ground.name).await?)
    }

    /// How many statements clients have run in a database since the server's start, transaction control
    /// included. Ours, from another database, are not among them.
    pub(crate) async fn statements(&self, ground: &Ground) -> anyhow::Result<i64> {
        let calls = sqlx::query_scalar(
            "select coalesce(sum(calls), 0)::bigint from pg_stat_statements s
             join pg_database d on d.oid = s.dbid where d.datname = $1 and s.toplevel",
        )
        .bind(&ground.name)
        .fetch_one(&mut self.admin().await?)
        .await?;
        Ok(calls)
    }
}
