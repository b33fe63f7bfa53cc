//! `growth-chat backup list`: what is in the bucket, how old it is, and whether it was ever proved.

use std::process::ExitCode;

use anyhow::Result;
use chrono::{DateTime, Utc};
use serde_json::{Value, json};
use store::clock::{Clock, SystemClock};
use workers::{
    backup::{Encryption, Found, Restorer, told},
    clients::bucket::Patience,
    config::RestoreConfig,
};

use super::plainly;
use crate::{
    commands::terminal::{printable, span, write},
    environment,
};

pub(super) async fn run(as_json: bool) -> Result<ExitCode> {
    let mut settings = environment::settings();
    let config = RestoreConfig::read(&mut settings);
    let restorer = Restorer::new(&settings.finish(config)?, Patience::default());
    let found = restorer.list().await.map_err(plainly)?;
    let now = SystemClock.now();
    write(if as_json {
        let rows: Vec<Value> = found.iter().map(|found| object(found, now)).collect();
        format!("{:#}\n", Value::from(rows))
    } else {
        table(&found, now)
    })
    .await?;
    Ok(ExitCode::SUCCESS)
}

fn table(found: &[Found], now: DateTime<Utc>) -> String {
    if found.is_empty() {
        return "there is no backup yet: run `growth-chat backup`\n".to_owned();
    }
    let row = |columns: [&str; 6]| {
        let [name, moment, age, bytes, encrypted, proved] = columns;
        format!("{name:<18} {moment:<20} {age:>12} {bytes:>14}  {encrypted:<9}  {proved}\n")
    };
    let head = row([
        "NAME",
        "MOMENT (UTC)",
        "AGE",
        "BYTES",
        "ENCRYPTED",
        "PROVED (UTC)",
    ]);
    let rows = found.iter().map(|found| {
        let (name, bytes) = (found.name.to_string(), found.bytes.to_string());
        match &found.manifest {
            Ok(manifest) => row([
                &name,
                &shown(manifest.snapshot_at),
                &span((now - manifest.snapshot_at).to_std().unwrap_or_default()),
                &bytes,
                if manifest.encryption == Encryption::Age {
                    "yes"
                } else {
                    "no"
                },
                &found.proved_at.map_or("never".to_owned(), shown),
            ]),
            Err(error) => format!("{name:<18} CAN'T BE USED: {}\n", printable(&told(error))),
        }
    });
    head + &rows.collect::<String>()
}

fn object(found: &Found, now: DateTime<Utc>) -> Value {
    let manifest = found.manifest.as_ref().ok();
    json!({
        "name": found.name.to_string(),
        "bytes": found.bytes,
        "snapshot_at": manifest.map(|it| it.snapshot_at),
        "age_seconds": manifest.map(|it| (now - it.snapshot_at).num_seconds()),
        "database": manifest.and_then(|it| it.database.as_deref()),
        "encryption": manifest.map(|it| it.encryption),
        "proved_at": found.proved_at,
        "problem": found.manifest.as_ref().err().map(|error| told(error)),
    })
}

fn shown(at: DateTime<Utc>) -> String {
    at.format("%Y-%m-%d %H:%M:%S").to_string()
}
