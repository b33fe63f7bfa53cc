//! Where a test restores to.

use sandbox::postgres::{create_database, database_url, drop_database};
use sqlx::{PgPool, query_scalar};
use store::db::DatabaseConfig;
use workers::backup::{Manifest, Report, RestoreError, Which};

use super::support::{World, silently};

/// An empty database on the server of the tests.
pub(super) struct Target {
    admin: String,
    name: String,
    config: DatabaseConfig,
    url: String,
}

impl Target {
    pub(super) async fn new(world: &World) -> Self {
        let admin = world.database.url().to_owned();
        let url = url::Url::parse(&admin).unwrap();
        let name = format!("{}_restored", url.path().trim_start_matches('/'));
        create_database(&admin, &name).await.unwrap();
        let url = database_url(&admin, &name).unwrap();
        Self {
            config: DatabaseConfig::new(url.clone(), 3),
            admin,
            name,
            url,
        }
    }

    pub(super) fn config(&self) -> &DatabaseConfig {
        &self.config
    }

    pub(super) async fn pool(&self) -> PgPool {
        PgPool::connect(&self.url).await.unwrap()
    }

    pub(super) async fn restore(&self, world: &World) -> Result<Report, RestoreError> {
        let restorer = world.restorer();
        let manifest = restorer.find(&Which::Latest).await?;
        self.restore_this(world, &manifest).await
    }

    pub(super) async fn restore_this(
        &self,
        world: &World,
        manifest: &Manifest,
    ) -> Result<Report, RestoreError> {
        let restorer = world.restorer();
        restorer.restore(manifest, &self.config, &silently()).await
    }

    pub(super) async fn tables(&self) -> i64 {
        query_scalar("select count(*) from pg_class where relnamespace = 'public'::regnamespace")
            .fetch_one(&self.pool().await)
            .await
            .unwrap()
    }

    pub(super) async fn gone(self) {
        drop_database(&self.admin, &self.name).await.unwrap();
    }
}
