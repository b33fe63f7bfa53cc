//! `growth-chat jobs add`: enqueues one job by hand.

use std::{fmt::Write as _, time::Duration};

use anyhow::anyhow;
use jobs::{EnqueueOptions, operator};
use serde_json::{Value, error::Category, json};
use store::{bus::Wake, db::Database};

use super::{duration, tell};

/// Which job to enqueue.
#[derive(Debug, clap::Args)]
pub(super) struct AddArgs {
    /// The kind
    kind: String,
    /// The payload, as JSON
    #[arg(value_name = "PAYLOAD_JSON")]
    payload: String,
    /// Not before this long from now: 90 (seconds), 90s, 30m, 1h, 7d
    #[arg(
        long = "in",
        value_name = "DELAY",
        value_parser = duration,
        allow_hyphen_values = true
    )]
    delay: Option<Duration>,
    /// Instead of the kind's priority; smaller is served first
    #[arg(long, allow_negative_numbers = true)]
    priority: Option<i16>,
}

/// Does it; returns what to say, for people and for programs.
pub(super) async fn run(args: AddArgs, database: &Database) -> anyhow::Result<(String, Value)> {
    let payload = parse(&args.payload)?;
    let options = EnqueueOptions {
        delay: args.delay.unwrap_or_default(),
        priority: args.priority,
        ..EnqueueOptions::default()
    };
    let added = operator::add(database.pool(), &args.kind, payload, &options).await?;
    let id = added.enqueued.id.0;
    let mut text = String::new();
    if added.enqueued.new {
        let _ = writeln!(text, "job {id} is enqueued in {}", added.queue);
        let wake = Wake {
            queues: [added.queue.to_owned()].into(),
            ..Wake::default()
        };
        tell(database, &wake).await;
    } else {
        let _ = writeln!(
            text,
            "nothing is enqueued: job {id} has the same unique key"
        );
    }
    if added.enqueued.new && added.paused {
        note(added.queue);
    }
    let value = json!({
        "id": id,
        "new": added.enqueued.new,
        "queue": added.queue,
        "paused": added.paused,
    });
    Ok((text, value))
}

/// Reads the payload. What is wrong with it is said by position: it may hold what belongs into no log.
fn parse(payload: &str) -> anyhow::Result<Value> {
    serde_json::from_str(payload).map_err(|error| {
        let (line, column) = (error.line(), error.column());
        match error.classify() {
            Category::Eof => anyhow!("the payload is not JSON: it ends too early"),
            _ => anyhow!("the payload is not JSON: see line {line}, column {column}"),
        }
    })
}

#[expect(clippy::print_stderr, reason = "for the person who called it")]
fn note(queue: &str) {
    eprintln!("growth-chat: the queue {queue} is paused: the job waits until it is resumed");
}
