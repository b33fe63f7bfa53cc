//! `growth-chat retention`: forgets what is old enough, now. The worker does the same every week.

use std::{fmt::Write as _, process::ExitCode};

use anyhow::Context;
use serde_json::json;
use store::{
    retention::{self, Gone},
    settings::Settings,
};
use workers::retention::{Pace, RetentionDeps};

use super::terminal::{many, write};
use crate::{
    environment,
    reach::{ReachConfig, reach_migrated},
};

/// How to forget.
#[derive(Debug, clap::Args)]
pub(crate) struct RetentionArgs {
    /// Say what would go, and change nothing
    #[arg(long)]
    dry_run: bool,
    /// Answer with JSON on standard output
    #[arg(long)]
    json: bool,
}

pub(crate) async fn run(args: RetentionArgs) -> anyhow::Result<ExitCode> {
    let mut settings = environment::settings();
    let config = read(&mut settings);
    let (database, days) = settings.finish(config)?;
    let database = database.open()?;
    reach_migrated(&database).await?;
    let (gone, oldest) = if args.dry_run {
        retention::due(database.pool(), days)
            .await
            .context("looking at what is old")?
    } else {
        let deps = RetentionDeps {
            pool: database.pool().clone(),
            days,
        };
        let swept = deps.sweep(None, Pace::BesideTurns).await;
        let (gone, _) = swept.context("forgetting what is old")?;
        (gone, None)
    };
    write(if args.json {
        let mut text = json!({
            "dry_run": args.dry_run,
            "days": days,
            "oldest_close": oldest,
            "rows": gone,
        })
        .to_string();
        text.push('\n');
        text
    } else {
        table(&gone, days, oldest.as_deref(), args.dry_run)
    })
    .await?;
    Ok(ExitCode::SUCCESS)
}

/// Reads all that the command needs.
pub(super) fn read(settings: &mut Settings) -> Option<(ReachConfig, i32)> {
    let database = ReachConfig::read(settings);
    let days = retention::read_days(settings);
    Some((database?, days))
}

fn table(gone: &Gone, days: i32, oldest: Option<&str>, dry_run: bool) -> String {
    let sessions = many(gone.sessions, "session");
    let verb = if dry_run {
        "would be forgotten, closed"
    } else {
        "forgotten, closed"
    };
    let mut text = format!("{sessions} {verb} more than {days} days ago");
    if let Some(oldest) = oldest {
        text.push_str(", the oldest closed ");
        text.push_str(oldest);
    }
    text.push('\n');
    for (name, rows) in gone.tables() {
        // Writing to a string can't fail.
        let _ = writeln!(text, "  {name:<18} {rows:>10}");
    }
    text
}
