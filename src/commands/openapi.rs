//! `growth-chat openapi`: prints the API's description. docs/openapi.json is its output.

use std::{
    io::{self, Write},
    process::ExitCode,
};

pub(crate) fn run() -> anyhow::Result<ExitCode> {
    io::stdout().lock().write_all(api::openapi().as_bytes())?;
    Ok(ExitCode::SUCCESS)
}
