//! `growth-chat check`: whether what this system depends on is as it needs it, one sentence for each
//! thing. It changes nothing, costs nothing and tells nobody: of the providers it asks only whether they
//! take our credentials.
//!
//! Each thing is a [`Probe`] in a file of its own. One that needs another is passed over when that one
//! failed: a database that can't be reached is one problem, not six.

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
mod schema;
mod slack;
mod traces;

use std::{io::Write, process::ExitCode, time::Duration};

use anyhow::Result;
use futures::future::{BoxFuture, FutureExt, ready};
use serde::Serialize;
use store::{db::Database, settings::SettingsError};
use tokio::time::timeout;
use workers::{config::HandoffConfig, knowledge::KnowledgeDeps};

use super::role::Role;
use crate::telemetry::TraceConfig;

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
#[derive(Debug)]
struct Context {
    problems: Option<SettingsError>,
    database: Option<Database>,
    knowledge: Option<KnowledgeDeps>,
    edge: Option<edge::Edge>,
    handoff: Option<HandoffConfig>,
    traces: Option<TraceConfig>,
}

/// Something to check.
struct Probe {
    name: &'static str,
    /// The probes without whose success this one makes no sense.
    needs: &'static [&'static str],
    run: for<'c> fn(&'c Context) -> BoxFuture<'c, Finding>,
}

/// Everything that is checked, in the order of the table.
const PROBES: &[Probe] = &[
    Probe {
        name: "configuration",
        needs: &[],
        run: |context| ready(configuration::probe(context)).boxed(),
    },
    Probe {
        name: "edge",
        needs: &[],
        run: |context| ready(edge::probe(context)).boxed(),
    },
    Probe {
        name: "database",
        needs: &[],
        run: |context| database::probe(context).boxed(),
    },
    Probe {
        name: "pgvector",
        needs: &["database"],
        run: |context| pgvector::probe(context).boxed(),
    },
    Probe {
        name: "schema",
        needs: &["database"],
        run: |context| schema::probe(context).boxed(),
    },
    Probe {
        name: "notifications",
        needs: &["database"],
        run: |context| listen::probe(context).boxed(),
    },
    Probe {
        name: "knowledge",
        needs: &["database", "schema"],
        run: |context| knowledge::probe(context).boxed(),
    },
    Probe {
        name: "calibration",
        needs: &["database", "schema", "knowledge"],
        run: |context| calibration::probe(context).boxed(),
    },
    Probe {
        name: "bucket",
        needs: &[],
        run: |context| bucket::probe(context).boxed(),
    },
    Probe {
        name: "pg_dump",
        needs: &["database"],
        run: |context| pg_dump::probe(context).boxed(),
    },
    Probe {
        name: "slack",
        needs: &[],
        run: |context| slack::probe(context).boxed(),
    },
    Probe {
        name: "crm",
        needs: &[],
        run: |context| crm::probe(context).boxed(),
    },
    Probe {
        name: "mail",
        needs: &[],
        run: |context| mail::probe(context).boxed(),
    },
    Probe {
        name: "traces",
        needs: &[],
        run: |context| traces::probe(context).boxed(),
    },
];

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
        Self::fail(format!("{operation}: {:#}", error.into()))
    }
}

/// A line of the table.
#[derive(Debug, Serialize)]
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

/// Runs the probes one after the other.
async fn check(probes: &[Probe], context: &Context, patience: Duration) -> Vec<Line> {
    let mut lines: Vec<Line> = Vec::with_capacity(probes.len());
    for probe in probes {
        let missing = lines.iter().find(|line| {
            matches!(line.status, Status::Fail | Status::Skip) && probe.needs.contains(&line.name)
        });
        let finding = match missing {
            Some(line) => Finding::new(Status::Skip, format!("not looked at: needs {}", line.name)),
            None => timeout(patience, (probe.run)(context))
                .await
                .unwrap_or_else(|_| {
                    Finding::fail(format!("no answer within {} s", patience.as_secs()))
                }),
        };
        lines.push(Line {
            name: probe.name,
            status: finding.status,
            says: finding.says,
        });
    }
    lines
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

    fn context() -> Context {
        Context {
            problems: None,
            database: None,
            knowledge: None,
            edge: None,
            handoff: None,
            traces: None,
        }
    }

    const fn probe(
        name: &'static str,
        needs: &'static [&'static str],
        run: for<'c> fn(&'c Context) -> BoxFuture<'c, Finding>,
    ) -> Probe {
        Probe { name, needs, run }
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
        let lines = check(&probes, &context(), PATIENCE).await;
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
        let lines = check(&probes, &context(), Duration::ZERO).await;
        assert_eq!(lines[0].status, Status::Fail);
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

    #[test]
    fn every_probe_has_its_own_name_and_needs_earlier_ones() {
        for (place, probe) in PROBES.iter().enumerate() {
            let before: Vec<&str> = PROBES[..place].iter().map(|probe| probe.name).collect();
            assert!(!before.contains(&probe.name), "{}", probe.name);
            for needed in probe.needs {
                assert!(before.contains(needed), "{} needs {needed}", probe.name);
            }
        }
    }
}
