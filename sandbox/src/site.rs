//! A site that a test writes page by page: what a crawl sees, and what it asked for.

use std::{
    collections::{BTreeMap, VecDeque},
    io,
    sync::Arc,
    time::Duration,
};

use axum::{
    Router,
    body::{Body, Bytes},
    extract::{Request, State},
    http::{HeaderMap, HeaderName, HeaderValue, StatusCode, header},
    response::{IntoResponse, Response},
};
use parking_lot::Mutex;

use crate::serve::Served;

/// How many requests are remembered.
const KEPT_REQUESTS: usize = 5_000;

/// One page, or whatever else an address gives.
#[derive(Debug, Clone)]
pub struct Page {
    status: StatusCode,
    headers: HeaderMap,
    body: Bytes,
    after: Duration,
    endless: bool,
    cut: bool,
}

impl Page {
    /// Anything of a content type.
    pub fn of(content_type: &'static str, body: impl Into<Bytes>) -> Self {
        let mut headers = HeaderMap::new();
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(content_type));
        Self {
            status: StatusCode::OK,
            headers,
            body: body.into(),
            after: Duration::ZERO,
            endless: false,
            cut: false,
        }
    }

    /// An HTML page.
    pub fn html(body: impl Into<Bytes>) -> Self {
        Self::of("text/html; charset=utf-8", body)
    }

    /// Nothing but a status.
    pub fn status(status: u16) -> Self {
        let mut page = Self::of("text/plain", "");
        page.status = StatusCode::from_u16(status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
        page
    }

    /// A redirect.
    pub fn redirect(to: &str) -> Self {
        Self::status(302).with("location", to)
    }

    /// With a header. One that is not legal is left out.
    #[must_use]
    pub fn with(mut self, name: &'static str, value: &str) -> Self {
        if let Ok(value) = HeaderValue::from_str(value) {
            self.headers.insert(HeaderName::from_static(name), value);
        }
        self
    }

    /// Answered only after a while.
    #[must_use]
    pub fn after(self, after: Duration) -> Self {
        Self { after, ..self }
    }

    /// Repeated without end.
    #[must_use]
    pub fn endless(self) -> Self {
        Self {
            endless: true,
            ..self
        }
    }

    /// The connection breaks after the body.
    #[must_use]
    pub fn cut(self) -> Self {
        Self { cut: true, ..self }
    }
}

/// A request that the site received.
#[derive(Debug, Clone)]
pub struct Received {
    /// Path and query.
    pub path: String,
    /// Its headers.
    pub headers: HeaderMap,
}

/// The site, served until it is dropped.
#[derive(Debug)]
pub struct Site {
    served: Served,
    state: Shared,
}

#[derive(Debug, Clone, Default)]
struct Shared {
    pages: Arc<Mutex<BTreeMap<String, Page>>>,
    received: Arc<Mutex<VecDeque<Received>>>,
}

impl Site {
    /// Serves an empty site on a free port: every address is a 404.
    pub async fn start() -> io::Result<Self> {
        let state = Shared::default();
        let router = Router::new().fallback(answer).with_state(state.clone());
        let served = Served::start(router, 0).await?;
        Ok(Self { served, state })
    }

    /// The address of a path that begins with `/`.
    pub fn url(&self, path: &str) -> String {
        format!("{}{path}", self.served.url())
    }

    /// Its port on 127.0.0.1.
    pub fn port(&self) -> u16 {
        self.served.port()
    }

    /// Writes a page, or another one in its place. `path` may have a query.
    pub fn put(&self, path: &str, page: Page) {
        self.state.pages.lock().insert(path.to_owned(), page);
    }

    /// Takes a page away.
    pub fn remove(&self, path: &str) {
        self.state.pages.lock().remove(path);
    }

    /// Everything that was asked for, the oldest first.
    pub fn received(&self) -> Vec<Received> {
        self.state.received.lock().iter().cloned().collect()
    }

    /// The paths that were asked for, the oldest first.
    pub fn paths(&self) -> Vec<String> {
        self.received().into_iter().map(|it| it.path).collect()
    }

    /// Forgets what was asked for so far.
    pub fn forget(&self) {
        self.state.received.lock().clear();
    }
}

async fn answer(State(state): State<Shared>, request: Request) -> Response {
    let path = request
        .uri()
        .path_and_query()
        .map_or("/", |path| path.as_str())
        .to_owned();
    {
        let mut received = state.received.lock();
        if received.len() == KEPT_REQUESTS {
            received.pop_front();
        }
        received.push_back(Received {
            path: path.clone(),
            headers: request.headers().clone(),
        });
    }
    let Some(page) = state.pages.lock().get(&path).cloned() else {
        return StatusCode::NOT_FOUND.into_response();
    };
    tokio::time::sleep(page.after).await;
    if page.is_known_to(request.headers()) {
        return StatusCode::NOT_MODIFIED.into_response();
    }
    let body = page.body.clone();
    let body = if page.endless {
        Body::from_stream(futures::stream::repeat_with(move || {
            Ok::<_, io::Error>(body.clone())
        }))
    } else if page.cut {
        let parts = [Ok(body), Err(io::Error::other("cut"))];
        Body::from_stream(futures::stream::iter(parts))
    } else {
        Body::from(body)
    };
    (page.status, page.headers, body).into_response()
}

impl Page {
    /// Whether a client has this version already.
    fn is_known_to(&self, asked: &HeaderMap) -> bool {
        let same = |ours: HeaderName, theirs: HeaderName| {
            let ours = self.headers.get(ours);
            ours.is_some() && ours == asked.get(theirs)
        };
        same(header::ETAG, header::IF_NONE_MATCH)
            || same(header::LAST_MODIFIED, header::IF_MODIFIED_SINCE)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_page_is_what_was_written_and_what_was_asked_for_is_known() {
        let site = Site::start().await.unwrap();
        let client = crate::tests::client();
        site.put("/a?b", Page::html("<p>Text.").with("etag", "\"1\""));
        let get = |path: &str| client.get(site.url(path));
        assert_eq!(get("/a").send().await.unwrap().status(), 404);
        let page = get("/a?b").send().await.unwrap();
        assert_eq!(page.headers()["content-type"], "text/html; charset=utf-8");
        assert_eq!(page.text().await.unwrap(), "<p>Text.");
        let again = get("/a?b")
            .header("if-none-match", "\"1\"")
            .send()
            .await
            .unwrap();
        assert_eq!(again.status(), 304);
        assert_eq!(site.paths(), ["/a", "/a?b", "/a?b"]);
        site.put("/cut", Page::html("half").cut());
        let cut = async { get("/cut").send().await?.text().await };
        assert!(cut.await.is_err());
    }
}
