//! A program of ours as a child process: its log, its address, its end.
//!
//! A program that serves something says so in one line of JSON on its standard output:
//! `{"event":"listening","http":"127.0.0.1:8080","metrics":"127.0.0.1:9091"}`. Everything else it
//! prints is its log.

use std::{
    collections::VecDeque,
    ffi::OsString,
    fmt, io,
    net::SocketAddr,
    path::PathBuf,
    process::{ExitStatus, Stdio},
    sync::Arc,
    time::Duration,
};

use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};
use parking_lot::Mutex;
use serde::Deserialize;
use tokio::{
    io::{AsyncBufReadExt, AsyncRead, BufReader},
    process::{Child, Command},
    sync::watch,
    task::JoinHandle,
};

use crate::watchdog::Watchdog;

/// How many lines of its log are kept.
const KEPT_LINES: usize = 1_000;
/// How many of them explain why a process ended.
const TOLD_LINES: usize = 20;

/// What to run.
#[derive(Debug, Clone)]
pub struct Program {
    /// What people call the process: `worker-1`.
    pub name: String,
    /// The executable.
    pub executable: PathBuf,
    /// Its arguments.
    pub arguments: Vec<OsString>,
    /// Variables on top of this process's own.
    pub environment: Vec<(String, String)>,
    /// Variables of this process that it must not see.
    pub without: Vec<String>,
}

type OnLine = dyn Fn(&str, &str) + Send + Sync;

/// Hears every line that a process logs: its name, the line.
#[derive(Clone)]
pub struct LogListener(Arc<OnLine>);

impl LogListener {
    /// Calls `listener` with every line.
    pub fn new(listener: impl Fn(&str, &str) + Send + Sync + 'static) -> Self {
        Self(Arc::new(listener))
    }
}

impl fmt::Debug for LogListener {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("LogListener")
    }
}

/// Where a process serves.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct Listening {
    /// The API; a worker has none.
    pub http: Option<SocketAddr>,
    /// The metrics.
    pub metrics: Option<SocketAddr>,
}

#[derive(Deserialize)]
#[serde(tag = "event", rename_all = "lowercase")]
enum Announcement {
    Listening(Listening),
}

/// Why a process does not serve.
#[derive(Debug, thiserror::Error)]
pub enum ProcessError {
    /// It ended first.
    #[error("{name} ended before it was ready; it said:\n{log}")]
    Ended {
        /// Its name.
        name: String,
        /// The end of its log.
        log: String,
    },
    /// It takes too long.
    #[error("{name} was not ready in {} s; it said:\n{log}", patience.as_secs())]
    NotReady {
        /// Its name.
        name: String,
        /// How long was waited.
        patience: Duration,
        /// The end of its log.
        log: String,
    },
    /// It could not be started, or not be waited for.
    #[error("{name} could not be run")]
    Io {
        /// Its name.
        name: String,
        /// What the system said.
        source: io::Error,
    },
}

/// A running process. Dropped, it is killed.
#[derive(Debug)]
pub struct Process {
    name: String,
    pid: u32,
    child: Child,
    ended: Option<ExitStatus>,
    watchdog: Arc<Watchdog>,
    listening: watch::Receiver<Option<Listening>>,
    log: Arc<Mutex<VecDeque<String>>>,
    readers: Vec<JoinHandle<()>>,
}

impl Process {
    /// Starts a program. It is not in our process group, so that a Ctrl-C is for us alone.
    pub fn start(
        program: &Program,
        watchdog: &Arc<Watchdog>,
        listener: &LogListener,
    ) -> Result<Self, ProcessError> {
        let name = &program.name;
        let failed = |source| ProcessError::Io {
            name: name.clone(),
            source,
        };
        let mut command = Command::new(&program.executable);
        command.args(&program.arguments);
        for variable in &program.without {
            command.env_remove(variable);
        }
        let mut child = command
            .envs(program.environment.iter().cloned())
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .process_group(0)
            .kill_on_drop(true)
            .spawn()
            .map_err(failed)?;
        let pid = child
            .id()
            .ok_or_else(|| failed(io::Error::other("it has no process id")))?;
        watchdog.watch(pid).map_err(failed)?;
        let (announce, listening) = watch::channel(None);
        let reader = Reader {
            name: name.clone(),
            listener: listener.clone(),
            log: Arc::default(),
            announce,
        };
        let log = Arc::clone(&reader.log);
        let mut readers = Vec::new();
        if let Some(stderr) = child.stderr.take() {
            readers.push(tokio::spawn(reader.clone().read(stderr)));
        }
        if let Some(stdout) = child.stdout.take() {
            readers.push(tokio::spawn(reader.read(stdout)));
        }
        Ok(Self {
            name: name.clone(),
            pid,
            child,
            ended: None,
            watchdog: Arc::clone(watchdog),
            listening,
            log,
            readers,
        })
    }

    /// Its name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Its process id.
    pub fn pid(&self) -> u32 {
        self.pid
    }

    /// Its log, or the last thousand lines of it.
    pub fn log(&self) -> String {
        Vec::from(self.log.lock().clone()).join("\n")
    }

    fn end_of_log(&self) -> String {
        let log = self.log.lock();
        let begin = log.len().saturating_sub(TOLD_LINES);
        let end: Vec<&str> = log.range(begin..).map(String::as_str).collect();
        end.join("\n")
    }

    /// Waits until it says where it serves.
    pub async fn listening(&mut self, patience: Duration) -> Result<Listening, ProcessError> {
        let mut listening = self.listening.clone();
        let announced = listening.wait_for(Option::is_some);
        match tokio::time::timeout(patience, announced).await {
            Ok(Ok(found)) => {
                if let Some(found) = found.clone() {
                    return Ok(found);
                }
            }
            // Its output is closed: it ends.
            Ok(Err(_)) => {
                self.wait().await?;
            }
            Err(_) => {
                return Err(ProcessError::NotReady {
                    name: self.name.clone(),
                    patience,
                    log: self.end_of_log(),
                });
            }
        }
        Err(ProcessError::Ended {
            name: self.name.clone(),
            log: self.end_of_log(),
        })
    }

    /// Waits for its end, and until its log is read. May be cancelled and called again.
    pub async fn wait(&mut self) -> Result<ExitStatus, ProcessError> {
        if let Some(status) = self.ended {
            return Ok(status);
        }
        let failed = |name: &str| {
            let name = name.to_owned();
            move |source| ProcessError::Io { name, source }
        };
        let status = self.child.wait().await.map_err(failed(&self.name))?;
        self.ended = Some(status);
        self.watchdog.forget(self.pid).map_err(failed(&self.name))?;
        for reader in self.readers.drain(..) {
            // A reader does not panic, and is not cancelled.
            let _ = reader.await;
        }
        Ok(status)
    }

    /// Sends a signal; nothing happens when it has ended.
    pub fn signal(&self, signal: Signal) {
        if self.ended.is_none()
            && let Ok(pid) = i32::try_from(self.pid)
        {
            // It may end in this moment.
            let _ = kill(Pid::from_raw(pid), signal);
        }
    }

    /// Ends it as a crash would, and waits for the end.
    pub async fn kill(&mut self) -> Result<ExitStatus, ProcessError> {
        self.signal(Signal::SIGKILL);
        self.wait().await
    }

    /// Asks it to end (SIGTERM), and kills it when it has not after `patience`.
    pub async fn stop(&mut self, patience: Duration) -> Result<ExitStatus, ProcessError> {
        self.signal(Signal::SIGTERM);
        match tokio::time::timeout(patience, self.wait()).await {
            Ok(ended) => ended,
            Err(_) => self.kill().await,
        }
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        if self.ended.is_none() {
            self.signal(Signal::SIGKILL);
            // If that fails the watchdog has ended itself.
            let _ = self.watchdog.forget(self.pid);
        }
    }
}

#[derive(Clone)]
struct Reader {
    name: String,
    listener: LogListener,
    log: Arc<Mutex<VecDeque<String>>>,
    announce: watch::Sender<Option<Listening>>,
}

impl Reader {
    async fn read(self, output: impl AsyncRead + Unpin) {
        let mut lines = BufReader::new(output).split(b'\n');
        while let Ok(Some(line)) = lines.next_segment().await {
            let line = String::from_utf8_lossy(&line);
            let line = line.trim_end();
            if let Ok(Announcement::Listening(found)) = serde_json::from_str(line) {
                self.announce.send_replace(Some(found));
                continue;
            }
            let mut log = self.log.lock();
            if log.len() == KEPT_LINES {
                log.pop_front();
            }
            log.push_back(line.to_owned());
            drop(log);
            (self.listener.0)(&self.name, line);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::process::ExitStatusExt;

    use super::*;
    use crate::watchdog::Manner;

    const PATIENCE: Duration = Duration::from_secs(10);

    fn start(script: &str) -> (Process, Arc<Mutex<Vec<String>>>) {
        let manner = Manner {
            first: Signal::SIGTERM,
            last: Signal::SIGKILL,
            patience: Duration::from_secs(1),
        };
        let watchdog = Arc::new(Watchdog::start(manner, None).unwrap());
        let program = Program {
            name: "thing".to_owned(),
            executable: PathBuf::from("sh"),
            arguments: vec!["-c".into(), script.into()],
            environment: vec![("GIVEN".to_owned(), "yes".to_owned())],
            without: vec!["HOME".to_owned()],
        };
        let heard: Arc<Mutex<Vec<String>>> = Arc::default();
        let ear = Arc::clone(&heard);
        let listener =
            LogListener::new(move |name, line| ear.lock().push(format!("{name}: {line}")));
        (
            Process::start(&program, &watchdog, &listener).unwrap(),
            heard,
        )
    }

    #[tokio::test]
    async fn what_it_announces_is_told_and_the_rest_is_its_log() {
        let (mut process, heard) = start(
            r#"echo "given $GIVEN, home '$HOME'" >&2
            echo '{"event":"listening","http":null,"metrics":"127.0.0.1:9"}'; echo more"#,
        );
        let listening = process.listening(PATIENCE).await.unwrap();
        assert_eq!(listening.http, None);
        assert_eq!(listening.metrics, Some("127.0.0.1:9".parse().unwrap()));
        assert!(process.wait().await.unwrap().success());
        let mut heard = heard.lock().clone();
        heard.sort();
        assert_eq!(heard, ["thing: given yes, home ''", "thing: more"]);
    }

    #[tokio::test]
    async fn a_process_that_ends_before_it_serves_says_why() {
        let (mut process, _) = start("echo 'PORT: is not valid' >&2; exit 1");
        let error = process.listening(PATIENCE).await.unwrap_err();
        assert!(matches!(error, ProcessError::Ended { .. }));
        assert!(error.to_string().contains("PORT: is not valid"), "{error}");
    }

    #[tokio::test]
    async fn a_process_that_says_nothing_is_given_up() {
        let (mut process, _) = start("exec sleep 600");
        let error = process
            .listening(Duration::from_millis(20))
            .await
            .unwrap_err();
        assert!(matches!(error, ProcessError::NotReady { .. }));
    }

    #[tokio::test]
    async fn a_process_that_ignores_sigterm_is_killed() {
        let (mut process, _) = start(
            r#"trap '' TERM; echo '{"event":"listening","http":null,"metrics":null}'
            while :; do sleep 0.05; done"#,
        );
        process.listening(PATIENCE).await.unwrap();
        let status = process.stop(Duration::from_millis(50)).await.unwrap();
        assert_eq!(status.signal(), Some(9));
    }

    #[tokio::test]
    async fn a_dropped_process_is_gone() {
        let (process, _) = start("exec sleep 600");
        let pid = Pid::from_raw(i32::try_from(process.pid()).unwrap());
        drop(process);
        // It is a zombie until the runtime has reaped it.
        let gone = async {
            while kill(pid, None).is_ok() {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        };
        tokio::time::timeout(PATIENCE, gone).await.unwrap();
    }
}
