//! `pg_dump` at work, and its output on the way to the bucket.
//!
//! ```text
//! pg_dump ──pipe──► reader ► compressors ► [age] ► SHA-256 ► parts ──channel──► upload
//! ```
//! All of it but the ends runs on threads that may block. Dropping the receiver of the parts, or killing
//! `pg_dump`, ends it.

use std::{
    io::{self, PipeReader, Read, Write},
    process::{ExitStatus, Stdio},
};

use age::Encryptor;
use bytes::Bytes;
use secrecy::SecretString;
use sha2::{Digest, Sha256};
use tokio::{
    process::Child,
    sync::{mpsc, oneshot},
};
use tokio_util::task::AbortOnDropHandle;

use super::{
    gzip,
    tools::{ToolError, Tools, ended, listen, not_run},
    trailer::Tail,
};
use crate::{config::AgeRecipient, hex::hex};

const PG_DUMP: &str = "pg_dump";
/// Bytes of a part: the least that S3 takes, because so many parts are held in memory.
pub(super) const PART: usize = 5 * 1024 * 1024;

/// A `pg_dump` that runs. Dropped, it is killed.
pub(super) struct Dump {
    child: Child,
    complaint: AbortOnDropHandle<String>,
    url: SecretString,
}

impl Dump {
    /// Has it dump the moment of a snapshot; the reader gets its output.
    pub(super) fn start(
        tools: &Tools,
        url: &SecretString,
        snapshot: &str,
    ) -> Result<(Self, PipeReader), ToolError> {
        let failed = |source| not_run(PG_DUMP, source);
        let (reader, writer) = io::pipe().map_err(failed)?;
        let mut command = tools.command(PG_DUMP, url)?;
        command
            .arg("--format=plain")
            .arg("--encoding=UTF8")
            // It restores under any role, and beside the default privileges of a hosted server.
            .arg("--no-owner")
            .arg("--no-privileges")
            .arg("--no-password")
            // The limits of the edge are of an hour, and of nobody's concern afterwards.
            .arg("--no-unlogged-table-data")
            // Somebody who locks a table for long makes it fail, and not wait for ever.
            .arg("--lock-wait-timeout=60s")
            .arg(format!("--snapshot={snapshot}"))
            .stdout(Stdio::from(writer));
        let spawned = command.spawn();
        // It holds the writing end as well, which would keep the pipe open.
        drop(command);
        let mut child = spawned.map_err(failed)?;
        let complaint = AbortOnDropHandle::new(tokio::spawn(listen(child.stderr.take())));
        let dump = Self {
            child,
            complaint,
            url: url.clone(),
        };
        Ok((dump, reader))
    }

    /// Waits for its end; an error unless it ended well.
    pub(super) async fn ended(mut self) -> Result<(), ToolError> {
        let failed = |source| not_run(PG_DUMP, source);
        let status: ExitStatus = self.child.wait().await.map_err(failed)?;
        let said = self.complaint.await.unwrap_or_default();
        ended(PG_DUMP, status, &said, &self.url)
    }
}

/// What went through.
#[derive(Debug)]
pub(super) struct Pumped {
    /// Of the SQL.
    pub(super) dump_bytes: u64,
    /// Whether the SQL is a whole dump.
    pub(super) is_whole: bool,
    /// Of the object.
    pub(super) bytes: u64,
    /// Of the object, in hex.
    pub(super) sha256: String,
}

/// Takes a dump to the end. `taken` is told of the first byte: by then `pg_dump` has taken the snapshot.
/// Blocks.
pub(super) fn pump(
    source: impl Read,
    recipient: Option<&AgeRecipient>,
    parts: mpsc::Sender<Bytes>,
    taken: oneshot::Sender<()>,
) -> io::Result<Pumped> {
    let mut sink = PartWriter::new(parts);
    let mut tail = Tail::default();
    let mut taken = Some(taken);
    let source = FirstByte {
        source,
        then: move || {
            if let Some(taken) = taken.take() {
                // Nobody waits if the counting failed.
                let _ = taken.send(());
            }
        },
    };
    let seen = |block: &[u8]| tail.push(block);
    let dump_bytes = match recipient {
        None => gzip::compress(source, &mut sink, seen)?,
        Some(recipient) => {
            let recipients = std::iter::once(recipient.key() as &dyn age::Recipient);
            let encryptor = Encryptor::with_recipients(recipients).map_err(io::Error::other)?;
            let mut encrypted = encryptor.wrap_output(&mut sink)?;
            let dump_bytes = gzip::compress(source, &mut encrypted, seen)?;
            encrypted.finish()?;
            dump_bytes
        }
    };
    let (bytes, sha256) = sink.finish()?;
    Ok(Pumped {
        dump_bytes,
        is_whole: tail.is_whole(),
        bytes,
        sha256,
    })
}

/// A stream that tells when it begins.
struct FirstByte<R, F> {
    source: R,
    then: F,
}

impl<R: Read, F: FnMut()> Read for FirstByte<R, F> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = self.source.read(buffer)?;
        if count > 0 {
            (self.then)();
        }
        Ok(count)
    }
}

/// Cuts what is written into parts, and hashes it.
struct PartWriter {
    parts: mpsc::Sender<Bytes>,
    part: Vec<u8>,
    hash: Sha256,
    bytes: u64,
}

impl PartWriter {
    fn new(parts: mpsc::Sender<Bytes>) -> Self {
        Self {
            parts,
            part: Vec::new(),
            hash: Sha256::new(),
            bytes: 0,
        }
    }

    fn send(&mut self) -> io::Result<()> {
        let part = std::mem::take(&mut self.part);
        self.parts
            .blocking_send(part.into())
            .map_err(|_| io::Error::new(io::ErrorKind::BrokenPipe, "the upload has ended"))
    }

    fn finish(mut self) -> io::Result<(u64, String)> {
        if !self.part.is_empty() {
            self.send()?;
        }
        Ok((self.bytes, hex(&self.hash.finalize())))
    }
}

impl Write for PartWriter {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if self.part.capacity() == 0 {
            self.part.reserve_exact(PART);
        }
        let count = bytes.len().min(PART - self.part.len());
        self.part.extend_from_slice(&bytes[..count]);
        self.hash.update(&bytes[..count]);
        self.bytes += count as u64;
        if self.part.len() == PART {
            self.send()?;
        }
        Ok(count)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_parts_but_the_last_are_of_one_size_and_their_hash_is_the_objects() {
        let (parts, mut sent) = mpsc::channel(10);
        let mut writer = PartWriter::new(parts);
        let written = vec![7; 2 * PART + 1];
        for piece in written.chunks(100_003) {
            writer.write_all(piece).unwrap();
        }
        let (bytes, sha256) = writer.finish().unwrap();
        assert_eq!(bytes, written.len() as u64);
        assert_eq!(sha256, hex(&Sha256::digest(&written)));
        let mut sizes = Vec::new();
        while let Ok(part) = sent.try_recv() {
            sizes.push(part.len());
        }
        assert_eq!(sizes, [PART, PART, 1]);
    }

    #[test]
    fn an_upload_that_has_ended_ends_the_pump() {
        let (parts, sent) = mpsc::channel(1);
        drop(sent);
        let (taken, _) = oneshot::channel();
        // Noise, so that a part becomes full.
        let endless = std::fs::File::open("/dev/urandom").unwrap();
        let error = pump(endless, None, parts, taken).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::BrokenPipe);
    }
}
