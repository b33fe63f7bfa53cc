//! A running Postgres server of our own.
//!
//! `postgres` is our direct child. Its standard output, which it never writes to, is a pipe that
//! all its processes inherit: the end of it is the sign that the last of them is gone.

use std::{
    fs::{self, File},
    io::Read,
    net::{Ipv4Addr, TcpListener},
    os::unix::process::CommandExt,
    path::{Path, PathBuf},
    process::{Child, ChildStdout, ExitStatus, Stdio},
    sync::Arc,
    thread,
    time::{Duration, Instant},
};

use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};
use parking_lot::Mutex;
use tempfile::TempDir;

use super::{
    Installation, Places, PostgresError, Progress,
    data_folder::{initialise, postmaster_file, wait_for_predecessor},
    error::{io, tail},
};
use crate::watchdog::{Manner, Watchdog};

/// How long a start may take; a recovery after a crash is part of it.
const START_PATIENCE: Duration = Duration::from_mins(1);
/// How long a fast shutdown may take before it becomes an immediate one.
const STOP_PATIENCE: Duration = Duration::from_secs(8);
/// The same by the watchdog of an owner that was killed, and a little more.
const PREDECESSOR_PATIENCE: Duration = Duration::from_secs(10);
/// Between two looks at a file or a process that has no other way to tell.
const LOOK: Duration = Duration::from_millis(5);
/// Another process may take a free port before the server does.
const PORT_TRIES: usize = 5;

/// What server to start.
#[derive(Debug, Clone)]
pub struct ServerOptions {
    /// Where its programs and their cache are.
    pub places: Places,
    /// Where its data is kept; none: in a temporary folder that ends with the server.
    pub folder: Option<PathBuf>,
    /// The port on 127.0.0.1; none: a free one.
    pub port: Option<u16>,
    /// Whether a commit survives a loss of power (`fsync`). Surviving a SIGKILL needs no `fsync`.
    pub durable: bool,
    /// More settings (`-c name=value`).
    pub settings: Vec<(String, String)>,
    /// Hears what takes time.
    pub progress: Progress,
}

impl Default for ServerOptions {
    /// A temporary server on a free port, as fast as it gets.
    fn default() -> Self {
        Self {
            places: Places::from_environment(),
            folder: None,
            port: None,
            durable: false,
            settings: Vec::new(),
            progress: Progress::silent(),
        }
    }
}

/// A server on 127.0.0.1 that ends with this value, and with this process even if it is killed.
#[derive(Debug)]
pub struct Server {
    inner: Arc<Mutex<Inner>>,
    port: u16,
    password: String,
}

#[derive(Debug)]
struct Inner {
    running: Option<Running>,
    // Before the folder: it removes it, when all processes are gone.
    watchdog: Watchdog,
    installation: Installation,
    folder: PathBuf,
    temporary: Option<TempDir>,
    settings: Vec<(String, String)>,
    durable: bool,
    port: u16,
}

#[derive(Debug)]
struct Running {
    process: Child,
    /// Open in every process of the server.
    output: ChildStdout,
}

impl Server {
    /// Starts a server and waits until it accepts connections; well under a second once the
    /// programs are in the cache.
    pub async fn start(options: ServerOptions) -> Result<Self, PostgresError> {
        blocking(move || Self::start_blocking(options)).await
    }

    fn start_blocking(options: ServerOptions) -> Result<Self, PostgresError> {
        if let Some(port) = options.port {
            // Asked before anything takes time.
            free_port(port)?;
        }
        let installation = Installation::find(&options.places, &options.progress)?;
        let (folder, temporary) = if let Some(folder) = options.folder {
            (folder, None)
        } else {
            let temporary = tempfile::Builder::new()
                .prefix("growth-chat-postgres-")
                .tempdir()
                .map_err(io("creating a temporary folder"))?;
            (temporary.path().to_owned(), Some(temporary))
        };
        fs::create_dir_all(&folder).map_err(io("creating the folder of the database"))?;
        let manner = Manner {
            first: stop_signal(options.durable || temporary.is_none()),
            last: Signal::SIGQUIT,
            patience: STOP_PATIENCE,
        };
        let watchdog = Watchdog::start(manner, temporary.as_ref().map(TempDir::path))
            .map_err(io("starting the database's watchdog"))?;
        let password = initialise(&installation, &folder, &options.progress)?;
        options.progress.say("starting PostgreSQL");
        let mut inner = Inner {
            running: None,
            watchdog,
            installation,
            folder,
            temporary,
            settings: options.settings,
            durable: options.durable,
            port: 0,
        };
        inner.start_on(options.port)?;
        Ok(Self {
            port: inner.port,
            password,
            inner: Arc::new(Mutex::new(inner)),
        })
    }

    /// The address of a database of the server.
    pub fn url(&self, database: &str) -> String {
        let Self { port, password, .. } = self;
        format!("postgres://postgres:{password}@127.0.0.1:{port}/{database}")
    }

    /// The port on 127.0.0.1; the same after a restart.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// The process id of the postmaster, while there is one.
    pub fn pid(&self) -> Option<u32> {
        self.inner
            .lock()
            .running
            .as_ref()
            .map(|running| running.process.id())
    }

    /// Whether the postmaster runs.
    pub fn is_running(&self) -> bool {
        match &mut self.inner.lock().running {
            Some(running) => matches!(running.process.try_wait(), Ok(None)),
            None => false,
        }
    }

    /// Stops the server: clients are cut, what was committed is written out.
    pub async fn stop(&self) -> Result<(), PostgresError> {
        self.with_inner(Inner::stop).await
    }

    /// Kills the postmaster as a crash would, and waits until all its processes are gone.
    pub async fn kill(&self) -> Result<(), PostgresError> {
        self.with_inner(Inner::kill).await
    }

    /// Waits until nobody uses a folder: a server whose owner was killed is stopped by its
    /// watchdog, which takes a moment.
    pub async fn wait_until_unused(folder: &Path) -> Result<(), PostgresError> {
        let folder = folder.to_owned();
        blocking(move || wait_for_predecessor(&folder, PREDECESSOR_PATIENCE)).await
    }

    /// Starts the server again, on the same port and with the same data.
    pub async fn restart(&self) -> Result<(), PostgresError> {
        self.with_inner(|inner| {
            inner.stop()?;
            inner.start_on(Some(inner.port))
        })
        .await
    }

    async fn with_inner(
        &self,
        work: impl FnOnce(&mut Inner) -> Result<(), PostgresError> + Send + 'static,
    ) -> Result<(), PostgresError> {
        let inner = Arc::clone(&self.inner);
        blocking(move || work(&mut inner.lock())).await
    }
}

impl Inner {
    fn start_on(&mut self, port: Option<u16>) -> Result<(), PostgresError> {
        wait_for_predecessor(&self.folder, PREDECESSOR_PATIENCE)?;
        for attempt in 1.. {
            self.port = match port {
                Some(port) => free_port(port)?,
                None => free_port(0)?,
            };
            match self.launch() {
                Err(PostgresError::PortBusy { .. }) if port.is_none() && attempt < PORT_TRIES => {}
                outcome => return outcome,
            }
        }
        unreachable!("the last attempt returns")
    }

    fn launch(&mut self) -> Result<(), PostgresError> {
        let log_path = self.folder.join("postgres.log");
        let log = File::create(&log_path).map_err(io("creating the database's log"))?;
        let mut command = self.installation.command("postgres");
        command
            .arg("-D")
            .arg(self.folder.join("data"))
            .args(["-p", &self.port.to_string()]);
        for (name, value) in base_settings(self.durable) {
            command.arg("-c").arg(format!("{name}={value}"));
        }
        for (name, value) in &self.settings {
            command.arg("-c").arg(format!("{name}={value}"));
        }
        let mut process = command
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(log)
            // Ctrl-C is for us: the server is stopped last.
            .process_group(0)
            .spawn()
            .map_err(io("running postgres"))?;
        self.watchdog
            .watch(process.id())
            .map_err(io("telling the watchdog"))?;
        let output = process.stdout.take().ok_or(PostgresError::DidNotStart {
            said: "no output".to_owned(),
        })?;
        let running = self.running.insert(Running { process, output });
        let outcome = wait_until_ready(&mut running.process, &self.folder, self.port);
        if outcome.is_err() {
            self.end(Signal::SIGQUIT, Duration::ZERO)?;
        }
        outcome.map_err(|error| match error {
            PostgresError::DidNotStart { .. } => {
                let said = fs::read_to_string(&log_path).unwrap_or_default();
                if said.contains("Address already in use") {
                    PostgresError::PortBusy { port: self.port }
                } else {
                    PostgresError::DidNotStart {
                        said: tail(&said, 3),
                    }
                }
            }
            error => error,
        })
    }

    fn stop(&mut self) -> Result<(), PostgresError> {
        self.end(Signal::SIGINT, STOP_PATIENCE)
    }

    fn kill(&mut self) -> Result<(), PostgresError> {
        self.end(Signal::SIGKILL, Duration::ZERO)
    }

    /// Sends `signal`, after `patience` SIGQUIT, and waits until every process is gone.
    fn end(&mut self, signal: Signal, patience: Duration) -> Result<(), PostgresError> {
        let Some(mut running) = self.running.take() else {
            return Ok(());
        };
        let pid = running.process.id();
        send(pid, signal);
        let ended = wait_for_end(&mut running.process, patience)
            .map_err(io("waiting for postgres to end"))?;
        if ended.is_none() {
            if signal != Signal::SIGKILL {
                send(pid, Signal::SIGQUIT);
            }
            running
                .process
                .wait()
                .map_err(io("waiting for postgres to end"))?;
        }
        self.watchdog
            .forget(pid)
            .map_err(io("telling the watchdog"))?;
        let mut rest = Vec::new();
        running
            .output
            .read_to_end(&mut rest)
            .map_err(io("waiting for postgres's processes to end"))?;
        Ok(())
    }
}

impl Drop for Inner {
    fn drop(&mut self) {
        // What can't be done here, the watchdog does.
        let keeps_data = self.temporary.is_none();
        let _ = self.end(stop_signal(self.durable || keeps_data), STOP_PATIENCE);
    }
}

/// A server whose data nobody keeps needs no clean end.
fn stop_signal(keeps_data: bool) -> Signal {
    if keeps_data {
        Signal::SIGINT
    } else {
        Signal::SIGQUIT
    }
}

fn base_settings(durable: bool) -> Vec<(&'static str, &'static str)> {
    let mut settings = vec![
        ("listen_addresses", "127.0.0.1"),
        ("unix_socket_directories", ""),
        ("max_connections", "300"),
        ("shared_buffers", "64MB"),
        ("log_min_messages", "warning"),
        // No replication here, and less to write.
        ("wal_level", "minimal"),
        ("max_wal_senders", "0"),
    ];
    if !durable {
        settings.extend([
            ("fsync", "off"),
            ("synchronous_commit", "off"),
            ("full_page_writes", "off"),
            ("autovacuum", "off"),
        ]);
    }
    settings
}

/// The port itself, or with 0 a free one.
fn free_port(port: u16) -> Result<u16, PostgresError> {
    TcpListener::bind((Ipv4Addr::LOCALHOST, port))
        .and_then(|listener| listener.local_addr())
        .map(|address| address.port())
        .map_err(|_| PostgresError::PortBusy { port })
}

/// Waits as `pg_ctl -w` does: the postmaster writes into its pid file when it is ready.
fn wait_until_ready(process: &mut Child, folder: &Path, port: u16) -> Result<(), PostgresError> {
    let deadline = Instant::now() + START_PATIENCE;
    let data = folder.join("data");
    let (pid, port) = (process.id().to_string(), port.to_string());
    loop {
        let lines = postmaster_file(&data);
        let line = |number: usize| lines.get(number).map_or("", |line| line.trim());
        if line(0) == pid && line(3) == port && line(7) == "ready" {
            return Ok(());
        }
        let ended = process.try_wait().map_err(io("watching postgres start"))?;
        if ended.is_some() || Instant::now() > deadline {
            return Err(PostgresError::DidNotStart {
                said: String::new(),
            });
        }
        thread::sleep(LOOK);
    }
}

fn wait_for_end(process: &mut Child, patience: Duration) -> std::io::Result<Option<ExitStatus>> {
    let deadline = Instant::now() + patience;
    loop {
        if let Some(status) = process.try_wait()? {
            return Ok(Some(status));
        }
        if Instant::now() >= deadline {
            return Ok(None);
        }
        thread::sleep(LOOK);
    }
}

fn send(pid: u32, signal: Signal) {
    // The process may have ended already.
    let _ = kill(pid_of(pid), signal);
}

fn pid_of(pid: u32) -> Pid {
    Pid::from_raw(i32::try_from(pid).unwrap_or(i32::MAX))
}

/// Runs what blocks on a thread of its own, under any runtime.
async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, PostgresError> + Send + 'static,
) -> Result<T, PostgresError> {
    match tokio::task::spawn_blocking(work).await {
        Ok(outcome) => outcome,
        Err(error) => match error.try_into_panic() {
            Ok(panic) => std::panic::resume_unwind(panic),
            Err(_) => std::future::pending().await,
        },
    }
}
