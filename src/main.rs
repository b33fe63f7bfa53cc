//! growth-chat: one binary, its roles as sub-commands.
//!
//! Exit codes: 0 all went well, or a signal ended the process gracefully; 1 something failed;
//! 2 the command line or the configuration is wrong; 128 + n a second signal n cut the stop short.

mod causes;
mod cli;
mod commands;
mod environment;
mod lifecycle;
mod process;
mod reach;
mod server;
mod telemetry;
mod wake_worker;

use std::{process::ExitCode, thread::available_parallelism, time::Duration};

use store::settings::SettingsError;

use crate::cli::Command;

/// More threads than this only cost memory: what takes time here is waiting.
const MAX_THREADS: usize = 16;
/// Threads for what blocks: files, names, the cutting of documents.
const MAX_BLOCKING_THREADS: usize = 32;
/// How long something that blocks may hold up the end of the process.
const BLOCKED_LIMIT: Duration = Duration::from_secs(1);

/// The configuration is wrong, as clap says that the command line is.
const MISCONFIGURED: u8 = 2;

fn main() -> ExitCode {
    telemetry::hide_words_of_panics();
    let command = cli::parse(std::env::args_os());
    if let Command::Extract(args) = command {
        return commands::extract::run(args).unwrap_or_else(|error| complain(&error));
    }
    // Before anything opens a TLS connection. Only a second call could fail.
    let _ = rustls::crypto::ring::default_provider().install_default();
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(
            available_parallelism()
                .map_or(1, usize::from)
                .min(MAX_THREADS),
        )
        .max_blocking_threads(MAX_BLOCKING_THREADS)
        .enable_all()
        .build();
    let ended = match runtime {
        Ok(runtime) => {
            let ended = runtime.block_on(async {
                let ended = commands::run(command).await;
                telemetry::finish().await;
                ended
            });
            runtime.shutdown_timeout(BLOCKED_LIMIT);
            ended
        }
        Err(error) => Err(error.into()),
    };
    ended.unwrap_or_else(|error| complain(&error))
}

#[expect(clippy::print_stderr, reason = "for the person who started it")]
fn complain(error: &anyhow::Error) -> ExitCode {
    eprintln!("growth-chat: {}", causes::told(error));
    if error.is::<SettingsError>() {
        ExitCode::from(MISCONFIGURED)
    } else {
        ExitCode::FAILURE
    }
}
