//! Whether every variable is legal, and what the other probes work with.

use std::net::IpAddr;

use api::config::{EdgeConfig, Environment};
use store::{
    db::DatabaseConfig,
    settings::{Settings, SettingsError},
};
use url::{Host, Url};
use workers::config::{
    BackupConfig, EmbeddingsConfig, HandoffConfig, ModelConfig, PrivacyConfig, RestoreConfig,
    ToolsConfig,
};

use super::{Context, Finding, Role, edge::Edge};
use crate::{commands::index::command::KnowledgeSettings, environment, telemetry::TraceConfig};

/// Whatever we send there is somebody's: a key, a lead, a question, a backup.
const OUTSIDE: [&str; 8] = [
    "ANTHROPIC_BASE_URL",
    "OPENAI_EU_ENDPOINT",
    "SLACK_API_BASE_URL",
    "SLACK_WEBHOOK_URL",
    "HUBSPOT_BASE_URL",
    "CRM_WEBHOOK_URL",
    "TIGRIS_ENDPOINT_URL",
    "OTEL_EXPORTER_OTLP_ENDPOINT",
];

/// Reads the variables of a role. A mistake in one group leaves the others in use.
pub(super) fn read(role: Role) -> Context {
    let database = part(DatabaseConfig::read).and_then(|config| config.open().ok());
    let knowledge = database
        .as_ref()
        .and_then(|database| part(KnowledgeSettings::read)?.deps(database).ok());
    let works = role != Role::Api;
    Context {
        problems: problems(environment::settings(), role).err(),
        plain: plain(&environment::settings()),
        database,
        knowledge: knowledge.filter(|_| works),
        model: part(ModelConfig::read).filter(|_| works),
        embeddings: part(EmbeddingsConfig::read).filter(|_| works),
        edge: part(|settings| {
            let environment = Environment::read(settings);
            let config = EdgeConfig::read(settings, environment)?;
            Some(Edge {
                environment,
                config,
            })
        })
        .filter(|_| role != Role::Worker),
        privacy: part(|settings| Some(PrivacyConfig::read(settings))).filter(|_| works),
        handoff: part(HandoffConfig::read).filter(|_| works),
        backups: part(RestoreConfig::read),
        tools: part(|settings| Some(ToolsConfig::read(settings))),
        traces: part(TraceConfig::read),
    }
}

/// A group of variables by itself; `None` if something is wrong with one of them.
pub(super) fn part<T>(read: impl FnOnce(&mut Settings) -> Option<T>) -> Option<T> {
    let mut settings = environment::settings();
    let value = read(&mut settings);
    settings.finish(value).ok()
}

/// Everything that is wrong with a role's variables, and with those of the backups, which somebody has to
/// make.
fn problems(mut settings: Settings, role: Role) -> Result<(), SettingsError> {
    let read = role.read(&mut settings).map(drop);
    let backups = BackupConfig::read(&mut settings).map(drop);
    settings.finish(read.and(backups))
}

/// The variables that lead over http to somewhere public. Gateways of a network of one's own may do without
/// TLS, and so may stand-ins.
fn plain(settings: &Settings) -> Vec<&'static str> {
    let is_plain = |name: &&str| {
        let url = settings.get(name).and_then(|url| Url::parse(url).ok());
        url.is_some_and(|url| {
            url.scheme() == "http" && url.host().is_some_and(|host| is_public(&host))
        })
    };
    OUTSIDE.into_iter().filter(is_plain).collect()
}

fn is_public(host: &Host<&str>) -> bool {
    let address = match host {
        Host::Domain(name) => {
            let own = [".internal", ".local", ".localhost", ".flycast"];
            return name.contains('.') && !own.iter().any(|end| name.ends_with(end));
        }
        Host::Ipv4(address) => IpAddr::V4(*address),
        Host::Ipv6(address) => IpAddr::V6(*address),
    };
    match address {
        IpAddr::V4(it) => !(it.is_private() || it.is_loopback() || it.is_link_local()),
        IpAddr::V6(it) => !(it.is_unique_local() || it.is_loopback()),
    }
}

pub(super) fn probe(context: &Context) -> Finding {
    match &context.problems {
        None if context.plain.is_empty() => Finding::pass("every variable is legal"),
        None => {
            let lines = context.plain.iter().map(|name| {
                format!("{name} is an http address: whatever is sent there can be read on the way; use https")
            });
            Finding::warn(lines.collect::<Vec<_>>().join("\n"))
        }
        Some(error) => {
            let lines: Vec<String> = error
                .problems
                .iter()
                .map(|(name, problem)| format!("{name} {problem}"))
                .collect();
            Finding::fail(lines.join("\n"))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_role_is_told_of_its_own_variables_only_and_of_all_at_once() {
        let names = |role| {
            let settings = Settings::new([(
                "CHECKPOINT_DB_URL".to_owned(),
                "postgres://u@localhost/x".to_owned(),
            )]);
            let problems = problems(settings, role).unwrap_err().problems;
            problems
                .into_iter()
                .map(|(name, _)| name)
                .collect::<Vec<_>>()
        };
        let api = names(Role::Api);
        let worker = names(Role::Worker);
        assert!(api.contains(&"WIDGET_TOKENS".to_owned()), "{api:?}");
        assert!(!api.contains(&"OPENAI_API_KEY".to_owned()), "{api:?}");
        assert!(worker.contains(&"OPENAI_API_KEY".to_owned()), "{worker:?}");
        assert!(
            worker.contains(&"RAG_RELEVANCE_THRESHOLD".to_owned()),
            "{worker:?}"
        );
        assert!(!worker.contains(&"WIDGET_TOKENS".to_owned()), "{worker:?}");
        // The bucket's three are told of once.
        assert_eq!(names(Role::Serve).len() + 3, api.len() + worker.len());
    }

    #[test]
    fn the_backups_variables_are_named_whatever_the_role_is() {
        for role in [Role::Api, Role::Worker, Role::Serve] {
            let error = problems(Settings::default(), role).unwrap_err();
            for name in [
                "TIGRIS_BUCKET_NAME",
                "TIGRIS_ACCESS_KEY_ID",
                "TIGRIS_SECRET_ACCESS_KEY",
            ] {
                let named = error.problems.iter().filter(|(it, _)| it == name);
                assert_eq!(named.count(), 1, "{role:?} {name}");
            }
        }
    }

    #[test]
    fn http_is_for_a_network_of_ones_own() {
        for (url, is_plain) in [
            ("http://hooks.slack.example/x", true),
            ("http://203.0.113.7", true),
            ("http://[2001:db8::1]/", true),
            ("https://hooks.slack.example/x", false),
            ("http://gateway:8080", false),
            ("http://gateway.internal", false),
            ("http://10.1.2.3", false),
            ("http://127.0.0.1:4001", false),
            ("http://[::1]:4001", false),
            ("http://[fd00::1]/", false),
        ] {
            let variable = ("SLACK_WEBHOOK_URL".to_owned(), url.to_owned());
            assert_eq!(
                !plain(&Settings::new([variable])).is_empty(),
                is_plain,
                "{url}"
            );
        }
    }
}
