//! `growth-chat restore`: a backup into an empty database, ready to be used. It needs nothing of the
//! database that was lost.

use std::{fmt::Write as _, process::ExitCode, time::Duration};

use anyhow::Result;
use secrecy::{ExposeSecret, SecretString};
use store::{db::DatabaseConfig, settings::Settings};
use workers::{
    backup::{HELD_QUEUES, Report, Restorer, Which},
    clients::bucket::Patience,
    config::RestoreConfig,
};

use super::{
    backup::{plainly, steps},
    terminal::write,
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
    let restorer = Restorer::new(&config, Patience::default());
    let manifest = restorer.find(&args.which).await.map_err(plainly)?;
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
    DatabaseConfig::at(address, "--into", settings)
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
        manifest.snapshot_at.format("%Y-%m-%d %H:%M:%S UTC"),
        span(report.lost),
        span(report.took),
    );
    // Writing to a string can't fail.
    let _ = writeln!(
        text,
        "replayed: {} erasures of the ledger were replayed: {} sessions were forgotten again\n\
         replayed: {} sessions that were closed too long ago were forgotten",
        report.replayed.entries, report.replayed.sessions, report.expired
    );
    let _ = writeln!(
        text,
        "held: the queues {}. Their jobs may have been done since the backup was made; look at them, \
         cancel what was, then `growth-chat jobs resume QUEUE`",
        HELD_QUEUES.join(", ")
    );
    text
}

/// `26 h 3 min`, `4 min 5 s`, `1.5 s`.
fn span(duration: Duration) -> String {
    let seconds = duration.as_secs();
    match (seconds / 3_600, seconds / 60 % 60) {
        (0, 0) => format!("{:.1} s", duration.as_secs_f64()),
        (0, minutes) => format!("{minutes} min {} s", seconds % 60),
        (hours, minutes) => format!("{hours} h {minutes} min"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_span_is_told_in_two_units() {
        for (seconds, told) in [
            (1.54, "1.5 s"),
            (245.0, "4 min 5 s"),
            (26.0 * 3_600.0 + 190.0, "26 h 3 min"),
        ] {
            assert_eq!(span(Duration::from_secs_f64(seconds)), told);
        }
    }

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
    fn a_variable_that_would_count_for_us_only_is_refused_for_a_target_too() {
        let mut settings = Settings::new([("PGOPTIONS".to_owned(), "-c a=b".to_owned())]);
        let config = target("postgres://u@localhost/new", None, &mut settings);
        let problems = settings.finish(config).unwrap_err().problems;
        assert_eq!(problems[0].0, "PGOPTIONS");
    }
}
