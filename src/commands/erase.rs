//! `growth-chat erase`: forgets a person, and proves it.
//!
//! What is in the database goes at once, by this command itself. What Slack and the CRM have, the ledger
//! in the bucket and the receipt are a worker's: they need its keys, and may need its patience.

use std::{path::PathBuf, process::ExitCode, time::Duration};

use anyhow::{Context, bail};
use jobs::{JobKind, catalog::PrivacyErase};
use serde_json::Value;
use store::{
    db::Database,
    handoffs::is_email,
    ids::{SessionId, SystemEntropy, new_request_id},
    privacy::{self, NewRequest, RequestedBy, Scope},
    settings::Settings,
};
use tokio::time::{Instant, sleep};
use workers::privacy::{here::erase_here, receipt, secret::PrivacySecret};

use super::{
    jobs::tell,
    terminal::{note, write},
};
use crate::{
    environment,
    reach::{ReachConfig, reach_migrated},
};

/// How often the request is looked at.
const LOOK: Duration = Duration::from_millis(200);

/// Whom to forget, or which request to look at.
#[derive(Debug, clap::Args)]
#[command(group(clap::ArgGroup::new("subject").required(true)))]
pub(crate) struct EraseArgs {
    /// A session: the conversation, its handoff, and what Slack and the CRM have of it
    #[arg(long, group = "subject", value_name = "ID")]
    session: Option<SessionId>,
    /// Everybody who left this address; needs `PRIVACY_SECRET`
    #[arg(long, group = "subject", value_name = "ADDRESS")]
    email: Option<String>,
    /// Approve a request that a visitor made: the handoff, and what is outside, goes as well
    #[arg(long, group = "subject", value_name = "REQUEST")]
    approve: Option<String>,
    /// List the requests that wait for an approval
    #[arg(long, group = "subject")]
    waiting: bool,
    /// Print the receipt of a request again
    #[arg(long, group = "subject", value_name = "REQUEST")]
    receipt: Option<String>,
    /// Verify a receipt in a file; needs the `PRIVACY_SECRET` that signed it
    #[arg(long, group = "subject", value_name = "FILE")]
    verify: Option<PathBuf>,
    /// Print the receipt for people instead of the JSON
    #[arg(long)]
    text: bool,
    /// Wait so many seconds at most for the worker and the receipt
    #[arg(long, default_value_t = 30, value_name = "SECONDS")]
    wait: u64,
}

pub(crate) async fn run(args: EraseArgs) -> anyhow::Result<ExitCode> {
    if let Some(file) = &args.verify {
        return verify(file, secret()?.as_ref()).await;
    }
    let mut settings = environment::settings();
    let config = read(&mut settings);
    let (database, secret) = settings.finish(config)?;
    let database = database.open()?;
    reach_migrated(&database).await?;
    if args.waiting {
        return list_waiting(&database).await;
    }
    let request_id = match (&args.receipt, &args.approve) {
        (Some(request_id), _) => request_id.clone(),
        (_, Some(request_id)) => {
            approve(&database, request_id).await?;
            erase(&database, request_id, secret.as_ref()).await?;
            request_id.clone()
        }
        _ => {
            let request_id = add(&database, &args, secret.is_some()).await?;
            erase(&database, &request_id, secret.as_ref()).await?;
            request_id
        }
    };
    let patience = if args.receipt.is_some() { 0 } else { args.wait };
    let receipt = until_done(&database, &request_id, Duration::from_secs(patience)).await?;
    let Some(receipt) = receipt else {
        note(&format!(
            "what is here is erased; request {request_id} still waits for a worker to see to Slack, the CRM, the bucket and the receipt: growth-chat erase --receipt {request_id}"
        ));
        return Ok(ExitCode::FAILURE);
    };
    let text = receipt.get("text").and_then(Value::as_str);
    write(match text {
        Some(text) if args.text => text.to_owned(),
        _ => format!("{}\n", serde_json::to_string_pretty(&receipt)?),
    })
    .await?;
    Ok(ExitCode::SUCCESS)
}

/// Reads all that the command needs.
pub(super) fn read(settings: &mut Settings) -> Option<(ReachConfig, Option<PrivacySecret>)> {
    let database = ReachConfig::read(settings);
    let secret = PrivacySecret::read(settings);
    Some((database?, secret))
}

fn secret() -> anyhow::Result<Option<PrivacySecret>> {
    let mut settings = environment::settings();
    let secret = PrivacySecret::read(&mut settings);
    Ok(settings.finish(Some(secret))?)
}

/// Adds the request with the job that sees to it.
async fn add(database: &Database, args: &EraseArgs, has_secret: bool) -> anyhow::Result<String> {
    let email = args.email.as_ref().map(|email| email.trim().to_lowercase());
    if let Some(email) = &email {
        if !is_email(email) {
            bail!("that is no e-mail address");
        }
        if !has_secret {
            bail!(
                "PRIVACY_SECRET is needed to erase by an address: its hash is what a restored backup forgets by"
            );
        }
    }
    let request_id = new_request_id(&SystemEntropy);
    let request = NewRequest {
        request_id: &request_id,
        scope: Scope::Person,
        session_id: args.session.as_ref(),
        email: email.as_deref(),
        requested_by: RequestedBy::Operator,
        waits: false,
    };
    let mut transaction = database.pool().begin().await?;
    if let Some(session_id) = &args.session
        && privacy::export_session(&mut transaction, session_id)
            .await?
            .is_none()
    {
        bail!("there is no session {session_id}");
    }
    privacy::add(&mut transaction, &request)
        .await
        .context("noting the request")?;
    let job = PrivacyErase {
        request_id: request_id.clone(),
    };
    jobs::enqueue(&mut transaction, &job).await?;
    transaction.commit().await?;
    Ok(request_id)
}

async fn approve(database: &Database, request_id: &str) -> anyhow::Result<()> {
    let mut conn = database.pool().acquire().await?;
    privacy::approve(&mut conn, request_id)
        .await
        .context("the request could not be approved: see growth-chat erase --waiting")
}

/// The part that needs nothing but the database; then the workers are told of the rest.
async fn erase(
    database: &Database,
    request_id: &str,
    secret: Option<&PrivacySecret>,
) -> anyhow::Result<()> {
    let mut after = erase_here(database.pool(), request_id, secret).await?;
    after.queues.insert(PrivacyErase::QUEUE.to_owned());
    tell(database, &after).await;
    Ok(())
}

async fn until_done(
    database: &Database,
    request_id: &str,
    patience: Duration,
) -> anyhow::Result<Option<Value>> {
    let until = Instant::now() + patience;
    loop {
        let mut conn = database.pool().acquire().await?;
        let request = privacy::by_id(&mut conn, request_id)
            .await?
            .with_context(|| format!("there is no request {request_id}"))?;
        drop(conn);
        if request.receipt.is_some() || Instant::now() >= until {
            return Ok(request.receipt);
        }
        sleep(LOOK).await;
    }
}

async fn list_waiting(database: &Database) -> anyhow::Result<ExitCode> {
    let mut conn = database.pool().acquire().await?;
    let waiting = privacy::waiting(&mut conn).await?;
    let lines: Vec<String> = waiting
        .into_iter()
        .map(|(id, session, since)| format!("{id}  {}  {since}\n", session.unwrap_or_default()))
        .collect();
    write(if lines.is_empty() {
        "no request waits\n".to_owned()
    } else {
        lines.concat()
    })
    .await?;
    Ok(ExitCode::SUCCESS)
}

async fn verify(file: &PathBuf, secret: Option<&PrivacySecret>) -> anyhow::Result<ExitCode> {
    let Some(secret) = secret else {
        bail!("PRIVACY_SECRET is needed to verify a receipt");
    };
    let text = tokio::fs::read_to_string(file)
        .await
        .context("the receipt could not be read")?;
    let receipt: Value = serde_json::from_str(&text).context("the receipt is no JSON")?;
    let statement = receipt::verify(&receipt, secret)?;
    write(format!(
        "genuine: request {}, erased {}\n",
        statement.request_id, statement.erased_at
    ))
    .await?;
    Ok(ExitCode::SUCCESS)
}
