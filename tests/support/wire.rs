//! A wire between a process and Postgres that loses notifications, is long, or goes dead without a word.
//!
//! It knows just enough of the protocol: after the answer to a request for TLS, everything that
//! Postgres sends is a type, a length and a body, and a notification's type is `A`.

use std::{
    io,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering::SeqCst},
    },
    time::Duration,
};

use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, copy},
    net::{TcpListener, TcpStream},
    task::{JoinHandle, JoinSet},
};
use tokio_util::sync::CancellationToken;

/// What a client that would like TLS sends first.
const TLS_REQUEST: [u8; 8] = [0, 0, 0, 8, 0x04, 0xd2, 0x16, 0x2f];
/// The type of a notification.
const NOTIFICATION: u8 = b'A';
/// The type of the message that ends the answer to a question.
const READY: u8 = b'Z';

/// A wire. Dropped, it is cut.
#[derive(Debug)]
pub(crate) struct Wire {
    port: u16,
    state: Arc<State>,
    accepting: JoinHandle<()>,
}

#[derive(Debug, Default)]
struct State {
    losing: AtomicBool,
    lost: AtomicUsize,
    connections: AtomicUsize,
    /// Bytes that processes sent.
    sent: AtomicU64,
    /// By how many milliseconds each answer is late.
    late: AtomicU64,
    /// Cancelled when what is connected now goes dead.
    dead: parking_lot::Mutex<CancellationToken>,
}

impl Drop for Wire {
    fn drop(&mut self) {
        self.accepting.abort();
    }
}

impl Wire {
    /// A wire to the server of this database.
    pub(crate) async fn to(url: &str) -> Self {
        let (address, _) = url.rsplit_once('/').unwrap();
        let (_, port) = address.rsplit_once(':').unwrap();
        let port: u16 = port.parse().unwrap();
        let listener = TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
        let state = Arc::new(State::default());
        let shared = Arc::clone(&state);
        Self {
            port: listener.local_addr().unwrap().port(),
            state,
            accepting: tokio::spawn(async move {
                // They end with the task.
                let mut connections = JoinSet::new();
                loop {
                    tokio::select! {
                        Ok((client, _)) = listener.accept() => {
                            shared.connections.fetch_add(1, SeqCst);
                            connections.spawn(Arc::clone(&shared).carry(client, port));
                        }
                        Some(_) = connections.join_next() => {}
                    }
                }
            }),
        }
    }

    /// The same database, along this wire.
    pub(crate) fn url(&self, url: &str) -> String {
        let (rest, path) = url.rsplit_once('/').unwrap();
        let (rest, _) = rest.rsplit_once(':').unwrap();
        format!("{rest}:{}/{path}", self.port)
    }

    /// Whether notifications are lost from now on.
    pub(crate) fn lose_notifications(&self, lose: bool) {
        self.state.losing.store(lose, SeqCst);
    }

    /// How many notifications were lost.
    pub(crate) fn lost(&self) -> usize {
        self.state.lost.load(SeqCst)
    }

    /// How many connections were made.
    pub(crate) fn connections(&self) -> usize {
        self.state.connections.load(SeqCst)
    }

    /// How many bytes processes have sent.
    pub(crate) fn sent(&self) -> u64 {
        self.state.sent.load(SeqCst)
    }

    /// Every answer of Postgres is late by this from now on.
    pub(crate) fn be_long(&self, late: Duration) {
        let late = u64::try_from(late.as_millis()).unwrap();
        self.state.late.store(late, SeqCst);
    }

    /// What is connected now carries nothing any more, in no direction, and does not say so.
    pub(crate) fn go_dead(&self) {
        std::mem::take(&mut *self.state.dead.lock()).cancel();
    }
}

impl State {
    async fn carry(self: Arc<Self>, client: TcpStream, port: u16) {
        let dead = self.dead.lock().clone();
        // Whichever side ends first ends the other one.
        let _ = self.forward(client, port, &dead).await;
    }

    async fn forward(
        &self,
        mut client: TcpStream,
        port: u16,
        dead: &CancellationToken,
    ) -> io::Result<()> {
        let mut server = TcpStream::connect(("127.0.0.1", port)).await?;
        client.set_nodelay(true)?;
        server.set_nodelay(true)?;
        let mut first = [0; 8];
        client.read_exact(&mut first).await?;
        server.write_all(&first).await?;
        if first == TLS_REQUEST {
            let refusal = server.read_u8().await?;
            client.write_u8(refusal).await?;
        }
        let (client_reads, mut client_writes) = client.into_split();
        let (server_reads, mut server_writes) = server.into_split();
        let mut counted = Counted {
            inner: client_reads,
            count: &self.sent,
        };
        let both = async {
            tokio::select! {
                copied = copy(&mut counted, &mut server_writes) => copied.map(drop),
                copied = self.messages(server_reads, &mut client_writes) => copied,
            }
        };
        match dead.run_until_cancelled(both).await {
            Some(ended) => ended,
            // Both ends stay open, and nothing passes.
            None => std::future::pending().await,
        }
    }

    /// Passes on what Postgres says.
    async fn messages(
        &self,
        server: impl AsyncRead + Unpin,
        client: &mut (impl AsyncWrite + Unpin),
    ) -> io::Result<()> {
        let mut server = tokio::io::BufReader::new(server);
        loop {
            let kind = server.read_u8().await?;
            let length = server.read_u32().await?;
            let mut message = vec![kind];
            message.extend(length.to_be_bytes());
            message.resize(1 + length as usize, 0);
            server.read_exact(&mut message[5..]).await?;
            let late = self.late.load(SeqCst);
            if kind == READY && late > 0 {
                tokio::time::sleep(Duration::from_millis(late)).await;
            }
            if kind == NOTIFICATION && self.losing.load(SeqCst) {
                self.lost.fetch_add(1, SeqCst);
            } else {
                client.write_all(&message).await?;
            }
        }
    }
}

/// Counts what is read.
struct Counted<'a, R> {
    inner: R,
    count: &'a AtomicU64,
}

impl<R: AsyncRead + Unpin> AsyncRead for Counted<'_, R> {
    fn poll_read(
        mut self: std::pin::Pin<&mut Self>,
        context: &mut std::task::Context<'_>,
        buffer: &mut tokio::io::ReadBuf<'_>,
    ) -> std::task::Poll<io::Result<()>> {
        let before = buffer.filled().len();
        let polled = std::pin::Pin::new(&mut self.inner).poll_read(context, buffer);
        let read = u64::try_from(buffer.filled().len() - before).unwrap_or(0);
        self.count.fetch_add(read, SeqCst);
        polled
    }
}
