//! What the API is configured with, read once at start.

mod edge;

use std::{
    net::{IpAddr, Ipv4Addr, SocketAddr},
    time::Duration,
};

use secrecy::SecretString;
pub use store::environment::Environment;
use store::{expiry, handoffs, settings::Settings};
use url::Url;

pub use self::edge::{EdgeConfig, RateLimits, TrustedProxies};

/// Which sites may call the API from a browser.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum AllowedOrigins {
    /// All of them; only in development.
    Any,
    /// These, as a browser writes them: scheme, host, and port if it is not the default.
    These(Vec<String>),
}

/// The configuration of the role `api`.
#[derive(Debug, Clone)]
pub struct ApiConfig {
    /// `ENVIRONMENT`, default `production`.
    pub environment: Environment,
    /// `BIND_ADDRESS`, default `0.0.0.0`.
    pub bind_address: IpAddr,
    /// `PORT`, default 8080. 0 in development: any free one.
    pub port: u16,
    /// `METRICS_PORT`, default 9091. 0 in development: any free one.
    pub metrics_port: u16,
    /// `WIDGET_TOKENS`: the site keys, comma-separated. They are public.
    pub widget_tokens: Vec<String>,
    /// `ALLOWED_ORIGIN` (seed 000): one or several, comma-separated; `*` only in development.
    pub allowed_origins: AllowedOrigins,
    /// `SESSION_TTL_HOURS`: after how long without a message a session is closed ([`expiry::read_ttl`]).
    pub session_ttl: Duration,
    /// `SLACK_SIGNING_SECRET`, a secret: what Slack signs its requests with. Without it nobody can speak from
    /// Slack.
    pub slack_signing_secret: Option<SecretString>,
    /// `HANDOFF_RETRY_BACKOFF_SECONDS`, stored with the jobs of a handoff ([`handoffs::read_waits`]).
    pub handoff_waits: Vec<i32>,
    /// Who may say for which address a request is made.
    pub edge: EdgeConfig,
    /// How often a client may ask for what costs.
    pub limits: RateLimits,
}

const PORT_RULE: &str = "a port from 1 to 65535, or 0 in development, for any free one";
const TOKENS_RULE: &str = "the site keys, comma-separated, each of 1 to 128 characters of A-Z, a-z, 0-9, '.', '_', '~' and '-'";
const ORIGIN_RULE: &str = "the sites that carry the widget, comma-separated, each such as \
    https://www.company.com: scheme and host in lower case, a port if needed, no path";

impl ApiConfig {
    /// Reads the configuration; every problem is noted in `settings`.
    pub fn read(settings: &mut Settings) -> Option<Self> {
        let listen = Listen::read(settings);
        let environment = listen.environment;
        let development = environment == Environment::Development;
        let bind_address = listen.bind_address;
        let port = listen.port(settings, "PORT", 8080);
        let metrics_port = listen.port(settings, "METRICS_PORT", 9091);
        if port == metrics_port && port > 0 {
            settings.problem("METRICS_PORT", "must differ from PORT");
        }
        let widget_tokens = widget_tokens(settings);
        let allowed_origins = allowed_origins(settings, development);
        let session_ttl = expiry::read_ttl(settings);
        let slack_signing_secret = settings.optional_secret(
            "SLACK_SIGNING_SECRET",
            "the signing secret of the Slack app",
        );
        let handoff_waits = handoffs::read_waits(settings);
        let edge = EdgeConfig::read(settings, environment);
        let limits = RateLimits::read(settings);
        Some(Self {
            environment,
            bind_address,
            port,
            metrics_port,
            widget_tokens: widget_tokens?,
            allowed_origins: allowed_origins?,
            session_ttl,
            slack_signing_secret,
            handoff_waits,
            edge: edge?,
            limits,
        })
    }
}

/// Where a process that serves only its metrics does so: `BIND_ADDRESS` and `METRICS_PORT`.
pub fn metrics_address(settings: &mut Settings) -> SocketAddr {
    let listen = Listen::read(settings);
    let port = listen.port(settings, "METRICS_PORT", 9091);
    SocketAddr::new(listen.bind_address, port)
}

/// What the ports of a process depend on.
struct Listen {
    environment: Environment,
    bind_address: IpAddr,
}

impl Listen {
    fn read(settings: &mut Settings) -> Self {
        let environment = Environment::read(settings);
        let bind_address = settings.with_default(
            "BIND_ADDRESS",
            IpAddr::V4(Ipv4Addr::UNSPECIFIED),
            "an IP address of this machine",
            |_| true,
        );
        Self {
            environment,
            bind_address,
        }
    }

    fn port(&self, settings: &mut Settings, name: &str, default: u16) -> u16 {
        settings.with_default(name, default, PORT_RULE, |port| {
            *port > 0 || self.environment == Environment::Development
        })
    }
}

fn items(list: &str) -> Vec<&str> {
    list.split(',')
        .map(str::trim)
        .filter(|item| !item.is_empty())
        .collect()
}

fn widget_tokens(settings: &mut Settings) -> Option<Vec<String>> {
    let list: String = settings.required("WIDGET_TOKENS", TOKENS_RULE)?;
    let tokens = items(&list);
    let legal = |token: &&str| {
        token.len() <= 128
            && token
                .bytes()
                .all(|byte| byte.is_ascii_alphanumeric() || b"._~-".contains(&byte))
    };
    if tokens.is_empty() || !tokens.iter().all(legal) {
        settings.problem("WIDGET_TOKENS", format!("is not valid: {TOKENS_RULE}"));
        return None;
    }
    Some(tokens.into_iter().map(str::to_owned).collect())
}

fn allowed_origins(settings: &mut Settings, development: bool) -> Option<AllowedOrigins> {
    let list: String = settings.required("ALLOWED_ORIGIN", ORIGIN_RULE)?;
    let origins = items(&list);
    if development && origins.contains(&"*") {
        return Some(AllowedOrigins::Any);
    }
    if origins.iter().any(|origin| origin.contains('*')) {
        // A part of a name is no better: browsers are answered by whole origins, so it matches nobody.
        settings.problem(
            "ALLOWED_ORIGIN",
            "must have no *, which in development only stands for every site: name the sites that carry \
             the widget, each by its whole address",
        );
        return None;
    }
    if origins.is_empty() || !origins.iter().all(|origin| is_origin(origin)) {
        settings.problem("ALLOWED_ORIGIN", format!("is not valid: {ORIGIN_RULE}"));
        return None;
    }
    Some(AllowedOrigins::These(
        origins.into_iter().map(str::to_owned).collect(),
    ))
}

/// Whether it is written as browsers write it, so that it can be compared as text.
fn is_origin(text: &str) -> bool {
    Url::parse(text).is_ok_and(|url| {
        matches!(url.scheme(), "http" | "https") && url.origin().ascii_serialization() == text
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// With the edge's secret, which production needs.
    fn read(variables: &[(&str, &str)]) -> Result<ApiConfig, Vec<String>> {
        let mut settings = Settings::new(
            [("EDGE_SECRET", "what-the-edge-shows")]
                .iter()
                .chain(variables)
                .map(|(name, value)| ((*name).to_owned(), (*value).to_owned())),
        );
        let config = ApiConfig::read(&mut settings);
        settings.finish(config).map_err(|error| {
            let problems = error.problems.into_iter();
            problems.map(|(name, _)| name).collect()
        })
    }

    #[test]
    fn the_defaults_are_those_of_the_reference() {
        let config = read(&[
            ("WIDGET_TOKENS", "one, two"),
            ("ALLOWED_ORIGIN", "https://a.example,http://localhost:3000"),
        ])
        .unwrap();
        assert_eq!(config.environment, Environment::Production);
        assert_eq!((config.port, config.metrics_port), (8080, 9091));
        assert_eq!(config.bind_address.to_string(), "0.0.0.0");
        assert_eq!(config.session_ttl, Duration::from_hours(24));
        assert_eq!(config.widget_tokens, ["one", "two"]);
        assert_eq!(
            config.allowed_origins,
            AllowedOrigins::These(vec![
                "https://a.example".to_owned(),
                "http://localhost:3000".to_owned()
            ])
        );
    }

    #[test]
    fn everything_that_is_wrong_is_reported_at_once() {
        assert_eq!(
            read(&[
                ("ENVIRONMENT", "prod"),
                ("PORT", "0"),
                ("METRICS_PORT", "70000"),
                ("BIND_ADDRESS", "localhost"),
                ("WIDGET_TOKENS", "a b"),
                ("SESSION_TTL_HOURS", "0"),
            ])
            .unwrap_err(),
            [
                "ENVIRONMENT",
                "BIND_ADDRESS",
                "PORT",
                "METRICS_PORT",
                "WIDGET_TOKENS",
                "ALLOWED_ORIGIN",
                "SESSION_TTL_HOURS"
            ]
        );
    }

    #[test]
    fn an_origin_is_what_a_browser_sends() {
        for bad in [
            "https://a.example/",
            "https://a.example/chat",
            "https://A.example",
            "https://a.example:443",
            "a.example",
            "null",
            "ftp://a.example",
            "https://user@a.example",
            ",",
            "https://*.a.example",
            "https://www.a.example,https://*.a.example",
        ] {
            for environment in ["production", "development"] {
                let read = read(&[
                    ("WIDGET_TOKENS", "t"),
                    ("ALLOWED_ORIGIN", bad),
                    ("ENVIRONMENT", environment),
                ]);
                assert_eq!(read.unwrap_err(), ["ALLOWED_ORIGIN"], "{bad}");
            }
        }
    }

    #[test]
    fn every_origin_is_allowed_in_development_only() {
        let with = |environment| {
            read(&[
                ("WIDGET_TOKENS", "t"),
                ("ALLOWED_ORIGIN", "*"),
                ("ENVIRONMENT", environment),
            ])
        };
        let config = with("development").unwrap();
        assert_eq!(config.allowed_origins, AllowedOrigins::Any);
        assert_eq!(with("staging").unwrap_err(), ["ALLOWED_ORIGIN"]);
        assert_eq!(with("production").unwrap_err(), ["ALLOWED_ORIGIN"]);
    }
}
