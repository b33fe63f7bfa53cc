//! Who may speak for a client's address, and how often a client may ask.

use std::{fmt, net::IpAddr, str::FromStr};

use ipnet::IpNet;
use secrecy::{ExposeSecret, SecretString};
use store::{edge_limits::RateLimit, environment::Environment, settings::Settings};

/// From where Cloudflare's proxies connect: <https://www.cloudflare.com/ips/>, as of 2023-09-28, the
/// date of its newest change.
const CLOUDFLARE: [&str; 22] = [
    "173.245.48.0/20",
    "103.21.244.0/22",
    "103.22.200.0/22",
    "103.31.4.0/22",
    "141.101.64.0/18",
    "108.162.192.0/18",
    "190.93.240.0/20",
    "188.114.96.0/20",
    "197.234.240.0/22",
    "198.41.128.0/17",
    "162.158.0.0/15",
    "104.16.0.0/13",
    "104.24.0.0/14",
    "172.64.0.0/13",
    "131.0.72.0/22",
    "2400:cb00::/32",
    "2606:4700::/32",
    "2803:f800::/32",
    "2405:b500::/32",
    "2405:8100::/32",
    "2a06:98c0::/29",
    "2c0f:f248::/32",
];

const SECRET_RULE: &str = "a text of 16 to 256 visible ASCII characters without commas; while it is \
    changed, the new one and the old one, comma-separated";
const PROXIES_RULE: &str = "networks such as 10.0.0.0/8, comma-separated, not all addresses; cloudflare \
    for Cloudflare's; or none, by itself";

/// Who may say for which address a request is made.
#[derive(Debug, Clone)]
pub struct EdgeConfig {
    /// `EDGE_SECRET`: the values of `X-Edge-Secret` that are believed.
    pub secrets: Vec<SecretString>,
    /// `TRUSTED_PROXIES`: the networks that are believed without it; by default none beside it, and
    /// Cloudflare's where there is none.
    pub proxies: TrustedProxies,
}

impl EdgeConfig {
    /// Reads the variables of the edge. In production one of the two has to be set: which way the
    /// requests come is known to the operator only, and with the wrong one none would be served.
    pub fn read(settings: &mut Settings, environment: Environment) -> Option<Self> {
        let secret = settings.optional_secret("EDGE_SECRET", SECRET_RULE);
        let proxies = settings.optional::<TrustedProxies>("TRUSTED_PROXIES", PROXIES_RULE);
        let secrets: Vec<SecretString> = secret
            .iter()
            .flat_map(|list| list.expose_secret().split(','))
            .map(|secret| SecretString::from(secret.trim()))
            .collect();
        let legal = secrets.iter().all(|secret| {
            let secret = secret.expose_secret();
            (16..=256).contains(&secret.len()) && secret.bytes().all(|byte| byte.is_ascii_graphic())
        });
        if !legal || secrets.len() > 2 {
            settings.problem("EDGE_SECRET", format!("is not valid: {SECRET_RULE}"));
            return None;
        }
        let nobody = secrets.is_empty() && proxies.as_ref().is_none_or(TrustedProxies::are_none);
        if environment == Environment::Production
            && nobody
            && !settings.has_problem("TRUSTED_PROXIES")
            && !settings.has_problem("EDGE_SECRET")
        {
            settings.problem(
                "EDGE_SECRET",
                "is needed in production, or TRUSTED_PROXIES: have the proxy in front of this service \
                 send a secret in the header X-Edge-Secret and set it here, or set \
                 TRUSTED_PROXIES=cloudflare if Cloudflare connects to this machine itself",
            );
            return None;
        }
        // Whoever has a secret wants it to be shown: any customer of Cloudflare can send from its networks.
        let unset = || match secrets.len() {
            0 => TrustedProxies::default(),
            _ => TrustedProxies(Vec::new()),
        };
        Some(Self {
            proxies: proxies.unwrap_or_else(unset),
            secrets,
        })
    }
}

/// Networks whose requests name the client's address.
#[derive(Clone, PartialEq, Eq)]
pub struct TrustedProxies(Vec<IpNet>);

impl TrustedProxies {
    /// Whether no network is believed.
    pub fn are_none(&self) -> bool {
        self.0.is_empty()
    }

    /// Whether a connection from there is one of theirs.
    pub fn contain(&self, address: IpAddr) -> bool {
        self.0.iter().any(|network| network.contains(&address))
    }
}

impl Default for TrustedProxies {
    /// Cloudflare's.
    fn default() -> Self {
        Self(cloudflare().collect())
    }
}

fn cloudflare() -> impl Iterator<Item = IpNet> {
    CLOUDFLARE.iter().filter_map(|network| network.parse().ok())
}

impl fmt::Debug for TrustedProxies {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(&self.0).finish()
    }
}

/// A text names no networks that may be believed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("{PROXIES_RULE}")]
pub struct BadProxies;

impl FromStr for TrustedProxies {
    type Err = BadProxies;

    fn from_str(text: &str) -> Result<Self, BadProxies> {
        let mut networks = Vec::new();
        match *super::items(text) {
            [] => return Err(BadProxies),
            ["none"] => {}
            ref items => {
                for item in items {
                    match *item {
                        "cloudflare" => networks.extend(cloudflare()),
                        item => networks.push(network(item).ok_or(BadProxies)?),
                    }
                }
            }
        }
        Ok(Self(networks))
    }
}

/// A network as peers are compared with it: IPv4 in IPv6 is IPv4. All addresses are no network: who
/// believes everybody believes nobody.
fn network(text: &str) -> Option<IpNet> {
    let network = match text.parse::<IpAddr>() {
        Ok(address) => address.into(),
        Err(_) => text.parse::<IpNet>().ok()?,
    };
    let network = match (network.addr().to_canonical(), network.prefix_len()) {
        (IpAddr::V4(address), length @ 96..) => IpNet::new(address.into(), length - 96).ok()?,
        _ => network,
    };
    (network.prefix_len() > 0).then_some(network)
}

/// How often a client may ask for what costs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RateLimits {
    /// `RATE_LIMIT_IP`: of an IPv4 address, or of an IPv6 network of 64 bits, which is one household.
    pub address: RateLimit,
    /// `RATE_LIMIT_SESSION`: of one conversation.
    pub session: RateLimit,
    /// `RATE_LIMIT_SITE`: of all visitors of one site key.
    pub site: RateLimit,
}

impl RateLimits {
    /// Reads the limits.
    pub fn read(settings: &mut Settings) -> Self {
        let mut limit = |name, default: &str| {
            let default = default.parse().expect("the default is a limit");
            settings.with_default(name, default, RateLimit::RULE, |_| true)
        };
        Self {
            address: limit("RATE_LIMIT_IP", "30/10m"),
            session: limit("RATE_LIMIT_SESSION", "10/1m"),
            site: limit("RATE_LIMIT_SITE", "600/1m"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(variables: &[(&str, &str)], environment: Environment) -> Result<EdgeConfig, String> {
        let owned = variables
            .iter()
            .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()));
        let mut settings = Settings::new(owned);
        let config = EdgeConfig::read(&mut settings, environment);
        settings.finish(config).map_err(|error| error.to_string())
    }

    #[test]
    fn production_needs_to_be_told_whom_to_believe() {
        let sixteen = "s".repeat(16);
        for (variables, starts) in [
            (&[][..], false),
            (&[("TRUSTED_PROXIES", "none")], false),
            (&[("TRUSTED_PROXIES", "cloudflare")], true),
            (&[("TRUSTED_PROXIES", "10.1.2.3, fd00::/8")], true),
            (&[("EDGE_SECRET", &*sixteen)], true),
            (
                &[("EDGE_SECRET", &*sixteen), ("TRUSTED_PROXIES", "none")],
                true,
            ),
        ] {
            let outcome = read(variables, Environment::Production);
            assert_eq!(outcome.is_ok(), starts, "{variables:?}: {outcome:?}");
            assert!(read(variables, Environment::Staging).is_ok());
        }
        let said = read(&[], Environment::Production).unwrap_err();
        assert!(said.contains("EDGE_SECRET") && said.contains("TRUSTED_PROXIES=cloudflare"));
    }

    #[test]
    fn what_could_be_guessed_or_not_be_sent_is_no_secret() {
        let long = "s".repeat(257);
        let three = format!("{0},{0},{0}", "s".repeat(16));
        for bad in [
            "fifteen-letters",
            &long,
            "with spaces in it",
            "umlaut-äöü-umlaut",
            &three,
            ",",
            "hunter2",
        ] {
            let said = read(&[("EDGE_SECRET", bad)], Environment::Development).unwrap_err();
            assert!(
                said.contains("EDGE_SECRET") && !said.contains("hunter2"),
                "{said}"
            );
        }
        let two = format!("{}, {}", "n".repeat(16), "o".repeat(16));
        let config = read(&[("EDGE_SECRET", &two)], Environment::Production).unwrap();
        assert_eq!(config.secrets.len(), 2);
        assert!(!format!("{config:?}").contains("nnn"));
    }

    #[test]
    fn what_is_no_network_is_refused_by_name() {
        for bad in [
            "10.0.0.0/33",
            "cloudflare.com",
            "10.0.0.0/8;fd00::/8",
            ",",
            // Believed would be anybody.
            "0.0.0.0/0",
            "::/0",
            "cloudflare, 1.2.3.4/0",
            "::ffff:0.0.0.0/96",
            // Which of them is meant?
            "none,cloudflare",
            "none, none",
        ] {
            let said = read(&[("TRUSTED_PROXIES", bad)], Environment::Production).unwrap_err();
            assert!(said.contains("TRUSTED_PROXIES: is not valid"), "{said}");
        }
    }

    #[test]
    fn beside_a_secret_networks_are_believed_only_if_they_are_named() {
        let secret = ("EDGE_SECRET", "a-secret-of-the-edge");
        let cloudflare = "104.16.0.1".parse().unwrap();
        for (variables, believed) in [
            (&[][..], true),
            (&[secret], false),
            (&[secret, ("TRUSTED_PROXIES", "none")], false),
            (&[secret, ("TRUSTED_PROXIES", "cloudflare")], true),
        ] {
            let config = read(variables, Environment::Staging).unwrap();
            assert_eq!(
                config.proxies.contain(cloudflare),
                believed,
                "{variables:?}"
            );
            assert_eq!(config.proxies.are_none(), !believed, "{variables:?}");
        }
    }

    #[test]
    fn a_network_is_the_same_in_each_of_its_spellings() {
        for (spelling, inside, outside) in [
            ("::ffff:10.0.0.0/104", "10.255.0.1", "11.0.0.1"),
            ("::ffff:10.1.2.3", "10.1.2.3", "10.1.2.4"),
            ("::FFFF:a01:200/120", "10.1.2.9", "10.1.3.9"),
            ("10.1.2.3/8", "10.255.0.1", "11.0.0.1"),
            ("10.1.2.3", "10.1.2.3", "10.1.2.4"),
            ("2001:db8::1", "2001:db8::1", "2001:db8::2"),
            ("fd00::/8", "fd01::1", "10.0.0.1"),
        ] {
            let proxies: TrustedProxies = spelling.parse().unwrap();
            assert!(proxies.contain(inside.parse().unwrap()), "{spelling}");
            assert!(!proxies.contain(outside.parse().unwrap()), "{spelling}");
        }
    }

    #[test]
    fn every_range_of_cloudflare_is_a_network() {
        assert_eq!(TrustedProxies::default().0.len(), CLOUDFLARE.len());
        for (address, theirs) in [
            ("104.16.0.1", true),
            ("2606:4700::1", true),
            ("104.15.255.255", false),
            ("2001:db8::1", false),
        ] {
            assert_eq!(
                TrustedProxies::default().contain(address.parse().unwrap()),
                theirs
            );
        }
    }
}
