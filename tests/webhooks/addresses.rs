//! What only this machine can reach is not reached for somebody else.

use std::{net::IpAddr, sync::Arc};

use futures::future::BoxFuture;
use store::clock::SystemClock;
use url::Url;
use workers::clients::guarded::{AddressRules, GuardedClient, LookUp};

use super::support::{Desk, client, until};

/// Says that every name is this machine.
#[derive(Debug)]
struct Here;

impl LookUp for Here {
    fn look_up(&self, _: String) -> BoxFuture<'static, std::io::Result<Vec<IpAddr>>> {
        Box::pin(std::future::ready(Ok(vec![IpAddr::from([127, 0, 0, 1])])))
    }
}

/// The first attempt's error, of a process that keeps these rules.
async fn refused(url: &str, rules: AddressRules) -> Option<String> {
    // A test before may not have made a client yet.
    drop(client(AddressRules::default()));
    let desk = Desk::new().await;
    let port = desk.receiver.url().rsplit_once(':').unwrap().1.to_owned();
    let endpoint = desk
        .endpoint_at(&url.replace("PORT", &port), &["session.started"])
        .await;
    desk.receiver.know(&endpoint.secret);
    let client = GuardedClient::with_look_up(rules, Arc::new(Here)).unwrap();
    let _process = desk.process_with(client, Arc::new(SystemClock));
    desk.session_starts("s-1").await;
    let (outcome, error) = until("it is tried", async || {
        let attempts = desk.attempts(&endpoint).await;
        attempts
            .into_iter()
            .find(|(outcome, _)| !outcome.is_empty())
    })
    .await;
    assert_eq!(outcome == "delivered", desk.sessions_told("/a") == ["s-1"]);
    error
}

#[tokio::test]
async fn in_production_neither_an_address_nor_a_name_leads_to_this_machine() {
    for (url, what) in [
        (
            "http://127.0.0.1:PORT/a",
            "its URL leads to a private address",
        ),
        (
            "http://[::ffff:127.0.0.1]:PORT/a",
            "its URL leads to a private address",
        ),
        (
            "http://innocent.example:PORT/a",
            "its name leads to a private address",
        ),
    ] {
        let error = refused(url, AddressRules::default()).await.unwrap();
        assert!(error.starts_with(what), "{url}: {error}");
    }
}

#[tokio::test]
async fn a_network_that_is_exempt_is_reached_by_its_name() {
    let rules = AddressRules {
        exempt: vec!["127.0.0.0/8".parse().unwrap()],
        loopback: false,
    };
    assert_eq!(refused("http://innocent.example:PORT/a", rules).await, None);
}

#[tokio::test]
async fn what_is_no_url_of_an_endpoint_is_not_registered() {
    let desk = Desk::new().await;
    for url in [
        "ftp://x.example/",
        "https://user:word@x.example/",
        "https://user@x.example",
        "https://",
        "https://x.example/a b",
        "x.example",
        &format!("https://x.example/{}", "a".repeat(2_000)),
    ] {
        let added = store::webhooks::add(&desk.pool, url, &["session.closed".to_owned()], "").await;
        assert!(added.is_err(), "{url}");
    }
    for url in [
        "https://x.example",
        "https://x.example?a=1",
        "http://10.0.0.1:8080/a#b",
    ] {
        assert!(url.parse::<Url>().is_ok());
        let added = store::webhooks::add(&desk.pool, url, &["session.closed".to_owned()], "").await;
        assert!(added.is_ok(), "{url}");
    }
}
