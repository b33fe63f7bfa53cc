//! The sub-commands, one file each.

mod api;
pub(crate) mod backup;
pub(crate) mod check;
pub(crate) mod configuration;
#[cfg(feature = "sandbox")]
pub(crate) mod dev;
pub(crate) mod erase;
pub(crate) mod eval;
pub(crate) mod export;
pub(crate) mod extract;
pub(crate) mod index;
pub(crate) mod jobs;
mod migrate;
mod openapi;
pub(crate) mod replay;
pub(crate) mod restore;
pub(crate) mod retention;
mod role;
pub(crate) mod search;
mod serve;
pub(crate) mod sessions;
mod terminal;
mod tick;
pub(crate) mod webhooks;
pub(crate) mod worker;

use std::process::ExitCode;

use crate::cli::Command;

/// Runs a sub-command to its end.
pub(crate) async fn run(command: Command) -> anyhow::Result<ExitCode> {
    match command {
        Command::Api => api::run().await,
        Command::Worker(args) => worker::run(args).await,
        Command::Serve(args) => serve::run(args).await,
        Command::Migrate => migrate::run().await,
        Command::Backup(args) => Box::pin(backup::run(args)).await,
        Command::Restore(args) => Box::pin(restore::run(args)).await,
        Command::Tick => Box::pin(tick::run()).await,
        Command::Check(args) => check::run(args).await,
        Command::Configuration(args) => configuration::run(&args),
        Command::Eval(args) => eval::run(args).await,
        Command::Extract(args) => extract::run(args),
        Command::Index(args) => index::command::run(args).await,
        Command::Search(args) => search::command::run(args).await,
        Command::Jobs(args) => jobs::run(args).await,
        Command::Replay(args) => replay::run(args).await,
        Command::Sessions(args) => sessions::run(args).await,
        Command::Retention(args) => retention::run(args).await,
        Command::Erase(args) => erase::run(args).await,
        Command::Export(args) => export::run(args).await,
        Command::Webhooks(args) => webhooks::run(args).await,
        Command::Openapi => openapi::run(),
        #[cfg(feature = "sandbox")]
        Command::Dev(args) => Ok(dev::run(args).await),
    }
}
