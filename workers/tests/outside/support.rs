//! A provider that says what a test tells it to, byte by byte.

use std::{net::SocketAddr, sync::Arc, time::Duration};

use axum::{
    Router,
    body::Body,
    extract::{Request, State},
    http::{HeaderMap, StatusCode},
    response::Response,
};
use futures::{FutureExt, Stream, StreamExt, future::BoxFuture};
use parking_lot::Mutex;
use tokio::{
    net::TcpListener,
    sync::mpsc::{self, UnboundedReceiver, UnboundedSender},
    task::JoinHandle,
};

/// A request as it arrived.
#[derive(Debug, Clone)]
pub(crate) struct Received {
    pub(crate) path: String,
    pub(crate) headers: HeaderMap,
    pub(crate) body: serde_json::Value,
}

/// What a body sends next.
pub(crate) enum Part {
    /// These bytes.
    Bytes(Vec<u8>),
    /// Nothing for a while.
    Wait(Duration),
    /// Nothing ever.
    Hang,
    /// The end of the connection, without the end of the body.
    Cut,
}

type Answer = Box<dyn Fn(Received) -> BoxFuture<'static, Response> + Send + Sync>;

struct Inner {
    received: Mutex<Vec<Received>>,
    answer: Answer,
}

/// A server on a free port. It ends with this value.
pub(crate) struct Provider {
    address: SocketAddr,
    inner: Arc<Inner>,
    server: JoinHandle<()>,
}

impl Provider {
    pub(crate) async fn start(
        answer: impl Fn(&Received) -> Response + Send + Sync + 'static,
    ) -> Self {
        Self::start_async(move |received| std::future::ready(answer(&received))).await
    }

    pub(crate) async fn start_async<F>(
        answer: impl Fn(Received) -> F + Send + Sync + 'static,
    ) -> Self
    where
        F: Future<Output = Response> + Send + 'static,
    {
        let inner = Arc::new(Inner {
            received: Mutex::default(),
            answer: Box::new(move |received| answer(received).boxed()),
        });
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let app = Router::new().fallback(receive).with_state(inner.clone());
        let server = tokio::spawn(async move { axum::serve(listener, app).await.unwrap() });
        Self {
            address,
            inner,
            server,
        }
    }

    pub(crate) fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    pub(crate) fn received(&self) -> Vec<Received> {
        self.inner.received.lock().clone()
    }
}

impl Drop for Provider {
    fn drop(&mut self) {
        self.server.abort();
    }
}

async fn receive(State(inner): State<Arc<Inner>>, request: Request) -> Response {
    let (head, body) = request.into_parts();
    let body = axum::body::to_bytes(body, usize::MAX).await.unwrap();
    let received = Received {
        path: head.uri.path().to_owned(),
        headers: head.headers,
        body: serde_json::from_slice(&body).unwrap_or_default(),
    };
    inner.received.lock().push(received.clone());
    (inner.answer)(received).await
}

/// A plain answer.
pub(crate) fn plain(status: u16, headers: &[(&str, &str)], body: impl Into<Body>) -> Response {
    let mut response = Response::new(body.into());
    *response.status_mut() = StatusCode::from_u16(status).unwrap();
    for (name, value) in headers {
        let name: axum::http::HeaderName = name.parse().unwrap();
        response.headers_mut().insert(name, value.parse().unwrap());
    }
    response
}

/// A streamed answer.
pub(crate) fn streamed(parts: Vec<Part>) -> Response {
    let parts = futures::stream::iter(parts)
        .then(|part| async {
            match part {
                Part::Bytes(bytes) => Some(Ok(bytes)),
                Part::Wait(time) => {
                    tokio::time::sleep(time).await;
                    None
                }
                Part::Hang => std::future::pending().await,
                Part::Cut => Some(Err(std::io::Error::other("cut"))),
            }
        })
        .filter_map(std::future::ready);
    event_stream(Body::from_stream(parts))
}

/// A streamed answer that tells when the client is gone.
pub(crate) fn watched(first: Vec<u8>) -> (Response, UnboundedReceiver<()>) {
    let (gone, told) = mpsc::unbounded_channel();
    let body =
        futures::stream::once(async move { Ok::<_, std::io::Error>(first) }).chain(Watched(gone));
    (event_stream(Body::from_stream(body)), told)
}

/// Never gives anything, and tells when it is dropped.
struct Watched(UnboundedSender<()>);

impl Stream for Watched {
    type Item = Result<Vec<u8>, std::io::Error>;

    fn poll_next(
        self: std::pin::Pin<&mut Self>,
        _: &mut std::task::Context<'_>,
    ) -> std::task::Poll<Option<Self::Item>> {
        std::task::Poll::Pending
    }
}

impl Drop for Watched {
    fn drop(&mut self) {
        let _ = self.0.send(());
    }
}

fn event_stream(body: Body) -> Response {
    plain(
        200,
        &[
            ("content-type", "text/event-stream; charset=utf-8"),
            ("request-id", "req_test"),
        ],
        body,
    )
}

/// A client of its own: a pool must not outlive the runtime of its test.
pub(crate) fn http() -> reqwest::Client {
    // The second test of the process finds it installed.
    let _ = rustls::crypto::ring::default_provider().install_default();
    workers::clients::http_client().unwrap()
}
