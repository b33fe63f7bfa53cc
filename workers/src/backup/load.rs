//! The way of an object into a database, in one pass and in one transaction.
//!
//! ```text
//! bucket ──► SHA-256 ► [age] ► gunzip ──► BEGIN … psql
//!               └── right? ──► COMMIT          anything else: its input ends, and nothing happened
//! ```
//! psql's own `--single-transaction` commits when its input ends, as it does when this process is killed.
//! So the transaction is ours: COMMIT is written when the hash was compared, and not before.

use std::{
    io::{self, PipeWriter, Read, Write},
    process::Stdio,
};

use age::{DecryptError, Decryptor};
use bytes::Bytes;
use flate2::read::MultiGzDecoder;
use secrecy::SecretString;
use sha2::{Digest, Sha256};
use tokio::{sync::mpsc, task::spawn_blocking};
use tokio_util::task::AbortOnDropHandle;

use super::{
    error::RestoreError,
    hold::hold,
    manifest::{Encryption, Manifest},
    pieces::Pieces,
    restore::{Purpose, Restorer, Say},
    restricted::{self, WithoutPair},
    tools::{ToolVersion, ended, listen, not_run},
};
use crate::{
    clients::bucket::{Bucket, BucketError},
    config::AgeIdentity,
    hex::hex,
};

const PSQL: &str = "psql";
/// How often in a row a download that broke off is taken up again.
const RESUMES: u32 = 5;
/// Pieces of a download that wait to be unpacked.
const AHEAD: usize = 16;
/// Bytes that are written to psql at once.
const PIECE: usize = 256 * 1024;
/// A setting of every dump by `pg_dump` 17 or newer, which servers before 17 do not know.
const NEWER_SETTING: &[u8] = b"SET transaction_timeout = 0;\n";
const KNOWS_THE_SETTING: u32 = 17;

const BEGIN: &[u8] = b"BEGIN;\n";
const COMMIT: &[u8] = b"COMMIT;\n";

impl Restorer {
    /// Loads a backup into an empty database, for use with everything held that reaches outside. Whatever
    /// fails, the database is as it was.
    pub(super) async fn load(
        &self,
        manifest: &Manifest,
        into: &SecretString,
        target: ToolVersion,
        purpose: Purpose,
        say: &Say,
    ) -> Result<(), RestoreError> {
        let identity = match manifest.encryption {
            Encryption::None => None,
            Encryption::Age => Some(self.identity().ok_or(RestoreError::NoIdentity)?.clone()),
        };
        let failed = |source| not_run(PSQL, source);
        let (input, to_psql) = io::pipe().map_err(failed)?;
        let mut command = self.tools().command(PSQL, into)?;
        command
            .args(["--no-psqlrc", "--quiet", "--no-password"])
            .args(["--set", "ON_ERROR_STOP=1"])
            // An error's text may quote a row; its code does not.
            .args(["--set", "VERBOSITY=sqlstate"])
            .args(["--file", "-"])
            .stdin(Stdio::from(input));
        let spawned = command.spawn();
        // It holds the reading end as well: psql's death would not be noticed.
        drop(command);
        let mut psql = spawned.map_err(failed)?;
        let complaint = AbortOnDropHandle::new(tokio::spawn(listen(psql.stderr.take())));

        let (pieces, arrived) = mpsc::channel(AHEAD);
        let download = download(self.bucket(), manifest, pieces, say);
        let older = target.major < KNOWS_THE_SETTING;
        let unpacking = spawn_blocking(move || unpack(arrived, identity.as_ref(), to_psql, older));
        let (downloaded, unpacked) = tokio::join!(download, unpacking);
        let unpacked = unpacked.map_err(|_| RestoreError::Damaged("it could not be unpacked"))?;
        match unpacked {
            // Its own word for it comes below.
            Err(Interrupted::Psql) => {}
            Err(Interrupted::OtherIdentity) => return Err(RestoreError::OtherIdentity),
            Err(Interrupted::Unreadable(what)) => {
                downloaded?;
                return Err(RestoreError::Damaged(what));
            }
            Ok(unpacked) => {
                downloaded?;
                let mut to_psql = check(manifest, unpacked)?;
                // If psql has ended, it says why below.
                let mut end = Vec::new();
                if purpose == Purpose::Use {
                    say("holding what reaches outside, until an operator resumes it");
                    end.extend_from_slice(hold().as_bytes());
                }
                end.extend_from_slice(COMMIT);
                let _ = spawn_blocking(move || to_psql.write_all(&end)).await;
            }
        }
        let status = psql.wait().await.map_err(failed)?;
        let said = complaint.await.unwrap_or_default();
        Ok(ended(PSQL, status, &said, into)?)
    }
}

/// What went through; the pipe to psql is open still.
struct Unpacked {
    to_psql: PipeWriter,
    bytes: u64,
    sha256: String,
    dump_bytes: u64,
}

/// Why nothing more goes through.
enum Interrupted {
    /// psql has ended.
    Psql,
    /// The object is encrypted to somebody else.
    OtherIdentity,
    /// The object can't be read.
    Unreadable(&'static str),
}

fn check(manifest: &Manifest, unpacked: Unpacked) -> Result<PipeWriter, RestoreError> {
    if unpacked.bytes != manifest.bytes {
        return Err(RestoreError::Damaged("its length is another one"));
    }
    if unpacked.sha256 != manifest.sha256 {
        return Err(RestoreError::Damaged("its SHA-256 is another one"));
    }
    if unpacked.dump_bytes != manifest.dump_bytes {
        return Err(RestoreError::Damaged("what is in it has another length"));
    }
    Ok(unpacked.to_psql)
}

/// Gets the object, and takes up the download where it broke off.
async fn download(
    bucket: &Bucket,
    manifest: &Manifest,
    pieces: mpsc::Sender<Bytes>,
    say: &Say,
) -> Result<(), BucketError> {
    let mut offset = 0;
    let mut resumes = 0;
    let mut told = 0;
    loop {
        let mut body = bucket.read_from(&manifest.object, offset).await?;
        loop {
            match body.try_next().await {
                Ok(Some(piece)) => {
                    resumes = 0;
                    offset += piece.len() as u64;
                    if pieces.send(piece).await.is_err() {
                        // Whoever unpacks has ended, and says why.
                        return Ok(());
                    }
                    let tenth = offset * 10 / manifest.bytes.max(1);
                    if tenth > told {
                        told = tenth;
                        say(&format!("{} % of {} bytes", tenth * 10, manifest.bytes));
                    }
                }
                Ok(None) => return Ok(()),
                Err(_) if resumes < RESUMES => {
                    resumes += 1;
                    break;
                }
                Err(_) => return Err(BucketError::broken("reading the backup")),
            }
        }
    }
}

/// Unpacks what arrives, into psql. Blocks.
fn unpack(
    arrived: mpsc::Receiver<Bytes>,
    identity: Option<&AgeIdentity>,
    mut to_psql: PipeWriter,
    older: bool,
) -> Result<Unpacked, Interrupted> {
    const ENCRYPTED: Interrupted = Interrupted::Unreadable("it can't be decrypted");
    const PACKED: Interrupted = Interrupted::Unreadable("it can't be unpacked");
    let mut object = Arrived {
        pieces: Pieces::new(arrived),
        hash: Sha256::new(),
        bytes: 0,
    };
    let dump_bytes = {
        let packed: Box<dyn Read + '_> = match identity {
            None => Box::new(&mut object),
            Some(identity) => {
                let decryptor = Decryptor::new(&mut object).map_err(|_| ENCRYPTED)?;
                let identities = std::iter::once(identity.key() as &dyn age::Identity);
                let opened = decryptor.decrypt(identities).map_err(|error| match error {
                    DecryptError::NoMatchingKeys => Interrupted::OtherIdentity,
                    _ => ENCRYPTED,
                })?;
                Box::new(opened)
            }
        };
        let mut sql = MultiGzDecoder::new(packed);
        let mut piece = Vec::with_capacity(PIECE);
        let mut total = 0;
        let mut dump = WithoutPair::default();
        let restrict = restricted::begin();
        for line in [restrict.as_bytes(), BEGIN] {
            to_psql.write_all(line).map_err(|_| Interrupted::Psql)?;
        }
        loop {
            piece.clear();
            let read = sql.by_ref().take(PIECE as u64).read_to_end(&mut piece);
            read.map_err(|_| PACKED)?;
            if piece.is_empty() {
                break;
            }
            let is_first = total == 0;
            total += piece.len() as u64;
            if is_first && older {
                leave_out(&mut piece, NEWER_SETTING);
            }
            dump.pass(&mut piece);
            to_psql.write_all(&piece).map_err(|_| Interrupted::Psql)?;
        }
        let rest = dump.finish();
        to_psql.write_all(&rest).map_err(|_| Interrupted::Psql)?;
        total
    };
    io::copy(&mut object, &mut io::sink()).map_err(|_| PACKED)?;
    Ok(Unpacked {
        to_psql,
        bytes: object.bytes,
        sha256: hex(&object.hash.finalize()),
        dump_bytes,
    })
}

/// Leaves a line out where it stands first.
fn leave_out(text: &mut Vec<u8>, line: &[u8]) {
    if let Some(place) = text.windows(line.len()).position(|window| window == line) {
        text.drain(place..place + line.len());
    }
}

/// What has arrived of an object, hashed.
struct Arrived {
    pieces: Pieces,
    hash: Sha256,
    bytes: u64,
}

impl Read for Arrived {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = self.pieces.read(buffer)?;
        self.hash.update(&buffer[..count]);
        self.bytes += count as u64;
        Ok(count)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_setting_that_an_older_server_does_not_know_is_left_out_once() {
        let mut text =
            b"SET lock_timeout = 0;\nSET transaction_timeout = 0;\nSET x = 1;\n".to_vec();
        leave_out(&mut text, NEWER_SETTING);
        assert_eq!(text, b"SET lock_timeout = 0;\nSET x = 1;\n");
        leave_out(&mut text, NEWER_SETTING);
        assert_eq!(text, b"SET lock_timeout = 0;\nSET x = 1;\n");
    }
}
