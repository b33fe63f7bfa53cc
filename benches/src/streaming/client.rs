//! A thousand readers of streams that cost little: each scans the bytes for tokens and notes how long
//! they were on their way.

use std::{
    net::SocketAddr,
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
const BUFFER: usize = 8 * 1024;

/// What readers note: tokens that were written between the two, in microseconds of the clock.
#[derive(Debug)]
pub(crate) struct Window {
    pub(crate) clock: Clock,
    pub(crate) from: AtomicU64,
    pub(crate) to: AtomicU64,
    /// Readers whose answer has begun.
    pub(crate) begun: AtomicUsize,
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

    pub(crate) fn open(&self) {
        self.from.store(self.clock.now(), Ordering::Relaxed);
    }

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

/// Sends `request` and reads the answer to its end, which has to have `end` in it.
pub(crate) async fn read(
    address: SocketAddr,
    request: Vec<u8>,
    end: &str,
    window: Arc<Window>,
) -> anyhow::Result<Noted> {
    let mut tcp = TcpStream::connect(address).await?;
    tcp.set_nodelay(true)?;
    tcp.write_all(&request).await?;
    let mut scanner = Scanner::default();
    let mut buffer = vec![0; BUFFER];
    let mut tail = Vec::new();
    loop {
        let count = tcp.read(&mut buffer).await?;
        let bytes = &buffer[..count];
        if count == 0 {
            break;
        }
        tail.extend_from_slice(bytes);
        tail.drain(..tail.len().saturating_sub(BUFFER));
        scanner.scan(bytes, &window)?;
    }
    let tail = String::from_utf8_lossy(&tail);
    ensure!(tail.contains(end), "a stream ended too soon: …{tail}");
    Ok(scanner.noted)
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
