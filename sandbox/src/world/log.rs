//! Every request that a stand-in received, newest first.

use std::time::{Duration, Instant};

use axum::{
    Json,
    extract::{Query, State},
};
use serde::Deserialize;
use serde_json::{Value, json};

use super::{Shown, html::Html};
use crate::outside::{Exchange, Outcome, OutsideWorld, Service};

/// Exchanges on a page at most.
const SHOWN: usize = 50;
/// How much of a request's body is shown, in characters.
const SHOWN_BODY: usize = 20_000;

/// Which exchanges are wanted.
#[derive(Debug, Deserialize)]
pub(super) struct Filter {
    service: Option<String>,
}

impl Filter {
    fn service(&self) -> Option<Service> {
        let wanted = self.service.as_deref()?;
        Service::ALL
            .into_iter()
            .find(|service| service.title().eq_ignore_ascii_case(wanted))
    }

    /// The newest first.
    fn of(&self, world: &OutsideWorld) -> Vec<Exchange> {
        let mut exchanges = match self.service() {
            Some(service) => world.received_by(service),
            None => world.exchanges(),
        };
        // A trace is told with everything that happens: by itself it is no news.
        exchanges.retain(|exchange| {
            exchange.service != Service::Collector || self.service() == Some(Service::Collector)
        });
        exchanges.reverse();
        exchanges.truncate(SHOWN);
        exchanges
    }
}

/// The same for programs.
pub(super) async fn exchanges(
    State(shown): State<Shown>,
    Query(filter): Query<Filter>,
) -> Json<Vec<Value>> {
    let exchanges = filter.of(&shown.world);
    Json(exchanges.iter().map(to_json).collect())
}

fn to_json(exchange: &Exchange) -> Value {
    let milliseconds = |ended: Instant| (ended - exchange.received).as_millis();
    json!({
        "number": exchange.number,
        "service": exchange.service,
        "request": exchange.request_line,
        "seconds_ago": exchange.received.elapsed().as_secs(),
        "body": exchange.body,
        "answer": exchange.answer,
        "outcome": exchange.outcome,
        "took_ms": exchange.ended.map(milliseconds).and_then(|it| u64::try_from(it).ok()),
    })
}

/// Renders them, with a tab for each service.
pub(super) fn render(html: &mut Html, world: &OutsideWorld, filter: &Filter) {
    let service = filter.service();
    let exchanges = filter.of(world);
    html.raw("<section class=\"log\" id=\"log\"><h2>Requests</h2><nav>");
    tab(html, "/#log", "All", service.is_none());
    for each in Service::ALL {
        let title = each.title();
        let address = format!("/?service={}#log", title.to_lowercase());
        tab(html, &address, title, service == Some(each));
    }
    html.raw("</nav>");
    if exchanges.is_empty() {
        html.raw("<p class=\"empty\">Nothing yet.</p>");
    }
    for exchange in &exchanges {
        one(html, exchange);
    }
    html.raw("</section>");
}

fn tab(html: &mut Html, address: &str, title: &str, is_current: bool) {
    html.raw("<a")
        .attribute("href", address)
        .flag("aria-current", is_current)
        .raw(">")
        .text(title)
        .raw("</a>");
}

fn one(html: &mut Html, exchange: &Exchange) {
    let (class, outcome) = match exchange.outcome {
        Outcome::Running => ("outcome quiet", "running".to_owned()),
        Outcome::Answered(status @ 200..=299) => ("outcome good", status.to_string()),
        Outcome::Answered(status) => ("outcome bad", status.to_string()),
        Outcome::Cut => ("outcome bad", "connection cut".to_owned()),
        Outcome::ClientHungUp => ("outcome bad", "the client hung up".to_owned()),
    };
    html.raw("<details class=\"exchange\"")
        .attribute("data-key", format_args!("exchange-{}", exchange.number))
        .raw("><summary><span class=\"number\">#")
        .text(exchange.number)
        .raw("</span><span class=\"badge\">")
        .text(exchange.service.title())
        .raw("</span><code>")
        .text(&exchange.request_line)
        .raw("</code><span class=\"ago\">")
        .text(how_long_ago(exchange.received.elapsed()))
        .raw("</span><span")
        .attribute("class", class)
        .raw(">")
        .text(outcome);
    if let Some(ended) = exchange.ended {
        html.text(format_args!(
            " · {} ms",
            (ended - exchange.received).as_millis()
        ));
    }
    html.raw("</span></summary>");
    if !exchange.answer.is_empty() {
        html.raw("<h4>Answer</h4><pre>")
            .text(&exchange.answer)
            .raw("</pre>");
    }
    html.raw("<h4>Request</h4><pre>")
        .text(beginning(&body(&exchange.body)))
        .raw("</pre></details>");
}

fn body(body: &Value) -> String {
    match body {
        Value::String(text) => text.clone(),
        // Serialising a JSON value can't fail.
        value => serde_json::to_string_pretty(value).unwrap_or_default(),
    }
}

fn beginning(text: &str) -> &str {
    let end = text.char_indices().nth(SHOWN_BODY);
    end.map_or(text, |(end, _)| &text[..end])
}

/// How long ago, for people.
pub(super) fn how_long_ago(since: Duration) -> String {
    match since.as_secs() {
        seconds @ 0..=119 => format!("{seconds} s ago"),
        seconds @ 120..=7_199 => format!("{} min ago", seconds / 60),
        seconds => format!("{} h ago", seconds / 3_600),
    }
}
