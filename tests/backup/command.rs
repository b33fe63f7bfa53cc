//! The sub-commands: what they print, and with which code they end.

use sandbox::s3::{Faults, S3};
use serde_json::Value;
use sqlx::{query, query_scalar};

use crate::support::{TestSystem, output::said};

pub(super) async fn system() -> (TestSystem, S3) {
    let mut system = TestSystem::new().await;
    let s3 = S3::start(None, 0).await.unwrap();
    system.use_bucket(&s3);
    (system, s3)
}

#[tokio::test]
async fn if_due_makes_the_backup_of_the_due_time_once_and_its_success_means_that_it_is_there() {
    let (system, s3) = system().await;
    let first = system.run(&["backup", "--if-due"]).await;
    assert!(first.status.success(), "{}", said(&first));
    assert!(said(&first).contains("backups/backup-"), "{}", said(&first));
    let second = system.run(&["backup", "--if-due"]).await;
    assert!(second.status.success());
    assert!(said(&second).contains("is there"), "{}", said(&second));
    assert_eq!(s3.keys().len(), 2);
}

#[tokio::test]
async fn two_processes_that_start_in_the_same_instant_make_one_backup_of_the_due_time() {
    let (system, s3) = system().await;
    let (one, other) = tokio::join!(
        system.run(&["backup", "--if-due"]),
        system.run(&["backup", "--if-due"])
    );
    assert!(one.status.success() && other.status.success());
    assert_eq!(s3.keys().len(), 2);
}

#[tokio::test]
async fn a_backup_that_fails_ends_with_1_and_says_why() {
    let (system, s3) = system().await;
    s3.set_faults(Faults {
        gone: true,
        ..Faults::default()
    });
    let output = system.run(&["backup"]).await;
    assert_eq!(output.status.code(), Some(1));
    assert!(
        said(&output).contains("the store answered 404"),
        "{}",
        said(&output)
    );
    let reason: String = query_scalar("select reason from ops.backups")
        .fetch_one(&system.pool().await)
        .await
        .unwrap();
    assert!(reason.contains("404"), "{reason}");
}

#[tokio::test]
async fn without_a_bucket_the_commands_end_with_2_and_name_what_is_missing() {
    let system = TestSystem::new().await;
    for arguments in [
        &["backup"][..],
        &["backup", "list"],
        &["backup", "verify"],
        &["restore", "latest", "--into", "postgres://me@localhost/x"],
    ] {
        let output = system.run(arguments).await;
        assert_eq!(output.status.code(), Some(2), "{arguments:?}");
        for name in [
            "TIGRIS_BUCKET_NAME",
            "TIGRIS_ACCESS_KEY_ID",
            "TIGRIS_SECRET_ACCESS_KEY",
        ] {
            assert!(
                said(&output).contains(name),
                "{arguments:?}: {}",
                said(&output)
            );
        }
    }
}

#[tokio::test]
async fn backups_are_listed_and_verified() {
    let (system, _s3) = system().await;
    let none = system.run(&["backup", "verify"]).await;
    assert_eq!(none.status.code(), Some(1));
    for _ in 0..2 {
        assert!(system.run(&["backup"]).await.status.success());
    }
    let listed = system.run(&["backup", "list", "--json"]).await;
    let listed: Value = serde_json::from_slice(&listed.stdout).unwrap();
    assert_eq!(listed.as_array().unwrap().len(), 2);
    let name = listed[0]["name"].as_str().unwrap();
    for arguments in [
        &["backup", "verify"][..],
        &["backup", "verify", name, "--drill"],
    ] {
        let output = system.run(arguments).await;
        assert!(output.status.success(), "{}", said(&output));
        assert!(said(&output).contains("is good"), "{}", said(&output));
    }
    let good: i64 = query_scalar(
        "select count(*) from ops.backups where kind = 'backup' and verified_at is not null",
    )
    .fetch_one(&system.pool().await)
    .await
    .unwrap();
    assert!(good >= 1);
}

#[tokio::test]
async fn a_list_tells_moments_ages_and_proofs_and_that_there_is_none() {
    let (system, s3) = system().await;
    let none = system.run(&["backup", "list"]).await;
    assert!(none.status.success());
    assert!(
        said(&none).contains("there is no backup yet"),
        "{}",
        said(&none)
    );
    assert!(system.run(&["backup"]).await.status.success());
    let bucket = async || {
        let checked = system.run(&["check", "--json"]).await;
        let lines: Value = serde_json::from_slice(&checked.stdout).unwrap();
        let mut lines = lines.as_array().unwrap().iter();
        lines.find(|line| line["name"] == "bucket").unwrap().clone()
    };
    let line = bucket().await;
    assert_eq!(line["status"], "warn", "{line}");
    let says = line["says"].as_str().unwrap();
    assert!(
        says.contains("none was ever restored for a proof"),
        "{says}"
    );
    let never = system.run(&["backup", "list"]).await;
    assert!(said(&never).contains("never"), "{}", said(&never));
    assert!(system.run(&["backup", "verify"]).await.status.success());
    assert_eq!(bucket().await["status"], "pass");
    let proved = system.run(&["backup", "list"]).await;
    assert!(!said(&proved).contains("never"), "{}", said(&proved));
    let manifest = s3.keys().into_iter().find(|key| {
        !key.ends_with(".proof.json")
            && std::path::Path::new(key).extension() == Some("json".as_ref())
    });
    let listed = async || {
        let output = system.run(&["backup", "list", "--json"]).await;
        let mut rows: Value = serde_json::from_slice(&output.stdout).unwrap();
        rows[0].take()
    };
    let row = listed().await;
    assert!(
        (0..120).contains(&row["age_seconds"].as_i64().unwrap()),
        "{row}"
    );
    assert!(
        row["proved_at"].is_string() && row["problem"].is_null(),
        "{row}"
    );
    assert_eq!(row["encryption"], "none");
    std::fs::write(s3.path(&manifest.unwrap()), "{").unwrap();
    let broken = system.run(&["backup", "list"]).await;
    assert!(said(&broken).contains("CAN'T BE USED"), "{}", said(&broken));
    assert!(listed().await["problem"].is_string());
    let line = bucket().await;
    assert_eq!(line["status"], "warn", "{line}");
    assert!(
        line["says"].as_str().unwrap().contains("can't be used"),
        "{line}"
    );
}

#[tokio::test]
async fn a_restore_says_where_to_and_how_good_the_backup_is_before_it_does_anything() {
    let (system, _s3) = system().await;
    assert!(system.run(&["backup"]).await.status.success());
    let lost = system.database_url();
    // It is not empty: nothing is done.
    for worth in [
        "it was never restored for a proof",
        "it was restored for a proof on",
    ] {
        let output = system.run(&["restore", "latest", "--into", &lost]).await;
        assert_eq!(output.status.code(), Some(1));
        let said = said(&output);
        let url = url::Url::parse(&lost).unwrap();
        let place = format!(
            "into the database {} on 127.0.0.1, port {}, as postgres",
            url.path().trim_start_matches('/'),
            url.port().unwrap()
        );
        let intent = said.find(&place).expect(&said);
        assert!(intent < said.find("is not empty").unwrap(), "{said}");
        assert!(said.contains(worth), "{said}");
        assert!(!said.contains(url.password().unwrap()), "{said}");
        assert!(system.run(&["backup", "verify"]).await.status.success());
    }
    let mut nameless = url::Url::parse(&lost).unwrap();
    nameless.set_path("");
    let output = system
        .run(&["restore", "latest", "--into", nameless.as_str()])
        .await;
    assert_eq!(output.status.code(), Some(2));
    assert!(
        said(&output).contains("--into: names no database"),
        "{}",
        said(&output)
    );
}

#[tokio::test]
async fn a_restore_without_tls_to_a_foreign_host_is_refused_without_showing_the_password() {
    let (system, _s3) = system().await;
    let into = "postgres://u:hunter2@db.example.com/x";
    let output = system.run(&["restore", "latest", "--into", into]).await;
    assert_eq!(output.status.code(), Some(2));
    assert!(
        said(&output).contains("--into: needs TLS"),
        "{}",
        said(&output)
    );
    assert!(!said(&output).contains("hunter2"));
}

#[tokio::test]
async fn a_worker_without_a_bucket_says_that_no_backups_are_made() {
    let system = TestSystem::new().await;
    let worker = system.worker().await;
    worker.logged("NO BACKUPS ARE MADE").await;
    let url = format!("http://{}/metrics", worker.metrics_address());
    let metrics = system
        .client
        .get(url)
        .send()
        .await
        .unwrap()
        .text()
        .await
        .unwrap();
    assert!(
        metrics.contains("growth_chat_backup_configured 0"),
        "{metrics}"
    );
}

#[tokio::test]
async fn a_worker_verifies_a_backup_that_another_process_made_and_its_metrics_say_so() {
    let (system, _s3) = system().await;
    let worker = system.worker().await;
    let made = system.run(&["backup"]).await;
    assert!(made.status.success(), "{}", said(&made));
    worker
        .logged("a backup was restored and is what it should be")
        .await;
    let url = format!("http://{}/metrics", worker.metrics_address());
    let verified = async {
        loop {
            let scraped = system.client.get(&url).send().await.unwrap();
            let metrics = scraped.text().await.unwrap();
            let value = |name: &str| -> f64 {
                let line = metrics.lines().find(|line| line.starts_with(name));
                line.and_then(|line| line.rsplit(' ').next()?.parse().ok())
                    .unwrap_or_default()
            };
            if value("growth_chat_backup_last_verified_timestamp_seconds") > 1e9 {
                assert!(value("growth_chat_backup_last_success_timestamp_seconds") > 1e9);
                assert!(value("growth_chat_backup_last_bytes") > 1_000.0);
                assert!(value("growth_chat_backup_last_duration_seconds") > 0.0);
                let made = "growth_chat_backup_runs_total{outcome=\"succeeded\"}";
                assert!(value(made) > 0.0, "{metrics}");
                break;
            }
            tokio::time::sleep(std::time::Duration::from_millis(100)).await;
        }
    };
    tokio::time::timeout(std::time::Duration::from_secs(30), verified)
        .await
        .expect("the metrics do not tell of it");
    let api = system.api().await;
    let ready = api.get("/ready").send().await.unwrap();
    let ready: Value = ready.json().await.unwrap();
    let age = ready["backup"]["age_seconds"].as_i64().unwrap();
    assert!((0..120).contains(&age), "{ready}");
}

#[tokio::test]
async fn a_tick_does_what_is_due_drains_the_queue_and_ends() {
    let (system, s3) = system().await;
    // The first one learns the schedules: nothing has been due by them.
    let first = system.run(&["tick"]).await;
    assert!(first.status.success(), "{}", said(&first));
    assert!(s3.keys().is_empty());
    // A night goes by.
    let pool = system.pool().await;
    query("update queue.schedules set settled = settled - interval '1 day', since = since - interval '1 day'")
        .execute(&pool)
        .await
        .unwrap();
    let second = system.run(&["tick"]).await;
    assert!(second.status.success(), "{}", said(&second));
    // The object, its manifest and its proof.
    assert_eq!(s3.keys().len(), 3, "{}", said(&second));
    let verified: i64 = query_scalar(
        "select count(*) from ops.backups where kind = 'verify' and status = 'succeeded'",
    )
    .fetch_one(&pool)
    .await
    .unwrap();
    assert!(verified >= 1, "{}", said(&second));
}

#[tokio::test]
async fn a_tick_whose_job_fails_ends_with_1() {
    let (system, s3) = system().await;
    assert!(system.run(&["tick"]).await.status.success());
    let pool = system.pool().await;
    query("update queue.schedules set settled = settled - interval '1 day', since = since - interval '1 day'")
        .execute(&pool)
        .await
        .unwrap();
    s3.set_faults(Faults {
        gone: true,
        ..Faults::default()
    });
    let output = system.run(&["tick"]).await;
    assert_eq!(output.status.code(), Some(1), "{}", said(&output));
}
