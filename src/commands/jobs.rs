//! `growth-chat jobs …`: looks at the queue and acts on it, with nothing but the database.

mod add;
mod tail;

use std::{
    fmt::Write as _,
    io::{self, Write},
    process::ExitCode,
    time::Duration,
};

use anyhow::bail;
use clap::Subcommand;
use jobs::{
    Cancelled, JobId,
    operator::{self, JobDetail, JobFilter, JobSummary, ScheduleSummary},
};
use serde_json::{Value, json};
use store::{
    bus::{Bus, Wake},
    db::Database,
};
use tokio_util::sync::CancellationToken;

use self::{add::AddArgs, tail::TailArgs};
use super::terminal::printable;
use crate::{
    process::fresh_name,
    reach::{open_database, reach_migrated},
};

/// What to do with the jobs.
#[derive(Debug, clap::Args)]
pub(crate) struct JobsArgs {
    /// Answer with JSON on standard output
    #[arg(long, global = true)]
    json: bool,
    #[command(subcommand)]
    action: Action,
}

#[derive(Debug, Subcommand)]
enum Action {
    /// Enqueue one job by hand
    Add(AddArgs),
    /// List live jobs, the newest first
    List(ListArgs),
    /// Show a job with the error of every attempt
    Show {
        /// The job
        #[arg(value_parser = job_id, allow_negative_numbers = true)]
        id: i64,
    },
    /// Follow what happens to the jobs, until Ctrl-C
    ///
    /// It looks twice a second for as long as it runs, which keeps a database awake that would go to
    /// sleep when idle. At rates that no eye follows it leaves something out, and says so.
    Tail(TailArgs),
    /// Run dead jobs again, and waiting ones now
    Retry(RetryArgs),
    /// Cancel a live job
    Cancel {
        /// The job
        #[arg(value_parser = job_id, allow_negative_numbers = true)]
        id: i64,
    },
    /// Let the jobs of a queue wait; running ones go on to their end
    Pause {
        /// The queue
        queue: String,
    },
    /// Let the jobs of a queue run again
    Resume {
        /// The queue
        queue: String,
    },
    /// Show what is enqueued by the clock, and when next
    Schedules,
}

#[derive(Debug, clap::Args)]
struct ListArgs {
    /// Of this queue only
    #[arg(long)]
    queue: Option<String>,
    /// In this state only
    #[arg(long, value_parser = ["scheduled", "ready", "blocked", "running", "dead"])]
    state: Option<String>,
    /// Of this kind only
    #[arg(long)]
    kind: Option<String>,
    /// Those of which an attempt failed, dead ones included
    #[arg(long)]
    failed: bool,
    /// No more than this
    #[arg(long, default_value_t = 50, value_parser = clap::value_parser!(i64).range(1..=10_000))]
    limit: i64,
}

#[derive(Debug, clap::Args)]
struct RetryArgs {
    /// The jobs
    #[arg(required_unless_present = "kind", conflicts_with = "kind", value_parser = job_id,
          allow_negative_numbers = true)]
    ids: Vec<i64>,
    /// The dead jobs of this kind, the oldest 1,000
    #[arg(long, requires = "since")]
    kind: Option<String>,
    /// That died within this time: 90s, 30m, 1h, 7d
    #[arg(long, requires = "kind", value_parser = duration, allow_hyphen_values = true)]
    since: Option<Duration>,
}

/// Reads a number and its unit.
pub(super) fn duration(text: &str) -> Result<Duration, String> {
    let digits = text.trim_end_matches(|last: char| !last.is_ascii_digit());
    let unit = match &text[digits.len()..] {
        "" | "s" => 1,
        "m" => 60,
        "h" => 3_600,
        "d" => 86_400,
        _ => 0,
    };
    let whole = !digits.is_empty() && digits.bytes().all(|digit| digit.is_ascii_digit());
    if unit == 0 || !whole {
        return Err("a number and s, m, h or d, such as 90s or 1h".to_owned());
    }
    // Beyond what is counted, it is too long for whatever it is for.
    let seconds = digits.parse().unwrap_or(u64::MAX);
    Ok(Duration::from_secs(seconds.saturating_mul(unit)))
}

/// Reads the id of a job.
fn job_id(text: &str) -> Result<i64, String> {
    let id = text.parse().ok().filter(|id| *id > 0);
    id.ok_or_else(|| format!("a job's id is a whole number from 1 to {}", i64::MAX))
}

pub(crate) async fn run(args: JobsArgs) -> anyhow::Result<ExitCode> {
    let database = open_database()?;
    reach_migrated(&database).await?;
    let Some((text, value)) = act(args.action, args.json, &database).await? else {
        return Ok(ExitCode::SUCCESS);
    };
    let mut out = io::stdout().lock();
    if args.json {
        writeln!(out, "{value}")?;
    } else {
        write!(out, "{text}")?;
    }
    Ok(ExitCode::SUCCESS)
}

/// Does it; returns what is left to say, for people and for programs.
async fn act(
    action: Action,
    json: bool,
    database: &Database,
) -> anyhow::Result<Option<(String, Value)>> {
    let pool = database.pool();
    Ok(Some(match action {
        Action::Add(args) => add::run(args, database).await?,
        Action::List(args) => {
            let filter = JobFilter {
                queue: args.queue,
                state: args.state,
                kind: args.kind,
                failed: args.failed,
                limit: args.limit,
            };
            let jobs = operator::list(pool, &filter).await?;
            (table(&jobs), serde_json::to_value(jobs)?)
        }
        Action::Show { id } => {
            let job = operator::show(pool, JobId(id)).await?;
            (page(&job), serde_json::to_value(job)?)
        }
        Action::Retry(args) => retry(args, database).await?,
        Action::Schedules => {
            let schedules = operator::schedules(pool).await?;
            (timetable(&schedules), serde_json::to_value(schedules)?)
        }
        Action::Cancel { id } => {
            let mut after = Wake::default();
            let cancelled = operator::cancel_one(pool, JobId(id), &mut after).await?;
            tell(database, &after).await;
            let (words, state) = match cancelled {
                Cancelled::Asked => ("is told to stop", "asked"),
                _ => ("is cancelled", "cancelled"),
            };
            (
                format!("job {id} {words}\n"),
                json!({ "id": id, "state": state }),
            )
        }
        Action::Pause { queue } => {
            let changed = operator::pause(pool, &queue).await?;
            let words = if changed { "is" } else { "was already" };
            let value = json!({ "queue": queue, "paused": true, "changed": changed });
            (format!("queue {queue} {words} paused\n"), value)
        }
        Action::Resume { queue } => {
            let changed = operator::resume(pool, &queue).await?;
            let words = if changed {
                "runs again"
            } else {
                "was not paused"
            };
            let value = json!({ "queue": queue, "paused": false, "changed": changed });
            (format!("queue {queue} {words}\n"), value)
        }
        Action::Tail(args) => {
            tail::run(args, json, database).await?;
            return Ok(None);
        }
    }))
}

async fn retry(args: RetryArgs, database: &Database) -> anyhow::Result<(String, Value)> {
    let mut text = String::new();
    let mut done = Vec::new();
    if let Some((kind, since)) = args.kind.zip(args.since) {
        for JobId(id) in operator::retry_failed(database.pool(), &kind, since).await? {
            let _ = writeln!(text, "job {id} is retried");
            done.push(json!({ "id": id }));
        }
        if done.is_empty() {
            let _ = writeln!(
                text,
                "no job of the kind {kind} died within that time that can be retried"
            );
        }
        return Ok((text, done.into()));
    }
    let mut refused = Vec::new();
    for id in args.ids {
        match operator::retry(database.pool(), JobId(id)).await {
            Ok(state) => {
                let _ = writeln!(text, "job {id} is {state}");
                done.push(json!({ "id": id, "state": state }));
            }
            // The others are retried all the same.
            Err(operator::OperatorError::Refused(reason)) => refused.push(reason),
            Err(error) => return Err(error.into()),
        }
    }
    if !refused.is_empty() {
        bail!("{text}{}", refused.join("\n"));
    }
    Ok((text, done.into()))
}

/// Tells the other processes: a bus that is stopped sends what it was given.
async fn tell(database: &Database, after: &Wake) {
    let bus = Bus::new(fresh_name());
    bus.publish(after);
    let stopped = CancellationToken::new();
    stopped.cancel();
    bus.run(database, stopped).await;
}

/// A line a job.
fn table(jobs: &[JobSummary]) -> String {
    if jobs.is_empty() {
        return "no jobs\n".to_owned();
    }
    let widest = |text: fn(&JobSummary) -> &str, least: usize| {
        let widths = jobs.iter().map(|job| printable(text(job)).chars().count());
        widths.max().unwrap_or_default().max(least)
    };
    let (queue, kind) = (widest(|job| &job.queue, 12), widest(|job| &job.kind, 26));
    let mut lines = format!(
        "{:>10}  {:<queue$} {:<kind$} {:<9} {:>8}  {:<20}  LAST ERROR\n",
        "ID", "QUEUE", "KIND", "STATE", "ATTEMPTS", "RUN AT"
    );
    for job in jobs {
        let attempts = format!("{}/{}", job.attempt, job.max_attempts);
        let line = format!(
            "{:>10}  {:<queue$} {:<kind$} {:<9} {attempts:>8}  {:<20}  {}",
            job.id,
            printable(&job.queue),
            printable(&job.kind),
            job.state,
            job.run_at.as_deref().unwrap_or("-"),
            printable(job.last_error.as_deref().unwrap_or_default()),
        );
        lines += line.trim_end();
        lines.push('\n');
    }
    lines
}

/// A line a schedule.
fn timetable(schedules: &[ScheduleSummary]) -> String {
    if schedules.is_empty() {
        return "no schedules: no worker has run yet\n".to_owned();
    }
    let mut lines = format!(
        "{:<20} {:<16} {:<20} {:<17} {:>10}  NEXT FIRE\n",
        "NAME", "CRON", "TIME ZONE", "LAST FIRE (LOCAL)", "JOB"
    );
    for schedule in schedules {
        let job = schedule.last_job_id.map(|id| id.to_string());
        let _ = writeln!(
            lines,
            "{:<20} {:<16} {:<20} {:<17} {:>10}  {}",
            schedule.name,
            schedule.cron,
            schedule.time_zone,
            schedule.last_fire_local.as_deref().unwrap_or("-"),
            job.as_deref().unwrap_or("-"),
            schedule.next_fire_at.as_deref().unwrap_or("-"),
        );
    }
    lines
}

/// All of one job.
fn page(job: &JobDetail) -> String {
    let attempts = format!("{} of {}", job.attempt, job.max_attempts);
    let id = job.id.to_string();
    let priority = (job.priority != 0).then(|| job.priority.to_string());
    let fields = [
        ("job", Some(id.as_str())),
        ("queue", Some(&job.queue)),
        ("kind", Some(&job.kind)),
        ("state", Some(&job.state)),
        ("attempts", Some(&attempts)),
        ("priority", priority.as_deref()),
        ("serial key", job.serial_key.as_deref()),
        ("unique key", job.unique_key.as_deref()),
        ("rate key", job.rate_key.as_deref()),
        ("trace", job.trace.as_deref()),
        ("created", Some(&job.created_at)),
        ("started", job.started_at.as_deref()),
        ("runs at", job.run_at.as_deref()),
        ("finished", job.finished_at.as_deref()),
    ];
    let mut text = String::new();
    for (name, value) in fields {
        if let Some(value) = value {
            let _ = writeln!(text, "{name:<11} {}", printable(value));
        }
    }
    for failure in job.errors.as_array().into_iter().flatten() {
        let at = failure["at"].as_str().unwrap_or_default();
        let error = failure["error"].as_str().unwrap_or_default();
        let _ = writeln!(
            text,
            "attempt {} failed at {}: {}",
            failure["attempt"],
            printable(at),
            printable(error),
        );
    }
    text
}
