//! The "outside world" page: what the stand-ins received, newest first, for a developer to look
//! at while the system runs. Plain HTML from the server; everything shown is escaped, because it
//! holds what a visitor wrote.

use std::{fmt::Write, io, time::Instant};

use axum::{
    Json, Router,
    extract::{Query, State},
    http::header,
    response::{Html, IntoResponse},
    routing::get,
};
use serde::Deserialize;
use serde_json::{Value, json};

use crate::{
    outside::{Exchange, Outcome, OutsideWorld, Service},
    serve::Served,
};

/// Exchanges on a page at most.
const SHOWN: usize = 50;
/// How often the page loads itself again, in seconds.
const REFRESH_SECONDS: u32 = 3;
/// How much of a request's body is shown, in characters.
const SHOWN_BODY: usize = 20_000;

const STYLE: &str = "
body{font:15px/1.5 system-ui,sans-serif;margin:2rem auto;max-width:60rem;padding:0 1rem;color:#1c2430}
nav a{margin-right:1rem}nav a[aria-current]{font-weight:700;text-decoration:none;color:inherit}
article{border:1px solid #d8dee6;border-radius:8px;padding:.75rem 1rem;margin:1rem 0}
header{display:flex;gap:1rem;flex-wrap:wrap}header .outcome{margin-left:auto}
pre{white-space:pre-wrap;overflow-wrap:anywhere;background:#f4f6f9;padding:.75rem;border-radius:6px;font-size:13px}
.bad{color:#a40000}.quiet{color:#66707d}";

/// The page, served until it is dropped.
#[derive(Debug)]
pub struct WorldPage {
    served: Served,
}

impl WorldPage {
    /// Serves it on a port, or with 0 on a free one.
    pub async fn start(world: OutsideWorld, port: u16) -> io::Result<Self> {
        let router = Router::new()
            .route("/", get(page))
            .route("/exchanges.json", get(exchanges))
            .with_state(world);
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

#[derive(Debug, Deserialize)]
struct Filter {
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
        exchanges.reverse();
        exchanges.truncate(SHOWN);
        exchanges
    }
}

async fn exchanges(
    State(world): State<OutsideWorld>,
    Query(filter): Query<Filter>,
) -> Json<Vec<Value>> {
    let exchanges = filter.of(&world);
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

async fn page(
    State(world): State<OutsideWorld>,
    Query(filter): Query<Filter>,
) -> impl IntoResponse {
    let headers = [
        (
            header::CONTENT_SECURITY_POLICY,
            "default-src 'none'; style-src 'unsafe-inline'; frame-ancestors 'none'",
        ),
        (header::CACHE_CONTROL, "no-store"),
    ];
    (headers, Html(render(&filter.of(&world), filter.service())))
}

fn render(exchanges: &[Exchange], service: Option<Service>) -> String {
    let mut html = String::from("<!doctype html><html lang=\"en\"><meta charset=\"utf-8\">");
    let current = |is: bool| if is { " aria-current=\"page\"" } else { "" };
    // Writing to a string can't fail.
    let _ = write!(
        html,
        "<meta http-equiv=\"refresh\" content=\"{REFRESH_SECONDS}\"><title>Outside world</title>\
         <style>{STYLE}</style><h1>Outside world</h1>\
         <p class=\"quiet\">What the stand-ins of this machine received, newest first.</p>\
         <nav><a href=\"/\"{}>All</a>",
        current(service.is_none()),
    );
    for tab in Service::ALL {
        let title = tab.title();
        let _ = write!(
            html,
            "<a href=\"/?service={}\"{}>{title}</a>",
            title.to_lowercase(),
            current(service == Some(tab)),
        );
    }
    html.push_str("</nav>");
    if exchanges.is_empty() {
        html.push_str("<p>Nothing yet.</p>");
    }
    for exchange in exchanges {
        render_exchange(&mut html, exchange);
    }
    html
}

fn render_exchange(html: &mut String, exchange: &Exchange) {
    let (class, outcome) = match exchange.outcome {
        Outcome::Running => ("quiet", "running".to_owned()),
        Outcome::Answered(status @ 200..=299) => ("quiet", status.to_string()),
        Outcome::Answered(status) => ("bad", status.to_string()),
        Outcome::Cut => ("bad", "connection cut".to_owned()),
        Outcome::ClientHungUp => ("bad", "the client hung up".to_owned()),
    };
    let took = exchange.ended.map_or(String::new(), |ended| {
        format!(" after {} ms", (ended - exchange.received).as_millis())
    });
    let body = match &exchange.body {
        Value::String(text) => text.clone(),
        // Serialising a JSON value can't fail.
        value => serde_json::to_string_pretty(value).unwrap_or_default(),
    };
    let shortened = body.char_indices().nth(SHOWN_BODY);
    let body = shortened.map_or(body.as_str(), |(end, _)| &body[..end]);
    let _ = write!(
        html,
        "<article><header><strong>#{} {}</strong><code>{}</code>\
         <span class=\"quiet\">{} s ago</span><span class=\"outcome {class}\">{outcome}{took}</span></header>\
         <p>{}</p><details><summary>Request</summary><pre>{}</pre></details></article>",
        exchange.number,
        exchange.service.title(),
        escape(&exchange.request_line),
        exchange.received.elapsed().as_secs(),
        escape(&exchange.answer),
        escape(body),
    );
}

fn escape(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for letter in text.chars() {
        match letter {
            '&' => escaped.push_str("&amp;"),
            '<' => escaped.push_str("&lt;"),
            '>' => escaped.push_str("&gt;"),
            '"' => escaped.push_str("&quot;"),
            '\'' => escaped.push_str("&#39;"),
            other => escaped.push(other),
        }
    }
    escaped
}

#[cfg(test)]
mod tests {
    use super::*;

    fn world() -> OutsideWorld {
        let world = OutsideWorld::default();
        let body = br#"{"messages": "<script>alert('x')</script>"}"#;
        let mut first = world.record(Service::Anthropic, "POST /v1/messages", body);
        first.answered_text("<img src=x onerror=\"alert(1)\">");
        first.end(Outcome::Answered(200));
        world
            .record(Service::OpenAi, "POST /v1/embeddings", b"{}")
            .end(Outcome::Answered(429));
        world
    }

    #[test]
    fn what_was_received_is_escaped() {
        let html = render(&world().exchanges(), None);
        assert!(
            !html.contains("<script>") && !html.contains("<img"),
            "{html}"
        );
        assert!(html.contains("&lt;script&gt;alert(&#39;x&#39;)"), "{html}");
    }

    #[tokio::test]
    async fn a_tab_shows_its_service_newest_first() {
        let served = WorldPage::start(world(), 0).await.unwrap();
        let client = crate::tests::client();
        let get = |path: &str| client.get(format!("{}{path}", served.url())).send();
        let all: Value = get("/exchanges.json").await.unwrap().json().await.unwrap();
        assert_eq!(all[0]["number"], 2);
        assert_eq!(all[1]["service"], "anthropic");
        let one: Value = get("/exchanges.json?service=openai")
            .await
            .unwrap()
            .json()
            .await
            .unwrap();
        assert_eq!(one.as_array().unwrap().len(), 1);
        assert_eq!(one[0]["outcome"], json!({"answered": 429}));
        let page = get("/?service=openai").await.unwrap();
        assert!(
            page.headers()["content-security-policy"]
                .to_str()
                .unwrap()
                .contains("'none'")
        );
        let page = page.text().await.unwrap();
        assert!(page.contains("POST /v1/embeddings") && !page.contains("POST /v1/messages"));
    }
}
