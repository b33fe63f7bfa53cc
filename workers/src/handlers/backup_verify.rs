//! `backup.verify`: restores a backup into a scratch database and compares it with its manifest. Once a
//! week the newest goes through all of `restore`: the drill.

use std::time::Duration;

use jobs::{HandlerResult, JobError, Outcome, Runtime, catalog::BackupVerify, schedule::Schedule};

use crate::backup::{Backups, RestoreError, Which, told};

/// Sundays, an hour in which little is going on, and not that of the backup.
const DRILL: &str = "30 4 * * 0";
/// When another verify is under way.
const BUSY_WAIT: Duration = Duration::from_secs(30);

/// Has `runtime` run the jobs of this kind, and add the weekly drill.
pub fn register(runtime: Runtime, backups: &Backups) -> Runtime {
    let zone = backups.config().schedule.zone();
    let drill = Schedule::parse("backup.drill", DRILL, zone)
        .expect("the expression is a constant, and the zone another schedule's");
    let backups = backups.clone();
    runtime
        .schedule(drill, |fire| BackupVerify {
            name: None,
            drill: true,
            by: format!("drill {}", fire.date()),
        })
        .register(move |job: BackupVerify, _| {
            let backups = backups.clone();
            async move { verify(&backups, &job).await }
        })
}

async fn verify(backups: &Backups, job: &BackupVerify) -> HandlerResult {
    let which = match &job.name {
        None => Which::Latest,
        Some(name) => Which::Named(
            name.parse()
                .map_err(|error| JobError::fatal(format!("the name {error}")))?,
        ),
    };
    let say = crate::backup::silently();
    match backups.verify(&which, job.drill, &say).await {
        Ok(_) => Ok(Outcome::Done),
        Err(RestoreError::Busy(_)) => Ok(Outcome::Snooze(BUSY_WAIT)),
        // It has expired, or somebody removed it: no attempt brings it back.
        Err(error @ RestoreError::Missing(_)) if job.name.is_some() => {
            Err(JobError::fatal(told(&error)))
        }
        Err(error) => Err(error.into()),
    }
}
