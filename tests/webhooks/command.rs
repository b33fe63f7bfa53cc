//! `growth-chat webhooks …`, as the program that an operator runs.

use std::process::{Output, Stdio};

use serde_json::Value;
use tokio::process::Command;

use super::support::{Desk, text};

async fn run(desk: &Desk, environment: &str, words: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_growth-chat"));
    command
        .arg("webhooks")
        .args(words)
        .env_clear()
        .env("CHECKPOINT_DB_URL", desk.url())
        .env("ENVIRONMENT", environment)
        .stdin(Stdio::null())
        .kill_on_drop(true);
    command.output().await.unwrap()
}

async fn json(desk: &Desk, words: &[&str]) -> Value {
    let output = run(desk, "development", &[words, &["--json"]].concat()).await;
    let complaint = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(output.status.success(), "{words:?}: {complaint}");
    serde_json::from_slice(&output.stdout).unwrap()
}

async fn refuses(desk: &Desk, environment: &str, words: &[&str]) -> String {
    let output = run(desk, environment, words).await;
    assert_eq!(output.status.code(), Some(1), "{words:?}");
    assert_eq!(output.stdout, b"", "{words:?}");
    String::from_utf8(output.stderr).unwrap()
}

#[tokio::test]
async fn an_endpoint_is_kept_from_a_shell_and_its_secret_is_shown_once() {
    let desk = Desk::new().await;
    let url = format!("{}/a", desk.receiver.url());
    let added = json(
        &desk,
        &[
            "add",
            &url,
            "--events",
            "turn.completed,session.closed",
            "--description",
            "books",
        ],
    )
    .await;
    let (id, secret) = (text(&added["endpoint_id"]), text(&added["secret"]));
    assert!(secret.starts_with("whsec_"));
    let listed = json(&desk, &["list"]).await;
    assert_eq!(listed[0]["endpoint_id"], id);
    assert_eq!(
        listed[0]["events"],
        serde_json::json!(["session.closed", "turn.completed"])
    );
    assert!(!listed.to_string().contains("whsec_"));

    let untaken = refuses(&desk, "development", &["test", &id]).await;
    assert!(untaken.contains("it answered 401"), "{untaken}");
    desk.receiver.know(&secret);
    assert_eq!(json(&desk, &["test", &id]).await["status"], 200);
    assert_eq!(desk.receiver.deliveries()[0].body["type"], "webhook.test");

    let rotated = json(&desk, &["rotate", &id, "--keep", "1h"]).await;
    assert_ne!(rotated["secret"], secret);
    assert_eq!(json(&desk, &["show", &id]).await["secrets"], 2);
    assert_eq!(json(&desk, &["disable", &id]).await["changed"], true);
    assert_eq!(json(&desk, &["disable", &id]).await["changed"], false);
    assert_eq!(
        json(&desk, &["show", &id]).await["status_reason"],
        "by hand"
    );
    assert_eq!(json(&desk, &["enable", &id]).await["changed"], true);
    json(&desk, &["remove", &id]).await;
    assert_eq!(json(&desk, &["list"]).await, serde_json::json!([]));
    for action in ["show", "disable", "enable", "rotate", "test", "remove"] {
        let complaint = refuses(&desk, "development", &[action, &id]).await;
        assert!(
            complaint.contains(&format!("there is no endpoint {id}")),
            "{complaint}"
        );
    }
}

#[tokio::test]
async fn a_private_address_is_refused_where_it_is_typed() {
    let desk = Desk::new().await;
    let complaint = refuses(
        &desk,
        "production",
        &["add", "https://169.254.169.254/latest"],
    )
    .await;
    assert!(
        complaint.contains("leads to a private address"),
        "{complaint}"
    );
    assert_eq!(
        desk.count("select count(*) from webhook_endpoints").await,
        0
    );
}

#[tokio::test]
async fn an_operator_keeps_endpoints_and_reads_no_secret() {
    let desk = Desk::new().await;
    let mut conn = desk.pool.acquire().await.unwrap();
    let created = sqlx::query(
        "select ops.add_webhook_endpoint('https://x.example', array['session.closed'])",
    );
    created.execute(&mut *conn).await.unwrap();
    sqlx::query("set role growth_chat_operator")
        .execute(&mut *conn)
        .await
        .unwrap();
    for allowed in [
        "select * from ops.webhook_endpoints",
        "select * from ops.webhook_attempts",
        "select ops.rotate_webhook_secret(endpoint_id) from ops.webhook_endpoints",
        "select ops.disable_webhook_endpoint(endpoint_id) from ops.webhook_endpoints",
        "select ops.enable_webhook_endpoint(endpoint_id) from ops.webhook_endpoints",
        "select ops.add_webhook_endpoint('https://y.example', array['session.closed'])",
        "select ops.retry_failed('webhook.deliver', now())",
    ] {
        assert!(
            sqlx::query(allowed).execute(&mut *conn).await.is_ok(),
            "{allowed}"
        );
    }
    for forbidden in [
        "select * from webhook_secrets",
        "select * from webhook_endpoints",
        "select webhooks_new_secret('x')",
        "select ops.grant_operator()",
    ] {
        assert!(
            sqlx::query(forbidden).execute(&mut *conn).await.is_err(),
            "{forbidden}"
        );
    }
    // The connection goes back to nobody as an operator's.
    sqlx::query("reset role").execute(&mut *conn).await.unwrap();
}

#[tokio::test]
async fn there_are_no_more_than_twenty_endpoints() {
    let desk = Desk::new().await;
    let add = "select ops.add_webhook_endpoint('https://x.example', array['session.closed'])";
    for _ in 0..20 {
        desk.execute(add).await;
    }
    assert!(sqlx::query(add).execute(&desk.pool).await.is_err());
}
