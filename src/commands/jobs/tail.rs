//! `growth-chat jobs tail`: follows the queue, as `tail -f` does a file.

use std::{fmt::Write as _, time::Duration};

use anyhow::Context;
use jobs::operator::{Tail, TailFilter, Transition};
use store::db::{Database, is_temporary, reconnect_waits};
use tokio::time::{Instant, sleep, timeout};

use crate::{
    commands::terminal::{note, printable, unread, write},
    lifecycle::StopSignals,
};

/// How often it looks.
const EVERY: Duration = Duration::from_millis(500);
/// A look that takes longer has lost its database.
const PATIENCE: Duration = Duration::from_secs(5);
/// How often it is said at most that something was left out.
const TOLD: Duration = Duration::from_secs(10);
/// Characters of an error on its line; `show` has all of it.
const CLIPPED: usize = 240;

/// What to follow.
#[derive(Debug, clap::Args)]
pub(super) struct TailArgs {
    /// Of this queue only
    #[arg(long)]
    queue: Option<String>,
    /// Of this kind only
    #[arg(long)]
    kind: Option<String>,
    /// Failed attempts and dead jobs only
    #[arg(long)]
    failed: bool,
    /// Begin with so many of what happened before
    #[arg(
        short = 'n',
        long = "lines",
        value_name = "N",
        default_value_t = 10,
        value_parser = clap::value_parser!(u16).range(0..=1_000),
        allow_negative_numbers = true
    )]
    lines: u16,
}

/// Follows until it is told to stop or nobody reads any more.
pub(super) async fn run(args: TailArgs, json: bool, database: &Database) -> anyhow::Result<()> {
    let mut signals = StopSignals::listen().context("listening to signals failed")?;
    let filter = TailFilter {
        queue: args.queue,
        kind: args.kind,
        failed: args.failed,
    };
    let tail = Tail::new(database.pool(), filter).await?;
    tokio::select! {
        followed = follow(tail, args.lines.into(), json, database) => followed?,
        _ = signals.next() => {}
        () = unread() => {}
    }
    Ok(())
}

async fn follow(
    mut tail: Tail,
    lines: usize,
    json: bool,
    database: &Database,
) -> anyhow::Result<()> {
    let mut first = Some(lines);
    let mut waits = None;
    let mut told = None;
    loop {
        let looked = timeout(PATIENCE, tail.look(database.pool())).await;
        let look = match looked.unwrap_or(Err(sqlx::Error::PoolTimedOut)) {
            Ok(look) => look,
            Err(error) if passes(&error) => {
                if waits.is_none() {
                    note(&format!("the database is away, going on: {error}"));
                }
                let wait = waits.get_or_insert_with(reconnect_waits).next();
                sleep(wait.unwrap_or(EVERY)).await;
                continue;
            }
            Err(error) => return Err(error).context("looking at the jobs"),
        };
        if waits.take().is_some() {
            note("the database is back");
        }
        let quiet = told.is_none_or(|told: Instant| told.elapsed() >= TOLD);
        if look.incomplete && quiet {
            note("more happens than can be shown: some of it is left out");
            told = Some(Instant::now());
        }
        let all = look.transitions;
        let skipped = first
            .take()
            .map_or(0, |lines| all.len().saturating_sub(lines));
        let mut text = String::new();
        for transition in &all[skipped..] {
            if json {
                text += &serde_json::to_string(transition)?;
            } else {
                text += &line(transition);
            }
            text.push('\n');
        }
        if !text.is_empty() && !write(text).await? {
            return Ok(());
        }
        sleep(EVERY).await;
    }
}

/// Whether looking again may help.
fn passes(error: &sqlx::Error) -> bool {
    is_temporary(error)
        || matches!(
            error,
            sqlx::Error::Protocol(_) | sqlx::Error::Tls(_) | sqlx::Error::WorkerCrashed
        )
}

fn line(transition: &Transition) -> String {
    let mut line = format!(
        "{}  {:>8}  {:<12} {:<26} ",
        transition.at,
        transition.id,
        printable(&transition.queue),
        printable(&transition.kind),
    );
    let attempt = transition.attempt.unwrap_or_default();
    let of = transition.max_attempts;
    let next = transition.next_run_at.as_deref();
    let _ = match (transition.event.as_str(), next) {
        ("enqueued", Some(next)) => write!(line, "enqueued for {next}"),
        ("running", _) => write!(line, "running (attempt {attempt} of {of})"),
        ("failed", Some(next)) => write!(line, "failed (attempt {attempt} of {of}), next {next}"),
        ("failed", None) => write!(line, "failed (attempt {attempt} of {of})"),
        (event, _) => write!(line, "{event}"),
    };
    if let Some(seconds) = transition.seconds {
        let _ = write!(line, " after {seconds:.3} s");
    }
    if let Some(error) = &transition.error {
        let _ = write!(line, ": {}", clipped(&printable(error)));
    }
    line
}

fn clipped(error: &str) -> String {
    match error.char_indices().nth(CLIPPED) {
        Some((end, _)) => format!("{}…", &error[..end]),
        None => error.to_owned(),
    }
}
