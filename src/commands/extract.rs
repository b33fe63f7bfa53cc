//! `growth-chat extract`: reads one document of somebody else's, see [`workers::knowledge::extract`].
//! Not for people: `index` starts it for each page and PDF, and survives whatever becomes of it.

use std::{io, process::ExitCode};

use anyhow::Context;
use nix::sys::resource::{Resource, setrlimit};
use url::Url;
use workers::knowledge::extract::{Foreign, Input, TIME_LIMIT, serve};

/// The most memory, in bytes. A PDF of 5 MB that takes more is made to.
const MEMORY: u64 = 1024 * 1024 * 1024;

/// What is read.
#[derive(Debug, Clone, clap::Args)]
pub(crate) struct ExtractArgs {
    /// What the document is
    #[arg(value_parser = parse_foreign, value_name = "html|pdf")]
    foreign: Foreign,
    /// The encoding that the server named
    #[arg(long)]
    charset: Option<String>,
    /// The page's own address, for its relative links
    #[arg(long, value_name = "URL")]
    base: Option<Url>,
}

fn parse_foreign(text: &str) -> Result<Foreign, String> {
    [Foreign::Html, Foreign::Pdf]
        .into_iter()
        .find(|foreign| foreign.as_str() == text)
        .ok_or_else(|| "html or pdf".to_owned())
}

/// Reads standard input and answers on standard output. Without a runtime: it has nothing to wait for.
pub(crate) fn run(args: ExtractArgs) -> anyhow::Result<ExitCode> {
    // Also for the case that nobody is there any more to end it.
    let seconds = TIME_LIMIT.as_secs();
    setrlimit(Resource::RLIMIT_CPU, seconds, seconds).context("limiting the time")?;
    // What can't be limited on some system is limited by its parent's patience.
    let _ = setrlimit(Resource::RLIMIT_AS, MEMORY, MEMORY);
    let _ = setrlimit(Resource::RLIMIT_CORE, 0, 0);
    let input = Input {
        foreign: args.foreign,
        charset: args.charset,
        base: args.base,
    };
    serve(input, io::stdin().lock(), io::stdout().lock()).context("reading the document")?;
    Ok(ExitCode::SUCCESS)
}
