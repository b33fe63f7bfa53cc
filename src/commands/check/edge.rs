//! Whether it is clear whose a request is.

use api::config::{EdgeConfig, Environment};

use super::{Context, Finding};

/// What the API is told of the proxy in front of it.
#[derive(Debug)]
pub(super) struct Edge {
    pub(super) environment: Environment,
    pub(super) config: EdgeConfig,
}

pub(super) fn probe(context: &Context) -> Finding {
    context
        .edge
        .as_ref()
        .map_or_else(Finding::not_configured, judge)
}

fn judge(edge: &Edge) -> Finding {
    if edge.environment != Environment::Production {
        return Finding::warn(
            "this is not production: a request that names no client counts for its socket's address",
        );
    }
    match edge.config.secrets.len() {
        0 => Finding::warn(
            "requests are believed by the network that they come from, which other customers of the \
             proxy share: set EDGE_SECRET",
        ),
        1 => Finding::pass("requests are believed by the secret of the proxy in front"),
        _ => Finding::warn(
            "two secrets are believed: remove the old one once the proxy shows the new one",
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::{super::Status, *};

    #[test]
    fn one_secret_in_production_is_how_it_should_be() {
        for (environment, secrets, status) in [
            (Environment::Production, &["a"][..], Status::Pass),
            (Environment::Production, &["a", "b"], Status::Warn),
            (Environment::Production, &[], Status::Warn),
            (Environment::Staging, &["a"], Status::Warn),
        ] {
            let config = EdgeConfig {
                secrets: secrets.iter().map(|secret| (*secret).into()).collect(),
                proxies: api::config::TrustedProxies::default(),
            };
            let finding = judge(&Edge {
                environment,
                config,
            });
            assert_eq!(finding.status, status, "{finding:?}");
        }
    }
}
