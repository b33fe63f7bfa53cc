//! What keeps an open page up to date: a stream that says that something happened, and the script and
//! the style that the page is made with.

use std::{convert::Infallible, time::Duration};

use axum::{
    Router,
    extract::State,
    http::header,
    response::{
        IntoResponse, Sse,
        sse::{Event, KeepAlive},
    },
    routing::get,
};
use futures::Stream;
use tokio::sync::watch;

use super::Shown;

/// Several things that happen at once are one.
const TOGETHER: Duration = Duration::from_millis(100);

pub(super) fn routes() -> Router<Shown> {
    Router::new()
        .route("/changes", get(changes))
        .route("/page.css", get(style))
        .route("/page.js", get(script))
}

/// An event without content for everything that happens.
async fn changes(State(shown): State<Shown>) -> impl IntoResponse {
    Sse::new(happenings(shown.world.changes())).keep_alive(KeepAlive::default())
}

fn happenings(mut changes: watch::Receiver<()>) -> impl Stream<Item = Result<Event, Infallible>> {
    async_stream::stream! {
        while changes.changed().await.is_ok() {
            tokio::time::sleep(TOGETHER).await;
            changes.mark_unchanged();
            yield Ok(Event::default().event("changed").data("-"));
        }
    }
}

async fn style() -> impl IntoResponse {
    let headers = [(header::CONTENT_TYPE, "text/css; charset=utf-8")];
    (headers, include_str!("page.css"))
}

async fn script() -> impl IntoResponse {
    let headers = [(header::CONTENT_TYPE, "text/javascript; charset=utf-8")];
    (headers, include_str!("page.js"))
}
