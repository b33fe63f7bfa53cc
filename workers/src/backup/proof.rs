//! That a backup was restored and compared, beside it in the bucket: whoever has lost the database wants to
//! know it of what is left. The alerts go by the rows of the database, which made the backup itself.

use bytes::Bytes;
use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::{manifest::Manifest, name::BackupName, restore::Restorer};
use crate::clients::bucket::BucketError;

/// The first time is kept.
#[derive(Debug, Serialize, Deserialize)]
struct Proof {
    /// The run that made the backup, and what it made: no other object of the same name.
    run: Uuid,
    sha256: String,
    proved_at: DateTime<Utc>,
}

impl Restorer {
    /// Writes down that a backup was restored and is what it should be.
    pub(super) async fn note_proof(
        &self,
        manifest: &Manifest,
        proved_at: DateTime<Utc>,
    ) -> Result<(), BucketError> {
        let Ok(name) = manifest.name.parse::<BackupName>() else {
            return Ok(());
        };
        let proof = Proof {
            run: manifest.run,
            sha256: manifest.sha256.clone(),
            proved_at,
        };
        // An id, a hash and a time: there is nothing that JSON can't hold.
        let body = Bytes::from(serde_json::to_vec(&proof).unwrap_or_default());
        self.bucket()
            .put_new(&name.proof_key(), body, "application/json")
            .await?;
        Ok(())
    }

    /// When a backup was first restored for a proof; `None`: never.
    pub async fn proved_at(
        &self,
        manifest: &Manifest,
    ) -> Result<Option<DateTime<Utc>>, BucketError> {
        let Ok(name) = manifest.name.parse::<BackupName>() else {
            return Ok(None);
        };
        let body = self.bucket().get(&name.proof_key()).await?;
        let proof = body.and_then(|body| serde_json::from_slice::<Proof>(&body).ok());
        let proof = proof.filter(|it| it.run == manifest.run && it.sha256 == manifest.sha256);
        Ok(proof.map(|proof| proof.proved_at))
    }
}
