//! Whether every variable is legal, and what the other probes work with.

use api::config::{EdgeConfig, Environment};
use store::{
    db::DatabaseConfig,
    settings::{Settings, SettingsError},
};
use workers::config::HandoffConfig;

use super::{Context, Finding, Role, edge::Edge};
use crate::{commands::index::command::KnowledgeSettings, environment, telemetry::TraceConfig};

/// Reads the variables of a role. A mistake in one group leaves the others in use.
pub(super) fn read(role: Role) -> Context {
    let database = part(DatabaseConfig::read).and_then(|config| config.open().ok());
    let knowledge = database
        .as_ref()
        .and_then(|database| part(KnowledgeSettings::read)?.deps(database).ok());
    Context {
        problems: problems(environment::settings(), role).err(),
        database,
        knowledge: knowledge.filter(|_| role != Role::Api),
        edge: part(|settings| {
            let environment = Environment::read(settings);
            let config = EdgeConfig::read(settings, environment)?;
            Some(Edge {
                environment,
                config,
            })
        })
        .filter(|_| role != Role::Worker),
        handoff: part(HandoffConfig::read).filter(|_| role != Role::Api),
        traces: part(TraceConfig::read),
    }
}

/// A group of variables by itself; `None` if something is wrong with one of them.
pub(super) fn part<T>(read: impl FnOnce(&mut Settings) -> Option<T>) -> Option<T> {
    let mut settings = environment::settings();
    let value = read(&mut settings);
    settings.finish(value).ok()
}

/// Everything that is wrong with a role's variables.
fn problems(mut settings: Settings, role: Role) -> Result<(), SettingsError> {
    let read = role.read(&mut settings).map(drop);
    settings.finish(read)
}

pub(super) fn probe(context: &Context) -> Finding {
    match &context.problems {
        None => Finding::pass("every variable is legal"),
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
                "postgres://localhost/x".to_owned(),
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
        assert_eq!(names(Role::Serve).len(), api.len() + worker.len());
    }
}
