//! The systems that are compared, each behind a driver of its own process.
//!
//! A peer is a folder in `benches/peers/` with two scripts. `prepare CACHE` installs the system by its
//! package's name into the cache folder; when it fails, the last line of its standard error is the reason
//! why the peer is absent from the tables. `run CACHE MEASURE…` is the driver (see `measure.rs`); it must
//! `exec` its program, so that killing it ends the program.

use std::{
    fs,
    path::{Path, PathBuf},
    process::{Output, Stdio},
    time::Duration,
};

use anyhow::{Context, bail, ensure};
use sandbox::{
    postgres::Places,
    watchdog::{Manner, Signal, Watchdog},
};
use serde::de::DeserializeOwned;
use tokio::{
    io::{AsyncBufReadExt, BufReader},
    process::{Child, ChildStdin, Command},
    time::timeout,
};

use crate::{measure::Measure, progress::progress};

/// How long a peer's installation may take: one that is compiled takes minutes.
const PREPARE_PATIENCE: Duration = Duration::from_mins(20);
/// How long an idle worker may take until it is ready.
const READY_PATIENCE: Duration = Duration::from_mins(1);

/// Ours, in the tables.
pub(crate) const OURS: &str = "growth-chat";
/// Ours where the worker's own process enqueues.
pub(crate) const OURS_SERVE: &str = "growth-chat, enqueued in the worker's process (`serve`)";
/// What our aim is held against: the same promises.
pub(crate) const BASELINE_HISTORY: &str = "hand-written, lease and history";
const BASELINE: &str = "hand-written, lease";

/// A system that takes part.
pub(crate) struct Contender {
    pub(crate) name: String,
    /// Whether it is somebody else's.
    pub(crate) is_peer: bool,
    /// Whether it differs from the one before it only in how jobs are enqueued one by one.
    pub(crate) only_single: bool,
    program: PathBuf,
    arguments: Vec<String>,
}

/// A system that can't take part, and why.
pub(crate) struct Absent {
    pub(crate) name: String,
    pub(crate) reason: String,
}

/// Everybody: ours, the baselines, and every peer that can be installed; with names, only those peers.
pub(crate) async fn assemble(wanted: &[String]) -> anyhow::Result<(Vec<Contender>, Vec<Absent>)> {
    let ourselves = std::env::current_exe()?;
    let linked = |name: &str, driver: &str| Contender {
        name: name.to_owned(),
        is_peer: false,
        only_single: driver == "ours-serve",
        program: ourselves.clone(),
        arguments: vec!["driver".to_owned(), driver.to_owned()],
    };
    let mut contenders = vec![
        linked(OURS, "ours"),
        linked(OURS_SERVE, "ours-serve"),
        linked(BASELINE, "baseline"),
        linked(BASELINE_HISTORY, "baseline-history"),
    ];
    let mut absent = Vec::new();
    for folder in peers()? {
        if !wanted.is_empty() && !wanted.contains(&name_of(&folder)) {
            continue;
        }
        progress(&format!("preparing {}", name_of(&folder)));
        match prepare(&folder).await {
            Ok(contender) => contenders.push(contender),
            Err(reason) => absent.push(Absent {
                name: name_of(&folder),
                reason: format!("{reason:#}"),
            }),
        }
    }
    Ok((contenders, absent))
}

/// The folders of the peers, by name.
fn peers() -> anyhow::Result<Vec<PathBuf>> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("peers");
    let Ok(entries) = fs::read_dir(root) else {
        return Ok(Vec::new());
    };
    let mut folders: Vec<PathBuf> = entries
        .map(|entry| Ok(entry?.path()))
        .collect::<std::io::Result<_>>()?;
    folders.retain(|folder| folder.join("run").is_file());
    folders.sort();
    Ok(folders)
}

fn name_of(folder: &Path) -> String {
    let name = folder.file_name().unwrap_or_default();
    name.to_string_lossy().into_owned()
}

async fn prepare(folder: &Path) -> anyhow::Result<Contender> {
    let name = name_of(folder);
    let cache = Places::from_environment()
        .cache
        .context("there is no cache folder: set HOME")?
        .join("bench-peers")
        .join(&name);
    fs::create_dir_all(&cache)?;
    let child = Command::new("sh")
        .arg(folder.join("prepare"))
        .arg(&cache)
        .current_dir(folder)
        .env_remove("DATABASE_URL")
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .kill_on_drop(true)
        .spawn()?;
    let output = timeout(PREPARE_PATIENCE, child.wait_with_output())
        .await
        .with_context(|| format!("not installed in {} s", PREPARE_PATIENCE.as_secs()))??;
    ensure!(output.status.success(), "{}", last_line(&output.stderr));
    Ok(Contender {
        name,
        is_peer: true,
        only_single: false,
        program: "sh".into(),
        arguments: vec![
            folder.join("run").to_string_lossy().into_owned(),
            cache.to_string_lossy().into_owned(),
        ],
    })
}

/// A worker that does nothing.
pub(crate) struct Idle {
    child: Child,
    input: ChildStdin,
}

impl Contender {
    fn command(&self, measure: Measure, url: &str) -> Command {
        let mut command = Command::new(&self.program);
        command
            .args(&self.arguments)
            .args(measure.arguments())
            .env("DATABASE_URL", url)
            .env("RUST_LOG", "warn")
            .env("RUST_BACKTRACE", "0")
            .kill_on_drop(true);
        command
    }

    /// Runs a measure; no answer: it was not done within `deadline`.
    pub(crate) async fn measure<T: DeserializeOwned>(
        &self,
        watchdog: &Watchdog,
        measure: Measure,
        url: &str,
        deadline: Duration,
    ) -> anyhow::Result<Option<T>> {
        let child = self
            .command(measure, url)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()?;
        let pid = child.id().context("the driver has ended")?;
        watchdog.watch(pid)?;
        let finished = timeout(deadline, child.wait_with_output()).await;
        watchdog.forget(pid)?;
        let Ok(finished) = finished else {
            return Ok(None);
        };
        let Output {
            status,
            stdout,
            stderr,
        } = finished?;
        ensure!(status.success(), "{status}: {}", last_line(&stderr));
        let line = last_line(&stdout);
        let figures = serde_json::from_str(&line);
        figures
            .map(Some)
            .with_context(|| format!("its answer is {line:?}"))
    }

    /// Starts an idle worker.
    pub(crate) async fn idle(&self, watchdog: &Watchdog, url: &str) -> anyhow::Result<Idle> {
        let mut child = self
            .command(Measure::Idle, url)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()?;
        watchdog.watch(child.id().context("the driver has ended")?)?;
        let input = child.stdin.take().context("no input")?;
        let mut lines = BufReader::new(child.stdout.take().context("no output")?).lines();
        let ready = async {
            while let Some(line) = lines.next_line().await? {
                if line.trim() == "ready" {
                    return Ok(());
                }
            }
            bail!("it ended before it was ready")
        };
        timeout(READY_PATIENCE, ready)
            .await
            .context("it did not get ready")??;
        // Whatever else it prints is read and thrown away: a full pipe would stop it.
        tokio::spawn(async move { while let Ok(Some(_)) = lines.next_line().await {} });
        Ok(Idle { child, input })
    }
}

impl Idle {
    /// Ends it; fails if it has ended by itself.
    pub(crate) async fn stop(mut self, watchdog: &Watchdog) -> anyhow::Result<()> {
        if let Some(status) = self.child.try_wait()? {
            bail!("it ended while it was idle: {status}");
        }
        let pid = self.child.id();
        drop(self.input);
        if timeout(READY_PATIENCE, self.child.wait()).await.is_err() {
            self.child.kill().await?;
        }
        if let Some(pid) = pid {
            watchdog.forget(pid)?;
        }
        Ok(())
    }
}

/// Kills at once whatever we leave behind.
pub(crate) fn watchdog() -> anyhow::Result<Watchdog> {
    let manner = Manner {
        first: Signal::SIGKILL,
        last: Signal::SIGKILL,
        patience: Duration::from_secs(1),
    };
    Ok(Watchdog::start(manner, None)?)
}

/// The last line that says something.
fn last_line(output: &[u8]) -> String {
    let text = String::from_utf8_lossy(output);
    let line = text.lines().rev().find(|line| !line.trim().is_empty());
    line.unwrap_or("it said nothing").trim().to_owned()
}
