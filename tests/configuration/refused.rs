//! Values that are refused, each with what to do about it.

use std::collections::BTreeSet;

use super::{hunted_bytes, legal, named, run, said};

#[tokio::test]
async fn what_is_unsafe_in_production_or_can_not_work_is_refused_with_what_to_do() {
    for (name, value, advice) in [
        (
            "ALLOWED_ORIGIN",
            "*",
            "name the sites that carry the widget",
        ),
        ("EDGE_SECRET", "", "TRUSTED_PROXIES=cloudflare"),
        ("SMTP_TLS", "none", "mail server on this machine only"),
        (
            "CHECKPOINT_DB_URL",
            "postgres://u:hunter2@db.company.example/x",
            "sslmode=require",
        ),
        (
            "CHECKPOINT_DB_URL",
            "postgres://u:hunter2@ep-a-b-1-pooler.eu-central-1.aws.neon.tech/x?sslmode=require",
            "without -pooler",
        ),
        (
            "CHECKPOINT_DB_URL",
            "postgres://u:hunter2@127.0.0.1/x?pgbouncer=true",
            "direct",
        ),
        (
            "CHECKPOINT_DB_URL",
            "mysql://u:hunter2@127.0.0.1/x",
            "postgres://user:password@host/database",
        ),
        ("CHECKPOINT_DB_URL", "postgres:///hunter2", "names no host"),
        (
            "PGSSLROOTCERT",
            "/hunter2",
            "sslrootcert=… in CHECKPOINT_DB_URL",
        ),
        (
            "SMTP_HOST",
            "https://hunter2.company.example",
            "without a scheme",
        ),
        (
            "SMTP_HOST",
            "hunter2.company.example:587",
            "without a scheme and a port",
        ),
        ("SMTP_HOST", "hunter2\nx", "without a scheme"),
        ("SLACK_CHANNEL", "hunter2", "a channel's name with '#'"),
        ("SLACK_CHANNEL", "#", "a channel's name with '#'"),
        (
            "KNOWLEDGE_TABLE_NAME",
            "sessions",
            "no table of something else",
        ),
        ("WORKER_QUEUES", ",", "names no queue"),
        ("CHUNK_SIZE", "32", "less than CHUNK_SIZE"),
        ("BUSINESS_HOURS_START", "20", "after BUSINESS_HOURS_START"),
        (
            "PRIVACY_SECRET",
            "hunter2-äöüäöüäöüäöüäöüä",
            "at least 32 characters",
        ),
    ] {
        let mut environment = legal(None);
        environment.insert(name.to_owned(), value.into());
        let output = run(&["serve"], &environment).await;
        let output = output.unwrap_or_else(|| panic!("{name}={value}: it has started"));
        let named = named(&output, value);
        // A default does not go with what its neighbour was set to.
        let told = match name {
            "CHUNK_SIZE" => "CHUNK_OVERLAP",
            "BUSINESS_HOURS_START" => "BUSINESS_HOURS_END",
            name => name,
        };
        assert_eq!(named, BTreeSet::from([told.to_owned()]), "{value}");
        let said = said(&output);
        assert!(said.contains(advice), "{value}: {said}");
    }
}

#[tokio::test]
async fn what_the_edge_shows_and_is_no_text_is_told_once() {
    for value in [hunted_bytes(), "hunter2-of-\tthe-edge".into()] {
        let mut environment = legal(None);
        environment.insert("EDGE_SECRET".to_owned(), value);
        let output = run(&["api"], &environment).await.unwrap();
        assert_eq!(named(&output, "EDGE_SECRET").len(), 1);
        assert_eq!(
            said(&output).matches("EDGE_SECRET").count(),
            1,
            "{}",
            said(&output)
        );
    }
}

#[tokio::test]
async fn where_the_database_is_says_its_url_alone() {
    let mut environment = legal(None);
    for (name, value) in [
        (
            "CHECKPOINT_DB_URL",
            "postgres://u:hunter2@db.company.example/x",
        ),
        ("PGSSLMODE", "require"),
        ("PGHOST", "127.0.0.1"),
    ] {
        environment.insert(name.to_owned(), value.into());
    }
    let output = run(&["migrate"], &environment).await.unwrap();
    let named = named(&output, "a TLS of PGSSLMODE");
    assert_eq!(named, BTreeSet::from(["CHECKPOINT_DB_URL".to_owned()]));
}
