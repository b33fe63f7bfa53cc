//! The product's processes as children of `dev`: started together, each started again when it
//! ends, ended together.
#![expect(clippy::print_stderr, reason = "talks to a person at a terminal")]

use std::{
    collections::BTreeMap,
    ffi::OsStr,
    fs::File,
    os::unix::process::ExitStatusExt,
    path::PathBuf,
    process::ExitStatus,
    sync::Arc,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, bail};
use sandbox::{
    process::{Listening, LogListener, Process, ProcessError, Program},
    watchdog::{Manner, Signal, Watchdog},
};
use tokio::task::JoinSet;

use super::say;

/// How long a process may take to serve.
const START_PATIENCE: Duration = Duration::from_mins(1);
/// How long a process may take to finish its work; longer than its own drain.
const STOP_PATIENCE: Duration = Duration::from_secs(8);
/// The wait before the first restart; it doubles up to [`LONGEST_WAIT`].
const FIRST_WAIT: Duration = Duration::from_millis(500);
const LONGEST_WAIT: Duration = Duration::from_secs(15);
/// A process that lived so long is healthy: its next restart is as quick as the first.
const HEALTHY_AFTER: Duration = Duration::from_secs(30);

/// A process that is to run all the time.
#[derive(Debug)]
pub(super) struct Role {
    name: &'static str,
    command: &'static str,
    environment: Vec<(String, String)>,
}

impl Role {
    pub(super) fn new(
        name: &'static str,
        command: &'static str,
        environment: &[(&str, String)],
    ) -> Self {
        let environment = environment
            .iter()
            .map(|(name, value)| ((*name).to_owned(), value.clone()))
            .collect();
        Self {
            name,
            command,
            environment,
        }
    }
}

/// All children.
#[derive(Debug)]
pub(super) struct Family {
    executable: PathBuf,
    environment: Vec<(String, String)>,
    members: Vec<Member>,
    addresses: BTreeMap<&'static str, Listening>,
    log: LogListener,
    watchdog: Arc<Watchdog>,
}

#[derive(Debug)]
struct Member {
    program: Program,
    process: Process,
    started: Instant,
}

impl Family {
    pub(super) fn new(
        environment: Vec<(String, String)>,
        verbose: bool,
        lock: File,
    ) -> Result<Self> {
        let manner = Manner {
            first: Signal::SIGTERM,
            last: Signal::SIGKILL,
            patience: STOP_PATIENCE,
        };
        let watchdog =
            Watchdog::start_holding(manner, lock).context("starting the watchdog failed")?;
        let log = LogListener::new(move |name, line| {
            if verbose || !line.is_empty() {
                eprintln!("  {name:<8} │ {line}");
            }
        });
        Ok(Self {
            executable: std::env::current_exe().context("finding this program's file failed")?,
            environment,
            members: Vec::new(),
            addresses: BTreeMap::new(),
            log,
            watchdog: Arc::new(watchdog),
        })
    }

    /// Runs a command to its end; its failure is an error that holds what it said.
    pub(super) async fn run_to_end(
        &self,
        name: &str,
        arguments: &[impl AsRef<OsStr>],
    ) -> Result<()> {
        let program = self.program(name, arguments, &[]);
        let mut process = Process::start(&program, &self.watchdog, &self.log)?;
        let status = process.wait().await?;
        if !status.success() {
            bail!("`growth-chat {name}` failed ({})", describe(status));
        }
        Ok(())
    }

    /// Starts all of them, and waits until each serves.
    pub(super) async fn start(&mut self, roles: Vec<Role>) -> Result<()> {
        for role in &roles {
            let program = self.program(role.name, &[role.command], &role.environment);
            let process = Process::start(&program, &self.watchdog, &self.log)?;
            self.members.push(Member {
                program,
                process,
                started: Instant::now(),
            });
        }
        for (role, member) in roles.iter().zip(&mut self.members) {
            let listening = member.process.listening(START_PATIENCE).await?;
            self.addresses.insert(role.name, listening);
        }
        Ok(())
    }

    /// Where a process served first.
    pub(super) fn address(&self, name: &str) -> Option<&Listening> {
        self.addresses.get(name)
    }

    /// Names and ids of all processes, for whoever wants to kill one.
    pub(super) fn processes(&self) -> String {
        let all = self.members.iter().map(|member| {
            let process = &member.process;
            format!("{} {}", process.name(), process.pid())
        });
        all.collect::<Vec<_>>().join(", ")
    }

    /// Starts each again when it ends, for ever. May be cancelled.
    pub(super) async fn watch(&mut self) -> Result<()> {
        let Self {
            members,
            log,
            watchdog,
            ..
        } = self;
        let watches = members
            .iter_mut()
            .map(|member| member.keep_running(watchdog, log));
        futures::future::try_join_all(watches).await?;
        Ok(())
    }

    /// Asks all of them to end, and waits for it.
    pub(super) async fn stop(self) {
        let mut stops = JoinSet::new();
        for mut member in self.members {
            // A process that can't be waited for was killed.
            stops.spawn(async move { member.process.stop(STOP_PATIENCE).await });
        }
        stops.join_all().await;
    }

    fn program(
        &self,
        name: &str,
        arguments: &[impl AsRef<OsStr>],
        environment: &[(String, String)],
    ) -> Program {
        Program {
            name: name.to_owned(),
            executable: self.executable.clone(),
            arguments: arguments
                .iter()
                .map(|argument| argument.as_ref().to_owned())
                .collect(),
            environment: [&self.environment, environment].concat(),
            // The database has one name for the children.
            without: vec!["DATABASE_URL".to_owned()],
        }
    }
}

impl Member {
    async fn keep_running(
        &mut self,
        watchdog: &Arc<Watchdog>,
        log: &LogListener,
    ) -> Result<(), ProcessError> {
        let mut wait = FIRST_WAIT;
        loop {
            let status = self.process.wait().await?;
            if self.started.elapsed() > HEALTHY_AFTER {
                wait = FIRST_WAIT;
            }
            let name = &self.program.name;
            say(&format!(
                "{name} ({}) ended ({}); starting it again in {} s",
                self.process.pid(),
                describe(status),
                wait.as_secs_f32()
            ));
            tokio::time::sleep(wait).await;
            wait = (wait * 2).min(LONGEST_WAIT);
            self.process = Process::start(&self.program, watchdog, log)?;
            self.started = Instant::now();
            if self.process.listening(START_PATIENCE).await.is_ok() {
                say(&format!("{name} runs again as {}", self.process.pid()));
            }
        }
    }
}

fn describe(status: ExitStatus) -> String {
    match (status.code(), status.signal()) {
        (Some(code), _) => format!("exit code {code}"),
        (None, Some(signal)) => format!("signal {signal}"),
        (None, None) => "in an unknown way".to_owned(),
    }
}
