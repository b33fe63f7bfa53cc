//! INTERIM until sandbox::postgres is merged.
use sqlx::{
    PgPool,
    postgres::{PgConnectOptions, PgPoolOptions},
};
pub(crate) struct TestDatabase {
    pool: PgPool,
}
impl TestDatabase {
    pub(crate) async fn new() -> Self {
        let base: PgConnectOptions = "postgres://postgres@127.0.0.1:55111/gc_api"
            .parse()
            .unwrap();
        let admin = PgPoolOptions::new()
            .max_connections(1)
            .connect_with(base.clone())
            .await
            .unwrap();
        let name = format!(
            "gc_api_{}",
            store::ids::new_session_id(&store::ids::SystemEntropy)
                .to_string()
                .replace('-', "_")
                .to_lowercase()
        );
        sqlx::query(sqlx::AssertSqlSafe(format!("create database {name}")))
            .execute(&admin)
            .await
            .unwrap();
        let pool = PgPoolOptions::new()
            .max_connections(10)
            .connect_with(base.database(&name))
            .await
            .unwrap();
        sqlx::migrate!("./migrations").run(&pool).await.unwrap();
        Self { pool }
    }
    pub(crate) fn pool(&self) -> PgPool {
        self.pool.clone()
    }
}
