//! `pg_dump` at work, and its output on the way to the bucket.
//!
//! ```text
//! pg_dump ──pipe──► feed ──pieces──► compressors ► [age] ► SHA-256 ──parts──► upload
//! ```
//! All of it but the ends runs on threads that may block. Dropping one of the ends ends it.

use std::{
    io::{self, Read, Write},
    process::{ExitStatus, Stdio},
    time::Duration,
};

use age::Encryptor;
use bytes::{Bytes, BytesMut};
use secrecy::SecretString;
use sha2::{Digest, Sha256};
use tokio::{
    io::AsyncReadExt,
    process::Child,
    sync::{mpsc, oneshot},
    time::timeout,
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

/// How long `pg_dump` may write nothing, or take to end after its last byte. It waits a minute for a lock at
/// most, but may read for long through pages in which no row is left. A connection that was forgotten on
/// its way says nothing for hours.
pub(super) const SILENCE: Duration = Duration::from_mins(10);
/// How long its last words are waited for when it has ended: a child of it may hold the pipe open.
const LAST_WORDS: Duration = Duration::from_secs(5);
/// Bytes that are read from it at once: all that its pipe holds.
const PIECE: usize = 64 * 1024;

/// A `pg_dump` that runs. Dropped, it is killed.
pub(super) struct Dump {
    child: Child,
    complaint: AbortOnDropHandle<String>,
    url: SecretString,
}

impl Dump {
    /// Has it dump the moment of a snapshot.
    pub(super) fn start(
        tools: &Tools,
        url: &SecretString,
        snapshot: &str,
    ) -> Result<Self, ToolError> {
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
            .stdout(Stdio::piped());
        let spawned = command.spawn();
        let mut child = spawned.map_err(|source| not_run(PG_DUMP, source))?;
        let complaint = AbortOnDropHandle::new(tokio::spawn(listen(child.stderr.take())));
        Ok(Self {
            child,
            complaint,
            url: url.clone(),
        })
    }

    /// Hands on what it writes, until there is no more or nobody takes it. `begun` is told of the first
    /// byte: by then it has taken the snapshot.
    pub(super) async fn feed(
        &mut self,
        pieces: mpsc::Sender<Bytes>,
        begun: oneshot::Sender<()>,
        patience: Duration,
    ) -> Result<(), ToolError> {
        // Closed at the end, so that it does not wait for somebody who has gone.
        let Some(mut output) = self.child.stdout.take() else {
            return Ok(());
        };
        let mut begun = Some(begun);
        let mut buffer = BytesMut::new();
        loop {
            buffer.reserve(PIECE);
            let read = timeout(patience, output.read_buf(&mut buffer)).await;
            let count = read
                .map_err(|_| ToolError::Silent(PG_DUMP, patience))?
                .map_err(|source| not_run(PG_DUMP, source))?;
            if count == 0 {
                return Ok(());
            }
            if let Some(begun) = begun.take() {
                // Nobody waits if the counting failed.
                let _ = begun.send(());
            }
            if pieces.send(buffer.split().freeze()).await.is_err() {
                return Ok(());
            }
        }
    }

    /// Waits for its end; an error unless it ended well.
    pub(super) async fn ended(mut self, patience: Duration) -> Result<(), ToolError> {
        let status: ExitStatus = timeout(patience, self.child.wait())
            .await
            .map_err(|_| ToolError::Silent(PG_DUMP, patience))?
            .map_err(|source| not_run(PG_DUMP, source))?;
        let said = match timeout(LAST_WORDS, self.complaint).await {
            Ok(said) => said.unwrap_or_default(),
            Err(_) => String::new(),
        };
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

/// Takes a dump to the end. Blocks.
pub(super) fn pump(
    source: impl Read,
    recipient: Option<&AgeRecipient>,
    parts: mpsc::Sender<Bytes>,
) -> io::Result<Pumped> {
    let mut sink = PartWriter::new(parts);
    let mut tail = Tail::default();
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
    use crate::config::ToolsConfig;

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
        // Noise, so that a part becomes full.
        let endless = std::fs::File::open("/dev/urandom").unwrap();
        let error = pump(endless, None, parts).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::BrokenPipe);
    }

    /// A dump by a program that does what a script says.
    fn dump_by(script: &str) -> (Dump, tempfile::TempDir) {
        use std::os::unix::fs::PermissionsExt;

        let folder = tempfile::tempdir().unwrap();
        let program = folder.path().join(PG_DUMP);
        std::fs::write(&program, format!("#!/bin/sh\n{script}\n")).unwrap();
        std::fs::set_permissions(&program, std::fs::Permissions::from_mode(0o755)).unwrap();
        let tools = Tools::new(ToolsConfig {
            folder: Some(folder.path().to_owned()),
            environment: vec![("PATH".to_owned(), "/usr/bin:/bin".to_owned())],
        });
        let url = "postgres://u@h/x".to_owned().into();
        (Dump::start(&tools, &url, "snapshot").unwrap(), folder)
    }

    #[tokio::test]
    async fn a_program_that_falls_silent_is_given_up() {
        const PATIENCE: Duration = Duration::from_millis(200);
        // At once, after a while, because its child holds the pipe, and after its last byte.
        for script in [
            "exec sleep 600",
            "echo a row; exec sleep 600",
            "sleep 600 & echo a row",
            "echo a row; exec >&-; exec sleep 600",
        ] {
            let (mut dump, _folder) = dump_by(script);
            let (pieces, mut arrived) = mpsc::channel(10);
            let (begun, _) = oneshot::channel();
            let dumped = async {
                dump.feed(pieces, begun, PATIENCE).await?;
                dump.ended(PATIENCE).await
            };
            let error = dumped.await.unwrap_err();
            assert!(matches!(error, ToolError::Silent(..)), "{script}: {error}");
            let said = arrived.recv().await.unwrap_or_default();
            assert_eq!(said.is_empty(), !script.contains("a row"), "{script}");
        }
    }

    #[tokio::test]
    async fn nobody_who_takes_it_ends_the_program() {
        let (mut dump, _folder) = dump_by("exec yes");
        let (pieces, arrived) = mpsc::channel(1);
        drop(arrived);
        let (begun, _) = oneshot::channel();
        dump.feed(pieces, begun, SILENCE).await.unwrap();
        let error = dump.ended(SILENCE).await.unwrap_err();
        assert!(matches!(error, ToolError::Failed { .. }), "{error}");
    }
}
