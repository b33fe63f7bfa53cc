//! `growth-chat restore`: a backup into an empty database, ready to be used. It needs nothing of the
//! database that was lost.

use std::{fmt::Write as _, process::ExitCode};

use anyhow::Result;
use chrono::{DateTime, Utc};
use secrecy::{ExposeSecret, SecretString};
use store::{db::DatabaseConfig, settings::Settings};
use workers::{
    backup::{Expired, HELD_QUEUES, Manifest, Report, Restorer, Which},
    clients::bucket::Patience,
    config::RestoreConfig,
};

use super::{
    backup::{plainly, steps},
    terminal::{many, note, span, write},
};
use crate::{environment, telemetry::TelemetryConfig};

/// What to restore, and where.
#[derive(Debug, clap::Args)]
pub(crate) struct RestoreArgs {
    /// `latest`, a date (2026-11-21), or a name where a date has several (2026-11-21T1400)
    #[arg(value_name = "DATE|latest")]
    which: Which,
    /// The address of an empty database, direct and not pooled
    ///
    /// Everybody on this machine can read a password that stands here: leave it out, and set
    /// `RESTORE_PASSWORD`.
    #[arg(long, value_name = "URL")]
    into: String,
    /// Restore although `PRIVACY_SECRET` is lost
    ///
    /// Whoever was erased by address is forgotten again in the sessions that the ledger names, and nowhere else.
    #[arg(long)]
    without_addresses: bool,
}

pub(crate) async fn run(args: RestoreArgs) -> Result<ExitCode> {
    let mut settings = environment::settings();
    let config = read(&mut settings);
    let password = config
        .as_ref()
        .and_then(|(_, _, password)| password.as_ref());
    let into = target(&args.into, password, &mut settings);
    let ((telemetry, config, _), into) = settings.finish(config.zip(into))?;
    telemetry.start()?;
    let mut restorer = Restorer::new(&config, Patience::default());
    if args.without_addresses {
        restorer = restorer.without_addresses();
    }
    let manifest = restorer.find(&args.which).await.map_err(plainly)?;
    let proved_at = restorer.proved_at(&manifest).await.map_err(plainly)?;
    note(&intent(&manifest, &into));
    note(&worth(proved_at));
    let report = restorer
        .restore(&manifest, &into, &steps())
        .await
        .map_err(plainly)?;
    write(tell(&report)).await?;
    Ok(ExitCode::SUCCESS)
}

/// What a restore is told by the environment: the log, the bucket, the target's password.
type Told = (TelemetryConfig, RestoreConfig, Option<SecretString>);

/// Reads all that the command needs.
pub(super) fn read(settings: &mut Settings) -> Option<Told> {
    let telemetry = TelemetryConfig::read(settings);
    let restore = RestoreConfig::read(settings);
    let password =
        settings.optional_secret("RESTORE_PASSWORD", "the password of the user of --into");
    Some((telemetry, restore?, password))
}

/// The target, by the rules that hold for every database; what is wrong with it is noted as `--into`.
fn target(
    url: &str,
    password: Option<&SecretString>,
    settings: &mut Settings,
) -> Option<DatabaseConfig> {
    let mut address = url.to_owned();
    if let (Ok(mut parsed), Some(password)) = (url::Url::parse(url), password)
        && parsed.set_password(Some(password.expose_secret())).is_ok()
    {
        address = parsed.into();
    }
    let config = DatabaseConfig::at(address, "--into", settings)?;
    // Elsewhere the name may be left out, and is the user's. Here it would be somebody else's database.
    let names_database = url::Url::parse(url).is_ok_and(|url| {
        !url.path().trim_matches('/').is_empty() || url.query_pairs().any(|it| it.0 == "dbname")
    });
    if !names_database {
        settings.problem(
            "--into",
            "names no database: postgres://user@host/database, an empty one",
        );
        return None;
    }
    Some(config)
}

/// What is about to be done, before it is.
fn intent(manifest: &Manifest, into: &DatabaseConfig) -> String {
    let from = manifest.database.as_deref();
    let from = from.map_or(String::new(), |name| format!(" of the database {name}"));
    let place = into.address().map_or_else(
        |error| format!("an address that {error}"),
        |it| it.to_string(),
    );
    format!(
        "restoring {}, the data{from} of {}, into {place}",
        manifest.object,
        moment(manifest.snapshot_at),
    )
}

/// Whether the backup can be relied upon.
fn worth(proved_at: Option<DateTime<Utc>>) -> String {
    match proved_at {
        Some(at) => format!("it was restored for a proof on {}", moment(at)),
        None => "it was never restored for a proof: nobody knows whether it is good".to_owned(),
    }
}

fn moment(at: DateTime<Utc>) -> String {
    at.format("%Y-%m-%d %H:%M:%S UTC").to_string()
}

/// What an operator has to know now.
fn tell(report: &Report) -> String {
    let manifest = &report.manifest;
    let mut text = format!(
        "restored {}: {} rows of {} tables, each as many as the manifest says\n\
         lost (RPO): everything since {}, which is {}\n\
         took (RTO): {}\n",
        manifest.object,
        report.rows,
        manifest.tables.len(),
        moment(manifest.snapshot_at),
        span(report.lost),
        span(report.took),
    );
    // Writing to a string can't fail.
    let _ = writeln!(
        text,
        "replayed: {} of the ledger, by which {} forgotten again",
        many(report.replayed.entries, "erasure"),
        many(report.replayed.sessions, "session"),
    );
    let _ = match report.expired {
        Some(Expired { days, sessions }) => writeln!(
            text,
            "replayed: {} forgotten, closed more than {days} days ago",
            many(sessions, "session")
        ),
        None => writeln!(
            text,
            "replayed: nothing was forgotten by age: neither the backup nor RETENTION_DAYS says how long texts are \
             kept. The weekly sweep of the worker does it"
        ),
    };
    let _ = writeln!(
        text,
        "held: the queues {}. Their jobs may have been done since the backup was made; look at them, \
         cancel what was, then `growth-chat jobs resume QUEUE`",
        HELD_QUEUES.join(", ")
    );
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_target_is_held_to_the_rules_of_every_database() {
        let problem = |url: &str| {
            let mut settings = Settings::default();
            let config = target(url, None, &mut settings);
            settings.finish(config).unwrap_err().to_string()
        };
        assert!(problem("postgres://u:hunter2@db.example.com/x").contains("--into: needs TLS"));
        assert!(!problem("hunter2").contains("hunter2"));
        let password = "p@ss".into();
        let given = target(
            "postgres://u@localhost/x",
            Some(&password),
            &mut Settings::default(),
        );
        assert_eq!(
            given.unwrap().url().expose_secret(),
            "postgres://u:p%40ss@localhost/x"
        );
    }

    #[test]
    fn a_target_names_its_database() {
        for (url, is_named) in [
            ("postgres://me@localhost", false),
            ("postgres://me@localhost/", false),
            ("postgres://me@localhost?sslmode=disable", false),
            ("postgres://me@localhost/new", true),
            ("postgres://me@localhost?dbname=new", true),
        ] {
            let mut settings = Settings::default();
            let config = target(url, None, &mut settings);
            let named = settings.finish(config).map_err(|error| error.to_string());
            assert_eq!(named.is_ok(), is_named, "{url}");
            if let Err(error) = named {
                assert!(error.contains("--into: names no database"), "{error}");
            }
        }
    }

    #[test]
    fn a_variable_that_would_count_for_us_only_is_refused_for_a_target_too() {
        let mut settings = Settings::new([("PGOPTIONS".to_owned(), "-c a=b".to_owned())]);
        let config = target("postgres://u@localhost/new", None, &mut settings);
        let problems = settings.finish(config).unwrap_err().problems;
        assert_eq!(problems[0].0, "PGOPTIONS");
    }
}
