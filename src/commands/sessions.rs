//! `growth-chat sessions …`: looks at conversations, with nothing but the database.

mod follow;
mod page;
mod timeline;

use std::process::ExitCode;

use anyhow::Context;
use clap::Subcommand;
use jobs::operator::{self, JobFailure};
use serde::Serialize;
use store::{
    db::Database,
    ids::SessionId,
    session_report::{self, SessionFilter, SessionReport},
};

use self::timeline::Entry;
use super::terminal::write;
use crate::reach::{open_database, reach_migrated};

/// What to do with the sessions.
#[derive(Debug, clap::Args)]
pub(crate) struct SessionsArgs {
    /// Answer with JSON on standard output
    #[arg(long, global = true)]
    json: bool,
    #[command(subcommand)]
    action: Action,
}

#[derive(Debug, Subcommand)]
enum Action {
    /// List sessions, those with the newest activity first
    List(ListArgs),
    /// Show how a conversation went: attempts, steps, calls, cost and times of each turn
    ///
    /// What was said is shown with `--text` only.
    Show(ShowArgs),
}

#[derive(Debug, clap::Args)]
struct ListArgs {
    /// Those only that are open
    #[arg(long)]
    open: bool,
    /// Those only that are at this stage: 1 discover, 2 qualify, 3 propose, 4 handed off
    #[arg(long, value_parser = clap::value_parser!(i16).range(1..=4))]
    stage: Option<i16>,
    /// No more than this
    #[arg(long, default_value_t = 50, value_parser = clap::value_parser!(i64).range(1..=10_000))]
    limit: i64,
}

#[derive(Debug, clap::Args)]
struct ShowArgs {
    /// The session
    #[arg(value_name = "ID", allow_hyphen_values = true)]
    session_id: SessionId,
    /// With what was said
    #[arg(long)]
    text: bool,
    /// Go on with what happens, until Ctrl-C
    ///
    /// It waits to be told and looks then. While no turn runs it asks the database nothing, and ends when
    /// that hangs up.
    #[arg(long)]
    follow: bool,
}

pub(crate) async fn run(args: SessionsArgs) -> anyhow::Result<ExitCode> {
    let database = open_database()?;
    reach_migrated(&database).await?;
    match args.action {
        Action::List(list) => {
            let filter = SessionFilter {
                open: list.open,
                stage: list.stage,
                limit: list.limit,
            };
            let sessions = session_report::list(database.pool(), filter)
                .await
                .context("looking at the sessions")?;
            let text = if args.json {
                json_line(&sessions)?
            } else {
                page::table(&sessions)
            };
            write(text).await?;
        }
        Action::Show(show) if show.follow => {
            follow::run(&database, &show.session_id, show.text, args.json).await?;
        }
        Action::Show(show) => {
            let story = Story::read(&database, &show.session_id, show.text).await?;
            let story = story.ok_or_else(|| unknown(&show.session_id))?;
            write(story.shown(args.json)?).await?;
        }
    }
    Ok(ExitCode::SUCCESS)
}

/// A session with what went wrong with the jobs of its turns.
#[derive(Debug, Serialize)]
struct Story {
    #[serde(flatten)]
    report: SessionReport,
    /// The failed attempts of the turns' jobs.
    failures: Vec<JobFailure>,
}

impl Story {
    /// None: there is no such session.
    async fn read(
        database: &Database,
        session_id: &SessionId,
        with_text: bool,
    ) -> anyhow::Result<Option<Self>> {
        let pool = database.pool();
        let report = session_report::show(pool, session_id, with_text)
            .await
            .context("looking at the session")?;
        let Some(report) = report else {
            return Ok(None);
        };
        let jobs: Vec<i64> = report.turns.iter().filter_map(|turn| turn.job_id).collect();
        let failures = operator::failures(pool, &jobs)
            .await
            .context("looking at the session's jobs")?;
        Ok(Some(Self { report, failures }))
    }

    fn timeline(&self) -> Vec<Entry> {
        timeline::of(&self.report, &self.failures)
    }

    fn shown(&self, json: bool) -> anyhow::Result<String> {
        if json {
            json_line(self)
        } else {
            Ok(page::page(&self.report, &self.timeline()))
        }
    }
}

fn json_line(value: &impl Serialize) -> anyhow::Result<String> {
    Ok(serde_json::to_string(value)? + "\n")
}

fn unknown(session_id: &SessionId) -> anyhow::Error {
    anyhow::anyhow!("there is no session {session_id}: it never was, or it has been erased")
}
