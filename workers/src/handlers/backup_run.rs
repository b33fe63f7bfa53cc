//! `backup.run`: makes the backup of a due time. The table of the runs decides who does, whether this
//! job, another process or a person was first.

use chrono::NaiveDateTime;
use jobs::{HandlerResult, JobError, Outcome, Runtime, catalog::BackupRun, schedule::Fire};
use store::backups::Due;

use crate::backup::{Ask, Backups};

/// A due time in a payload.
const FORM: &str = "%Y-%m-%dT%H:%M";

/// Has `runtime` run the jobs of this kind, and make one of each fire of `BACKUP_SCHEDULE`.
pub fn register(runtime: Runtime, backups: &Backups) -> Runtime {
    let schedule = backups.config().schedule.clone();
    let zone = schedule.zone();
    let backups = backups.clone();
    runtime
        .schedule(schedule, move |fire| job(fire, zone))
        .register(move |job: BackupRun, _| {
            let backups = backups.clone();
            async move { run(&backups, &job).await }
        })
}

fn job(fire: Fire, zone: &str) -> BackupRun {
    BackupRun {
        due: fire.local.format(FORM).to_string(),
        time_zone: zone.to_owned(),
    }
}

async fn run(backups: &Backups, job: &BackupRun) -> HandlerResult {
    let local = NaiveDateTime::parse_from_str(&job.due, FORM)
        .map_err(|_| JobError::fatal("the due time is none, such as 2026-11-21T02:00"))?;
    let due = Due {
        local,
        zone: job.time_zone.clone(),
    };
    backups.run(&Ask::Due(due)).await?;
    Ok(Outcome::Done)
}
