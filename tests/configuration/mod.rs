//! The configuration is refused when it is wrong, by name and at once, and nothing secret is told.
//!
//! What there is to spoil says the program itself (`growth-chat configuration --format json`): a new
//! variable is tried without a change here.

mod refused;

use std::{
    collections::{BTreeMap, BTreeSet},
    ffi::OsString,
    os::unix::ffi::OsStringExt,
    process::{Output, Stdio},
    time::Duration,
};

use futures::{StreamExt, stream};
use serde::Deserialize;
use tokio::{process::Command, time::timeout};

use crate::support::output::said;

/// A machine under load is slow; a process that takes longer has started.
const PATIENCE: Duration = Duration::from_secs(30);
/// Processes at once.
const TOGETHER: usize = 8;
/// In every secret.
const MARKER: &str = "hunter2";

/// A variable as the program describes it.
#[derive(Debug, Deserialize)]
struct Variable {
    name: String,
    required_by: BTreeSet<String>,
    only_with: Option<String>,
    secret: bool,
    roles: BTreeSet<String>,
}

/// Variables whose legal values are all texts, so that only bytes that are none spoil them.
const ANY_TEXT: &[&str] = &["NOTICE_TEXT"];

type Environment = BTreeMap<String, OsString>;

/// A legal configuration of `serve` in production, all of whose secrets have the marker.
fn legal(choice: Option<&str>) -> Environment {
    let mut variables: Vec<(&str, &str)> = vec![
        // A database that is not there delays the work, not the start.
        ("CHECKPOINT_DB_URL", "postgres://u:hunter2@127.0.0.1:1/none"),
        ("BIND_ADDRESS", "127.0.0.1"),
        ("WIDGET_TOKENS", "key"),
        ("ALLOWED_ORIGIN", "https://www.company.example"),
        ("EDGE_SECRET", "hunter2-of-the-edge"),
        ("ANTHROPIC_API_KEY", "hunter2-of-anthropic"),
        ("OPENAI_API_KEY", "hunter2-of-openai"),
        ("RAG_RELEVANCE_THRESHOLD", "0.7"),
        ("SLACK_WEBHOOK_URL", "https://hooks.slack.example/hunter2"),
        ("SLACK_BOT_TOKEN", "xoxb-hunter2"),
        ("SLACK_SIGNING_SECRET", "hunter2-of-slack"),
        ("FALLBACK_EMAIL_ADDRESS", "sales@company.example"),
        ("SMTP_HOST", "mail.company.example"),
        ("SMTP_USERNAME", "hunter2@company.example"),
        ("SMTP_PASSWORD", "hunter2-of-mail"),
        ("BUSINESS_HOURS_TIMEZONE", "Europe/Madrid"),
        ("HUBSPOT_ACCESS_TOKEN", "hunter2-of-hubspot"),
        ("CRM_WEBHOOK_URL", "https://crm.company.example/"),
        (
            "CRM_WEBHOOK_SECRET",
            "whsec_aHVudGVyMi1odW50ZXIyLWh1bnRlcjIteA==",
        ),
        ("PRIVACY_SECRET", "hunter2-of-privacy-with-length-enough"),
        ("TIGRIS_BUCKET_NAME", "backups"),
        ("TIGRIS_ACCESS_KEY_ID", "hunter2-of-the-bucket"),
        ("TIGRIS_SECRET_ACCESS_KEY", "hunter2-of-the-bucket-too"),
        ("RESTORE_PASSWORD", "hunter2-of-a-target"),
        ("OTEL_EXPORTER_OTLP_HEADERS", "authorization=hunter2"),
    ];
    if let Some((name, value)) = choice.and_then(|choice| choice.split_once('=')) {
        variables.push((name, value));
    }
    let owned = |(name, value): (&str, &str)| (name.to_owned(), OsString::from(value));
    variables.into_iter().map(owned).collect()
}

/// Runs a command in an environment of these variables only. One that has not ended in time has started.
async fn run(arguments: &[&str], environment: &Environment) -> Option<Output> {
    let mut command = Command::new(env!("CARGO_BIN_EXE_growth-chat"));
    command
        .args(arguments)
        .env_clear()
        .envs(environment)
        .stdin(Stdio::null())
        .kill_on_drop(true);
    timeout(PATIENCE, command.output())
        .await
        .ok()
        .map(Result::unwrap)
}

/// All that a process said.
/// The variables that a refused start names, in a process that told no secret.
#[track_caller]
fn named(output: &Output, case: &str) -> BTreeSet<String> {
    let said = said(output);
    assert_eq!(output.status.code(), Some(2), "{case}: {said}");
    assert!(!said.contains(MARKER), "{case}: {said}");
    said.lines()
        .filter_map(|line| Some(line.strip_prefix("  ")?.split_once(':')?.0.to_owned()))
        .collect()
}

/// What is no text.
fn hunted_bytes() -> OsString {
    OsString::from_vec([b"hunter2".as_slice(), &[0xff]].concat())
}

async fn described() -> Vec<Variable> {
    let output = run(&["configuration", "--format", "json"], &Environment::new()).await;
    serde_json::from_slice(&output.unwrap().stdout).unwrap()
}

impl Variable {
    /// A long-running role that reads it.
    fn service(&self) -> Option<&'static str> {
        let mut services = ["api", "worker"].into_iter();
        services.find(|role| self.roles.contains(*role))
    }

    fn is_of_a_service(&self) -> bool {
        self.service().is_some()
    }
}

/// Starts a role once for each of its variables, spoilt by `spoil`; it must be refused for that variable.
async fn each_spoilt(
    variables: impl Iterator<Item = &Variable>,
    spoil: impl Fn(&mut Environment, &Variable),
) {
    let cases = variables.map(|variable| {
        let mut environment = legal(variable.only_with.as_deref());
        spoil(&mut environment, variable);
        let role = variable.service().unwrap();
        async move { (&variable.name, run(&[role], &environment).await) }
    });
    let outcomes: Vec<_> = stream::iter(cases)
        .buffer_unordered(TOGETHER)
        .collect()
        .await;
    assert!(outcomes.len() > 10);
    for (name, output) in outcomes {
        let output = output.unwrap_or_else(|| panic!("{name}: it has started"));
        let named = named(&output, name);
        assert!(named.contains(name), "{name}: {named:?} {}", said(&output));
        // A variable that another one is compared with may bring that up as well.
        assert!(named.len() <= 2, "{name}: {named:?}");
    }
}

#[tokio::test]
async fn each_required_variable_that_is_missing_stops_the_start_with_its_name() {
    let described = described().await;
    let required = described.iter().filter(|variable| {
        let service = variable.service();
        service.is_some_and(|role| variable.required_by.contains(role))
    });
    each_spoilt(required, |environment, variable| {
        environment.remove(&variable.name);
    })
    .await;
}

#[tokio::test]
async fn each_variable_that_makes_no_sense_stops_the_start_with_its_name() {
    let described = described().await;
    let senseless = described
        .iter()
        .filter(|variable| variable.is_of_a_service())
        .filter(|variable| !ANY_TEXT.contains(&&*variable.name));
    each_spoilt(senseless, |environment, variable| {
        environment.insert(variable.name.clone(), "\u{1}hunter2 \u{e9}".into());
    })
    .await;
}

#[tokio::test]
async fn each_variable_that_is_no_text_stops_the_start_with_its_name() {
    let described = described().await;
    let of_a_service = described
        .iter()
        .filter(|variable| variable.is_of_a_service());
    each_spoilt(of_a_service, |environment, variable| {
        environment.insert(variable.name.clone(), hunted_bytes());
    })
    .await;
}

#[tokio::test]
async fn a_secret_of_a_command_that_makes_no_sense_stops_it_with_its_name() {
    let described = described().await;
    let into = "postgres://u@127.0.0.1:1/none";
    for (command, words) in [
        ("backup", &["backup"][..]),
        ("backup", &["backup", "list"]),
        ("restore", &["restore", "latest", "--into", into]),
        ("tick", &["tick"]),
        ("erase", &["erase", "--waiting"]),
    ] {
        let listed = |name: &str| !words.contains(&"list") || name.starts_with("TIGRIS_");
        let secrets = described
            .iter()
            .filter(|it| it.secret && it.only_with.is_none())
            .filter(|it| it.roles.contains(command) && listed(&it.name));
        let mut spoilt = 0;
        for variable in secrets {
            for value in ["\u{1}hunter2 \u{e9}".into(), hunted_bytes()] {
                let mut environment = legal(None);
                environment.insert(variable.name.clone(), value);
                let output = run(words, &environment).await.unwrap();
                let named = named(&output, &variable.name);
                assert!(named.contains(&variable.name), "{words:?}: {named:?}");
                spoilt += 1;
            }
        }
        assert!(spoilt >= 4, "{words:?}: {spoilt}");
    }
}

#[tokio::test]
async fn all_that_is_missing_is_listed_at_once() {
    let described = described().await;
    for (command, roles) in [
        ("api", &["api"][..]),
        ("worker", &["worker"]),
        ("serve", &["api", "worker"]),
        ("tick", &["tick"]),
        ("replay", &["replay"]),
        ("index", &["index"]),
        ("search", &["search"]),
        ("backup", &["backup"]),
        ("restore", &["restore"]),
        ("migrate", &["migrate"]),
    ] {
        let required: BTreeSet<String> = described
            .iter()
            .filter(|variable| variable.only_with.is_none())
            .filter(|variable| {
                let mut roles = roles.iter();
                roles.any(|role| variable.required_by.contains(*role))
            })
            .map(|variable| variable.name.clone())
            // Production needs it unless TRUSTED_PROXIES is set.
            .chain(roles.contains(&"api").then(|| "EDGE_SECRET".to_owned()))
            .collect();
        let mut words = vec![command];
        words.extend(match command {
            "replay" => &["s/1"][..],
            "index" => &["."],
            "search" => &["what"],
            "restore" => &["latest", "--into", "postgres://u@127.0.0.1:1/none"],
            _ => &[],
        });
        let output = run(&words, &Environment::new()).await.unwrap();
        assert_eq!(named(&output, command), required);
    }
}

#[tokio::test]
async fn a_legal_configuration_is_legal_and_a_check_tells_no_secret() {
    for choice in [
        None,
        Some("CRM_PROVIDER=hubspot"),
        Some("CRM_PROVIDER=webhook"),
    ] {
        let mut environment = legal(choice);
        // What is looked at is not there, and answers at once.
        for (name, value) in [
            ("SMTP_HOST", "127.0.0.1"),
            ("SMTP_PORT", "1"),
            ("SLACK_API_BASE_URL", "http://127.0.0.1:1/api"),
            ("SLACK_WEBHOOK_URL", "http://127.0.0.1:1/hunter2"),
            ("HUBSPOT_BASE_URL", "http://127.0.0.1:1"),
            ("CRM_WEBHOOK_URL", "http://127.0.0.1:1/"),
            ("TIGRIS_ENDPOINT_URL", "http://127.0.0.1:1"),
            ("ANTHROPIC_BASE_URL", "http://127.0.0.1:1"),
            ("OPENAI_EU_ENDPOINT", "http://127.0.0.1:1/v1"),
            ("OTEL_EXPORTER_OTLP_ENDPOINT", "http://127.0.0.1:1"),
        ] {
            environment.insert(name.to_owned(), value.into());
        }
        let output = run(&["check", "--json"], &environment).await.unwrap();
        let said = said(&output);
        assert_eq!(output.status.code(), Some(1), "{said}");
        assert!(!said.contains(MARKER), "{said}");
        let lines: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
        assert_eq!(lines[0]["status"], "pass", "{lines}");
    }
}

#[tokio::test]
async fn every_secret_is_described_as_one() {
    let described = described().await;
    let environment = legal(None);
    for variable in &described {
        let value = environment
            .get(&variable.name)
            .and_then(|value| value.to_str());
        let marked = value.is_some_and(|value| value.contains(MARKER));
        assert!(!marked || variable.secret, "{}", variable.name);
    }
}

#[tokio::test]
async fn the_committed_reference_is_what_the_program_prints() {
    for (form, committed, renew) in [
        (
            "markdown",
            include_str!("../../docs/configuration.md"),
            "docs/configuration.md",
        ),
        ("env", include_str!("../../.env.example"), ".env.example"),
    ] {
        let output = run(&["configuration", "--format", form], &Environment::new()).await;
        let printed = String::from_utf8(output.unwrap().stdout).unwrap();
        assert!(
            printed == committed,
            "renew it: cargo run -- configuration --format {form} > {renew}"
        );
    }
}

#[test]
fn the_widgets_variables_are_those_of_its_build() {
    let build = include_str!("../../widget/vite.config.ts");
    let reference = include_str!("../../docs/configuration.md");
    let names = |text: &'static str| -> BTreeSet<&'static str> {
        let parts = text.split(|letter: char| !(letter.is_ascii_uppercase() || letter == '_'));
        parts
            .filter(|part| part.len() > 5 && part.starts_with("VITE_"))
            .collect()
    };
    assert!(!names(build).is_empty());
    assert_eq!(names(build), names(reference));
}
