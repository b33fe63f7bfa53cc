//! Makes a backup: who does, what is recorded of it, and what follows from it.

use std::time::Duration;

use chrono::{DateTime, Utc};
use jobs::{JobKind, catalog::BackupVerify, database_failure, enqueue};
use store::backups::{self, Claim, Run, RunKind, Wanted};
use tokio::time::sleep;

use super::{
    Backups,
    attempt::Uploading,
    clear::Cleared,
    due::Ask,
    error::{BackupError, told},
    keep,
    manifest::{Encryption, Manifest},
    upload::Upload,
};
use crate::privacy::ledger::keep_all;

/// Between two looks at the run of another process.
const LOOK: Duration = Duration::from_secs(2);

/// What came of it.
#[derive(Debug, Clone, PartialEq)]
pub enum Ran {
    /// It was made.
    Made(Box<Manifest>),
    /// The one of the due time is there already, by whomever.
    WasMade,
}

impl Backups {
    /// Makes a backup. Waits for another process that makes the one of the same due time, and takes
    /// over if that one fails. Whatever happens to it is in its row.
    pub async fn run(&self, ask: &Ask) -> Result<Ran, BackupError> {
        let Some(run) = self.claim(ask).await? else {
            return Ok(Ran::WasMade);
        };
        let ran = self.run_claimed(&run, ask).await;
        if let Ok(Ran::Made(manifest)) = &ran {
            tracing::info!(
                run = run.run_id,
                object = manifest.object,
                bytes = manifest.bytes,
                dump_bytes = manifest.dump_bytes,
                seconds = manifest.duration_seconds,
                "a backup was made"
            );
            self.after(manifest, run.started_at).await;
        }
        // Whoever shows how old the newest one is looks again.
        self.bus.jobs_ready(BackupVerify::QUEUE);
        ran
    }

    /// The run, or nothing if there is none to do.
    async fn claim(&self, ask: &Ask) -> Result<Option<Run>, BackupError> {
        let pool = self.database.pool();
        let due = match ask {
            Ask::Due(due) => Some(due),
            Ask::ByHand => None,
        };
        let wanted = Wanted {
            kind: RunKind::Backup,
            due,
            object_key: None,
            drill: false,
        };
        let mut told_so = false;
        loop {
            match backups::claim(pool, wanted).await? {
                Claim::Ours(run) => return Ok(Some(run)),
                Claim::Done => return Ok(None),
                Claim::Busy { run_id, left } if due.is_some() => {
                    if !std::mem::replace(&mut told_so, true) {
                        tracing::info!(run = run_id, "another process makes a backup: waiting");
                    }
                    let look = sleep(left.clamp(Duration::from_millis(100), LOOK));
                    if self.stop.run_until_cancelled(look).await.is_none() {
                        return Err(BackupError::Stopped);
                    }
                }
                Claim::Busy { run_id, left } => {
                    let busy = BackupError::Busy { run_id, left };
                    backups::refuse(pool, RunKind::Backup, due, &told(&busy)).await?;
                    self.bus.jobs_ready(BackupVerify::QUEUE);
                    return Err(busy);
                }
            }
        }
    }

    /// Makes it under the lease, and ends its row in either case.
    async fn run_claimed(&self, run: &Run, ask: &Ask) -> Result<Ran, BackupError> {
        let uploading = Uploading::default();
        let attempted = tokio::select! {
            attempted = self.attempt(run, ask, &uploading) => attempted,
            () = keep::until_lost(self.database.pool(), run) => Err(BackupError::LeaseLost),
            () = self.stop.cancelled() => Err(BackupError::Stopped),
        };
        match attempted {
            Ok(Ran::Made(manifest)) => self.succeed(run, manifest).await,
            Ok(Ran::WasMade) => Ok(Ran::WasMade),
            Err(error) => {
                let upload = uploading.lock().take();
                self.fail(run, error, upload).await
            }
        }
    }

    /// Clears up after earlier runs, and makes it unless one of them had.
    async fn attempt(
        &self,
        run: &Run,
        ask: &Ask,
        uploading: &Uploading,
    ) -> Result<Ran, BackupError> {
        match self.recover(run).await {
            Ok(true) => return Ok(Ran::WasMade),
            Ok(false) => {}
            Err(BackupError::LeaseLost) => return Err(BackupError::LeaseLost),
            // The attempt meets the same bucket, and says so.
            Err(error) => {
                tracing::warn!(
                    error = told(&error),
                    "earlier runs were not cleared up after"
                );
            }
        }
        // Whoever was erased is to be forgotten by every older backup as well.
        keep_all(self.database.pool(), self.bucket()).await?;
        let manifest = self.make(run, ask, uploading).await?;
        Ok(Ran::Made(Box::new(manifest)))
    }

    /// Says in its row that it is made.
    async fn succeed(&self, run: &Run, manifest: Box<Manifest>) -> Result<Ran, BackupError> {
        match backups::succeed(self.database.pool(), run.token, &manifest.made()).await {
            Ok(true) => Ok(Ran::Made(manifest)),
            Ok(false) => Err(BackupError::LeaseLost),
            // It is committed, and the next run finds that out.
            Err(error) => {
                tracing::warn!(
                    run = run.run_id,
                    error = database_failure(&error),
                    "a backup is made, and its row could not say so"
                );
                Ok(Ran::Made(manifest))
            }
        }
    }

    /// Clears up after itself and says in its row why it failed; made all the same, if it turns out to have
    /// committed.
    async fn fail(
        &self,
        run: &Run,
        error: BackupError,
        upload: Option<Upload>,
    ) -> Result<Ran, BackupError> {
        let left_over = match (&error, upload) {
            // After the lease's end it is for others to clear up.
            (BackupError::LeaseLost, _) => true,
            (_, None) => false,
            (_, Some(upload)) => match self.clear(run.token, &upload).await {
                Ok(Cleared::Committed(manifest)) => return self.succeed(run, manifest).await,
                Ok(Cleared::Away) => false,
                Err(error) => {
                    tracing::warn!(%error, "what the failed run left is for the next one to clear up");
                    true
                }
            },
        };
        let failed = backups::fail(self.database.pool(), run.token, &told(&error), left_over).await;
        // If the database is away the lease's end says so.
        if let Err(error) = failed {
            let error = database_failure(&error);
            tracing::warn!(
                run = run.run_id,
                error,
                "the failed run could not be recorded"
            );
        }
        Err(error)
    }

    /// What follows from a backup. It is made, whatever becomes of the rest.
    async fn after(&self, manifest: &Manifest, now: DateTime<Utc>) {
        self.to_verify(manifest).await;
        match self.retain(now).await {
            Ok(0) => {}
            Ok(deleted) => tracing::info!(objects = deleted, "expired backups were deleted"),
            Err(error) => {
                tracing::warn!(error = told(&error), "old backups could not be seen to");
            }
        }
    }

    /// Has a worker verify it.
    pub(super) async fn to_verify(&self, manifest: &Manifest) {
        let readable = self.config.restore.identity.is_some();
        if manifest.encryption == Encryption::Age && !readable {
            tracing::warn!(
                object = manifest.object,
                "an encrypted backup can't be verified here: no BACKUP_AGE_IDENTITY"
            );
            return;
        }
        let job = BackupVerify {
            name: Some(manifest.name.clone()),
            drill: false,
            by: manifest.run.to_string(),
        };
        let enqueued = async {
            let mut conn = self.database.pool().acquire().await?;
            enqueue(&mut conn, &job).await
        };
        if let Err(error) = enqueued.await {
            tracing::warn!(%error, "a backup will not be verified before the drill");
        }
    }
}
