//! What the commands have in common that renew a generated part of the repository.

use std::path::Path;

use anyhow::{Context, Result, bail};

/// Whether the command line asks only whether the files are fresh.
pub fn only_checks(command: &str) -> Result<bool> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    match arguments.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        [] => Ok(false),
        ["--check"] => Ok(true),
        _ => bail!("usage: cargo {command} [--check]"),
    }
}

/// The folder of the repository.
pub fn workspace() -> Result<&'static Path> {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .parent()
        .context("the crate is not in a workspace")
}
