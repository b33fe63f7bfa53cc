use super::*;

fn problems(variables: &[(&str, &str)]) -> Vec<(String, String)> {
    let mut settings = Settings::new(
        variables
            .iter()
            .map(|(name, value)| ((*name).into(), (*value).into())),
    );
    let config = DatabaseConfig::read(&mut settings);
    settings
        .finish(config)
        .err()
        .map(|error| error.problems)
        .unwrap_or_default()
}

#[test]
fn a_remote_database_without_tls_is_refused() {
    let found = problems(&[(
        "CHECKPOINT_DB_URL",
        "postgres://u:hunter2@db.example.com/x?sslmode=disable",
    )]);
    assert_eq!(found.len(), 1);
    assert_eq!(found[0].0, "CHECKPOINT_DB_URL");
    assert!(!found[0].1.contains("hunter2"));
}

#[test]
fn a_poolers_address_is_refused_with_the_way_to_the_direct_one() {
    for pooled in [
        "postgres://u:hunter2@ep-x-pooler.eu-central-1.aws.neon.tech/x?sslmode=require",
        "postgres://u:hunter2@EP-X-POOLER.eu-central-1.aws.neon.tech/x?sslmode=require",
        "postgres://u:hunter2@aws-0-eu-central-1.pooler.supabase.com:6543/x?sslmode=require",
        "postgres://u:hunter2@127.0.0.1/x?host=ep-x-pooler.eu.aws.neon.tech&sslmode=require",
        "postgres://u:hunter2@127.0.0.1:6543/x?pgbouncer=true",
        "postgres://u:hunter2@127.0.0.1/x?sslmode=disable&PgBouncer=TRUE",
    ] {
        let found = problems(&[("CHECKPOINT_DB_URL", pooled)]);
        assert!(found[0].1.contains("direct one"), "{found:?}");
    }
    for direct in [
        "postgres://u@ep-x.eu-central-1.aws.neon.tech/pooler?sslmode=require",
        "postgres://pgbouncer=true:x-pooler.y@poolers.example.com/x?sslmode=require",
        "postgres://u@localhost/x?pgbouncer=false",
    ] {
        assert_eq!(problems(&[("CHECKPOINT_DB_URL", direct)]), [], "{direct}");
    }
}

#[test]
fn a_local_database_needs_no_tls_and_the_python_prefix_is_accepted() {
    assert_eq!(
        problems(&[("CHECKPOINT_DB_URL", "postgresql+asyncpg://u@127.0.0.1:5/x")]),
        []
    );
    assert_eq!(
        problems(&[("DATABASE_URL", "postgres://u@localhost/x")]),
        []
    );
}

#[test]
fn a_loopback_address_of_ipv6_is_local() {
    assert_eq!(
        problems(&[("CHECKPOINT_DB_URL", "postgres://u@[::1]:5/x")]),
        []
    );
}

#[test]
fn the_alias_with_another_value_is_refused_with_everything_else_that_is_wrong() {
    let found = problems(&[
        ("CHECKPOINT_DB_URL", "postgres://u@db.example.com/a"),
        ("DATABASE_URL", "postgres://u@localhost/b"),
        ("DATABASE_MAX_CONNECTIONS", "1"),
    ]);
    let names: Vec<_> = found.into_iter().map(|(name, _)| name).collect();
    assert_eq!(
        names,
        [
            "DATABASE_MAX_CONNECTIONS",
            "DATABASE_URL",
            "CHECKPOINT_DB_URL"
        ]
    );
}

#[test]
fn the_alias_may_say_the_same_in_other_words() {
    let found = problems(&[
        (
            "CHECKPOINT_DB_URL",
            "postgresql+asyncpg://u:p@localhost:5432/a",
        ),
        ("DATABASE_URL", "postgres://u:p@localhost/a?sslmode=prefer"),
    ]);
    assert_eq!(found, []);
}

#[test]
fn an_alias_does_not_stand_in_for_what_is_no_text() {
    let alias = (
        "DATABASE_URL".to_owned(),
        "postgres://u@localhost/b".to_owned(),
    );
    let mut settings = Settings::new([alias]).with_unreadable(["CHECKPOINT_DB_URL".to_owned()]);
    let config = DatabaseConfig::read(&mut settings);
    let error = settings.finish(config).unwrap_err();
    assert_eq!(error.problems[0].0, "CHECKPOINT_DB_URL");
}

#[test]
fn a_variable_of_libpq_that_would_count_for_us_only_is_refused() {
    for name in ["PGSSLROOTCERT", "PGSSLCERT", "PGSSLKEY", "PGOPTIONS"] {
        let found = problems(&[
            ("CHECKPOINT_DB_URL", "postgres://u@localhost/a"),
            (name, "hunter2"),
        ]);
        assert_eq!(found.len(), 1, "{name}");
        assert_eq!(found[0].0, name);
        assert!(!found[0].1.contains("hunter2"));
    }
}
