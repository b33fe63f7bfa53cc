//! Restores a backup for a proof: it is good only then.

use std::sync::Arc;

use jobs::{JobKind, catalog::BackupVerify};
use sqlx::PgPool;
use store::{
    backups::{self, Claim, Own, Run, RunKind, Wanted},
    db::Database,
};

use super::{
    Backups,
    error::{RestoreError, told},
    keep,
    list::Which,
    manifest::Manifest,
    name::BackupName,
    restore::{Purpose, Say, now, open},
    scratch::Scratch,
};

/// A backup that was restored and is what it should be.
#[derive(Debug, Clone, PartialEq)]
pub struct Verified {
    /// What was restored.
    pub manifest: Manifest,
    /// Rows of all tables.
    pub rows: i64,
    /// Whether this database made it. Another one that restores well says nothing of ours.
    pub is_own: bool,
}

impl Backups {
    /// Restores a backup into a scratch database, and compares every count. A `drill` goes through all of
    /// `restore`. What comes of it is in its row.
    pub async fn verify(
        &self,
        which: &Which,
        drill: bool,
        say: &Say,
    ) -> Result<Verified, RestoreError> {
        let pool = self.database.pool();
        let manifest = self.meant(which).await;
        let key = manifest.as_ref().ok().map(|it| it.object.clone());
        let wanted = Wanted {
            kind: RunKind::Verify,
            due: None,
            object_key: key.as_deref(),
            drill,
        };
        let run = match backups::claim(pool, wanted).await? {
            Claim::Ours(run) => run,
            Claim::Busy { run_id, .. } => return Err(RestoreError::Busy(run_id)),
            Claim::Done => unreachable!("a verify has no due time that could be done"),
        };
        let proved = match manifest {
            Ok(manifest) => self.prove(&run, manifest, drill, say).await,
            Err(error) => Err(error),
        };
        let verified = match proved {
            Ok(verified) => {
                let made = verified.manifest.made();
                match backups::verified(pool, run.token, &made).await {
                    Ok(true) => {
                        self.tell_proof(&verified.manifest).await;
                        Ok(verified)
                    }
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
                is_own = verified.is_own,
                drill,
                "a backup was restored and is what it should be"
            ),
            Err(error) => {
                if let Err(error) = backups::fail(pool, run.token, &told(error), false).await {
                    tracing::warn!(%error, "the failed verify could not be recorded");
                }
            }
        }
        // Whoever shows how old the newest good one is looks again.
        self.bus.jobs_ready(BackupVerify::QUEUE);
        verified
    }

    /// Writes beside the backup that it is good. Its row says so already.
    async fn tell_proof(&self, manifest: &Manifest) {
        let noted = async {
            let proved_at = now(self.database.pool()).await?;
            self.restorer.note_proof(manifest, proved_at).await?;
            Ok::<(), RestoreError>(())
        };
        if let Err(error) = noted.await {
            let error = told(&error);
            tracing::warn!(
                error,
                "the bucket does not say of the backup that it was proved"
            );
        }
    }

    /// The manifest of what is meant. The newest is the newest that this database made: it is missed if the
    /// bucket lost it, and no other database that has the same bucket stands in for it.
    async fn meant(&self, which: &Which) -> Result<Manifest, RestoreError> {
        if *which != Which::Latest {
            return self.restorer.find(which).await;
        }
        let newest = backups::newest_made(self.database.pool()).await?;
        let name = newest.and_then(|key| BackupName::of_key(&key));
        let name = name.ok_or_else(|| RestoreError::Missing("of this database".to_owned()))?;
        self.restorer.find(&Which::Named(name)).await
    }

    async fn prove(
        &self,
        run: &Run,
        manifest: Manifest,
        drill: bool,
        say: &Say,
    ) -> Result<Verified, RestoreError> {
        let pool = self.database.pool();
        let is_own = is_own(pool, &manifest).await?;
        let scratch = Scratch::create(pool, self.database.url(), run).await?;
        let proved = tokio::select! {
            proved = self.restore_into(&scratch, &manifest, drill, say) => proved,
            () = keep::until_lost(pool, run) => Err(RestoreError::LeaseLost),
            () = self.stop.cancelled() => Err(RestoreError::Stopped),
        };
        // What it cost to find out is not to stay, whatever was found.
        if let Err(error) = scratch.remove(pool).await {
            tracing::warn!(%error, "the scratch database is for the next verify to drop");
        }
        Ok(Verified {
            rows: proved?,
            manifest,
            is_own,
        })
    }

    /// Returns the rows of all tables.
    async fn restore_into(
        &self,
        scratch: &Scratch,
        manifest: &Manifest,
        drill: bool,
        say: &Say,
    ) -> Result<i64, RestoreError> {
        let restorer = &self.restorer;
        if drill {
            let report = restorer.restore(manifest, &scratch.config, say).await?;
            return Ok(report.rows);
        }
        let target: Database = open(&scratch.config)?;
        let loaded = restorer
            .load_and_compare(manifest, &scratch.config, &target, Purpose::Proof, say)
            .await;
        target.pool().close().await;
        loaded
    }
}

/// Whether this database made what a manifest tells of; an error: it made something else there. What the
/// bucket says of itself proves nothing against whoever may write into it.
async fn is_own(pool: &PgPool, manifest: &Manifest) -> Result<bool, RestoreError> {
    let made = manifest.made();
    let Some(own) = backups::own(pool, &made.object_key).await? else {
        return Ok(false);
    };
    let told = Own {
        token: manifest.run,
        bytes: made.bytes,
        sha256: made.sha256,
    };
    if own == told {
        Ok(true)
    } else {
        Err(RestoreError::Replaced(own.token))
    }
}

/// Tells nobody.
pub(crate) fn silently() -> Say {
    Arc::new(|_| ())
}
