//! The whole system as processes of the built program, against a database and an outside world of
//! the test's own.
//!
//! ```text
//! TestSystem ── TestDatabase, or a Server of its own for tests of faults
//!    ├── Anthropic, OpenAi: the stand-ins, scripted by the test, and what they received
//!    └── api(), worker(), serve(): processes, each of which a test may kill, stop, start again
//! ```
//! Whatever a test starts ends with it: processes are killed when they are dropped, and by a
//! watchdog when the test itself is killed.

pub(crate) mod activity;
pub(crate) mod discretion;
pub(crate) mod frames;
pub(crate) mod output;
pub(crate) mod process;
pub(crate) mod stillness;
pub(crate) mod tools;
pub(crate) mod wire;

use std::{
    fs,
    process::{Output, Stdio},
    sync::Arc,
    time::Duration,
};

use parking_lot::Mutex;
use reqwest::Client;
use sandbox::{
    anthropic::Anthropic,
    openai::{self, OpenAi},
    outside::{Exchange, OutsideWorld, Service},
    people::People,
    postgres::{Installation, MIGRATOR, Places, Progress, Server, ServerOptions, TestDatabase},
    process::{LogListener, Process, Program},
    s3::S3,
    watchdog::{Manner, Signal, Watchdog},
};
use sqlx::{Connection, PgConnection, PgPool};
use tokio::io::AsyncWriteExt;

pub(crate) use self::process::{ApiProcess, SystemProcess};

/// The site key of the tests.
pub(crate) const TOKEN: &str = "test-token";
/// How long a process may take to serve or to end: a machine under load is slow.
pub(crate) const PATIENCE: Duration = Duration::from_secs(30);
/// Lines of the processes' logs that a failed test shows.
const KEPT_LINES: usize = 1_000;

/// A client for HTTP.
pub(crate) fn client() -> Client {
    // Another test may have been first.
    let _ = rustls::crypto::ring::default_provider().install_default();
    Client::new()
}

/// Where the system's data are.
#[derive(Debug)]
pub(crate) enum Database {
    /// On the server of all tests.
    Shared(TestDatabase),
    /// On a server that the test may kill.
    Own(Server),
}

/// A system without processes: the test starts those it wants.
#[derive(Debug)]
pub(crate) struct TestSystem {
    pub(crate) world: OutsideWorld,
    pub(crate) anthropic: Anthropic,
    pub(crate) openai: OpenAi,
    pub(crate) people: Arc<People>,
    pub(crate) client: Client,
    environment: Vec<(String, String)>,
    log: Arc<Mutex<Vec<String>>>,
    listener: LogListener,
    watchdog: Arc<Watchdog>,
    database: Database,
}

impl TestSystem {
    /// On a database of its own.
    pub(crate) async fn new() -> Self {
        Self::on(Database::Shared(TestDatabase::create().await.unwrap())).await
    }

    /// On a server of its own, which writes as durably as production's.
    pub(crate) async fn with_own_server() -> Self {
        Self::with_server(&[]).await
    }

    /// On a server of its own with these settings.
    pub(crate) async fn with_server(settings: &[(&str, &str)]) -> Self {
        let settings = settings
            .iter()
            .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()));
        let server = Server::start(ServerOptions {
            durable: true,
            settings: settings.collect(),
            ..ServerOptions::default()
        })
        .await
        .unwrap();
        let mut connection = PgConnection::connect(&server.url("postgres"))
            .await
            .unwrap();
        MIGRATOR.run(&mut connection).await.unwrap();
        connection.close().await.unwrap();
        Self::on(Database::Own(server)).await
    }

    async fn on(database: Database) -> Self {
        let world = OutsideWorld::default();
        let anthropic = Anthropic::start(world.clone(), 0).await.unwrap();
        let openai = OpenAi::start(world.clone(), 0).await.unwrap();
        let people = Arc::new(People::start(&world).await.unwrap());
        let manner = Manner {
            first: Signal::SIGKILL,
            last: Signal::SIGKILL,
            patience: Duration::from_secs(5),
        };
        let log: Arc<Mutex<Vec<String>>> = Arc::default();
        let ear = Arc::clone(&log);
        let mut system = Self {
            world,
            client: client(),
            environment: Vec::new(),
            log,
            listener: LogListener::new(move |name, line| {
                let mut lines = ear.lock();
                if lines.len() == KEPT_LINES {
                    lines.remove(0);
                }
                lines.push(format!("{name}: {line}"));
            }),
            watchdog: Arc::new(Watchdog::start(manner, None).unwrap()),
            database,
            anthropic,
            openai,
            people,
        };
        let anthropic = system.anthropic.url();
        let openai = system.openai.url();
        let database = system.database_url();
        for (name, value) in [
            ("ENVIRONMENT", "development"),
            ("BIND_ADDRESS", "127.0.0.1"),
            ("PORT", "0"),
            ("METRICS_PORT", "0"),
            ("CHECKPOINT_DB_URL", &database),
            ("WIDGET_TOKENS", TOKEN),
            ("ALLOWED_ORIGIN", "*"),
            ("ANTHROPIC_API_KEY", "test"),
            ("ANTHROPIC_BASE_URL", &anthropic),
            ("OPENAI_API_KEY", "test"),
            ("OPENAI_EU_ENDPOINT", &openai),
            (
                "RAG_RELEVANCE_THRESHOLD",
                &openai::RELEVANCE_THRESHOLD.to_string(),
            ),
            // The limit has tests of its own; in others a conversation may be long.
            ("MAX_TOKENS_PER_SESSION", "1000000"),
            // So have these; all of a test's visitors are on this machine.
            ("RATE_LIMIT_IP", "1000000/1s"),
            ("RATE_LIMIT_SESSION", "1000000/1s"),
            ("RATE_LIMIT_SITE", "1000000/1s"),
            ("RUST_LOG", "info"),
            ("LOG_FORMAT", "text"),
        ] {
            system.set(name, value);
        }
        for (name, value) in system.people.environment() {
            system.set(name, &value);
        }
        system
    }

    /// Sets a variable of the processes that are started from now on.
    pub(crate) fn set(&mut self, name: &str, value: &str) {
        self.environment.retain(|(known, _)| known != name);
        self.environment.push((name.to_owned(), value.to_owned()));
    }

    /// Takes a variable away from the processes that are started from now on.
    pub(crate) fn unset(&mut self, name: &str) {
        self.environment.retain(|(known, _)| known != name);
    }

    /// All variables of the processes.
    pub(crate) fn environment(&self) -> Vec<(String, String)> {
        self.environment.clone()
    }

    /// Gives the processes a bucket, and the programs that make backups.
    pub(crate) fn use_bucket(&mut self, s3: &S3) {
        let places = Places {
            given_server: None,
            ..Places::from_environment()
        };
        let installation = Installation::find(&places, &Progress::silent()).unwrap();
        let programs = installation.client_environment();
        for (name, value) in s3.environment().into_iter().chain(programs) {
            self.set(name, &value);
        }
    }

    pub(crate) fn database_url(&self) -> String {
        match &self.database {
            Database::Shared(database) => database.url().to_owned(),
            Database::Own(server) => server.url("postgres"),
        }
    }

    /// A pool of the test's own.
    pub(crate) async fn pool(&self) -> PgPool {
        PgPool::connect(&self.database_url()).await.unwrap()
    }

    /// The server, of a system that was made [`Self::with_own_server`].
    pub(crate) fn server(&self) -> &Server {
        match &self.database {
            Database::Own(server) => server,
            Database::Shared(_) => panic!("the server is not this test's own"),
        }
    }

    /// The requests to a service that name `marker`. A test that gives each question a marker of
    /// its own learns so what one turn cost.
    pub(crate) fn received(&self, service: Service, marker: &str) -> Vec<Exchange> {
        let mut received = self.world.received_by(service);
        received.retain(|exchange| exchange.body.to_string().contains(marker));
        received
    }

    /// How many lines of all processes' logs have this in them, among the last of them.
    pub(crate) fn count_logged(&self, text: &str) -> usize {
        let log = self.log.lock();
        log.iter().filter(|line| line.contains(text)).count()
    }

    /// Waits until so many lines of all processes' logs have this in them: a line is read a moment after
    /// it was written.
    pub(crate) async fn until_logged(&self, text: &str, lines: usize) {
        let logged = async {
            while self.count_logged(text) < lines {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        };
        let in_time = tokio::time::timeout(PATIENCE, logged).await.is_ok();
        assert!(in_time, "{} lines have {text:?}", self.count_logged(text));
    }

    /// An API process.
    pub(crate) async fn api(&self) -> ApiProcess {
        self.serving("api").await
    }

    /// API and worker in one process.
    pub(crate) async fn serve(&self) -> ApiProcess {
        self.serving("serve").await
    }

    async fn serving(&self, role: &str) -> ApiProcess {
        let process = self.start(role).await;
        ApiProcess::new(process, self.client.clone())
    }

    /// A worker.
    pub(crate) async fn worker(&self) -> SystemProcess {
        self.start("worker").await
    }

    /// A worker with other variables than the rest.
    pub(crate) async fn worker_with(&self, variables: &[(&str, &str)]) -> SystemProcess {
        let mut program = self.program("worker", &["worker"]);
        for (name, value) in variables {
            program.environment.retain(|(known, _)| known != name);
            let variable = ((*name).to_owned(), (*value).to_owned());
            program.environment.push(variable);
        }
        SystemProcess::start(program, &self.watchdog, &self.listener, PATIENCE).await
    }

    async fn start(&self, role: &str) -> SystemProcess {
        let program = self.program(role, &[role]);
        SystemProcess::start(program, &self.watchdog, &self.listener, PATIENCE).await
    }

    /// Indexes Markdown documents: `(path, text)`.
    pub(crate) async fn index(&self, documents: &[(&str, &str)]) {
        let folder = tempfile::tempdir().unwrap();
        for (path, text) in documents {
            let path = folder.path().join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        }
        let (success, log) = self.run_index(&[folder.path().to_str().unwrap()]).await;
        assert!(success, "{log}");
    }

    /// Starts `index`.
    pub(crate) fn start_index(&self, arguments: &[&str]) -> Process {
        let program = self.program("index", &[&["index"], arguments].concat());
        Process::start(&program, &self.watchdog, &self.listener).unwrap()
    }

    /// Runs `index` to its end: whether it succeeded, and what it said.
    pub(crate) async fn run_index(&self, arguments: &[&str]) -> (bool, String) {
        let mut process = self.start_index(arguments);
        let status = tokio::time::timeout(PATIENCE, process.wait())
            .await
            .expect("the index takes too long")
            .unwrap();
        (status.success(), process.log())
    }

    /// Runs a command to its end.
    pub(crate) async fn run(&self, arguments: &[&str]) -> Output {
        self.run_with_input(arguments, "").await
    }

    /// The same, with something to read from its standard input.
    pub(crate) async fn run_with_input(&self, arguments: &[&str], input: &str) -> Output {
        let mut command = tokio::process::Command::new(env!("CARGO_BIN_EXE_growth-chat"));
        command
            .args(arguments)
            .env_clear()
            .envs(self.environment.iter().cloned())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .kill_on_drop(true);
        let mut child = command.spawn().unwrap();
        let mut stdin = child.stdin.take().unwrap();
        // A command that does not read may be gone first.
        let _ = stdin.write_all(input.as_bytes()).await;
        drop(stdin);
        tokio::time::timeout(PATIENCE, child.wait_with_output())
            .await
            .expect("the command takes too long")
            .unwrap()
    }

    fn program(&self, name: &str, arguments: &[&str]) -> Program {
        Program {
            name: name.to_owned(),
            executable: env!("CARGO_BIN_EXE_growth-chat").into(),
            arguments: arguments.iter().map(Into::into).collect(),
            environment: self.environment.clone(),
            without: vec!["DATABASE_URL".to_owned()],
        }
    }
}

#[expect(clippy::print_stdout, reason = "a failed test shows it")]
impl Drop for TestSystem {
    fn drop(&mut self) {
        if std::thread::panicking() {
            println!("{}", self.log.lock().join("\n"));
        }
    }
}
