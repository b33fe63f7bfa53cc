//! A wrong configuration, and a port that is taken.

use std::{
    net::TcpListener,
    os::unix::ffi::OsStringExt,
    process::{Command, Stdio},
};

use super::process::{complaint, run};
use crate::support::TestSystem;

const DATABASE: (&str, &str) = ("CHECKPOINT_DB_URL", "postgres://nobody@127.0.0.1:1/none");

#[tokio::test]
async fn everything_that_a_role_misses_is_named_at_once() {
    let api = ["CHECKPOINT_DB_URL", "WIDGET_TOKENS", "ALLOWED_ORIGIN"];
    for (role, names) in [("api", &api[..]), ("migrate", &api[..1])] {
        let output = run(role, &[("TRUSTED_PROXIES", "cloudflare")]).await;
        assert_eq!(output.status.code(), Some(2), "{role}");
        assert_eq!(output.stdout, b"", "{role}");
        let said = complaint(&output);
        for name in names {
            assert!(said.contains(&format!("\n  {name}: is required")), "{said}");
        }
        assert_eq!(said.lines().count(), 1 + names.len(), "{said}");
    }
}

#[tokio::test]
async fn everything_that_is_wrong_is_named_at_once_and_no_value_is_echoed() {
    let secret = "hunter2";
    let url = format!("postgres://u:{secret}@db.example.com/x?sslmode=disable");
    let output = run(
        "api",
        &[
            ("DATABASE_URL", &url),
            ("PORT", secret),
            ("METRICS_PORT", "0"),
            ("WIDGET_TOKENS", "hunter2 hunter2"),
            ("ALLOWED_ORIGIN", "*"),
            ("EDGE_SECRET", "what-the-edge-shows"),
            ("SHUTDOWN_DRAIN_SECONDS", "-1"),
            ("LOG_FORMAT", "hunter2"),
            ("RUST_LOG", "info,store=hunter2"),
        ],
    )
    .await;
    assert_eq!(output.status.code(), Some(2));
    let said = complaint(&output);
    let mut named: Vec<&str> = said
        .lines()
        .skip(1)
        .map(|line| line.trim().split(':').next().unwrap())
        .collect();
    named.sort_unstable();
    assert_eq!(
        named,
        [
            "ALLOWED_ORIGIN",
            "DATABASE_URL",
            "LOG_FORMAT",
            "METRICS_PORT",
            "PORT",
            "RUST_LOG",
            "SHUTDOWN_DRAIN_SECONDS",
            "WIDGET_TOKENS",
        ]
    );
    assert!(!said.contains(secret), "{said}");
}

#[test]
fn a_variable_that_is_not_utf_8_is_named() {
    let output = Command::new(env!("CARGO_BIN_EXE_growth-chat"))
        .arg("migrate")
        .env_clear()
        .env(
            "CHECKPOINT_DB_URL",
            std::ffi::OsString::from_vec(vec![0xff]),
        )
        .env("SOMEBODY_ELSES", std::ffi::OsString::from_vec(vec![0xff]))
        .stdin(Stdio::null())
        .output()
        .unwrap();
    assert_eq!(output.status.code(), Some(2));
    let said = complaint(&output);
    assert!(
        said.contains("CHECKPOINT_DB_URL: is not valid UTF-8"),
        "{said}"
    );
    assert!(!said.contains("SOMEBODY_ELSES"), "{said}");
}

#[tokio::test]
async fn a_worker_without_the_key_of_erasures_says_what_is_not_done() {
    let mut system = TestSystem::new().await;
    system.unset("PRIVACY_SECRET");
    let worker = system.worker().await;
    worker.logged("PRIVACY_SECRET is not set").await;
}

#[tokio::test]
async fn a_busy_port_is_named_with_its_variable() {
    let taken = TcpListener::bind(("127.0.0.1", 0)).unwrap();
    let busy = taken.local_addr().unwrap().port().to_string();
    for variable in ["PORT", "METRICS_PORT"] {
        let free = if variable == "PORT" {
            "METRICS_PORT"
        } else {
            "PORT"
        };
        let output = run(
            "api",
            &[
                ("ENVIRONMENT", "development"),
                ("BIND_ADDRESS", "127.0.0.1"),
                DATABASE,
                ("WIDGET_TOKENS", "t"),
                ("ALLOWED_ORIGIN", "*"),
                (variable, &busy),
                (free, "0"),
            ],
        )
        .await;
        assert_eq!(output.status.code(), Some(1));
        let expected = format!(
            "growth-chat: port {busy} is in use: stop what uses it, or choose another one by {variable}\n"
        );
        assert_eq!(complaint(&output), expected);
        assert_eq!(output.stdout, b"");
    }
}

#[tokio::test]
async fn the_printed_contract_is_the_committed_one() {
    let output = run("openapi", &[]).await;
    assert!(output.status.success());
    let committed = include_str!("../../docs/openapi.json");
    assert!(
        String::from_utf8(output.stdout).unwrap() == committed,
        "renew it: cargo run -- openapi > docs/openapi.json"
    );
}
