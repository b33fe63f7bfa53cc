use std::sync::atomic::{AtomicUsize, Ordering};

use axum::{Router, routing::get};
use proptest::prelude::*;
use tokio::net::TcpListener;

use super::*;

fn url(text: &str) -> Url {
    text.parse().unwrap()
}

fn address(text: &str) -> IpAddr {
    text.parse().unwrap()
}

#[test]
fn only_public_addresses_are_reached() {
    let rules = AddressRules::default();
    for public in [
        "1.1.1.1",
        "172.15.0.1",
        "172.32.0.1",
        "100.63.0.1",
        "100.128.0.1",
        "192.0.1.1",
        "198.20.0.1",
        "223.255.255.255",
        "2606:4700::1111",
        "2a00:1450::1",
        "::ffff:1.1.1.1",
        "64:ff9b::1.1.1.1",
        "2002:101:101::",
    ] {
        assert!(rules.allow(address(public)), "{public}");
    }
    for private in [
        "0.0.0.0",
        "10.1.2.3",
        "100.64.0.1",
        "127.0.0.1",
        "127.255.255.255",
        "169.254.169.254",
        "172.16.0.1",
        "172.31.255.255",
        "192.0.0.8",
        "192.0.2.1",
        "192.88.99.1",
        "192.168.1.1",
        "198.18.0.1",
        "198.51.100.1",
        "203.0.113.1",
        "224.0.0.1",
        "240.0.0.1",
        "255.255.255.255",
        "::",
        "::1",
        "::127.0.0.1",
        "::ffff:10.0.0.1",
        "::ffff:169.254.169.254",
        "64:ff9b::10.0.0.1",
        "64:ff9b:1::1",
        "100::1",
        "2001::1",
        "2001:db8::1",
        "2002:7f00:1::",
        "3fff::1",
        "fc00::1",
        "fd12:3456::1",
        "fe80::1",
        "fec0::1",
        "ff02::1",
    ] {
        assert!(!rules.allow(address(private)), "{private}");
    }
}

#[test]
fn loopback_and_named_networks_can_be_exempt() {
    let rules = AddressRules {
        exempt: vec!["10.1.0.0/16".parse().unwrap(), "fd00::/8".parse().unwrap()],
        loopback: true,
    };
    for exempt in [
        "127.0.0.1",
        "::1",
        "::ffff:127.0.0.1",
        "10.1.9.9",
        "::ffff:10.1.0.1",
        "fd01::1",
    ] {
        assert!(rules.allow(address(exempt)), "{exempt}");
    }
    for refused in ["10.2.0.1", "169.254.169.254", "fe80::1"] {
        assert!(!rules.allow(address(refused)), "{refused}");
    }
}

#[test]
fn an_address_is_recognised_in_whichever_spelling() {
    let rules = AddressRules::default();
    for refused in [
        "http://127.0.0.1/",
        "http://0x7f.1/",
        "http://2130706433/",
        "http://017700000001/",
        "http://[::1]/",
        "http://[::ffff:7f00:1]/",
        "http://[::ffff:169.254.169.254]:80/latest/meta-data",
    ] {
        assert_eq!(
            rules.check(&url(refused)),
            Err(Refused::PrivateAddress),
            "{refused}"
        );
    }
    assert_eq!(rules.check(&url("https://example.org/")), Ok(()));
    assert_eq!(rules.check(&url("http://1.1.1.1/")), Ok(()));
    assert_eq!(
        rules.check(&url("file:///etc/passwd")),
        Err(Refused::Scheme)
    );
    assert_eq!(
        rules.check(&url("ftp://example.org/")),
        Err(Refused::Scheme)
    );
    assert_eq!(
        rules.check(&url("http://a:b@example.org/")),
        Err(Refused::Credentials)
    );
    assert_eq!(
        rules.check(&url("http://a@example.org/")),
        Err(Refused::Credentials)
    );
}

proptest! {
    #[test]
    fn what_wraps_an_ipv4_address_is_judged_as_that_address(bits: u32) {
        let rules = AddressRules::default();
        let inner = Ipv4Addr::from_bits(bits);
        let [a, b, c, d] = inner.octets();
        let (high, low) = (u16::from_be_bytes([a, b]), u16::from_be_bytes([c, d]));
        for wrapped in [
            inner.to_ipv6_mapped(),
            Ipv6Addr::new(0x64, 0xff9b, 0, 0, 0, 0, high, low),
            Ipv6Addr::new(0x2002, high, low, 0, 0, 0, 0, 1),
        ] {
            prop_assert_eq!(rules.allow(wrapped.into()), rules.allow(inner.into()), "{}", wrapped);
        }
    }
}

/// Answers each look-up with the next of its answers, the last one for ever.
#[derive(Debug)]
struct Rebinding {
    answers: Vec<Vec<&'static str>>,
    asked: AtomicUsize,
}

impl Rebinding {
    fn new(answers: &[&[&'static str]]) -> Arc<Self> {
        Arc::new(Self {
            answers: answers.iter().map(|answer| answer.to_vec()).collect(),
            asked: AtomicUsize::new(0),
        })
    }
}

impl LookUp for Rebinding {
    fn look_up(&self, _: String) -> BoxFuture<'static, std::io::Result<Vec<IpAddr>>> {
        let asked = self.asked.fetch_add(1, Ordering::Relaxed);
        let answer = &self.answers[asked.min(self.answers.len() - 1)];
        let answer = answer.iter().map(|text| address(text)).collect();
        Box::pin(std::future::ready(Ok(answer)))
    }
}

/// A server on this machine, and its port.
async fn server() -> u16 {
    let _ = rustls::crypto::ring::default_provider().install_default();
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let router = Router::new().route("/", get(|| async { "secret" }));
    tokio::spawn(async move { axum::serve(listener, router).await });
    port
}

/// Sends a request to a name; what was answered, or why it was refused.
async fn ask(client: &GuardedClient, port: u16) -> Result<String, Option<Refused>> {
    let url = url(&format!("http://rebinding.example:{port}/"));
    let request = client.request(Method::GET, &url).map_err(Some)?;
    // Each request on a connection of its own.
    let response = request.header("connection", "close").send().await;
    let response = response.map_err(|error| Refused::behind(&error))?;
    response.text().await.map_err(|_| None)
}

#[tokio::test]
async fn a_name_that_leads_to_this_machine_is_refused_while_it_connects() {
    let port = server().await;
    let names = Rebinding::new(&[&["127.0.0.1"]]);
    let client = GuardedClient::with_look_up(AddressRules::default(), names.clone()).unwrap();
    assert_eq!(ask(&client, port).await, Err(Some(Refused::PrivateAddress)));
    assert_eq!(names.asked.load(Ordering::Relaxed), 1);
    let rules = AddressRules {
        loopback: true,
        ..AddressRules::default()
    };
    let client = GuardedClient::with_look_up(rules, names).unwrap();
    assert_eq!(ask(&client, port).await, Ok("secret".to_owned()));
}

#[tokio::test]
async fn a_name_that_changes_between_two_look_ups_gains_nothing() {
    let port = server().await;
    let rules = AddressRules {
        exempt: vec!["127.0.0.1/32".parse().unwrap()],
        loopback: false,
    };
    // First it leads to what may be reached, then to the metadata service, then to both.
    let names = Rebinding::new(&[
        &["127.0.0.1"],
        &["169.254.169.254"],
        &["127.0.0.1", "10.0.0.1"],
    ]);
    let client = GuardedClient::with_look_up(rules, names).unwrap();
    assert_eq!(ask(&client, port).await, Ok("secret".to_owned()));
    assert_eq!(ask(&client, port).await, Err(Some(Refused::PrivateAddress)));
    assert_eq!(ask(&client, port).await, Err(Some(Refused::PrivateAddress)));
}

#[tokio::test]
async fn an_address_instead_of_a_name_is_refused_before_it_is_sent() {
    let client = GuardedClient::new(AddressRules::default()).unwrap();
    let refused = client.request(Method::GET, &url("http://[::ffff:10.0.0.1]/"));
    assert_eq!(refused.err(), Some(Refused::PrivateAddress));
}
