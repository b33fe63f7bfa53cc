//! Makes a backup.

use std::{sync::Arc, time::Duration};

use chrono::{DateTime, NaiveDateTime, Utc};
use chrono_tz::Tz;
use jobs::{JobKind, catalog::BackupVerify, enqueue};
use parking_lot::Mutex;
use store::backups::{self, Claim, Due, Run, RunKind, Wanted};
use tokio::{
    sync::{mpsc, oneshot},
    task::spawn_blocking,
    time::sleep,
};

use super::{
    Backups,
    clear::Cleared,
    due::is_daily,
    dump::{Dump, pump},
    error::{BackupError, told},
    keep,
    manifest::{Encryption, Manifest},
    name::BackupName,
    snapshot::Snapshot,
    upload::{Upload, prove, send_all},
};
use crate::privacy::ledger::keep_all;

/// The content of an object; that it is gzip says its name.
const OBJECT_TYPE: &str = "application/octet-stream";
const MANIFEST_TYPE: &str = "application/json";
/// Between two looks at the run of another process.
const LOOK: Duration = Duration::from_secs(2);

/// Who wants a backup.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Ask {
    /// The schedule: one of this time.
    Due(Due),
    /// A person: one of now.
    ByHand,
}

/// What came of it.
#[derive(Debug, Clone, PartialEq)]
pub enum Ran {
    /// It was made.
    Made(Box<Manifest>),
    /// The one of the due time is there already, by whomever.
    WasMade,
}

/// The upload of a run, once there is one.
type Uploading = Arc<Mutex<Option<Upload>>>;

impl Backups {
    /// Makes a backup. Waits for another process that makes the one of the same due time, and takes
    /// over if that one fails. Whatever happens to it is in its row, and in the log.
    pub async fn run(&self, ask: &Ask) -> Result<Ran, BackupError> {
        let Some(run) = self.claim(ask).await? else {
            return Ok(Ran::WasMade);
        };
        let ran = self.run_claimed(&run, ask).await;
        match &ran {
            Ok(Ran::Made(manifest)) => {
                tracing::info!(
                    run = run.run_id,
                    object = manifest.object,
                    bytes = manifest.bytes,
                    dump_bytes = manifest.dump_bytes,
                    seconds = manifest.duration_seconds,
                    "a backup was made"
                );
                count("succeeded");
                self.after(manifest, run.started_at).await;
            }
            Ok(Ran::WasMade) => {}
            Err(error) => {
                tracing::error!(run = run.run_id, error = told(error), "a backup failed");
                count("failed");
            }
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
                    sleep(left.clamp(Duration::from_millis(100), LOOK)).await;
                }
                Claim::Busy { run_id, .. } => {
                    let busy = BackupError::Busy(run_id);
                    backups::refuse(pool, RunKind::Backup, due, &told(&busy)).await?;
                    count("failed");
                    return Err(busy);
                }
            }
        }
    }

    /// Makes it under the lease, and ends its row in either case.
    async fn run_claimed(&self, run: &Run, ask: &Ask) -> Result<Ran, BackupError> {
        let pool = self.database.pool();
        let uploading = Uploading::default();
        let attempt = async {
            match self.recover(run).await {
                Ok(true) => return Ok(None),
                Ok(false) => {}
                Err(error @ BackupError::LeaseLost) => return Err(error),
                // The attempt meets the same bucket, and says so.
                Err(error) => {
                    tracing::warn!(
                        error = told(&error),
                        "earlier runs were not cleared up after"
                    );
                }
            }
            self.attempt(run, ask, &uploading).await.map(Some)
        };
        let attempted = tokio::select! {
            attempted = attempt => attempted,
            () = keep::until_lost(pool, run) => Err(BackupError::LeaseLost),
        };
        let error = match attempted {
            Ok(Some(manifest)) => match backups::succeed(pool, run.token, &manifest.made()).await {
                // It is committed; where the row could not be written the next run finds it.
                Ok(true) | Err(_) => return Ok(Ran::Made(Box::new(manifest))),
                Ok(false) => BackupError::LeaseLost,
            },
            Ok(None) => return Ok(Ran::WasMade),
            Err(error) => error,
        };
        let upload = uploading.lock().clone();
        // After the lease's end it is for others to clear up.
        let lost = matches!(error, BackupError::LeaseLost);
        let cleared = match &upload {
            Some(upload) if !lost => Some(self.clear(run.token, upload).await),
            _ => None,
        };
        let left_over = match cleared {
            Some(Ok(Cleared::Committed(manifest))) => {
                backups::succeed(pool, run.token, &manifest.made()).await?;
                return Ok(Ran::Made(manifest));
            }
            Some(Ok(Cleared::Away)) | None => lost,
            Some(Err(error)) => {
                tracing::warn!(%error, "what the failed run left is for the next one to clear up");
                true
            }
        };
        // If the database is away the lease's end says so.
        if let Err(failed) = backups::fail(pool, run.token, &told(&error), left_over).await {
            tracing::warn!(error = %failed, "the failed run could not be recorded");
        }
        Err(error)
    }

    /// Everything until the manifest is in the bucket.
    async fn attempt(
        &self,
        run: &Run,
        ask: &Ask,
        uploading: &Uploading,
    ) -> Result<Manifest, BackupError> {
        let (pool, bucket) = (self.database.pool(), self.bucket());
        let begun = tokio::time::Instant::now();
        let tools = self.restorer.tools();
        let version = tools.version("pg_dump").await?;
        // Whoever was erased is to be forgotten by every older backup as well.
        keep_all(pool, bucket).await?;
        let snapshot = Snapshot::export(&self.database).await?;
        let (server, schema_version) = (snapshot.server, snapshot.schema_version);
        let (snapshot_at, exported) = (snapshot.at, snapshot.name.clone());
        if version.major < server.major {
            return Err(BackupError::TooOld {
                tool: version,
                server,
            });
        }
        let encrypted = self.config.recipient.is_some();
        let name = self.free_name(ask, run.started_at, encrypted).await?;
        let token = run.token.to_string();
        let key = name.object_key(encrypted);
        let upload_id = bucket.begin_upload(&key, OBJECT_TYPE, &token).await?;
        let upload = Upload { key, upload_id };
        *uploading.lock() = Some(upload.clone());
        if !backups::note_upload(pool, run.token, &upload.key, &upload.upload_id).await? {
            return Err(BackupError::LeaseLost);
        }

        let (dump, output) = Dump::start(tools, self.database.url(), &exported)?;
        let (begun_tx, begun_rx) = oneshot::channel();
        let counting = tokio::spawn(snapshot.count(begun_rx));
        let (parts, to_send) = mpsc::channel(1);
        let recipient = self.config.recipient.clone();
        let pumping = spawn_blocking(move || pump(output, recipient.as_ref(), parts, begun_tx));
        let sent = match send_all(bucket, &upload, to_send).await {
            Ok(sent) => sent,
            Err(error) => {
                // Killed with it, which ends the pump.
                drop(dump);
                return Err(error);
            }
        };
        let pumped = pumping
            .await
            .map_err(|panic| BackupError::Pump(std::io::Error::other(panic)))?;
        dump.ended().await?;
        let pumped = pumped.map_err(BackupError::Pump)?;
        if !pumped.is_whole {
            return Err(BackupError::NotWhole);
        }
        let tables = counting
            .await
            .map_err(|panic| BackupError::Pump(std::io::Error::other(panic)))??;
        prove(bucket, &upload, &sent, pumped.bytes).await?;
        if !backups::renew(pool, run.token).await? {
            return Err(BackupError::LeaseLost);
        }
        self.complete(&upload, &sent, &token, pumped.bytes).await?;
        let manifest = Manifest {
            form: Manifest::FORM,
            run: run.token,
            name: name.to_string(),
            object: upload.key,
            due: match ask {
                Ask::Due(due) => Some(due.local),
                Ask::ByHand => None,
            },
            time_zone: self.config.schedule.zone().to_owned(),
            started_at: run.started_at,
            snapshot_at,
            duration_seconds: begun.elapsed().as_secs_f64(),
            bytes: pumped.bytes,
            sha256: pumped.sha256,
            dump_bytes: pumped.dump_bytes,
            encryption: if encrypted {
                Encryption::Age
            } else {
                Encryption::None
            },
            server_version: server,
            pg_dump_version: version,
            schema_version,
            tables,
        };
        let key = name.manifest_key();
        if bucket
            .put_new(&key, manifest.to_json(), MANIFEST_TYPE)
            .await?
        {
            Ok(manifest)
        } else {
            // Or an earlier try of this very request put it, and its answer was lost: that is looked at.
            Err(BackupError::Taken)
        }
    }

    /// Puts the parts at the key, and looks that it is as long as it should be.
    async fn complete(
        &self,
        upload: &Upload,
        sent: &[crate::clients::bucket::SentPart],
        token: &str,
        bytes: u64,
    ) -> Result<(), BackupError> {
        let bucket = self.bucket();
        let completed = bucket.complete(&upload.key, &upload.upload_id, sent).await;
        // An answer that is lost, or a second try after it, says nothing about what is there.
        let head = match bucket.head(&upload.key).await {
            Ok(head) => head.filter(|head| head.token.as_deref() == Some(token)),
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

    /// The best name that is not taken.
    async fn free_name(
        &self,
        ask: &Ask,
        now: DateTime<Utc>,
        encrypted: bool,
    ) -> Result<BackupName, BackupError> {
        let daily = is_daily(&self.config.schedule, now);
        let shown = local(self.config.schedule.zone(), now);
        let time = match ask {
            Ask::Due(due) => due.local,
            Ask::ByHand => shown,
        };
        for name in BackupName::candidates(time, shown, daily) {
            let mut keys = vec![name.object_key(encrypted), name.manifest_key()];
            keys.push(name.object_key(!encrypted));
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

fn count(outcome: &'static str) {
    metrics::counter!("growth_chat_backup_runs_total", "outcome" => outcome).increment(1);
}

/// What the clock of a zone shows.
fn local(zone: &str, now: DateTime<Utc>) -> NaiveDateTime {
    let zone: Tz = zone.parse().unwrap_or(Tz::UTC);
    now.with_timezone(&zone).naive_local()
}
