//! Restores a backup for a proof: it is good only then.

use std::sync::Arc;

use jobs::{JobKind, catalog::BackupVerify};
use store::{
    backups::{self, Claim, Run, RunKind, Wanted},
    db::Database,
};

use super::{
    Backups,
    error::{RestoreError, told},
    keep,
    list::Which,
    load::Say,
    manifest::Manifest,
    restore::open,
    scratch::Scratch,
};

/// A backup that was restored and is what it should be.
#[derive(Debug, Clone, PartialEq)]
pub struct Verified {
    /// What was restored.
    pub manifest: Manifest,
    /// Rows of all tables.
    pub rows: i64,
}

impl Backups {
    /// Restores a backup into a scratch database, and compares every count. A `drill` goes through all of
    /// `restore`. What comes of it is in its row, and in the log.
    pub async fn verify(
        &self,
        which: &Which,
        drill: bool,
        say: &Say,
    ) -> Result<Verified, RestoreError> {
        let pool = self.database.pool();
        let manifest = self.restorer.find(which).await;
        let key = manifest.as_ref().ok().map(|it| it.object.clone());
        let wanted = Wanted {
            kind: RunKind::Verify,
            due: None,
            object_key: key.as_deref(),
            drill,
        };
        let run = match backups::claim(pool, wanted).await? {
            Claim::Ours(run) => run,
            // A verify has no due time that could be done.
            Claim::Busy { run_id, .. } => return Err(RestoreError::Busy(run_id)),
            Claim::Done => return Err(RestoreError::LeaseLost),
        };
        let proved = async {
            let manifest = manifest?;
            self.prove(&run, manifest, drill, say).await
        };
        let proved = tokio::select! {
            proved = proved => proved,
            () = keep::until_lost(pool, &run) => Err(RestoreError::LeaseLost),
        };
        let verified = match proved {
            Ok(verified) => {
                let made = verified.manifest.made();
                let backup = verified.manifest.run;
                match backups::verified(pool, run.token, backup, &made).await {
                    Ok(true) => Ok(verified),
                    Ok(false) => Err(RestoreError::LeaseLost),
                    Err(error) => Err(error.into()),
                }
            }
            Err(error) => Err(error),
        };
        match &verified {
            Ok(verified) => tracing::info!(
                run = run.run_id,
                object = verified.manifest.object,
                rows = verified.rows,
                drill,
                "a backup was restored and is what it should be"
            ),
            Err(error) => {
                let reason = told(error);
                tracing::error!(run = run.run_id, error = reason, "a backup is not verified");
                if let Err(error) = backups::fail(pool, run.token, &reason, false).await {
                    tracing::warn!(%error, "the failed verify could not be recorded");
                }
            }
        }
        let outcome = if verified.is_ok() {
            "succeeded"
        } else {
            "failed"
        };
        metrics::counter!("growth_chat_backup_verifies_total", "outcome" => outcome).increment(1);
        self.bus.jobs_ready(BackupVerify::QUEUE);
        verified
    }

    async fn prove(
        &self,
        run: &Run,
        manifest: Manifest,
        drill: bool,
        say: &Say,
    ) -> Result<Verified, RestoreError> {
        let pool = self.database.pool();
        let scratch = Scratch::create(pool, self.database.url(), run).await?;
        let proved = async {
            if drill {
                let report = self
                    .restorer
                    .restore(&manifest, &scratch.config, say)
                    .await?;
                return Ok(report.rows);
            }
            let target: Database = open(&scratch.config)?;
            let loaded = self
                .restorer
                .load_and_compare(&manifest, &scratch.config, &target, say)
                .await;
            target.pool().close().await;
            loaded
        }
        .await;
        // What it cost to find out is not to stay, whatever was found.
        if let Err(error) = scratch.remove(pool).await {
            tracing::warn!(%error, "the scratch database is for the next verify to drop");
        }
        Ok(Verified {
            rows: proved?,
            manifest,
        })
    }
}

/// Tells nobody.
pub(crate) fn silently() -> Say {
    Arc::new(|_| ())
}
