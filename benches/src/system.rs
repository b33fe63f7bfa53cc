//! The system under measurement: the release binary, a durable Postgres, the stand-ins.

use std::{
    path::{Path, PathBuf},
    process::Command,
    sync::Arc,
    time::Duration,
};

use anyhow::{Context, ensure};
use sandbox::{
    anthropic::Anthropic,
    openai::{self, OpenAi},
    outside::OutsideWorld,
    people::People,
    postgres::{MIGRATOR, Server, ServerOptions},
    process::{Listening, LogListener, Process, Program},
    watchdog::{Manner, Signal, Watchdog},
};
use sqlx::{Connection, PgConnection};

/// The site key.
pub(crate) const TOKEN: &str = "bench-token";
const PATIENCE: Duration = Duration::from_secs(30);

/// Builds the release binary as it is shipped, without the sandbox; returns its path.
pub(crate) fn build_release() -> anyhow::Result<PathBuf> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    let built = Command::new(env!("CARGO"))
        .current_dir(&root)
        .args([
            "build",
            "--release",
            "--package",
            "growth-chat",
            "--no-default-features",
        ])
        .status()
        .context("cargo did not run")?;
    ensure!(built.success(), "the release build failed");
    let executable = std::env::current_exe()?;
    Ok(executable.with_file_name("growth-chat"))
}

/// Everything around the processes that are measured.
pub(crate) struct System {
    program: PathBuf,
    pub(crate) anthropic: Anthropic,
    pub(crate) openai: OpenAi,
    pub(crate) people: People,
    server: Server,
    watchdog: Arc<Watchdog>,
    log: LogListener,
}

impl System {
    pub(crate) async fn start(program: PathBuf) -> anyhow::Result<Self> {
        let server = Server::start(ServerOptions {
            durable: true,
            ..ServerOptions::default()
        })
        .await?;
        let mut connection = PgConnection::connect(&server.url("postgres")).await?;
        MIGRATOR.run(&mut connection).await?;
        let world = OutsideWorld::default();
        let manner = Manner {
            first: Signal::SIGKILL,
            last: Signal::SIGKILL,
            patience: PATIENCE,
        };
        Ok(Self {
            program,
            anthropic: Anthropic::start(world.clone(), 0).await?,
            openai: OpenAi::start(world.clone(), 0).await?,
            people: People::start(&world).await?,
            server,
            watchdog: Arc::new(Watchdog::start(manner, None)?),
            log: LogListener::new(|_, _| {}),
        })
    }

    /// The process id of Postgres.
    pub(crate) fn server_pid(&self) -> u32 {
        self.server.pid().unwrap_or_default()
    }

    /// The address of its database.
    pub(crate) fn database_url(&self) -> String {
        self.server.url("postgres")
    }

    /// Starts a role and waits until it listens.
    pub(crate) async fn role(&self, role: &str) -> anyhow::Result<(Process, Listening)> {
        self.role_with(role, &[]).await
    }

    /// The same with more variables, which go before the others.
    pub(crate) async fn role_with(
        &self,
        role: &str,
        variables: &[(&str, &str)],
    ) -> anyhow::Result<(Process, Listening)> {
        let mut all = vec![("WORKER_CONCURRENCY", "1000")];
        all.extend(variables);
        self.role_on(role, &self.server.url("postgres"), &all).await
    }

    /// Starts a role on a migrated database, with these variables, which go before those that it needs,
    /// and waits until it listens.
    pub(crate) async fn role_on(
        &self,
        role: &str,
        database: &str,
        variables: &[(&str, &str)],
    ) -> anyhow::Result<(Process, Listening)> {
        let program = self.program(&[role], database, variables);
        let mut process = self.start_program(&program)?;
        let listening = process.listening(PATIENCE).await?;
        Ok((process, listening))
    }

    /// The binary with these arguments, to be run on a migrated database.
    pub(crate) fn program(
        &self,
        arguments: &[&str],
        database: &str,
        variables: &[(&str, &str)],
    ) -> Program {
        let environment = [
            ("ENVIRONMENT", "development".to_owned()),
            ("BIND_ADDRESS", "127.0.0.1".to_owned()),
            ("PORT", "0".to_owned()),
            ("METRICS_PORT", "0".to_owned()),
            ("CHECKPOINT_DB_URL", database.to_owned()),
            ("WIDGET_TOKENS", TOKEN.to_owned()),
            ("ALLOWED_ORIGIN", "*".to_owned()),
            ("ANTHROPIC_API_KEY", "bench".to_owned()),
            ("ANTHROPIC_BASE_URL", self.anthropic.url()),
            ("OPENAI_API_KEY", "bench".to_owned()),
            ("OPENAI_EU_ENDPOINT", self.openai.url()),
            (
                "RAG_RELEVANCE_THRESHOLD",
                openai::RELEVANCE_THRESHOLD.to_string(),
            ),
            // They are looked at as ever; a bench has all its visitors on this machine.
            ("RATE_LIMIT_IP", "1000000/1s".to_owned()),
            ("RATE_LIMIT_SESSION", "1000000/1s".to_owned()),
            ("RATE_LIMIT_SITE", "1000000/1s".to_owned()),
            ("RUST_LOG", "warn".to_owned()),
        ];
        Program {
            name: arguments.join(" "),
            executable: self.program.clone(),
            arguments: arguments.iter().map(Into::into).collect(),
            environment: environment
                .into_iter()
                .chain(self.people.environment())
                .chain(
                    variables
                        .iter()
                        .map(|(name, value)| (*name, (*value).to_owned())),
                )
                .map(|(name, value)| (name.to_owned(), value))
                .collect(),
            without: vec!["DATABASE_URL".to_owned()],
        }
    }

    /// Starts any program; it ends with the benchmarks at the latest.
    pub(crate) fn start_program(&self, program: &Program) -> anyhow::Result<Process> {
        Ok(Process::start(program, &self.watchdog, &self.log)?)
    }
}
