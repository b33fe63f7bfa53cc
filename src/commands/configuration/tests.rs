use std::collections::BTreeSet;

use super::*;

/// What lets every role start, with figures that are no defaults.
const REQUIRED: &[(&str, &str)] = &[
    ("CHECKPOINT_DB_URL", "postgres://u@localhost/x"),
    ("WIDGET_TOKENS", "key"),
    ("ALLOWED_ORIGIN", "https://www.company.example"),
    ("EDGE_SECRET", "what-the-edge-shows"),
    ("ANTHROPIC_API_KEY", "a"),
    ("OPENAI_API_KEY", "b"),
    ("RAG_RELEVANCE_THRESHOLD", "0.7"),
    ("SLACK_WEBHOOK_URL", "https://hooks.slack.example/x"),
    ("SLACK_BOT_TOKEN", "c"),
    ("FALLBACK_EMAIL_ADDRESS", "sales@company.example"),
    ("SMTP_HOST", "mail.company.example"),
    ("SMTP_USERNAME", "chat@company.example"),
    ("SMTP_PASSWORD", "d"),
    ("BUSINESS_HOURS_TIMEZONE", "Europe/Madrid"),
    ("TIGRIS_BUCKET_NAME", "backups"),
    ("TIGRIS_ACCESS_KEY_ID", "f"),
    ("TIGRIS_SECRET_ACCESS_KEY", "g"),
    ("HUBSPOT_ACCESS_TOKEN", "e"),
    ("CRM_WEBHOOK_URL", "https://crm.company.example/"),
    (
        "CRM_WEBHOOK_SECRET",
        "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw",
    ),
];

fn owned(variables: &[(&str, &str)]) -> Vec<(String, String)> {
    let variables = variables.iter();
    variables
        .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()))
        .collect()
}

fn described() -> impl Iterator<Item = &'static Variable> {
    GROUPS.iter().flat_map(|group| group.variables)
}

#[test]
fn what_the_code_reads_is_described_and_what_is_described_is_read() {
    let read: BTreeSet<String> = readings()
        .into_iter()
        .flat_map(|reading| reading.asked)
        .map(|asked| asked.name)
        .collect();
    let names: Vec<String> = described()
        .map(|variable| variable.name.to_owned())
        .collect();
    let unique: BTreeSet<String> = names.iter().cloned().collect();
    assert_eq!(names.len(), unique.len(), "a variable is described twice");
    let undescribed: Vec<_> = read.difference(&unique).collect();
    assert!(
        undescribed.is_empty(),
        "describe in variables.rs: {undescribed:?}"
    );
    let unread: Vec<_> = unique.difference(&read).collect();
    assert!(unread.is_empty(), "nobody reads {unread:?}");
}

#[test]
fn no_variable_is_looked_at_that_the_reference_does_not_name() {
    let document = markdown::document(&entries());
    for (_, read) in COMMANDS {
        for choice in CHOICES {
            for name in read_with(read, choice).looked_at() {
                assert!(document.contains(&format!("`{name}`")), "{name}");
            }
        }
    }
}

#[test]
fn serve_reads_what_an_api_and_a_worker_read() {
    let asked = |role: Role| -> BTreeSet<String> {
        let mut settings = Settings::default();
        role.read(&mut settings);
        let asked = settings.asked().iter().map(|asked| asked.name.clone());
        asked.collect()
    };
    let (api, worker) = (asked(Role::Api), asked(Role::Worker));
    let mut both: BTreeSet<String> = api.union(&worker).cloned().collect();
    both.remove("WORKER_WAKE_URL");
    assert_eq!(asked(Role::Serve), both);
}

#[test]
fn who_demands_the_bucket_and_who_does_without() {
    let entries = entries();
    let mut all = entries.iter().flat_map(|(_, entries)| entries);
    let bucket = all.find(|it| it.name == "TIGRIS_BUCKET_NAME").unwrap();
    assert_eq!(bucket.required_by, ["backup", "restore"]);
    assert_eq!(
        bucket.roles,
        ["backup", "restore", "worker", "tick", "replay"]
    );
    assert_eq!(bucket.only_with, None);
}

/// `NAME=value` of a line that may be commented out; a shell's quotes are gone.
fn assignment(line: &str) -> Option<(&str, &str)> {
    let (name, value) = line.trim_start_matches('#').split_once('=')?;
    let is_name = |byte: u8| byte.is_ascii_uppercase() || byte.is_ascii_digit() || byte == b'_';
    let legal = !name.is_empty() && name.bytes().all(is_name);
    legal.then(|| (name, value.trim_matches('\'')))
}

#[test]
fn the_example_starts_when_what_it_demands_is_filled_in_and_when_everything_is() {
    let text = markdown::example(&entries());
    let alias = ("DATABASE_URL", REQUIRED[0].1);
    let examples = [REQUIRED, &[alias]].concat();
    let of = |name: &str| examples.iter().find(|(known, _)| *known == name);
    for everything in [false, true] {
        let lines = text
            .lines()
            .filter(|line| everything || !line.starts_with('#'));
        let filled: Vec<(&str, &str)> = lines
            .filter_map(assignment)
            .map(|(name, value)| match of(name) {
                Some(example) if value.is_empty() => *example,
                _ => (name, value),
            })
            .collect();
        assert!(filled.len() > 15);
        let mut settings = Settings::new(owned(&filled));
        let read = Role::Serve.read(&mut settings);
        let started = settings.finish(read).map(drop);
        assert!(started.is_ok(), "{everything}: {started:?}");
    }
}

#[test]
fn a_shell_takes_each_value_of_the_example_as_one_word() {
    for line in markdown::example(&entries()).lines() {
        let Some((name, _)) = assignment(line) else {
            continue;
        };
        let value = &line.trim_start_matches('#')[name.len() + 1..];
        let bare = !value.contains([' ', '#', '*', '$', '"', ';', '&', '|', '(', '<', '>', '`']);
        let quoted = value.len() > 2 && value.starts_with('\'') && value.ends_with('\'');
        assert!(bare || quoted, "{line}");
    }
}

#[test]
fn every_described_default_is_the_one_that_the_code_has() {
    let defaults: Vec<(&str, &str)> = described()
        .filter_map(|variable| match variable.default {
            variables::Unset::Is(value) => Some((variable.name, value)),
            variables::Unset::Nothing | variables::Unset::Says(_) => None,
        })
        .collect();
    assert!(defaults.len() > 30);
    for role in [Role::Api, Role::Worker] {
        for choice in CHOICES {
            let shown = |more: &[(&str, &str)]| {
                let all = [REQUIRED, more, choice].concat();
                let mut settings = Settings::new(owned(&all));
                let read = role
                    .read(&mut settings)
                    .map(|config| format!("{config:#?}"));
                settings.finish(read).unwrap()
            };
            let without = shown(&[]);
            for default in &defaults {
                assert_eq!(shown(&[*default]), without, "{default:?}");
            }
        }
    }
}

#[test]
fn what_is_required_has_no_default() {
    for (_, entries) in entries() {
        for entry in entries {
            assert!(
                entry.required_by.is_empty() || entry.default.is_none(),
                "{}",
                entry.name
            );
            assert!(
                !entry.rule.is_empty() && !entry.meaning.is_empty(),
                "{}",
                entry.name
            );
        }
    }
}
