//! The "outside world" page: the services that the stand-ins play, as people would see them, with
//! buttons that work and switches that break them; and below that every request that they received.
//!
//! The server renders everything. A small script, which the page does without, loads the page again
//! when something happened and changes what differs, so that nothing that is being typed is lost. What
//! is shown was written by visitors: it is escaped, and no script but ours runs.

mod actions;
mod blocks;
mod html;
mod live;
mod log;
mod mrkdwn;
mod page;
mod rich_text;
mod slack;
mod switches;

use std::{io, sync::Arc};

use axum::{
    Router,
    extract::{Query, State},
    http::header,
    response::{Html, IntoResponse},
    routing::get,
};

use crate::{outside::OutsideWorld, people::People, serve::Served};

/// Nothing but what this server serves; frames hold mails, which are written into the page.
const CONTENT_SECURITY_POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self' 'unsafe-inline'; \
     connect-src 'self'; form-action 'self'; frame-src 'self'; base-uri 'none'; frame-ancestors 'none'";

/// What the page shows.
#[derive(Debug, Clone)]
struct Shown {
    world: OutsideWorld,
    people: Arc<People>,
}

/// The page, served until it is dropped.
#[derive(Debug)]
pub struct WorldPage {
    served: Served,
}

impl WorldPage {
    /// Serves it on a port, or with 0 on a free one.
    pub async fn start(world: OutsideWorld, people: Arc<People>, port: u16) -> io::Result<Self> {
        let router = Router::new()
            .route("/", get(page))
            .route("/exchanges.json", get(log::exchanges))
            .merge(live::routes())
            .merge(actions::routes())
            .with_state(Shown { world, people });
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
mod tests {
    use serde_json::{Value, json};

    use super::*;
    use crate::outside::{Outcome, Service};

    async fn served() -> (OutsideWorld, Arc<People>, WorldPage) {
        let world = OutsideWorld::default();
        let people = Arc::new(People::start(&world).await.unwrap());
        let page = WorldPage::start(world.clone(), Arc::clone(&people), 0)
            .await
            .unwrap();
        (world, people, page)
    }

    async fn text(page: &WorldPage, path: &str) -> String {
        let response = crate::tests::client().get(format!("{}{path}", page.url()));
        response.send().await.unwrap().text().await.unwrap()
    }

    #[tokio::test]
    async fn what_was_received_is_escaped() {
        let (world, _people, page) = served().await;
        let body = br#"{"messages": "<script>alert('x')</script>"}"#;
        let mut exchange = world.record(Service::Anthropic, "POST /v1/messages", body);
        exchange.answered_text("<img src=x onerror=\"alert(1)\">");
        exchange.end(Outcome::Answered(200));
        let html = text(&page, "/").await;
        assert!(
            !html.contains("<script>") && !html.contains("<img"),
            "{html}"
        );
        assert!(html.contains("&lt;script&gt;alert(&#39;x&#39;)"), "{html}");
    }

    #[tokio::test]
    async fn a_tab_shows_its_service_newest_first() {
        let (world, _people, page) = served().await;
        for (service, line, status) in [
            (Service::Anthropic, "POST /v1/messages", 200),
            (Service::OpenAi, "POST /v1/embeddings", 429),
        ] {
            let mut exchange = world.record(service, line, b"{}");
            exchange.end(Outcome::Answered(status));
        }
        let json = |text: String| serde_json::from_str::<Value>(&text).unwrap();
        let all = json(text(&page, "/exchanges.json").await);
        assert_eq!(all[0]["number"], 2);
        assert_eq!(all[1]["service"], "anthropic");
        let one = json(text(&page, "/exchanges.json?service=openai").await);
        assert_eq!(one.as_array().unwrap().len(), 1);
        assert_eq!(one[0]["outcome"], json!({"answered": 429}));
        let html = text(&page, "/?service=openai").await;
        assert!(html.contains("POST /v1/embeddings") && !html.contains("POST /v1/messages"));
    }

    #[tokio::test]
    async fn no_script_but_its_own_runs_on_the_page() {
        let (_world, _people, page) = served().await;
        let response = crate::tests::client().get(page.url()).send().await.unwrap();
        let policy = response.headers()["content-security-policy"].to_str();
        let policy = policy.unwrap();
        assert!(policy.contains("default-src 'none'"), "{policy}");
        assert!(policy.contains("script-src 'self';"), "{policy}");
    }

    #[tokio::test]
    async fn a_switch_breaks_a_service_and_mends_it() {
        use crate::switch::Trouble;

        let (_world, people, page) = served().await;
        let client = crate::tests::client();
        let set = async |trouble: &str, origin: Option<&str>| {
            let form = url::form_urlencoded::Serializer::new(String::new())
                .append_pair("service", "slack")
                .append_pair("trouble", trouble)
                .finish();
            let mut request = client
                .post(format!("{}/switch", page.url()))
                .header("content-type", "application/x-www-form-urlencoded")
                .body(form);
            if let Some(origin) = origin {
                request = request.header("origin", origin);
            }
            request.send().await.unwrap().status().as_u16()
        };
        assert_eq!(set(r#"{"status":500}"#, None).await, 200);
        assert_eq!(people.slack.switch().current(), Some(Trouble::Status(500)));
        assert_eq!(set("", Some("http://elsewhere.example")).await, 403);
        assert_eq!(set("nonsense", None).await, 422);
        assert_eq!(people.slack.switch().current(), Some(Trouble::Status(500)));
        assert!(text(&page, "/").await.contains("switch broken"));
        assert_eq!(set("", None).await, 200);
        assert_eq!(people.slack.switch().current(), None);
    }
}
