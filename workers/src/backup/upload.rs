//! The parts of a dump on their way to the bucket, two at a time.

use bytes::Bytes;
use futures::{StreamExt, stream::FuturesUnordered};
use tokio::sync::mpsc;

use super::error::BackupError;
use crate::clients::bucket::{Bucket, SentPart};

/// Parts that are sent at the same time. Each is memory.
const AT_ONCE: usize = 2;
/// The most parts of an upload: S3's limit.
const MOST: i32 = 10_000;

/// Where a run uploads to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Upload {
    pub(super) key: String,
    pub(super) upload_id: String,
}

/// Sends parts until there are no more, and returns them in order.
pub(super) async fn send_all(
    bucket: &Bucket,
    upload: &Upload,
    mut parts: mpsc::Receiver<Bytes>,
) -> Result<Vec<SentPart>, BackupError> {
    let mut sending = FuturesUnordered::new();
    let mut sent = Vec::new();
    let mut number = 0;
    let mut more = true;
    while more || !sending.is_empty() {
        tokio::select! {
            part = parts.recv(), if more && sending.len() < AT_ONCE => match part {
                None => more = false,
                Some(_) if number == MOST => return Err(BackupError::TooLarge),
                Some(part) => {
                    number += 1;
                    sending.push(bucket.send_part(&upload.key, &upload.upload_id, number, part));
                }
            },
            Some(done) = sending.next(), if !sending.is_empty() => sent.push(done?),
        }
    }
    sent.sort_by_key(|part| part.number);
    Ok(sent)
}

/// Whether the store has exactly what was sent.
pub(super) async fn prove(
    bucket: &Bucket,
    upload: &Upload,
    sent: &[SentPart],
    bytes: u64,
) -> Result<(), BackupError> {
    let there = bucket.parts(&upload.key, &upload.upload_id).await?;
    let same = there.len() == sent.len()
        && sent
            .iter()
            .zip(&there)
            .all(|(sent, there)| (sent.number, sent.bytes) == *there);
    let total: u64 = there.iter().map(|(_, bytes)| bytes).sum();
    if same && total == bytes {
        Ok(())
    } else {
        Err(BackupError::OtherParts)
    }
}
