//! The world outside: stand-ins for all services, the page that shows what they received, and the variables
//! by which the product finds them.

use std::{path::PathBuf, sync::Arc};

use anyhow::{Context, Result};
use sandbox::{
    anthropic::{Anthropic, Pace},
    collector::Collector,
    openai::{self, OpenAi},
    outside::OutsideWorld,
    people::People,
    postgres::{Installation, Places, Progress},
    s3::S3,
    world::WorldPage,
};

use super::WIDGET_TOKEN;

/// How soon traces are shown, in milliseconds.
const TRACES_AFTER: &str = "500";

/// The stand-ins, which serve until they are dropped.
#[derive(Debug)]
pub(super) struct Outside {
    anthropic: Anthropic,
    openai: OpenAi,
    pub(super) people: Arc<People>,
    bucket: S3,
    collector: Arc<Collector>,
    pub(super) page: WorldPage,
}

impl Outside {
    /// Starts all of them; the page on a port of its own.
    pub(super) async fn start(pace: Pace, bucket: PathBuf, port: u16) -> Result<Self> {
        let world = OutsideWorld::default();
        let anthropic = Anthropic::start(world.clone(), 0).await;
        let anthropic = anthropic.context("the stand-in for Anthropic did not start")?;
        anthropic.set_pace(pace);
        let openai = OpenAi::start(world.clone(), 0).await;
        let openai = openai.context("the stand-in for OpenAI did not start")?;
        let people = People::start(&world).await;
        let people = people.context("the stand-ins for Slack, CRM and mail did not start")?;
        let people = Arc::new(people);
        let bucket = S3::start(Some(bucket), 0).await;
        let bucket = bucket.context("the stand-in for the bucket did not start")?;
        let collector = Collector::start(world.clone(), 0).await;
        let collector = collector.context("the stand-in for the collector did not start")?;
        let collector = Arc::new(collector);
        let told = Some(Arc::clone(&collector));
        let shown = WorldPage::start(world, Arc::clone(&people), told, port).await;
        Ok(Self {
            anthropic,
            openai,
            people,
            bucket,
            collector,
            page: shown.context("the outside-world page did not start")?,
        })
    }

    /// What the product's processes are told.
    pub(super) async fn environment(
        &self,
        database: &str,
        verbose: bool,
    ) -> Result<Vec<(String, String)>> {
        let variables = [
            ("ENVIRONMENT", "development".to_owned()),
            ("BIND_ADDRESS", "127.0.0.1".to_owned()),
            ("CHECKPOINT_DB_URL", database.to_owned()),
            ("WIDGET_TOKENS", WIDGET_TOKEN.to_owned()),
            ("ALLOWED_ORIGIN", "*".to_owned()),
            ("ANTHROPIC_API_KEY", "dev".to_owned()),
            ("ANTHROPIC_BASE_URL", self.anthropic.url()),
            ("OPENAI_API_KEY", "dev".to_owned()),
            // Receipts of erasures are signed.
            (
                "PRIVACY_SECRET",
                "dev-and-nobody-is-to-rely-on-it-0".to_owned(),
            ),
            ("OPENAI_EU_ENDPOINT", self.openai.url()),
            (
                "RAG_RELEVANCE_THRESHOLD",
                openai::RELEVANCE_THRESHOLD.to_string(),
            ),
            // Whoever develops is all the visitors at once.
            ("RATE_LIMIT_IP", "1000/1m".to_owned()),
            ("RATE_LIMIT_SESSION", "1000/1m".to_owned()),
            ("SHUTDOWN_DRAIN_SECONDS", "5".to_owned()),
            ("LOG_FORMAT", "text".to_owned()),
            ("RUST_LOG", if verbose { "info" } else { "warn" }.to_owned()),
            ("OTEL_EXPORTER_OTLP_ENDPOINT", self.collector.url()),
            ("OTEL_BSP_SCHEDULE_DELAY", TRACES_AFTER.to_owned()),
        ];
        let named = variables
            .into_iter()
            .chain(self.people.environment())
            .chain(self.bucket.environment())
            .chain(programs().await?);
        Ok(named
            .map(|(name, value)| (name.to_owned(), value))
            .collect())
    }
}

/// Where the programs are that make backups.
async fn programs() -> Result<Vec<(&'static str, String)>> {
    let find = || Installation::find(&Places::from_environment(), &Progress::silent());
    let installation = tokio::task::spawn_blocking(find)
        .await
        .context("looking for the programs of PostgreSQL failed")??;
    Ok(installation.client_environment().into_iter().collect())
}
