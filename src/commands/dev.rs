//! `growth-chat dev`: the whole system on this machine, with no keys and no accounts.
//!
//! ```text
//! dev ── a private Postgres, its data in `.growth-chat/` or `--data`
//!   ├─── stand-ins for Anthropic and OpenAI, and the page that shows what they received
//!   ├─── growth-chat migrate, index knowledge, eval --save      (once, each to its end)
//!   └─── growth-chat api, growth-chat worker, growth-chat worker   (restarted when they end)
//! ```
//! The product runs as itself: the children are this very executable and know nothing of `dev` but
//! their environment variables. Any of them may be killed to see what happens. Whichever way `dev`
//! ends, SIGKILL included, nothing of it is left running.
#![expect(
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "talks to a person at a terminal"
)]

mod family;
mod home;
mod outside;
mod ports;

use std::{
    path::{Path, PathBuf},
    process::ExitCode,
    time::Duration,
};

use anyhow::{Context, Result};
use sandbox::{
    anthropic::Pace,
    postgres::{self, Places, Progress, Server, ServerOptions},
};
use tokio::signal::unix::{Signal, SignalKind, signal};

use self::{
    family::{Family, Role},
    home::Home,
    outside::Outside,
    ports::Ports,
};

/// The site key of the demo page.
const WIDGET_TOKEN: &str = "dev-widget-token";
/// The database on a server that was given by `DATABASE_URL`.
const GIVEN_DATABASE: &str = "growth_chat_dev";
/// Before the first word of an answer: a model thinks about as long.
const FIRST_TOKEN: Duration = Duration::from_millis(300);
/// Between two looks at whether Postgres still runs.
const POSTGRES_LOOK: Duration = Duration::from_millis(500);

/// The whole system on this machine: Postgres, stand-ins, sample knowledge, API and two workers.
#[derive(Debug, clap::Args)]
pub(crate) struct DevArgs {
    /// Start with an empty database
    #[arg(long)]
    reset: bool,
    /// Folder of the data, kept between runs [default: .growth-chat in the workspace]
    #[arg(long)]
    data: Option<PathBuf>,
    /// Show all that the processes log, not only warnings and errors
    #[arg(long)]
    verbose: bool,
    /// Port of the site and the API
    #[arg(long, default_value_t = 8080)]
    port: u16,
    /// Port of the API's metrics [default: 9091, or the next free one]
    #[arg(long)]
    metrics_port: Option<u16>,
    /// Port of the private Postgres [default: 5433, or the next free one]
    #[arg(long)]
    database_port: Option<u16>,
    /// Port of the outside-world page: Slack, CRM, mails, webhooks, and what was received [default: 8090, or the next free one]
    #[arg(long)]
    world_port: Option<u16>,
    /// Milliseconds between two words of an answer
    #[arg(long, default_value_t = 15)]
    token_delay: u64,
}

/// Runs until Ctrl-C or SIGTERM. What goes wrong is said in a sentence on standard error.
pub(crate) async fn run(args: DevArgs) -> ExitCode {
    match run_until_stopped(&args).await {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("growth-chat dev: {error:#}");
            ExitCode::FAILURE
        }
    }
}

async fn run_until_stopped(args: &DevArgs) -> Result<()> {
    let mut stop = StopSignals::listen().context("listening to signals failed")?;
    let mut system = tokio::select! {
        system = System::start(args) => system?,
        () = stop.wait() => return Ok(()),
    };
    system.announce();
    let outcome = tokio::select! {
        outcome = system.keep_running() => outcome,
        () = stop.wait() => {
            say("stopping");
            Ok(())
        }
    };
    tokio::select! {
        stopped = system.stop() => stopped.and(outcome),
        // Asked twice: the watchdogs do the rest.
        () = stop.wait() => outcome,
    }
}

/// Everything that `dev` runs.
#[derive(Debug)]
struct System {
    family: Family,
    outside: Outside,
    database: Database,
    /// The command that indexes more documents into this system.
    index: String,
    // Last: it holds the lock.
    _home: Home,
}

impl System {
    async fn start(args: &DevArgs) -> Result<Self> {
        let root = workspace();
        let data = args.data.clone();
        let home = Home::open(data.unwrap_or_else(|| root.join(".growth-chat"))).await?;
        // Like the children of a `dev` that was killed, its server takes a moment to end.
        Server::wait_until_unused(&home.postgres()).await?;
        let ports = Ports::choose(args)?;
        let database = Database::start(&home, args.reset, ports.database).await?;

        let pace = Pace {
            first_token: FIRST_TOKEN,
            between_tokens: Duration::from_millis(args.token_delay),
            ..Pace::default()
        };
        let outside = Outside::start(pace, home.bucket(), ports.world).await?;
        let environment = outside.environment(&database.url, args.verbose).await?;
        let mut for_people = environment.clone();
        // In their shell it may name another database, and both must agree.
        for_people.push(("DATABASE_URL".to_owned(), database.url.clone()));
        let index = index_command(&home.keep_environment(&for_people)?)?;
        let mut family = Family::new(environment, args.verbose, home.childrens_lock()?)?;
        say("migrating the database");
        family.run_to_end("migrate", &["migrate"]).await?;
        let knowledge = root.join("knowledge");
        if knowledge.is_dir() {
            say(&format!(
                "indexing {} documents",
                count_documents(&knowledge)
            ));
            let folder = knowledge.as_os_str();
            family
                .run_to_end("index", &["index".as_ref(), folder])
                .await?;
        }
        let questions = root.join("evaluation/sample-knowledge.toml");
        if questions.is_file() {
            say("measuring the search");
            let options = ["--save".as_ref(), "--brief".as_ref()];
            let arguments = [&["eval".as_ref(), questions.as_os_str()], &options[..]].concat();
            // Whoever changes the sample knowledge may have removed what a question expects.
            if let Err(error) = family.run_to_end("eval", &arguments).await {
                say(&format!("the search was not measured: {error:#}"));
            }
        }
        say("starting the API and two workers");
        let port = |port: u16| port.to_string();
        let api = [
            ("PORT", port(ports.api)),
            ("METRICS_PORT", port(ports.metrics)),
        ];
        let worker = [("METRICS_PORT", port(0))];
        family
            .start(vec![
                Role::new("api", "api", &api),
                Role::new("worker-1", "worker", &worker),
                Role::new("worker-2", "worker", &worker),
            ])
            .await?;
        // What people do in Slack reaches the API from now on, on the port that it keeps.
        if let Some(address) = family.address("api").and_then(|api| api.http) {
            let workspace = outside.people.slack.workspace();
            workspace.connect(&format!("http://{address}"));
        }
        Ok(Self {
            family,
            outside,
            database,
            index,
            _home: home,
        })
    }

    /// Where everything is.
    fn announce(&self) {
        let Some(api) = self.family.address("api") else {
            return;
        };
        let site = api
            .http
            .map_or(String::new(), |address| local(address.port()));
        let metrics = |name: &str| {
            let address = self.family.address(name)?.metrics?;
            Some(format!("{}/metrics", local(address.port())))
        };
        let workers: Vec<String> = ["worker-1", "worker-2"]
            .into_iter()
            .filter_map(metrics)
            .collect();
        let api_metrics = metrics("api").unwrap_or_default();
        println!();
        println!("  Site           {site}/demo");
        println!("  API            {site}/docs");
        println!(
            "  Metrics        {api_metrics} (workers: {})",
            workers.join(", ")
        );
        println!("  Database       {}", self.database.url);
        println!("  Outside world  {}", local(self.outside.page.port()));
        println!();
        println!("  Site key       {WIDGET_TOKEN}");
        println!("  Processes      {}", self.family.processes());
        println!(
            "  Try            curl -N {site}/chat -H 'X-Widget-Token: {WIDGET_TOKEN}' \
             -H 'Content-Type: application/json' \
             -d '{{\"message\":\"What does a discovery sprint cost?\",\"message_id\":\"try-1\"}}'"
        );
        println!(
            "  Talk to people ask the chat for a person, and be that person on the outside-world page"
        );
        println!("  Add documents  {}", self.index);
        println!();
        println!("  Ctrl-C stops all of it.");
    }

    /// Returns when something can't be kept running.
    async fn keep_running(&mut self) -> Result<()> {
        tokio::select! {
            outcome = self.family.watch() => outcome,
            outcome = self.database.watch() => outcome,
        }
    }

    /// The processes first, while the database is there to finish with.
    async fn stop(self) -> Result<()> {
        self.family.stop().await;
        self.database.stop().await
    }
}

/// The database, and the server if it is ours.
#[derive(Debug)]
struct Database {
    url: String,
    server: Option<Server>,
}

impl Database {
    async fn start(home: &Home, reset: bool, port: u16) -> Result<Self> {
        let places = Places::from_environment();
        if let Some(given) = places.given_server {
            say(&format!(
                "using database {GIVEN_DATABASE} on the server of DATABASE_URL"
            ));
            postgres::check_given_server(&given).await?;
            if reset {
                postgres::drop_database(&given, GIVEN_DATABASE).await?;
            }
            postgres::ensure_database(&given, GIVEN_DATABASE).await?;
            let url = postgres::database_url(&given, GIVEN_DATABASE)?;
            return Ok(Self { url, server: None });
        }
        if reset {
            say("emptying the database");
            home.reset()?;
        }
        let server = Server::start(ServerOptions {
            places,
            folder: Some(home.postgres()),
            port: Some(port),
            durable: true,
            settings: Vec::new(),
            progress: Progress::new(say),
        })
        .await?;
        let url = server.url("postgres");
        Ok(Self {
            url,
            server: Some(server),
        })
    }

    /// Starts the server again whenever it ends. A given one is its owner's.
    async fn watch(&self) -> Result<()> {
        let Some(server) = &self.server else {
            return std::future::pending().await;
        };
        loop {
            tokio::time::sleep(POSTGRES_LOOK).await;
            if !server.is_running() {
                say("PostgreSQL ended; starting it again");
                server.restart().await?;
                say("PostgreSQL runs again");
            }
        }
    }

    async fn stop(self) -> Result<()> {
        if let Some(server) = self.server {
            server.stop().await?;
        }
        Ok(())
    }
}

/// What a person types to index a folder of their own, given the file of the variables.
fn index_command(variables: &Path) -> Result<String> {
    let executable = std::env::current_exe().context("finding this program's file failed")?;
    let (variables, executable) = (from_here(variables), from_here(&executable));
    Ok(format!("env $(cat {variables}) {executable} index FOLDER"))
}

/// A path as a person in this folder types it, quoted for a shell where that is needed.
fn from_here(path: &Path) -> String {
    let here = std::env::current_dir().ok();
    let shortened = here.and_then(|here| path.strip_prefix(here).ok());
    let text = shortened.unwrap_or(path).display().to_string();
    let is_plain = |letter: char| letter.is_alphanumeric() || "/._-".contains(letter);
    if text.chars().all(is_plain) {
        text
    } else {
        format!("'{}'", text.replace('\'', r"'\''"))
    }
}

/// The workspace that this was built from, else the current folder.
fn workspace() -> PathBuf {
    let built_from = Path::new(env!("CARGO_MANIFEST_DIR"));
    if built_from.is_dir() {
        built_from.to_owned()
    } else {
        PathBuf::from(".")
    }
}

fn count_documents(folder: &Path) -> usize {
    let Ok(entries) = std::fs::read_dir(folder) else {
        return 0;
    };
    let counts = entries.flatten().map(|entry| {
        let path = entry.path();
        if path.is_dir() {
            return count_documents(&path);
        }
        let extension = path.extension().and_then(|extension| extension.to_str());
        usize::from(matches!(extension, Some("md" | "txt")))
    });
    counts.sum()
}

fn local(port: u16) -> String {
    format!("http://localhost:{port}")
}

/// One line about what is going on.
fn say(step: &str) {
    eprintln!("  … {step}");
}

/// The ways in which a person or a supervisor asks us to stop.
#[derive(Debug)]
struct StopSignals([Signal; 3]);

impl StopSignals {
    fn listen() -> std::io::Result<Self> {
        Ok(Self([
            signal(SignalKind::interrupt())?,
            signal(SignalKind::terminate())?,
            // The terminal was closed.
            signal(SignalKind::hangup())?,
        ]))
    }

    async fn wait(&mut self) {
        let [interrupt, terminate, hangup] = &mut self.0;
        tokio::select! {
            _ = interrupt.recv() => {}
            _ = terminate.recv() => {}
            _ = hangup.recv() => {}
        }
    }
}
