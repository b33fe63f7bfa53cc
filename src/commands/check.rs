//! `growth-chat check`: whether what this system depends on is as it needs it, one sentence for each
//! thing. It changes nothing, costs nothing and tells nobody: of the providers it asks only whether they
//! take our credentials.
//!
//! Each thing is a [`Probe`] in a file of its own. One that needs another is passed over when that one
//! failed: a database that can't be reached is one problem, not six. All others run at once.

mod bucket;
mod calibration;
mod configuration;
mod crm;
mod database;
mod edge;
mod knowledge;
mod listen;
mod mail;
mod pg_dump;
mod pgvector;
mod privacy;
mod probes;
mod providers;
mod schema;
mod slack;
mod traces;
mod verify;

use std::{io::Write, process::ExitCode, time::Duration};

use anyhow::Result;
use futures::future::{BoxFuture, FutureExt, Shared, join_all};
use serde::Serialize;
use store::{db::Database, settings::SettingsError};
use tokio::time::timeout;
use workers::{
    config::{
        EmbeddingsConfig, HandoffConfig, ModelConfig, PrivacyConfig, RestoreConfig, ToolsConfig,
    },
    knowledge::KnowledgeDeps,
};

use self::probes::PROBES;
use super::role::Role;
use crate::{causes, telemetry::TraceConfig};

/// How long a probe may take: longer than a connection to a database that is waking up.
const PATIENCE: Duration = Duration::from_secs(20);

/// How to check.
#[derive(Debug, clap::Args)]
pub(crate) struct CheckArgs {
    /// Answer with JSON on standard output
    #[arg(long)]
    json: bool,
    /// Whose configuration to check
    #[arg(long, value_enum, default_value_t = Role::Serve)]
    role: Role,
}

/// What the probes look at. What could not be configured is not there.
#[derive(Debug, Default)]
struct Context {
    problems: Option<SettingsError>,
    /// Variables that lead over http to somewhere public.
    plain: Vec<&'static str>,
    database: Option<Database>,
    knowledge: Option<KnowledgeDeps>,
    model: Option<ModelConfig>,
    embeddings: Option<EmbeddingsConfig>,
    edge: Option<edge::Edge>,
    privacy: Option<PrivacyConfig>,
    handoff: Option<HandoffConfig>,
    backups: Option<RestoreConfig>,
    tools: Option<ToolsConfig>,
    traces: Option<TraceConfig>,
}

/// Something to check.
struct Probe {
    name: &'static str,
    /// The probes without whose success this one makes no sense.
    needs: &'static [&'static str],
    /// The variables that lead to what it asks.
    asks: &'static str,
    run: for<'c> fn(&'c Context) -> BoxFuture<'c, Finding>,
}

/// How it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
enum Status {
    /// As it should be.
    Pass,
    /// It works, and somebody should look at it.
    Warn,
    /// It does not work.
    Fail,
    /// It was not looked at.
    Skip,
}

impl Status {
    const fn as_str(self) -> &'static str {
        match self {
            Self::Pass => "pass",
            Self::Warn => "warn",
            Self::Fail => "fail",
            Self::Skip => "skip",
        }
    }
}

/// What a probe found.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Finding {
    status: Status,
    /// A sentence, or a line for each problem.
    says: String,
}

impl Finding {
    fn new(status: Status, says: impl Into<String>) -> Self {
        Self {
            status,
            says: says.into(),
        }
    }

    fn pass(says: impl Into<String>) -> Self {
        Self::new(Status::Pass, says)
    }

    fn warn(says: impl Into<String>) -> Self {
        Self::new(Status::Warn, says)
    }

    fn fail(says: impl Into<String>) -> Self {
        Self::new(Status::Fail, says)
    }

    /// What the probe looks at is not configured, which another probe has told.
    fn not_configured() -> Self {
        Self::new(Status::Skip, "not looked at: it is not configured")
    }

    /// An operation failed, with all its causes.
    fn failed(operation: &str, error: impl Into<anyhow::Error>) -> Self {
        Self::fail(format!("{operation}: {}", causes::told(&error.into())))
    }
}

/// A line of the table.
#[derive(Debug, Clone, Serialize)]
struct Line {
    name: &'static str,
    status: Status,
    says: String,
}

pub(crate) async fn run(args: CheckArgs) -> Result<ExitCode> {
    let context = configuration::read(args.role);
    let lines = check(PROBES, &context, PATIENCE).await;
    let out = &mut std::io::stdout().lock();
    if args.json {
        serde_json::to_writer_pretty(&mut *out, &lines)?;
        writeln!(out)?;
    } else {
        print(&lines, out)?;
    }
    let failed = lines.iter().any(|line| line.status == Status::Fail);
    Ok(ExitCode::from(u8::from(failed)))
}

/// Runs the probes, each as soon as it is known whether it makes sense.
async fn check(probes: &[Probe], context: &Context, patience: Duration) -> Vec<Line> {
    let mut running: Vec<(&str, Shared<BoxFuture<'_, Line>>)> = Vec::with_capacity(probes.len());
    for probe in probes {
        let needed: Vec<_> = running
            .iter()
            .filter(|(name, _)| probe.needs.contains(name))
            .map(|(_, line)| line.clone())
            .collect();
        let line = look(probe, needed, context, patience).boxed().shared();
        running.push((probe.name, line));
    }
    join_all(running.into_iter().map(|(_, line)| line)).await
}

async fn look(
    probe: &Probe,
    needed: Vec<Shared<BoxFuture<'_, Line>>>,
    context: &Context,
    patience: Duration,
) -> Line {
    let needed = join_all(needed).await;
    let is_bad = |line: &&Line| matches!(line.status, Status::Fail | Status::Skip);
    let finding = match needed.iter().find(is_bad) {
        Some(line) => Finding::new(Status::Skip, format!("not looked at: needs {}", line.name)),
        None => timeout(patience, (probe.run)(context))
            .await
            .unwrap_or_else(|_| {
                Finding::fail(format!(
                    "no answer within {} s from where {} leads: look at the address, and whether this machine \
                     may connect to it",
                    patience.as_secs(),
                    probe.asks
                ))
            }),
    };
    Line {
        name: probe.name,
        status: finding.status,
        says: finding.says,
    }
}

fn print(lines: &[Line], out: &mut impl Write) -> std::io::Result<()> {
    for line in lines {
        let mut status = line.status.as_str();
        let mut name = line.name;
        for says in line.says.lines() {
            writeln!(out, "{status:<6}{name:<16}{says}")?;
            (status, name) = ("", "");
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    const fn probe(
        name: &'static str,
        needs: &'static [&'static str],
        run: for<'c> fn(&'c Context) -> BoxFuture<'c, Finding>,
    ) -> Probe {
        Probe {
            name,
            needs,
            asks: "SOME_URL",
            run,
        }
    }

    #[tokio::test]
    async fn what_needs_a_failed_probe_is_not_looked_at() {
        let probes = [
            probe("a", &[], |_| async { Finding::fail("broken") }.boxed()),
            probe("b", &["a"], |_| async { panic!("it is looked at") }.boxed()),
            probe("c", &["b"], |_| async { panic!("it is looked at") }.boxed()),
            probe("d", &[], |_| async { Finding::warn("old") }.boxed()),
            probe("e", &["d"], |_| async { Finding::pass("well") }.boxed()),
        ];
        let lines = check(&probes, &Context::default(), PATIENCE).await;
        let told: Vec<String> = lines
            .iter()
            .map(|line| format!("{} {} {}", line.name, line.status.as_str(), line.says))
            .collect();
        assert_eq!(
            told,
            [
                "a fail broken",
                "b skip not looked at: needs a",
                "c skip not looked at: needs b",
                "d warn old",
                "e pass well",
            ]
        );
    }

    #[tokio::test]
    async fn a_probe_that_hangs_fails() {
        let probes = [probe("a", &[], |_| std::future::pending().boxed())];
        let lines = check(&probes, &Context::default(), Duration::ZERO).await;
        assert_eq!(lines[0].status, Status::Fail);
        assert!(lines[0].says.contains("SOME_URL"), "{lines:?}");
    }

    #[tokio::test(start_paused = true)]
    async fn probes_that_hang_hang_at_once() {
        let hangs = |name| probe(name, &[], |_| std::future::pending().boxed());
        let begun = tokio::time::Instant::now();
        let lines = check(&["a", "b", "c"].map(hangs), &Context::default(), PATIENCE).await;
        assert!(lines.iter().all(|line| line.status == Status::Fail));
        assert_eq!(begun.elapsed(), PATIENCE);
    }

    #[test]
    fn every_line_of_a_finding_stands_in_its_column() {
        let line = Line {
            name: "a",
            status: Status::Fail,
            says: "one\ntwo".into(),
        };
        let mut out = Vec::new();
        print(&[line], &mut out).unwrap();
        let told = String::from_utf8(out).unwrap();
        assert_eq!(
            told,
            "fail  a               one\n                      two\n"
        );
    }
}
