//! What a run that did not end well left in the bucket.

use chrono::{DateTime, TimeDelta, Utc};
use store::backups::{self, Run};
use uuid::Uuid;

use super::{
    Backups,
    error::BackupError,
    manifest::Manifest,
    name::{BackupName, PREFIX},
    upload::Upload,
};
use crate::clients::bucket::BucketError;

/// An upload that nobody noted is a dead one's after so long. Younger ones may be another database's,
/// which has the same bucket by mistake.
const STALE: TimeDelta = TimeDelta::days(1);

/// What was found.
#[derive(Debug)]
pub(super) enum Cleared {
    /// Nothing is left.
    Away,
    /// It is a backup: its manifest was put.
    Committed(Box<Manifest>),
}

impl Backups {
    /// Takes away what a run left, unless it has committed.
    pub(super) async fn clear(&self, token: Uuid, upload: &Upload) -> Result<Cleared, BucketError> {
        let bucket = self.bucket();
        // Nobody can complete it after that.
        bucket.abort(&upload.key, &upload.upload_id).await?;
        let Some(name) = BackupName::of_key(&upload.key) else {
            return Ok(Cleared::Away);
        };
        let manifest = bucket.get(&name.manifest_key()).await?;
        let manifest = manifest
            .and_then(|body| Manifest::read(&name, &body).ok())
            .filter(|manifest| manifest.run == token);
        let head = bucket.head(&upload.key).await?;
        let is_ours = |head: &crate::clients::bucket::Head| {
            head.token.as_deref() == Some(token.to_string().as_str())
        };
        let head = head.filter(is_ours);
        match (manifest, head) {
            (Some(manifest), Some(head)) if manifest.bytes == head.bytes => {
                return Ok(Cleared::Committed(Box::new(manifest)));
            }
            (manifest, head) => {
                if manifest.is_some() {
                    bucket.delete(&name.manifest_key()).await?;
                }
                if head.is_some() {
                    bucket.delete(&upload.key).await?;
                }
            }
        }
        Ok(Cleared::Away)
    }

    /// Clears up after runs that failed or died. True: one of them had made what `ours` was to make.
    pub(super) async fn recover(&self, ours: &Run) -> Result<bool, BackupError> {
        let pool = self.database.pool();
        let mut committed = Vec::new();
        for left in backups::left_over(pool).await? {
            let upload = Upload {
                key: left.object_key,
                upload_id: left.upload_id,
            };
            // Another run may have taken over from this one meanwhile, and write at the same key.
            if !backups::renew(pool, ours.token).await? {
                return Err(BackupError::LeaseLost);
            }
            match self.clear(left.token, &upload).await? {
                Cleared::Away => backups::cleared_up(pool, left.token).await?,
                Cleared::Committed(manifest) => committed.push((left.token, manifest)),
            }
        }
        // The one that settles our due time ends our own row: so they come last.
        let mut settled = false;
        for (token, manifest) in committed {
            tracing::info!(
                object = manifest.object,
                "a backup is whole whose process ended before it said so"
            );
            settled |= backups::adopt(pool, token, &manifest.made(), ours).await?;
            self.to_verify(&manifest).await;
        }
        if !settled {
            self.abort_stale(ours.started_at).await;
        }
        Ok(settled)
    }

    /// Aborts uploads of which no row tells. A store that can't list them has a lifecycle rule, or is to
    /// be looked after by hand: no reason to make no backup.
    async fn abort_stale(&self, now: DateTime<Utc>) {
        let bucket = self.bucket();
        let stale = async {
            for upload in bucket.uploads(PREFIX).await? {
                let is_old = upload.begun.is_some_and(|begun| begun < now - STALE);
                if is_old && BackupName::of_key(&upload.key).is_some() {
                    bucket.abort(&upload.key, &upload.upload_id).await?;
                }
            }
            Ok::<(), BucketError>(())
        };
        match stale.await {
            Err(error) if !error.is_unsupported() => {
                tracing::warn!(%error, "uploads that nobody ended were not looked for");
            }
            _ => {}
        }
    }
}
