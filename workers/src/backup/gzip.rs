//! Compression on all processors: the stream is cut into blocks, each becomes a gzip member of its own,
//! and the members follow each other in order, which any gunzip reads as one file.
//!
//! ```text
//! reader ──blocks──► compressors ──members──┐
//!    └────the order of the blocks──────────►writer
//! ```
//! All hand-overs are bounded: a slow writer slows the reader down.

use std::{
    io::{self, Read, Write},
    num::NonZero,
    sync::{
        Mutex, PoisonError,
        mpsc::{Receiver, SyncSender, sync_channel},
    },
    thread::{self, available_parallelism},
};

use flate2::{Compress, Compression, Crc, FlushCompress, Status};

/// Bytes of a block. A smaller one costs compression, a larger one memory.
pub(super) const BLOCK: usize = 512 * 1024;
/// Compressors at most: with four, `pg_dump`'s single thread is what takes longest.
const MOST_COMPRESSORS: usize = 4;
/// Twice as fast as gzip's usual 6, for some percent of size.
const LEVEL: u32 = 4;
/// What a block can become at most: noise is stored, with some bytes for every few kilobytes. All are
/// allocated alike, so that what one leaves fits the next and memory stays where it is.
const ROOM: usize = BLOCK + BLOCK / 256 + 64;
/// Of a gzip member (RFC 1952): deflated, without a name or a time, by an unknown system.
const HEADER: [u8; 10] = [0x1f, 0x8b, 8, 0, 0, 0, 0, 0, 0, 0xff];

/// A block on its way, and where its member is to go.
struct Block {
    bytes: Vec<u8>,
    member: SyncSender<io::Result<Vec<u8>>>,
}

/// Compresses what `source` gives into `sink`. `seen` is shown every block before, in order. Returns how
/// many bytes were read.
pub(super) fn compress(
    mut source: impl Read,
    sink: &mut (impl Write + Send),
    mut seen: impl FnMut(&[u8]),
) -> io::Result<u64> {
    let compressors = available_parallelism()
        .map_or(1, NonZero::get)
        .min(MOST_COMPRESSORS);
    let (give, blocks) = sync_channel::<Block>(1);
    let blocks = Mutex::new(blocks);
    let (promise, promised) = sync_channel::<Receiver<io::Result<Vec<u8>>>>(compressors);
    thread::scope(|threads| {
        for _ in 0..compressors {
            threads.spawn(|| {
                // Its tables are made once.
                let mut deflate = Compress::new(Compression::new(LEVEL), false);
                while let Some(block) = next(&blocks) {
                    // The writer may have given up.
                    let _ = block.member.send(member(&mut deflate, &block.bytes));
                }
            });
        }
        let writer = threads.spawn(move || -> io::Result<()> {
            for member in promised {
                let member = member.recv().map_err(|_| gone())?;
                sink.write_all(&member?)?;
            }
            Ok(())
        });
        let mut total = 0;
        let read = loop {
            let mut bytes = Vec::with_capacity(BLOCK);
            if let Err(error) = source.by_ref().take(BLOCK as u64).read_to_end(&mut bytes) {
                break Err(error);
            }
            // An empty stream has one empty member.
            if bytes.is_empty() && total > 0 {
                break Ok(());
            }
            seen(&bytes);
            total += bytes.len() as u64;
            let is_last = bytes.is_empty();
            let (member, compressed) = sync_channel(1);
            // The one or the other is gone when the writer failed, and says why.
            if promise.send(compressed).is_err() || give.send(Block { bytes, member }).is_err() {
                break Ok(());
            }
            if is_last {
                break Ok(());
            }
        };
        drop((promise, give));
        let written = writer.join().map_err(|_| gone())?;
        written.and(read).map(|()| total)
    })
}

fn next(blocks: &Mutex<Receiver<Block>>) -> Option<Block> {
    let blocks = blocks.lock().unwrap_or_else(PoisonError::into_inner);
    blocks.recv().ok()
}

fn member(deflate: &mut Compress, bytes: &[u8]) -> io::Result<Vec<u8>> {
    deflate.reset();
    let mut member = Vec::with_capacity(ROOM);
    member.extend_from_slice(&HEADER);
    let status = deflate.compress_vec(bytes, &mut member, FlushCompress::Finish);
    if status.map_err(io::Error::other)? != Status::StreamEnd {
        return Err(io::Error::other("a block did not fit its member"));
    }
    let mut check = Crc::new();
    check.update(bytes);
    member.extend_from_slice(&check.sum().to_le_bytes());
    member.extend_from_slice(&check.amount().to_le_bytes());
    Ok(member)
}

fn gone() -> io::Error {
    io::Error::other("a thread of the compression ended")
}

#[cfg(test)]
mod tests {
    use flate2::read::MultiGzDecoder;

    use super::*;

    fn noise(length: usize) -> Vec<u8> {
        let mut state = 7_u32;
        let mut next = || {
            state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            (state >> 24) as u8
        };
        (0..length).map(|_| next() % 32).collect()
    }

    #[test]
    fn what_is_unpacked_is_what_was_packed() {
        for length in [0, 1, BLOCK - 1, BLOCK, BLOCK + 1, 11 * BLOCK + 17] {
            let original = noise(length);
            let mut packed = Vec::new();
            let mut seen = Vec::new();
            let total = compress(&original[..], &mut packed, |block| {
                seen.extend_from_slice(block);
            });
            assert_eq!(total.unwrap(), length as u64);
            assert_eq!(seen, original);
            let mut unpacked = Vec::new();
            MultiGzDecoder::new(&packed[..])
                .read_to_end(&mut unpacked)
                .unwrap();
            assert!(unpacked == original, "{length}");
        }
    }

    #[test]
    fn a_block_of_noise_fits_its_member() {
        let mut noise = vec![0; BLOCK];
        let random = std::fs::File::open("/dev/urandom").unwrap();
        random.take(BLOCK as u64).read_exact(&mut noise).unwrap();
        let mut deflate = Compress::new(Compression::new(LEVEL), false);
        let packed = member(&mut deflate, &noise).unwrap();
        let mut unpacked = Vec::new();
        MultiGzDecoder::new(&packed[..])
            .read_to_end(&mut unpacked)
            .unwrap();
        assert!(unpacked == noise);
    }

    #[test]
    fn a_sink_that_fails_ends_it_with_its_error() {
        struct Full(usize);
        impl Write for Full {
            fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
                self.0 = self.0.checked_sub(1).ok_or(io::ErrorKind::StorageFull)?;
                Ok(bytes.len())
            }
            fn flush(&mut self) -> io::Result<()> {
                Ok(())
            }
        }
        let endless = io::repeat(b'x');
        let error = compress(endless, &mut Full(3), |_| ()).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::StorageFull);
    }

    #[test]
    fn a_source_that_fails_ends_it_with_its_error() {
        struct Broken(usize);
        impl Read for Broken {
            fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
                self.0 = self
                    .0
                    .checked_sub(1)
                    .ok_or(io::ErrorKind::ConnectionReset)?;
                Ok(buffer.len())
            }
        }
        let error = compress(Broken(5), &mut Vec::new(), |_| ()).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::ConnectionReset);
    }
}
