//! Serves a router on a port, with limits that a hostile or lost client runs into.
//!
//! A connection has to bring its first request soon, every later one before the idle time-out, and
//! has to take what it is sent ([`WriteDeadline`]). At the shutdown no connection is accepted any more,
//! requests in progress are finished, and what is left at the deadline is closed.

use std::{
    io,
    net::SocketAddr,
    pin::pin,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use api::write_deadline::WriteDeadline;
use axum::{
    Router,
    extract::{ConnectInfo, Request},
};
use hyper::{body::Incoming, service::service_fn};
use hyper_util::{
    rt::{TokioExecutor, TokioIo, TokioTimer},
    server::conn::auto,
};
use tokio::{
    net::{TcpListener, TcpStream},
    sync::{OwnedSemaphorePermit, Semaphore},
    time::{sleep, timeout},
};
use tokio_util::{sync::CancellationToken, task::TaskTracker};
use tower::Service;

/// From the connect to the end of the first request's headers.
const FIRST_REQUEST_LIMIT: Duration = Duration::from_secs(10);
/// From the end of an answer to the end of the next request's headers. Longer than the 60 s for
/// which proxies commonly keep idle connections: the one who may still send should be the one who closes.
const NEXT_REQUEST_LIMIT: Duration = Duration::from_secs(75);
/// How often an HTTP/2 client is asked whether it is still there, and how long it may take to say so.
const PING_INTERVAL: Duration = Duration::from_secs(30);
const PING_LIMIT: Duration = Duration::from_secs(20);
/// Bytes of a request's head and of what is buffered of its body: each of thousands of connections may have
/// so many, whether it is worth it or not. Browsers and proxies send a few hundred.
const READ_BUFFER: usize = 16 * 1024;
/// The same of an HTTP/2 connection and each of its streams, which hyper lets have a MiB.
const WINDOW: u32 = 64 * 1024;
/// Requests that one HTTP/2 connection may have under way.
const MAX_STREAMS: u32 = 100;
/// The wait after an accept that failed: the process is out of files, and some will be closed.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// A port that can't be listened on.
#[derive(Debug, thiserror::Error)]
pub(crate) enum BindError {
    /// Somebody else does.
    #[error("port {} is in use: stop what uses it, or choose another one by {variable}", address.port())]
    InUse {
        /// Where to listen.
        address: SocketAddr,
        /// Says so.
        variable: &'static str,
    },
    /// The system refuses.
    #[error("port {} can't be opened on {} ({}): change {variable} or BIND_ADDRESS", address.port(), address.ip(), source.kind())]
    Refused {
        /// Where to listen.
        address: SocketAddr,
        /// Says so.
        variable: &'static str,
        /// Why.
        source: io::Error,
    },
}

/// Listens on a port; `variable` is the one that chose it.
pub(crate) async fn bind(
    address: SocketAddr,
    variable: &'static str,
) -> Result<TcpListener, BindError> {
    TcpListener::bind(address)
        .await
        .map_err(|source| match source.kind() {
            io::ErrorKind::AddrInUse => BindError::InUse { address, variable },
            _ => BindError::Refused {
                address,
                variable,
                source,
            },
        })
}

/// What a server is limited to.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Limits {
    /// Open connections; more wait to be accepted.
    pub(crate) connections: usize,
    /// How long requests in progress may go on after the shutdown.
    pub(crate) drain: Duration,
}

/// Serves `router` until `shutdown`, and then until the last request has ended or the drain is over.
pub(crate) async fn serve(
    listener: TcpListener,
    router: Router,
    limits: Limits,
    shutdown: CancellationToken,
) {
    let connections = TaskTracker::new();
    let free = Arc::new(Semaphore::new(limits.connections));
    let closing = CancellationToken::new();
    while let Some((tcp, peer, permit)) =
        shutdown.run_until_cancelled(accept(&listener, &free)).await
    {
        let connection = Connection {
            router: router.clone(),
            shutdown: shutdown.clone(),
        };
        let closing = closing.clone();
        connections.spawn(async move {
            // `run_until_cancelled` would hold the future twice, for each of thousands of clients.
            tokio::select! {
                () = closing.cancelled() => {}
                () = connection.serve(tcp, peer) => {}
            }
            drop(permit);
        });
    }
    drop(listener);
    connections.close();
    if timeout(limits.drain, connections.wait()).await.is_err() {
        tracing::warn!(
            connections = connections.len(),
            "closing connections that are still in use"
        );
        closing.cancel();
        connections.wait().await;
    }
}

/// The next connection, once there is room for it.
async fn accept(
    listener: &TcpListener,
    free: &Arc<Semaphore>,
) -> (TcpStream, SocketAddr, Option<OwnedSemaphorePermit>) {
    // The semaphore is never closed.
    let permit = free.clone().acquire_owned().await.ok();
    loop {
        match listener.accept().await {
            Ok((tcp, peer)) => return (tcp, peer, permit),
            Err(error) if is_of_the_client(&error) => {}
            Err(error) => {
                tracing::error!(error = %error, "accepting a connection failed");
                sleep(ACCEPT_PAUSE).await;
            }
        }
    }
}

/// Whether the client went away before it was accepted.
fn is_of_the_client(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::ConnectionAborted
            | io::ErrorKind::ConnectionRefused
            | io::ErrorKind::ConnectionReset
    )
}

struct Connection {
    router: Router,
    shutdown: CancellationToken,
}

impl Connection {
    async fn serve(self, tcp: TcpStream, peer: SocketAddr) {
        // A delta is smaller than a packet and must not wait for the next one. A socket that refuses
        // is about to fail anyway.
        let _ = tcp.set_nodelay(true);
        let mut builder = auto::Builder::new(TokioExecutor::new());
        builder
            .http1()
            .timer(TokioTimer::new())
            .header_read_timeout(NEXT_REQUEST_LIMIT)
            .max_buf_size(READ_BUFFER);
        builder
            .http2()
            .timer(TokioTimer::new())
            .keep_alive_interval(PING_INTERVAL)
            .keep_alive_timeout(PING_LIMIT)
            .initial_connection_window_size(WINDOW)
            .initial_stream_window_size(WINDOW)
            .max_concurrent_streams(MAX_STREAMS);
        let mut first_request = pin!(sleep(FIRST_REQUEST_LIMIT));
        let builder = tokio::select! {
            speaks = speaks_http1(&tcp) => match speaks {
                Ok(true) => builder.http1_only(),
                Ok(false) => builder,
                Err(_) => return,
            },
            () = self.shutdown.cancelled() => return,
            () = first_request.as_mut() => return,
        };
        let asked = Arc::new(AtomicBool::new(false));
        let seen = asked.clone();
        let router = self.router;
        let service = service_fn(move |mut request: Request<Incoming>| {
            seen.store(true, Ordering::Relaxed);
            request.extensions_mut().insert(ConnectInfo(peer));
            // A router is always ready.
            router.clone().call(request)
        });
        let mut connection =
            pin!(builder.serve_connection(TokioIo::new(WriteDeadline::new(tcp)), service));
        let mut waiting = true;
        let ended = loop {
            tokio::select! {
                ended = connection.as_mut() => break ended,
                () = self.shutdown.cancelled() => {
                    connection.as_mut().graceful_shutdown();
                    break connection.await;
                }
                () = first_request.as_mut(), if waiting => {
                    if !asked.load(Ordering::Relaxed) {
                        return;
                    }
                    waiting = false;
                }
            }
        };
        if let Err(error) = ended {
            // Clients go as they please: nobody has to do anything about it.
            tracing::debug!(error, "a connection ended badly");
        }
    }
}

/// Whether a client's first bytes, which stay where they are, can't be the beginning of HTTP/2. hyper finds
/// that out by itself, but reads these bytes apart from the rest, and then holds a read buffer of twice the
/// size for as long as the client stays.
async fn speaks_http1(tcp: &TcpStream) -> io::Result<bool> {
    const HTTP2: &[u8] = b"PRI";
    let mut first = [0; HTTP2.len()];
    let count = tcp.peek(&mut first).await?;
    Ok(!HTTP2.starts_with(&first[..count]))
}

#[cfg(test)]
mod tests {
    use axum::routing::get;
    use tokio::{
        io::{AsyncReadExt, AsyncWriteExt},
        time::Instant,
    };

    use super::*;

    const REQUEST: &[u8] = b"GET / HTTP/1.1\r\nhost: x\r\n\r\n";

    struct Running {
        address: SocketAddr,
        shutdown: CancellationToken,
        server: tokio::task::JoinHandle<()>,
    }

    async fn start(router: Router, connections: usize) -> Running {
        let listener = bind(([127, 0, 0, 1], 0).into(), "PORT").await.unwrap();
        let address = listener.local_addr().unwrap();
        let shutdown = CancellationToken::new();
        let limits = Limits {
            connections,
            drain: Duration::from_secs(20),
        };
        let server = tokio::spawn(serve(listener, router, limits, shutdown.clone()));
        Running {
            address,
            shutdown,
            server,
        }
    }

    fn hello() -> Router {
        Router::new().route("/", get(|| async { "hello" }))
    }

    async fn closed(mut connection: TcpStream) -> Vec<u8> {
        let mut read = Vec::new();
        // A reset is an end, too.
        let _ = connection.read_to_end(&mut read).await;
        read
    }

    #[tokio::test(start_paused = true)]
    async fn a_connection_without_a_whole_request_is_closed() {
        let running = start(hello(), 10).await;
        // The second is half of what HTTP/2 begins with, the third half of a request.
        for sent in [&b""[..], b"PRI * HTTP", b"GET / HTTP/1.1\r\nhost:"] {
            let mut connection = TcpStream::connect(running.address).await.unwrap();
            connection.write_all(sent).await.unwrap();
            let begun = Instant::now();
            assert_eq!(closed(connection).await, b"");
            let lasted = begun.elapsed();
            assert!(
                lasted <= FIRST_REQUEST_LIMIT + Duration::from_secs(1),
                "{lasted:?}"
            );
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_connection_is_kept_for_the_next_request_and_not_for_ever() {
        let running = start(hello(), 10).await;
        let mut connection = TcpStream::connect(running.address).await.unwrap();
        for _ in 0..2 {
            connection.write_all(REQUEST).await.unwrap();
            let mut answer = [0; 512];
            let count = connection.read(&mut answer).await.unwrap();
            assert!(answer[..count].starts_with(b"HTTP/1.1 200"));
            sleep(NEXT_REQUEST_LIMIT.mul_f32(0.9)).await;
        }
        assert_eq!(closed(connection).await, b"");
    }

    #[tokio::test]
    async fn connections_beyond_the_limit_wait_for_one_that_ends() {
        let running = start(hello(), 1).await;
        let mut first = TcpStream::connect(running.address).await.unwrap();
        first.write_all(REQUEST).await.unwrap();
        first.read_u8().await.unwrap();
        let mut second = TcpStream::connect(running.address).await.unwrap();
        second.write_all(REQUEST).await.unwrap();
        let too_soon = timeout(Duration::from_millis(100), second.read_u8()).await;
        assert!(too_soon.is_err(), "it was served");
        drop(first);
        second.read_u8().await.unwrap();
    }

    #[tokio::test(start_paused = true)]
    async fn a_request_that_outlives_the_drain_is_cut() {
        let stuck = Router::new().route("/", get(std::future::pending::<()>));
        let running = start(stuck, 10).await;
        let mut connection = TcpStream::connect(running.address).await.unwrap();
        connection.write_all(REQUEST).await.unwrap();
        // An answer never comes: the time-out only lets the server read the request.
        let mut byte = [0];
        let nothing = timeout(Duration::from_secs(1), connection.read(&mut byte)).await;
        assert!(nothing.is_err());
        let begun = Instant::now();
        running.shutdown.cancel();
        running.server.await.unwrap();
        assert_eq!(begun.elapsed(), Duration::from_secs(20));
        assert_eq!(closed(connection).await, b"");
    }

    #[tokio::test]
    async fn a_port_that_can_not_be_had_is_named_with_its_variable() {
        let taken = bind(([127, 0, 0, 1], 0).into(), "PORT").await.unwrap();
        let address = taken.local_addr().unwrap();
        let said = bind(address, "METRICS_PORT").await.unwrap_err().to_string();
        assert!(said.contains(&address.port().to_string()) && said.contains("METRICS_PORT"));
        // An address of a documentation network is nobody's.
        let foreign = bind(([192, 0, 2, 1], 0).into(), "PORT").await;
        assert!(foreign.unwrap_err().to_string().contains("BIND_ADDRESS"));
    }
}
