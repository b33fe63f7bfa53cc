//! `growth-chat restore`: a backup into an empty database, ready to be used. It needs nothing of the
//! database that was lost.

use std::{fmt::Write as _, process::ExitCode, time::Duration};

use anyhow::Result;
use store::{
    db::DatabaseConfig,
    settings::{Settings, SettingsError},
};
use workers::backup::{HELD_QUEUES, Report, Which};

use super::{
    backup::{plainly, restorer, steps},
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
    let telemetry = TelemetryConfig::read(&mut settings);
    let into = target(&args.into, settings.get("RESTORE_PASSWORD"))?;
    let restorer = restorer(settings)?;
    telemetry.start()?;
    let manifest = restorer.find(&args.which).await.map_err(plainly)?;
    let report = restorer
        .restore(&manifest, &into, &steps())
        .await
        .map_err(plainly)?;
    write(tell(&report)).await?;
    Ok(ExitCode::SUCCESS)
}

/// The target, by the rules that hold for every database.
fn target(url: &str, password: Option<&str>) -> Result<DatabaseConfig, SettingsError> {
    const VARIABLE: &str = "CHECKPOINT_DB_URL";
    let mut address = url.to_owned();
    if let (Ok(mut parsed), Some(password)) = (url::Url::parse(url), password)
        && parsed.set_password(Some(password)).is_ok()
    {
        address = parsed.into();
    }
    let mut settings = Settings::new([(VARIABLE.to_owned(), address)]);
    let config = DatabaseConfig::read(&mut settings);
    settings.finish(config).map_err(|error| SettingsError {
        problems: error
            .problems
            .into_iter()
            .map(|(_, problem)| ("--into".to_owned(), problem))
            .collect(),
    })
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
        let problem = |url: &str| target(url, None).unwrap_err().to_string();
        assert!(problem("postgres://u:hunter2@db.example.com/x").contains("--into: needs TLS"));
        assert!(!problem("hunter2").contains("hunter2"));
        assert!(target("postgres://u@localhost/x", Some("p@ss")).is_ok());
    }
}
