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
    let EdgeConfig { secrets, proxies } = &edge.config;
    match (secrets.len(), proxies.are_none()) {
        (0, _) => Finding::warn(
            "requests are believed by the network that they come from, which other customers of the \
             proxy share: set EDGE_SECRET",
        ),
        (_, false) => Finding::warn(
            "requests are believed without the secret, too, if they come from a network of \
             TRUSTED_PROXIES, which other customers of the proxy may share: unset it",
        ),
        (1, true) => Finding::pass("requests are believed by the secret of the proxy in front"),
        (_, true) => Finding::warn(
            "two secrets are believed: remove the old one once the proxy shows the new one",
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::{super::Status, *};

    #[test]
    fn one_secret_and_nothing_else_in_production_is_how_it_should_be() {
        for (environment, secrets, proxies, status) in [
            (Environment::Production, &["a"][..], "none", Status::Pass),
            (Environment::Production, &["a", "b"], "none", Status::Warn),
            (Environment::Production, &["a"], "cloudflare", Status::Warn),
            (
                Environment::Production,
                &["a", "b"],
                "10.0.0.0/8",
                Status::Warn,
            ),
            (Environment::Production, &[], "cloudflare", Status::Warn),
            (Environment::Staging, &["a"], "none", Status::Warn),
        ] {
            let config = EdgeConfig {
                secrets: secrets.iter().map(|secret| (*secret).into()).collect(),
                proxies: proxies.parse().unwrap(),
            };
            let networks = !config.proxies.are_none();
            let finding = judge(&Edge {
                environment,
                config,
            });
            assert_eq!(finding.status, status, "{finding:?}");
            let of_networks = finding.says.contains("network");
            assert_eq!(of_networks, networks, "{finding:?}");
        }
    }
}
