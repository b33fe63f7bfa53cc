//! A thousand readers of streams that cost little: each scans the bytes for tokens and notes how long
//! they were on their way.

use std::{
    io,
    sync::{
        Arc,
        atomic::{AtomicU64, AtomicUsize, Ordering},
    },
};

use anyhow::{Context, ensure};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};

use super::model::Clock;

/// More than a connection has to give at a time.
const BUFFER: usize = 4 * 1024;
/// Enough to see how a stream ended.
const TAIL: usize = 256;

/// What readers note: tokens that were written between the two, in microseconds of the clock.
#[derive(Debug)]
pub(crate) struct Window {
    pub(crate) clock: Clock,
    from: AtomicU64,
    to: AtomicU64,
    begun: AtomicUsize,
}

impl Window {
    /// Nothing is noted until [`Window::open`].
    pub(crate) fn new(clock: Clock) -> Arc<Self> {
        Arc::new(Self {
            clock,
            from: AtomicU64::new(u64::MAX),
            to: AtomicU64::new(u64::MAX),
            begun: AtomicUsize::new(0),
        })
    }

    /// Readers whose answer has begun.
    pub(crate) fn begun(&self) -> usize {
        self.begun.load(Ordering::Relaxed)
    }

    /// Notes the tokens that are written from now on.
    pub(crate) fn open(&self) {
        self.from.store(self.clock.now(), Ordering::Relaxed);
    }

    /// Notes no token that is written from now on.
    pub(crate) fn close(&self) {
        self.to.store(self.clock.now(), Ordering::Relaxed);
    }
}

/// What one reader has noted.
#[derive(Debug, Default)]
pub(crate) struct Noted {
    /// From the write to the read, in microseconds, of the tokens of the window.
    pub(crate) delays: Vec<u32>,
    /// Frames of any kind with tokens of the window, or lines of them at least.
    pub(crate) frames: u64,
    /// Tokens in all.
    pub(crate) tokens: u64,
}

impl Noted {
    /// The delays, in milliseconds.
    pub(crate) fn milliseconds(&self) -> Vec<f64> {
        let delays = self.delays.iter();
        delays.map(|delay| f64::from(*delay) / 1_000.0).collect()
    }
}

/// A stream that is being read.
#[derive(Debug)]
pub(crate) struct Reader {
    tcp: TcpStream,
    scanner: Scanner,
    buffer: Vec<u8>,
    /// The last bytes that came.
    tail: Vec<u8>,
}

impl Reader {
    /// Sends `request` over a connection.
    pub(crate) async fn send(mut tcp: TcpStream, request: &[u8]) -> io::Result<Self> {
        tcp.set_nodelay(true)?;
        tcp.write_all(request).await?;
        Ok(Self {
            tcp,
            scanner: Scanner::default(),
            buffer: vec![0; BUFFER],
            tail: Vec::new(),
        })
    }

    /// Reads what is there; false: the stream is over.
    pub(crate) async fn read(&mut self, window: &Window) -> anyhow::Result<bool> {
        let count = self.tcp.read(&mut self.buffer).await?;
        let bytes = &self.buffer[..count];
        self.scanner.scan(bytes, window)?;
        let spare = (self.tail.len() + count).saturating_sub(TAIL);
        self.tail.drain(..spare.min(self.tail.len()));
        self.tail
            .extend_from_slice(&bytes[count.saturating_sub(TAIL)..]);
        Ok(count > 0)
    }

    /// When the newest token that came was written; 0: none came.
    pub(crate) fn newest(&self) -> u64 {
        self.scanner.newest
    }

    /// What it has noted.
    pub(crate) fn noted(self) -> Noted {
        self.scanner.noted
    }

    /// Reads to the end, which has to have `end` in it.
    pub(crate) async fn read_to_end(mut self, end: &str, window: &Window) -> anyhow::Result<Noted> {
        while self.read(window).await? {}
        let tail = String::from_utf8_lossy(&self.tail);
        ensure!(tail.contains(end), "a stream ended too soon: …{tail}");
        Ok(self.scanner.noted)
    }
}

/// Finds `@<microseconds>;` and counts `data:` lines, wherever the bytes are cut.
#[derive(Debug, Default)]
struct Scanner {
    noted: Noted,
    /// The digits so far, behind an `@`.
    number: Option<u64>,
    newest: u64,
    last: u8,
}

impl Scanner {
    fn scan(&mut self, bytes: &[u8], window: &Window) -> anyhow::Result<()> {
        let now = window.clock.now();
        let (from, to) = (
            window.from.load(Ordering::Relaxed),
            window.to.load(Ordering::Relaxed),
        );
        for &byte in bytes {
            match (byte, self.number) {
                (b'@', _) => self.number = Some(0),
                (b'0'..=b'9', Some(number)) => {
                    self.number = Some(number * 10 + u64::from(byte - b'0'));
                }
                (b';', Some(written)) => {
                    self.number = None;
                    ensure!(written > self.newest, "a token came twice or out of order");
                    if self.newest == 0 {
                        window.begun.fetch_add(1, Ordering::Relaxed);
                    }
                    self.newest = written;
                    self.noted.tokens += 1;
                    if (from..to).contains(&written) {
                        let delay = now.saturating_sub(written);
                        self.noted
                            .delays
                            .push(u32::try_from(delay).context("a token took an hour")?);
                    }
                }
                (b'd', _) if self.last == b'\n' && (from..to).contains(&now) => {
                    self.noted.frames += 1;
                }
                _ => {}
            }
            self.last = byte;
        }
        Ok(())
    }
}
