//! One attempt at a backup: everything until its manifest is in the bucket.

use std::sync::Arc;

use chrono::{DateTime, NaiveDateTime, Utc};
use chrono_tz::Tz;
use parking_lot::Mutex;
use store::backups::{self, Run};
use tokio::{
    sync::{mpsc, oneshot},
    task::spawn_blocking,
    time::Instant,
};
use tokio_util::task::AbortOnDropHandle;

use super::{
    Backups,
    due::{Ask, is_daily},
    dump::{Dump, Pumped, SILENCE, pump},
    error::BackupError,
    manifest::{Counts, Encryption, Manifest},
    name::BackupName,
    pieces::Pieces,
    snapshot::{Moment, Snapshot, server_version},
    upload::{Upload, prove, send_all},
};
use crate::clients::bucket::SentPart;

/// The content of an object; that it is gzip says its name.
const OBJECT_TYPE: &str = "application/octet-stream";
const MANIFEST_TYPE: &str = "application/json";

/// Pieces of a dump that wait to be compressed.
const AHEAD: usize = 4;

/// The upload of a run, once there is one.
pub(super) type Uploading = Arc<Mutex<Option<Upload>>>;

/// A dump whose parts were sent.
struct Sent {
    parts: Vec<SentPart>,
    pumped: Pumped,
    /// Of the same moment.
    tables: Counts,
}

impl Backups {
    /// Makes a backup under the lease of `run`. Dropped, it ends whatever it has started but the upload,
    /// which `uploading` tells of.
    pub(super) async fn make(
        &self,
        run: &Run,
        ask: &Ask,
        uploading: &Uploading,
    ) -> Result<Manifest, BackupError> {
        let begun = Instant::now();
        let tool = self.restorer().tools().version("pg_dump").await?;
        let server = server_version(self.database().pool()).await?;
        if tool.major < server.major {
            return Err(BackupError::TooOld { tool, server });
        }
        let name = self.free_name(ask, run.started_at).await?;
        let upload = self.begin_upload(run, &name, uploading).await?;
        // Not before: whoever sees an old moment keeps vacuum waiting.
        let snapshot = Snapshot::export(self.database()).await?;
        let moment = snapshot.moment.clone();
        let sent = self.stream(&upload, snapshot).await?;
        self.complete(run, &upload, &sent).await?;
        let Moment {
            at: snapshot_at,
            database,
            schema_version,
            ..
        } = moment;
        let manifest = Manifest {
            form: Manifest::FORM,
            run: run.token,
            name: name.to_string(),
            object: upload.key,
            database: Some(database),
            due: match ask {
                Ask::Due(due) => Some(due.local),
                Ask::ByHand => None,
            },
            time_zone: self.config().schedule.zone().to_owned(),
            started_at: run.started_at,
            snapshot_at,
            duration_seconds: begun.elapsed().as_secs_f64(),
            bytes: sent.pumped.bytes,
            sha256: sent.pumped.sha256,
            dump_bytes: sent.pumped.dump_bytes,
            encryption: if self.encrypts() {
                Encryption::Age
            } else {
                Encryption::None
            },
            server_version: server,
            pg_dump_version: tool,
            schema_version,
            tables: sent.tables,
        };
        self.commit(run, &name, &manifest).await?;
        Ok(manifest)
    }

    fn encrypts(&self) -> bool {
        self.config().recipient.is_some()
    }

    /// The best name that is not taken.
    async fn free_name(&self, ask: &Ask, now: DateTime<Utc>) -> Result<BackupName, BackupError> {
        let schedule = &self.config().schedule;
        let daily = is_daily(schedule, now);
        let shown = local(schedule.zone(), now);
        let time = match ask {
            Ask::Due(due) => due.local,
            Ask::ByHand => shown,
        };
        for name in BackupName::candidates(time, shown, daily) {
            let keys = [
                name.object_key(false),
                name.object_key(true),
                name.manifest_key(),
            ];
            let mut free = true;
            for key in keys {
                free &= self.bucket().head(&key).await?.is_none();
            }
            if free {
                return Ok(name);
            }
        }
        Err(BackupError::NoName)
    }

    /// Begins the upload, and notes it where whoever clears up after this run will find it.
    async fn begin_upload(
        &self,
        run: &Run,
        name: &BackupName,
        uploading: &Uploading,
    ) -> Result<Upload, BackupError> {
        let key = name.object_key(self.encrypts());
        let token = run.token.to_string();
        let upload_id = self
            .bucket()
            .begin_upload(&key, OBJECT_TYPE, &token)
            .await?;
        let upload = Upload { key, upload_id };
        *uploading.lock() = Some(upload.clone());
        let pool = self.database().pool();
        if backups::note_upload(pool, run.token, &upload.key, &upload.upload_id).await? {
            Ok(upload)
        } else {
            Err(BackupError::LeaseLost)
        }
    }

    /// Sends a dump of the snapshot in parts, and counts the tables meanwhile.
    async fn stream(&self, upload: &Upload, snapshot: Snapshot) -> Result<Sent, BackupError> {
        let tools = self.restorer().tools();
        let exported = &snapshot.moment.exported;
        let mut dump = Dump::start(tools, self.database().url(), exported)?;
        let (begun, has_begun) = oneshot::channel();
        let counting = AbortOnDropHandle::new(tokio::spawn(snapshot.count(has_begun)));
        let (pieces, arrived) = mpsc::channel(AHEAD);
        let (parts, to_send) = mpsc::channel(1);
        let recipient = self.config().recipient.clone();
        let pumping = spawn_blocking(move || pump(Pieces::new(arrived), recipient.as_ref(), parts));
        let feeding = async { Ok(dump.feed(pieces, begun, SILENCE).await?) };
        // The error of one drops the other, which ends the pump; pg_dump is killed.
        let ((), parts) = tokio::try_join!(feeding, send_all(self.bucket(), upload, to_send))?;
        let pumped = pumping
            .await
            .unwrap_or_else(|panic| Err(std::io::Error::other(panic)))
            .map_err(BackupError::Pump)?;
        dump.ended(SILENCE).await?;
        if !pumped.is_whole {
            return Err(BackupError::NotWhole);
        }
        let tables = counting.await.map_err(BackupError::Counting)??;
        Ok(Sent {
            parts,
            pumped,
            tables,
        })
    }

    /// Puts the parts at the key when they are proved and the lease is ours, and looks that the object is
    /// as long as it should be.
    async fn complete(&self, run: &Run, upload: &Upload, sent: &Sent) -> Result<(), BackupError> {
        let bucket = self.bucket();
        let bytes = sent.pumped.bytes;
        prove(bucket, upload, &sent.parts, bytes).await?;
        if !backups::renew(self.database().pool(), run.token).await? {
            return Err(BackupError::LeaseLost);
        }
        let completed = bucket
            .complete(&upload.key, &upload.upload_id, &sent.parts)
            .await;
        // An answer that is lost, or a second try after it, says nothing about what is there.
        let token = run.token.to_string();
        let head = match bucket.head(&upload.key).await {
            Ok(head) => head.filter(|head| head.token.as_ref() == Some(&token)),
            Err(error) => return Err(completed.err().unwrap_or(error).into()),
        };
        match (head, completed) {
            (Some(head), _) if head.bytes == bytes => Ok(()),
            (Some(head), _) => Err(BackupError::OtherLength {
                sent: bytes,
                found: head.bytes,
            }),
            (None, Err(error)) => Err(error.into()),
            (None, Ok(_)) => Err(BackupError::Taken),
        }
    }

    /// Makes the object a backup.
    async fn commit(
        &self,
        run: &Run,
        name: &BackupName,
        manifest: &Manifest,
    ) -> Result<(), BackupError> {
        // Whoever took over has cleared the object away, and may be about to use the name.
        if !backups::renew(self.database().pool(), run.token).await? {
            return Err(BackupError::LeaseLost);
        }
        let (key, body) = (name.manifest_key(), manifest.to_json());
        if self.bucket().put_new(&key, body, MANIFEST_TYPE).await? {
            Ok(())
        } else {
            // Or an earlier try of this very request put it, and its answer was lost: that is looked at.
            Err(BackupError::Taken)
        }
    }
}

/// What the clock of a zone shows.
fn local(zone: &str, now: DateTime<Utc>) -> NaiveDateTime {
    let zone: Tz = zone.parse().unwrap_or(Tz::UTC);
    now.with_timezone(&zone).naive_local()
}
