//! The command around the search: its configuration, its database.

use std::{io, process::ExitCode};

use store::settings::Settings;

use super::SearchArgs;
use crate::{
    commands::index::command::KnowledgeSettings,
    environment,
    reach::{ReachConfig, reach_migrated},
};

/// Searches once.
pub(crate) async fn run(args: SearchArgs) -> anyhow::Result<ExitCode> {
    let mut settings = environment::settings();
    let config = read(&mut settings);
    let (database, knowledge) = settings.finish(config)?;
    let database = database.open()?;
    reach_migrated(&database).await?;
    let deps = knowledge.deps(&database)?;
    super::run(&args, deps, &mut io::stdout()).await
}

/// Reads all that a command needs that searches.
pub(crate) fn read(settings: &mut Settings) -> Option<(ReachConfig, KnowledgeSettings)> {
    let database = ReachConfig::read(settings);
    let knowledge = KnowledgeSettings::read(settings);
    database.zip(knowledge)
}
