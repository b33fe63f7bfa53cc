//! `growth-chat erase`: forgets a person, and proves it.
//!
//! What is in the database goes at once, by this command itself. What Slack and the CRM have, the ledger
//! in the bucket and the receipt are a worker's: they need its keys, and may need its patience.

use std::{
    io::{self, BufRead, Read},
    path::PathBuf,
    process::ExitCode,
    time::Duration,
};

use anyhow::{Context, bail};
use chrono::{DateTime, SecondsFormat, Utc};
use jobs::{JobKind, catalog::PrivacyErase};
use serde_json::{Value, json};
use store::{
    db::Database,
    ids::{SessionId, SystemEntropy, new_request_id},
    privacy::{self, Address, Found, NewRequest, Outline, Request, RequestedBy, Scope, Status},
    settings::Settings,
};
use tokio::time::{Instant, sleep};
use workers::privacy::{here::erase_here, receipt, secret::PrivacySecret};

use super::{
    jobs::tell,
    terminal::{many, note, write},
};
use crate::{
    environment,
    reach::{ReachConfig, reach_migrated},
};

/// How often the request is looked at.
const LOOK: Duration = Duration::from_millis(200);

/// More than an address has is not read from standard input.
const LONGEST_INPUT: u64 = 1_000;

/// Whom to forget, or which request to look at.
#[derive(Debug, clap::Args)]
#[command(group(clap::ArgGroup::new("subject").required(true)))]
pub(crate) struct EraseArgs {
    /// A session: the conversation, its handoff, and what Slack and the CRM have of it
    #[arg(long, group = "subject", value_name = "ID", allow_hyphen_values = true)]
    session: Option<SessionId>,
    /// Whoever left this address; needs `PRIVACY_SECRET`. `-` reads it from standard input, so that nobody sees
    /// it in the list of processes
    #[arg(long, group = "subject", value_name = "ADDRESS")]
    email: Option<String>,
    /// Approve a request that a visitor made: the handoff, and what is outside, goes as well
    #[arg(
        long,
        group = "subject",
        value_name = "REQUEST",
        allow_hyphen_values = true
    )]
    approve: Option<String>,
    /// List the requests that wait for an approval
    #[arg(long, group = "subject")]
    waiting: bool,
    /// Print the receipt of a request again
    #[arg(
        long,
        group = "subject",
        value_name = "REQUEST",
        allow_hyphen_values = true
    )]
    receipt: Option<String>,
    /// Verify a receipt in a file; needs the `PRIVACY_SECRET` that signed it
    #[arg(long, group = "subject", value_name = "FILE")]
    verify: Option<PathBuf>,
    /// Only say which sessions and handoffs would go
    #[arg(long, conflicts_with_all = ["approve", "waiting", "receipt", "verify"])]
    dry_run: bool,
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
    let address = address(args.email.as_deref()).await?;
    let database = database.open()?;
    reach_migrated(&database).await?;
    if args.waiting {
        return list_waiting(&database).await;
    }
    if args.dry_run {
        return outline(&database, &args, address.as_ref()).await;
    }
    let request_id = match (&args.receipt, &args.approve) {
        (Some(request_id), _) => request_id.clone(),
        (_, Some(request_id)) => {
            approve(&database, request_id).await?;
            erase(&database, request_id, secret.as_ref()).await?;
            request_id.clone()
        }
        _ => {
            let request_id = add(&database, &args, address.as_ref(), secret.is_some()).await?;
            erase(&database, &request_id, secret.as_ref()).await?;
            request_id
        }
    };
    let patience = if args.receipt.is_some() { 0 } else { args.wait };
    let request = until_done(&database, &request_id, Duration::from_secs(patience)).await?;
    let Some(receipt) = &request.receipt else {
        note(&how_far(&database, &request).await?);
        return Ok(ExitCode::FAILURE);
    };
    let text = receipt.get("text").and_then(Value::as_str);
    write(match text {
        Some(text) if args.text => text.to_owned(),
        _ => format!("{}\n", serde_json::to_string_pretty(receipt)?),
    })
    .await?;
    let mut conn = database.pool().acquire().await?;
    let others = privacy::asked_about(&mut conn, &request_id).await?;
    if others > 0 {
        note(&format!(
            "{others} conversations, in which others left contact details, name the address, and were left as they are: growth-chat erase --waiting"
        ));
    }
    Ok(ExitCode::SUCCESS)
}

/// Where a request stands that has no receipt yet.
async fn how_far(database: &Database, request: &Request) -> anyhow::Result<String> {
    let id = &request.request_id;
    let mut conn = database.pool().acquire().await?;
    let begun = privacy::entry(&mut conn, id).await?.is_some();
    Ok(match (request.status, &request.problem) {
        (Status::Waiting, _) => format!(
            "request {id} waits for an approval, and nothing of it is erased yet: growth-chat erase --approve {id}"
        ),
        (Status::Pending, Some(problem)) => format!("request {id} can't be worked on: {problem}"),
        (Status::Pending, None) if !begun => format!(
            "request {id} waits for a worker, and nothing of it is erased yet: growth-chat jobs list --kind privacy.erase"
        ),
        (Status::Pending, None) => format!(
            "what is here is erased; request {id} still waits for a worker to see to Slack, the CRM, the bucket and the receipt: growth-chat erase --receipt {id}"
        ),
        (Status::Done, _) => format!(
            "request {id} was done after the backup that this database was restored from: the receipt was given then"
        ),
    })
}

/// The address that is meant, from the command line or standard input.
pub(super) async fn address(given: Option<&str>) -> anyhow::Result<Option<Address>> {
    let text = match given {
        None => return Ok(None),
        Some("-") => {
            let line = tokio::task::spawn_blocking(|| {
                let mut line = String::new();
                let input = io::stdin().lock().take(LONGEST_INPUT);
                io::BufReader::new(input).read_line(&mut line).map(|_| line)
            });
            line.await?.context("standard input could not be read")?
        }
        Some(text) => text.to_owned(),
    };
    let address = Address::parse(&text).context("that is no e-mail address")?;
    Ok(Some(address))
}

/// Says what would go, by ids and times.
async fn outline(
    database: &Database,
    args: &EraseArgs,
    address: Option<&Address>,
) -> anyhow::Result<ExitCode> {
    let mut snapshot = database.pool().begin().await?;
    privacy::hold_still(&mut snapshot).await?;
    let found = match (&args.session, address) {
        (Some(session_id), _) => Found {
            theirs: [session_id.clone()].into(),
            ..Found::default()
        },
        (None, Some(address)) => privacy::sessions_of_email(&mut snapshot, address, None).await?,
        (None, None) => bail!("a session or an address is needed"),
    };
    let theirs = privacy::outlines(&mut snapshot, &found.theirs).await?;
    let of_others = privacy::outlines(&mut snapshot, &found.of_others).await?;
    let in_longer = privacy::outlines(&mut snapshot, &found.in_longer).await?;
    let text = if args.text {
        [
            ("would be erased", &theirs),
            ("in which others left contact details, and only named the address, would wait for an approval", &of_others),
            ("with the address in a longer one only would stay", &in_longer),
        ]
        .into_iter()
        .map(|(what, outlines)| listed(what, outlines))
        .collect()
    } else {
        let document = json!({
            "dry_run": true,
            "sessions": theirs,
            "of_others": of_others,
            "in_longer_address": in_longer,
        });
        format!("{}\n", serde_json::to_string_pretty(&document)?)
    };
    write(text).await?;
    Ok(ExitCode::SUCCESS)
}

fn listed(what: &str, outlines: &[Outline]) -> String {
    let day = |time: Option<DateTime<Utc>>| {
        time.map_or("-".to_owned(), |time| time.format("%F %R").to_string())
    };
    let mut lines = vec![format!("{} {what}\n", many(outlines.len(), "session"))];
    for outline in outlines {
        let (began, closed) = (day(outline.created_at), day(outline.closed_at));
        lines.push(format!(
            "  session {}  began {began}  closed {closed}\n",
            outline.session_id
        ));
        lines.extend(outline.handoffs.iter().map(|handoff| {
            let made = day(Some(handoff.created_at));
            format!("    handoff {}  made {made}\n", handoff.handoff_id)
        }));
    }
    lines.concat()
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
async fn add(
    database: &Database,
    args: &EraseArgs,
    address: Option<&Address>,
    has_secret: bool,
) -> anyhow::Result<String> {
    if address.is_some() && !has_secret {
        bail!(
            "PRIVACY_SECRET is needed to erase by an address: its hash is what a restored backup forgets by"
        );
    }
    let request_id = new_request_id(&SystemEntropy);
    let request = NewRequest {
        request_id: &request_id,
        scope: Scope::Person,
        session_id: args.session.as_ref(),
        email: address.map(Address::as_str),
        requested_by: RequestedBy::Operator,
        waits: false,
    };
    let mut transaction = database.pool().begin().await?;
    if let Some(session_id) = &args.session
        && privacy::outlines(&mut transaction, [session_id])
            .await?
            .is_empty()
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
) -> anyhow::Result<Request> {
    let until = Instant::now() + patience;
    loop {
        let mut conn = database.pool().acquire().await?;
        let request = privacy::by_id(&mut conn, request_id)
            .await?
            .with_context(|| format!("there is no request {request_id}"))?;
        drop(conn);
        if request.receipt.is_some() || Instant::now() >= until {
            return Ok(request);
        }
        sleep(LOOK).await;
    }
}

async fn list_waiting(database: &Database) -> anyhow::Result<ExitCode> {
    let mut conn = database.pool().acquire().await?;
    let waiting = privacy::waiting(&mut conn).await?;
    let lines: Vec<String> = waiting
        .into_iter()
        .map(|it| {
            let since = it.since.to_rfc3339_opts(SecondsFormat::Secs, true);
            format!(
                "{}  {}  {since}\n",
                it.request_id,
                it.session_id.unwrap_or_default()
            )
        })
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
