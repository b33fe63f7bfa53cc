use std::collections::BTreeSet;

use super::*;

/// What lets every role start, with figures that are no defaults.
const REQUIRED: &[(&str, &str)] = &[
    ("CHECKPOINT_DB_URL", "postgres://localhost/x"),
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
                !(entry.required && entry.default.is_some()),
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
