//! `docs/runbooks/restore.md`, word by word: the commands of the page, in a shell, as the operator who
//! has lost the database.

use std::{fs, os::unix::fs::symlink, process::Stdio};

use sandbox::{
    postgres::{create_database, database_url, drop_database},
    s3::S3,
};
use serde_json::json;
use sqlx::{PgPool, query_scalar};
use store::clock::{Clock, SystemClock};

use super::support::hash_of;
use crate::support::{TestSystem, output::said};

const RUNBOOK: &str = include_str!("../../docs/runbooks/restore.md");

/// The first block after the restore: from here on the page has the address in a variable.
const LOOK: usize = 2;

/// The blocks of commands, in the order of the page.
fn commands() -> Vec<&'static str> {
    RUNBOOK
        .split("```sh\n")
        .skip(1)
        .map(|rest| rest.split_once("```").unwrap().0)
        .collect()
}

#[tokio::test]
async fn the_runbook_of_the_restore_works_word_by_word() {
    let mut system = TestSystem::new().await;
    let s3 = S3::start(None, 0).await.unwrap();
    system.use_bucket(&s3);
    let pool = system.pool().await;
    let secret = "a".repeat(32);
    system.set("PRIVACY_SECRET", &secret);
    sqlx::raw_sql(
        "insert into sessions (session_id, last_turn) values ('lost-and-found', 0), ('erased', 1);
         insert into messages (session_id, message_id, role, turn, body)
         values ('erased', 'm-1', 'user', 1, 'a question');
         insert into handoff_records (session_id, handoff_id, trigger, summary, lead)
         values ('erased', 'h-1', 'contact_form', '', '{\"email\": \"anna@example.com\"}')",
    )
    .execute(&pool)
    .await
    .unwrap();
    let backup = system.run(&["backup"]).await;
    assert!(backup.status.success(), "{}", said(&backup));
    // She is erased by her address, afterwards.
    let entry = json!({
        "entry_id": "er-1",
        "scope": "person",
        "session_ids": [],
        "email_hash": hash_of("anna@example.com", &secret),
        "requested_by": "operator",
        "erased": {},
        "erased_at": SystemClock.now(),
    });
    let path = s3.path("erasures/er-1-0.json");
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    fs::write(path, entry.to_string()).unwrap();

    let lost = system.database_url();
    let name = format!("{}_new", lost.rsplit('/').next().unwrap());
    create_database(&lost, &name).await.unwrap();
    let new = database_url(&lost, &name).unwrap();
    // The operator has the program in the path, and nothing of the database that was lost.
    let folder = tempfile::tempdir().unwrap();
    symlink(
        env!("CARGO_BIN_EXE_growth-chat"),
        folder.path().join("growth-chat"),
    )
    .unwrap();
    let path = format!("{}:/usr/bin:/bin", folder.path().display());
    system.unset("CHECKPOINT_DB_URL");
    system.set("PATH", &path);
    // As the page has it: no password in an argument.
    let mut without_password = url::Url::parse(&new).unwrap();
    let password = without_password.password().unwrap().to_owned();
    without_password.set_password(None).unwrap();
    system.set("NEW_DATABASE_URL", without_password.as_str());
    system.set("RESTORE_PASSWORD", &password);

    let commands = commands();
    assert!(commands.len() >= 5, "{commands:?}");
    let mut told = Vec::new();
    for command in &commands {
        if told.len() == LOOK {
            system.unset("NEW_DATABASE_URL");
            system.unset("RESTORE_PASSWORD");
            system.set("CHECKPOINT_DB_URL", &new);
        }
        let output = tokio::process::Command::new("sh")
            .args(["-e", "-u", "-c", command])
            .env_clear()
            .envs(system.environment())
            .stdin(Stdio::null())
            .output()
            .await
            .unwrap();
        assert!(output.status.success(), "{command}: {}", said(&output));
        told.push(String::from_utf8(output.stdout).unwrap());
    }
    let restored = &told[1];
    for promise in [
        "lost (RPO): everything since",
        "took (RTO): ",
        "held: the queues handoff, people, webhooks",
    ] {
        assert!(restored.contains(promise), "{restored}");
        let (bold, _) = promise.split_once(':').unwrap();
        assert!(RUNBOOK.contains(&format!("**{bold}**")), "{bold}");
    }
    assert!(told[2].contains("lost-and-found"), "{}", told[2]);
    let pool = PgPool::connect(&new).await.unwrap();
    let paused: i64 = query_scalar("select count(*) from queue.paused")
        .fetch_one(&pool)
        .await
        .unwrap();
    assert_eq!(paused, 0, "everything was resumed");
    let texts: i64 = query_scalar("select count(*) from messages")
        .fetch_one(&pool)
        .await
        .unwrap();
    assert_eq!(texts, 0, "she is forgotten again");
    let mut keys = s3.keys();
    keys.retain(|key| key.starts_with("backups/"));
    assert_eq!(keys.len(), 4, "and the new database has a backup");
    pool.close().await;
    drop_database(&lost, &name).await.unwrap();
}
