//! The "outside world" page: the services that the stand-ins play, as people would see them, with
//! buttons that work and switches that break them; and below that every request that they received.
//!
//! The server renders everything. A small script, which the page does without, loads the page again
//! when something happened and changes what differs, so that nothing that is being typed is lost. What
//! is shown was written by visitors: it is escaped, and no script but ours runs.

mod actions;
mod blocks;
mod crm;
mod html;
mod json;
mod live;
mod log;
mod mail;
mod mrkdwn;
mod page;
mod rich_text;
mod slack;
mod switches;
mod traces;
mod webhooks;

use std::{io, sync::Arc};

use axum::{
    Router,
    extract::{Query, State},
    http::header,
    response::{Html, IntoResponse},
    routing::get,
};

use crate::{collector::Collector, outside::OutsideWorld, people::People, serve::Served};

/// Nothing but what this server serves; frames hold mails, which are written into the page.
const CONTENT_SECURITY_POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self' 'unsafe-inline'; \
     connect-src 'self'; form-action 'self'; frame-src 'self'; base-uri 'none'; frame-ancestors 'none'";

/// What the page shows.
#[derive(Debug, Clone)]
struct Shown {
    world: OutsideWorld,
    people: Arc<People>,
    collector: Option<Arc<Collector>>,
}

/// The page, served until it is dropped.
#[derive(Debug)]
pub struct WorldPage {
    served: Served,
}

impl WorldPage {
    /// Serves it on a port, or with 0 on a free one. Traces are shown if there is a collector.
    pub async fn start(
        world: OutsideWorld,
        people: Arc<People>,
        collector: Option<Arc<Collector>>,
        port: u16,
    ) -> io::Result<Self> {
        let router = Router::new()
            .route("/", get(page))
            .route("/exchanges.json", get(log::exchanges))
            .merge(live::routes())
            .merge(actions::routes())
            .with_state(Shown {
                world,
                people,
                collector,
            });
        let served = Served::start(router, port).await?;
        Ok(Self { served })
    }

    /// Its port on 127.0.0.1.
    pub fn port(&self) -> u16 {
        self.served.port()
    }

    /// Its address.
    pub fn url(&self) -> String {
        self.served.url()
    }
}

async fn page(State(shown): State<Shown>, Query(filter): Query<log::Filter>) -> impl IntoResponse {
    let headers = [
        (header::CONTENT_SECURITY_POLICY, CONTENT_SECURITY_POLICY),
        (header::CACHE_CONTROL, "no-store"),
        (header::REFERRER_POLICY, "no-referrer"),
    ];
    (headers, Html(page::render(&shown, &filter)))
}

#[cfg(test)]
mod tests;
