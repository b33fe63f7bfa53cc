//! `growth-chat export`: a copy of everything that is known of a person.

use std::process::ExitCode;

use anyhow::{Context, bail};
use store::{ids::SessionId, privacy};

use super::{erase::address, terminal::write};
use crate::reach::{open_database, reach_migrated};

/// Of whom.
#[derive(Debug, clap::Args)]
#[command(group(clap::ArgGroup::new("subject").required(true)))]
pub(crate) struct ExportArgs {
    /// Of a session
    #[arg(long, group = "subject", value_name = "ID", allow_hyphen_values = true)]
    session: Option<SessionId>,
    /// Of whoever left this address; `-` reads it from standard input, so that nobody sees it in the list of
    /// processes
    #[arg(long, group = "subject", value_name = "ADDRESS")]
    email: Option<String>,
    /// As a page for people instead of JSON
    #[arg(long)]
    html: bool,
}

pub(crate) async fn run(args: ExportArgs) -> anyhow::Result<ExitCode> {
    let address = address(args.email.as_deref()).await?;
    let database = open_database()?;
    reach_migrated(&database).await?;
    let mut snapshot = database.pool().begin().await?;
    privacy::hold_still(&mut snapshot).await?;
    let conversations = match (&args.session, &address) {
        (Some(session_id), _) => privacy::export_session(&mut snapshot, session_id)
            .await
            .map(|found| found.into_iter().collect::<Vec<_>>()),
        (_, Some(address)) => privacy::export_email(&mut snapshot, address).await,
        _ => bail!("a session or an address is needed"),
    };
    let conversations = conversations.context("reading what is known")?;
    if conversations.is_empty() {
        bail!("nothing is known");
    }
    let document = privacy::document(&conversations);
    let mut text = if args.html {
        privacy::page(&document)
    } else {
        serde_json::to_string_pretty(&document)?
    };
    text.push('\n');
    write(text).await?;
    Ok(ExitCode::SUCCESS)
}
