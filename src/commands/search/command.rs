//! The command around the search: its configuration, its database.

use std::{io, process::ExitCode};

use store::db::DatabaseConfig;

use super::SearchArgs;
use crate::{
    commands::index::command::KnowledgeSettings, environment, reach::reach_migrated,
    telemetry::TelemetryConfig,
};

/// Searches once.
pub(crate) async fn run(args: SearchArgs) -> anyhow::Result<ExitCode> {
    let mut settings = environment::settings();
    let telemetry = TelemetryConfig::read(&mut settings);
    let database = DatabaseConfig::read(&mut settings);
    let knowledge = KnowledgeSettings::read(&mut settings);
    let (database, knowledge) = settings.finish(database.zip(knowledge))?;
    telemetry.start()?;
    let database = database.open()?;
    reach_migrated(&database).await?;
    let deps = knowledge.deps(&database)?;
    super::run(&args, deps, &mut io::stdout()).await
}
