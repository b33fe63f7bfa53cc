//! A command that a signal stops leaves nothing behind, and says that it was stopped.

use std::process::{Output, Stdio};

use sqlx::{query, query_scalar};

use super::{
    command::system,
    support::{DUMPS, Fakes, until},
};
use crate::support::{PATIENCE, TestSystem, output::said};

/// Has a command work until `noted` finds a row, tells it to stop, and says what it said.
async fn stopped(system: &TestSystem, words: &[&str], noted: &'static str) -> Output {
    let child = tokio::process::Command::new(env!("CARGO_BIN_EXE_growth-chat"))
        .args(words)
        .env_clear()
        .envs(system.environment())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .kill_on_drop(true)
        .spawn()
        .unwrap();
    let pool = system.pool().await;
    until(async || query(noted).fetch_optional(&pool).await.unwrap().is_some()).await;
    let kill = format!("kill -TERM {}", child.id().unwrap());
    let told = tokio::process::Command::new("sh")
        .args(["-c", &kill])
        .status();
    assert!(told.await.unwrap().success());
    tokio::time::timeout(PATIENCE, child.wait_with_output())
        .await
        .unwrap()
        .unwrap()
}

#[tokio::test]
async fn a_backup_that_is_told_to_stop_clears_up_and_says_so() {
    let (mut system, s3) = system().await;
    let fakes = Fakes::waiting(DUMPS);
    system.set("PG_BIN_DIR", fakes.path().to_str().unwrap());
    let noted = "select from backup_runs where upload_id is not null";
    let output = stopped(&system, &["backup"], noted).await;
    assert_eq!(output.status.code(), Some(1));
    assert!(
        said(&output).contains("stopped by a signal"),
        "{}",
        said(&output)
    );
    assert!(s3.uploads().is_empty());
    let reason: String = query_scalar("select reason from ops.backups where status = 'failed'")
        .fetch_one(&system.pool().await)
        .await
        .unwrap();
    assert_eq!(reason, "stopped by a signal");
    // Nobody has to wait for the end of its lease.
    system.use_bucket(&s3);
    let next = system.run(&["backup"]).await;
    assert!(next.status.success(), "{}", said(&next));
}

#[tokio::test]
async fn a_verify_that_is_told_to_stop_leaves_no_copy_of_the_data() {
    let (mut system, _s3) = system().await;
    assert!(system.run(&["backup"]).await.status.success());
    let psql = "[ \"$1\" = --version ] && exec \"$REAL/psql\" --version\nexec sleep 600";
    let fakes = Fakes::new(&[("psql", psql)]);
    system.set("PG_BIN_DIR", fakes.path().to_str().unwrap());
    let scratch = "select from pg_database where starts_with(datname, 'growth_chat_verify_'
                   || (select oid from pg_database where datname = current_database()) || '_')";
    let output = stopped(&system, &["backup", "verify"], scratch).await;
    assert_eq!(output.status.code(), Some(1));
    assert!(
        said(&output).contains("stopped by a signal"),
        "{}",
        said(&output)
    );
    let left = query(scratch)
        .fetch_all(&system.pool().await)
        .await
        .unwrap();
    assert!(left.is_empty());
}
