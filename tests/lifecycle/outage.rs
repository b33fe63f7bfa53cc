//! A database that is not there, or not migrated.

use reqwest::StatusCode;
use sandbox::postgres::TestDatabase;
use serde_json::Value;
use sqlx::{Connection, PgConnection};
use tokio::time::timeout;

use super::process::{complaint, run};
use crate::support::{ApiProcess, TestSystem, frames::PATIENCE};

/// What `/ready` says.
async fn ready(api: &ApiProcess) -> (StatusCode, Value) {
    let response = api.get("/ready").send().await.unwrap();
    (response.status(), response.json().await.unwrap())
}

/// Waits until `/ready` is 200.
async fn becomes_ready(api: &ApiProcess) {
    timeout(PATIENCE, async {
        while ready(api).await.0 != StatusCode::OK {
            tokio::task::yield_now().await;
        }
    })
    .await
    .expect("the process does not recover");
}

#[tokio::test]
async fn a_process_starts_without_its_database_and_recovers_by_itself() {
    let system = TestSystem::with_own_server().await;
    system.server().stop().await.unwrap();
    let mut api = system.api().await;
    let (status, body) = ready(&api).await;
    assert_eq!(status, StatusCode::SERVICE_UNAVAILABLE);
    assert_eq!(body["checks"]["database"], "failed");
    let health = api.get("/health").send().await.unwrap();
    assert_eq!(health.status(), StatusCode::OK);

    system.server().restart().await.unwrap();
    becomes_ready(&api).await;

    system.server().kill().await.unwrap();
    assert_eq!(ready(&api).await.0, StatusCode::SERVICE_UNAVAILABLE);
    system.server().restart().await.unwrap();
    becomes_ready(&api).await;
    api.process.stop().await;
}

#[tokio::test]
async fn a_database_without_the_schema_is_reported_until_it_is_migrated() {
    let mut system = TestSystem::new().await;
    let empty = EmptyDatabase::beside(&system.database_url()).await;
    system.set("CHECKPOINT_DB_URL", &empty.url);
    let mut api = system.api().await;
    let (status, body) = ready(&api).await;
    assert_eq!(status, StatusCode::SERVICE_UNAVAILABLE);
    assert_eq!(body["checks"]["database"], "outdated");
    api.process.logged("run `growth-chat migrate`").await;

    for _ in ["once", "and again"] {
        let output = run("migrate", &[("CHECKPOINT_DB_URL", &empty.url)]).await;
        assert!(output.status.success(), "{}", complaint(&output));
    }
    assert_eq!(ready(&api).await.0, StatusCode::OK);
    api.process.stop().await;
    empty.drop().await;
}

#[tokio::test]
async fn migrate_does_not_wait_for_what_waiting_can_not_heal() {
    let database = TestDatabase::create().await.unwrap();
    let url = format!("{}-that-is-not-there", database.url());
    let output = run("migrate", &[("CHECKPOINT_DB_URL", &url)]).await;
    assert_eq!(output.status.code(), Some(1));
    let said = complaint(&output);
    assert!(
        said.contains("the database refuses the connection"),
        "{said}"
    );
}

/// A database without anything in it.
struct EmptyDatabase {
    url: String,
    name: String,
    admin: PgConnection,
}

impl EmptyDatabase {
    /// On the server of the database at `url`.
    async fn beside(url: &str) -> Self {
        let (server, database) = url.rsplit_once('/').unwrap();
        let (database, parameters) = match database.split_once('?') {
            Some((database, parameters)) => (database, format!("?{parameters}")),
            None => (database, String::new()),
        };
        let name = format!("{database}_empty");
        let mut admin = PgConnection::connect(url).await.unwrap();
        execute(&mut admin, format!("create database \"{name}\"")).await;
        Self {
            url: format!("{server}/{name}{parameters}"),
            name,
            admin,
        }
    }

    async fn drop(mut self) {
        let sql = format!("drop database \"{}\" with (force)", self.name);
        execute(&mut self.admin, sql).await;
    }
}

async fn execute(admin: &mut PgConnection, sql: String) {
    sqlx::query(sqlx::AssertSqlSafe(sql))
        .execute(admin)
        .await
        .unwrap();
}
