//! `growth-chat webhooks …`: who is told what happens.

mod page;

use std::{process::ExitCode, sync::Arc, time::Duration};

use anyhow::{anyhow, bail};
use clap::Subcommand;
use serde_json::{Value, json};
use sqlx::error::DatabaseError;
use store::{
    clock::SystemClock,
    db::Database,
    settings::Settings,
    webhooks::{self, EventType},
};
use url::Url;
use workers::{config::OutgoingConfig, webhooks::WebhookSender};

use super::{
    jobs::duration,
    terminal::{note, write},
};
use crate::{
    environment,
    process::fresh_name,
    reach::{ReachConfig, reach_migrated},
};

/// Attempts that `show` has.
const ATTEMPTS: i64 = 20;

/// What to do with the endpoints.
#[derive(Debug, clap::Args)]
pub(crate) struct WebhooksArgs {
    /// Answer with JSON on standard output
    #[arg(long, global = true)]
    json: bool,
    #[command(subcommand)]
    action: Action,
}

#[derive(Debug, Subcommand)]
enum Action {
    /// Register an endpoint; its secret is shown this once
    Add(AddArgs),
    /// List the endpoints
    List,
    /// Show an endpoint with its newest attempts
    Show {
        /// The endpoint
        id: String,
    },
    /// Give an endpoint a new secret, which is shown this once
    Rotate {
        /// The endpoint
        id: String,
        /// How long the old secrets sign as well: 0s, 90m, 24h, at most 30d
        #[arg(long, value_name = "TIME", default_value = "24h", value_parser = duration,
              allow_hyphen_values = true)]
        keep: Duration,
    },
    /// Tell an endpoint nothing more; what waits for it is cancelled
    Disable {
        /// The endpoint
        id: String,
    },
    /// Tell an endpoint of what happens from now on
    Enable {
        /// The endpoint
        id: String,
    },
    /// Send an endpoint a message that says nothing; exit code 1 if it is not taken
    Test {
        /// The endpoint
        id: String,
    },
    /// Forget an endpoint and its secrets
    Remove {
        /// The endpoint
        id: String,
    },
}

#[derive(Debug, clap::Args)]
struct AddArgs {
    /// Where to send to: https, or http in a network of your own
    url: Url,
    /// What to tell of, comma-separated: all by default
    #[arg(long, value_delimiter = ',', value_name = "EVENT", value_parser = EventType::ALL.map(EventType::as_str))]
    events: Vec<String>,
    /// What it is for, at most 200 characters
    #[arg(long, default_value = "")]
    description: String,
}

pub(crate) async fn run(args: WebhooksArgs) -> anyhow::Result<ExitCode> {
    let mut settings = environment::settings();
    let config = read(&mut settings);
    let (database, outgoing) = settings.finish(config)?;
    let database = database.open()?;
    reach_migrated(&database).await?;
    let (text, value) = act(args.action, &database, outgoing).await?;
    write(if args.json {
        format!("{value}\n")
    } else {
        text
    })
    .await?;
    Ok(ExitCode::SUCCESS)
}

/// Does it; returns what to say, for people and for programs.
async fn act(
    action: Action,
    database: &Database,
    outgoing: OutgoingConfig,
) -> anyhow::Result<(String, Value)> {
    let pool = database.pool();
    Ok(match action {
        Action::Add(args) => add(args, database, &outgoing).await?,
        Action::List => {
            let endpoints = webhooks::list(pool).await.map_err(refused)?;
            (page::table(&endpoints), serde_json::to_value(endpoints)?)
        }
        Action::Show { id } => {
            let found = webhooks::show(pool, &id).await.map_err(refused)?;
            let endpoint = found.ok_or_else(|| unknown(&id))?;
            let attempts = webhooks::attempts(pool, &id, ATTEMPTS)
                .await
                .map_err(refused)?;
            let text = page::page(&endpoint, &attempts);
            let mut value = serde_json::to_value(endpoint)?;
            value["attempts"] = serde_json::to_value(attempts)?;
            (text, value)
        }
        Action::Rotate { id, keep } => {
            let secret = webhooks::rotate(pool, &id, keep).await.map_err(refused)?;
            let text = page::secret(&id, &secret);
            (text, json!({ "endpoint_id": id, "secret": secret }))
        }
        Action::Disable { id } => {
            let changed = webhooks::disable(pool, &id).await.map_err(refused)?;
            changed_to(&id, "disabled", changed)
        }
        Action::Enable { id } => {
            let changed = webhooks::enable(pool, &id).await.map_err(refused)?;
            changed_to(&id, "active", changed)
        }
        Action::Test { id } => test(&id, database, outgoing).await?,
        Action::Remove { id } => {
            webhooks::remove(pool, &id).await.map_err(refused)?;
            (
                format!("endpoint {id} is removed\n"),
                json!({ "endpoint_id": id }),
            )
        }
    })
}

fn changed_to(id: &str, status: &str, changed: bool) -> (String, Value) {
    let words = if changed { "is" } else { "was already" };
    (
        format!("endpoint {id} {words} {status}\n"),
        json!({ "endpoint_id": id, "status": status, "changed": changed }),
    )
}

async fn add(
    args: AddArgs,
    database: &Database,
    outgoing: &OutgoingConfig,
) -> anyhow::Result<(String, Value)> {
    // Each delivery is checked again, where it connects: this spares a typing error the wait.
    if let Err(refusal) = outgoing.rules.check(&args.url) {
        bail!("the URL {refusal}");
    }
    if args.url.scheme() == "http" {
        note("http is not encrypted: use it in a network of your own only");
    }
    let events = if args.events.is_empty() {
        EventType::ALL
            .iter()
            .map(|it| it.as_str().to_owned())
            .collect()
    } else {
        args.events
    };
    let added = webhooks::add(
        database.pool(),
        args.url.as_str(),
        &events,
        &args.description,
    )
    .await
    .map_err(refused)?;
    let (id, secret) = (added.endpoint_id, added.secret);
    let text = page::secret(&id, &secret);
    Ok((text, json!({ "endpoint_id": id, "secret": secret })))
}

async fn test(
    id: &str,
    database: &Database,
    outgoing: OutgoingConfig,
) -> anyhow::Result<(String, Value)> {
    let target = webhooks::test_target(database.pool(), id)
        .await
        .map_err(refused)?;
    let target = target.ok_or_else(|| unknown(id))?;
    let sender = WebhookSender::build(outgoing, Arc::new(SystemClock))?;
    let message_id = format!("test_{}", fresh_name());
    match sender.test(&target, &message_id).await {
        Ok(status) => Ok((
            format!("endpoint {id} answered {status}\n"),
            json!({ "endpoint_id": id, "status": status }),
        )),
        Err(not_told) => bail!("endpoint {id}: {not_told}"),
    }
}

/// Reads all that the command needs: of other addresses it knows what a worker knows.
pub(super) fn read(settings: &mut Settings) -> Option<(ReachConfig, OutgoingConfig)> {
    let database = ReachConfig::read(settings);
    let outgoing = OutgoingConfig::read(settings);
    database.zip(outgoing)
}

fn unknown(id: &str) -> anyhow::Error {
    anyhow!("there is no endpoint {id}")
}

/// What the functions of `ops` raise themselves is a sentence for the operator.
fn refused(error: sqlx::Error) -> anyhow::Error {
    let code = error.as_database_error().and_then(DatabaseError::code);
    match (code.as_deref(), error.as_database_error()) {
        (Some("P0002" | "22023"), Some(refusal)) => anyhow!(refusal.message().to_owned()),
        _ => anyhow::Error::new(error).context("the endpoints could not be reached"),
    }
}
