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
            openai: OpenAi::start(world, 0).await?,
            server,
            watchdog: Arc::new(Watchdog::start(manner, None)?),
            log: LogListener::new(|_, _| {}),
        })
    }

    /// Starts a role and waits until it listens.
    pub(crate) async fn role(&self, role: &str) -> anyhow::Result<(Process, Listening)> {
        let concurrency = [("WORKER_CONCURRENCY", "1000")];
        self.role_on(role, &self.server.url("postgres"), &concurrency)
            .await
    }

    /// Starts a role on a migrated database, with these variables besides what it needs, and waits until
    /// it listens.
    pub(crate) async fn role_on(
        &self,
        role: &str,
        database: &str,
        variables: &[(&str, &str)],
    ) -> anyhow::Result<(Process, Listening)> {
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
            ("RUST_LOG", "warn".to_owned()),
        ];
        let program = Program {
            name: role.to_owned(),
            executable: self.program.clone(),
            arguments: vec![role.into()],
            environment: environment
                .into_iter()
                .chain(
                    variables
                        .iter()
                        .map(|(name, value)| (*name, (*value).to_owned())),
                )
                .map(|(name, value)| (name.to_owned(), value))
                .collect(),
            without: vec!["DATABASE_URL".to_owned()],
        };
        let mut process = Process::start(&program, &self.watchdog, &self.log)?;
        let listening = process.listening(PATIENCE).await?;
        Ok((process, listening))
    }
}
