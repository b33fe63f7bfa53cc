//! The command around the indexing: its configuration, its database, its workers.

use std::{io, process::ExitCode};

use jobs::{JobKind, QueueConfig, Runtime, catalog::KnowledgeIndexDocument};
use store::bus::Bus;
use tokio_util::sync::CancellationToken;
use workers::handlers::index_document;

use super::IndexArgs;
use crate::{
    commands::worker::KnowledgeSettings,
    environment,
    lifecycle::StopSignals,
    process::{ProcessConfig, fresh_name},
    reach::reach_migrated,
};

/// Indexes, with a runtime of its own for the one queue.
pub(crate) async fn run(args: IndexArgs) -> anyhow::Result<ExitCode> {
    let mut settings = environment::settings();
    let process = ProcessConfig::read(&mut settings);
    let knowledge = KnowledgeSettings::read(&mut settings);
    let queue = QueueConfig::read(&mut settings);
    let ((process, knowledge), queue) = settings.finish(process.zip(knowledge).zip(queue))?;
    process.log.start()?;
    let database = process.database.open()?;
    let shutdown = CancellationToken::new();
    tokio::spawn(StopSignals::listen()?.obey(shutdown.clone()));
    if let Some(reached) = shutdown
        .run_until_cancelled(reach_migrated(&database))
        .await
    {
        reached?;
    }
    let bus = Bus::new(fresh_name());
    let (carrier, of, until) = (bus.clone(), database.clone(), shutdown.clone());
    tokio::spawn(async move { carrier.run(&of, until).await });
    let deps = knowledge.deps(&database)?;
    let queue = QueueConfig {
        queues: vec![KnowledgeIndexDocument::QUEUE.to_owned()],
        ..queue
    };
    let runtime = Runtime::new(database, bus.clone(), queue);
    let runtime = index_document::register(runtime, &deps);
    let drain = process.drain;
    let work = |stop| async move { Ok(runtime.run(stop, drain).await?) };
    let mut out = io::stdout();
    super::run(&args, &deps, &bus, shutdown, work, &mut out).await
}
