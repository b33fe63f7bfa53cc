//! Whose request it is: the client's address, from whom it can be believed.
//!
//! The socket's peer is the proxy in front of us, and a header is anybody's to write. So the proxy's
//! header counts only if the request carries the edge's secret or comes from a network of its proxies;
//! of a header that comes twice nobody can say which is right. In production a request without such an
//! address is refused; elsewhere it is the socket's.
//!
//! `X-Forwarded-For` and its relatives are not looked at: a client may begin the list as it likes.

use std::{fmt, net::IpAddr};

use axum::http::HeaderMap;
use secrecy::ExposeSecret;
use sha2::{Digest, Sha256};
use store::environment::Environment;
use subtle::{Choice, ConstantTimeEq};

use crate::config::{EdgeConfig, TrustedProxies};

/// The header in which the edge shows its secret.
const EDGE_SECRET: &str = "x-edge-secret";
/// The header in which Cloudflare names the client.
const CLIENT_ADDRESS: &str = "cf-connecting-ip";

/// Whose limits a request counts for: an IPv4 address, or the 64 bits of IPv6 that one household or
/// machine is given whole. `Debug` hides it.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum ClientNetwork {
    V4([u8; 4]),
    V6([u8; 8]),
}

impl ClientNetwork {
    fn of(address: IpAddr) -> Self {
        match address.to_canonical() {
            IpAddr::V4(address) => Self::V4(address.octets()),
            IpAddr::V6(address) => {
                let mut network = [0; 8];
                network.copy_from_slice(&address.octets()[..8]);
                Self::V6(network)
            }
        }
    }

    /// What names its bucket. The two families differ in length.
    pub(crate) fn as_bytes(&self) -> &[u8] {
        match self {
            Self::V4(octets) => octets,
            Self::V6(octets) => octets,
        }
    }
}

impl fmt::Debug for ClientNetwork {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("ClientNetwork(…)")
    }
}

/// Decides whose a request is.
#[derive(Debug)]
pub(crate) struct Edge {
    /// Hashes: what is compared has one length.
    secrets: Vec<[u8; 32]>,
    proxies: TrustedProxies,
    /// Whether a request that nobody vouches for is refused.
    strict: bool,
}

impl Edge {
    pub(crate) fn new(config: &EdgeConfig, environment: Environment) -> Self {
        let hash = |secret: &str| Sha256::digest(secret.as_bytes()).into();
        Self {
            secrets: config
                .secrets
                .iter()
                .map(|secret| hash(secret.expose_secret()))
                .collect(),
            proxies: config.proxies.clone(),
            strict: environment == Environment::Production,
        }
    }

    /// The client of a request; `None`: nobody that is believed says who it is.
    pub(crate) fn client(&self, peer: IpAddr, headers: &HeaderMap) -> Option<ClientNetwork> {
        let peer = peer.to_canonical();
        let believed = self.knows_the_secret(headers) || self.proxies.contain(peer);
        let named = believed
            .then(|| only(headers, CLIENT_ADDRESS))
            .flatten()
            .and_then(|value| std::str::from_utf8(value).ok()?.parse().ok());
        match named {
            Some(address) => Some(ClientNetwork::of(address)),
            None if self.strict => None,
            None => Some(ClientNetwork::of(peer)),
        }
    }

    /// Takes the same time whichever secret it is.
    fn knows_the_secret(&self, headers: &HeaderMap) -> bool {
        let Some(shown) = only(headers, EDGE_SECRET) else {
            return false;
        };
        let hash: [u8; 32] = Sha256::digest(shown).into();
        self.secrets
            .iter()
            .fold(Choice::from(0), |found, known| found | hash.ct_eq(known))
            .into()
    }
}

/// The value of a header that came once.
fn only<'h>(headers: &'h HeaderMap, name: &str) -> Option<&'h [u8]> {
    let mut values = headers.get_all(name).iter();
    let value = values.next()?;
    values.next().is_none().then(|| value.as_bytes())
}

#[cfg(test)]
mod tests {
    use axum::http::HeaderValue;
    use secrecy::SecretString;

    use super::*;

    const SECRET: &str = "the edge's own secret";
    const CLIENT: &str = "203.0.113.7";

    fn edge(environment: Environment) -> Edge {
        let config = EdgeConfig {
            secrets: vec![
                SecretString::from(SECRET),
                SecretString::from("the one before it"),
            ],
            proxies: "192.0.2.0/24, 2001:db8:ed9e::/48".parse().unwrap(),
        };
        Edge::new(&config, environment)
    }

    fn headers(pairs: &[(&'static str, &str)]) -> HeaderMap {
        let mut headers = HeaderMap::new();
        for (name, value) in pairs {
            headers.append(*name, HeaderValue::from_str(value).unwrap());
        }
        headers
    }

    fn client(peer: &str, pairs: &[(&'static str, &str)]) -> Option<ClientNetwork> {
        edge(Environment::Production).client(peer.parse().unwrap(), &headers(pairs))
    }

    #[expect(
        clippy::unnecessary_wraps,
        reason = "it is compared with what may be none"
    )]
    fn network(address: &str) -> Option<ClientNetwork> {
        Some(ClientNetwork::of(address.parse().unwrap()))
    }

    #[test]
    fn the_secret_or_a_proxys_network_is_believed_and_nobody_else() {
        let named = (CLIENT_ADDRESS, CLIENT);
        let stranger = "198.51.100.1";
        for secret in [SECRET, "the one before it"] {
            assert_eq!(
                client(stranger, &[named, (EDGE_SECRET, secret)]),
                network(CLIENT)
            );
        }
        for proxy in ["192.0.2.200", "::ffff:192.0.2.200", "2001:db8:ed9e::9"] {
            assert_eq!(client(proxy, &[named]), network(CLIENT), "{proxy}");
        }
        for (peer, pairs) in [
            (stranger, &[named][..]),
            (stranger, &[named, (EDGE_SECRET, "a guess")]),
            (stranger, &[named, (EDGE_SECRET, "")]),
            (stranger, &[named, (EDGE_SECRET, "THE EDGE'S OWN SECRET")]),
            (
                stranger,
                &[named, (EDGE_SECRET, SECRET), (EDGE_SECRET, SECRET)],
            ),
            (
                stranger,
                &[named, (EDGE_SECRET, "a guess"), (EDGE_SECRET, SECRET)],
            ),
            (
                stranger,
                &[
                    ("x-forwarded-for", CLIENT),
                    ("forwarded", "for=203.0.113.7"),
                ],
            ),
            ("127.0.0.1", &[named]),
        ] {
            assert_eq!(client(peer, pairs), None, "{peer} {pairs:?}");
        }
    }

    #[test]
    fn a_believed_request_has_to_name_one_address() {
        let secret = (EDGE_SECRET, SECRET);
        for (what, pairs) in [
            ("none", &[secret][..]),
            (
                "two",
                &[
                    secret,
                    (CLIENT_ADDRESS, CLIENT),
                    (CLIENT_ADDRESS, "203.0.113.8"),
                ],
            ),
            (
                "a list",
                &[secret, (CLIENT_ADDRESS, "203.0.113.7, 203.0.113.8")],
            ),
            ("a port", &[secret, (CLIENT_ADDRESS, "203.0.113.7:80")]),
            ("a zone", &[secret, (CLIENT_ADDRESS, "fe80::1%eth0")]),
            ("brackets", &[secret, (CLIENT_ADDRESS, "[2001:db8::1]")]),
            ("octal", &[secret, (CLIENT_ADDRESS, "0203.0.0113.07")]),
            ("nothing", &[secret, (CLIENT_ADDRESS, "")]),
            ("another header", &[secret, ("x-forwarded-for", CLIENT)]),
        ] {
            assert_eq!(client("198.51.100.1", pairs), None, "{what}");
        }
    }

    #[test]
    fn outside_production_a_client_that_nobody_names_is_the_sockets_peer() {
        for environment in [Environment::Development, Environment::Staging] {
            let edge = edge(environment);
            let client = |pairs| edge.client("198.51.100.1".parse().unwrap(), &headers(pairs));
            assert_eq!(client(&[]), network("198.51.100.1"));
            // It may say what it likes.
            assert_eq!(client(&[(CLIENT_ADDRESS, CLIENT)]), network("198.51.100.1"));
            assert_eq!(
                client(&[(CLIENT_ADDRESS, CLIENT), (EDGE_SECRET, SECRET)]),
                network(CLIENT)
            );
        }
    }

    #[test]
    fn every_spelling_of_an_address_is_one_client() {
        for same in ["203.0.113.7", "::ffff:203.0.113.7", "::FFFF:CB00:7107"] {
            assert_eq!(network(same), network(CLIENT), "{same}");
        }
        for same in [
            "2001:db8:1:2::1",
            "2001:0DB8:0001:0002:ffff:ffff:ffff:ffff",
            "2001:db8:1:2:0:0:203.0.113.7",
        ] {
            assert_eq!(network(same), network("2001:db8:1:2::"), "{same}");
        }
        assert_ne!(network("2001:db8:1:3::1"), network("2001:db8:1:2::1"));
        assert_ne!(network("203.0.113.8"), network(CLIENT));
        assert!(!format!("{:?}", network(CLIENT)).contains("113"));
    }
}
