//! The record of an erasure outlives the database, and a restored one forgets again.

use sandbox::{
    postgres::{create_database, database_url, drop_database},
    s3::{Fault, Faults, S3},
    switch::Trouble,
};
use serde_json::Value;
use sqlx::{PgPool, query, query_scalar};

use super::{
    marker::tables_with,
    person::{ADDRESS, MARKER, erase, leave_contact, system, talk, until, until_done},
};
use crate::support::{ApiProcess, TestSystem};

/// A database that a backup was restored into. It is dropped by [`Restored::drop`].
struct Restored {
    lost: String,
    name: String,
    pool: PgPool,
    said: String,
}

impl Restored {
    async fn of(system: &TestSystem, backup: &str) -> Self {
        let lost = system.database_url();
        let name = format!("{}_again", lost.rsplit('/').next().unwrap());
        create_database(&lost, &name).await.unwrap();
        let new = database_url(&lost, &name).unwrap();
        let output = system.run(&["restore", backup, "--into", &new]).await;
        let said = String::from_utf8(output.stdout.clone()).unwrap();
        assert!(output.status.success(), "{output:?}");
        let pool = PgPool::connect(&new).await.unwrap();
        Self {
            lost,
            name,
            pool,
            said,
        }
    }

    async fn sessions(&self) -> Vec<String> {
        query_scalar("select distinct session_id from messages order by 1")
            .fetch_all(&self.pool)
            .await
            .unwrap()
    }

    async fn drop(self) {
        self.pool.close().await;
        drop_database(&self.lost, &self.name).await.unwrap();
    }
}

/// A system with a bucket, and somebody there who talked and left an address.
async fn with_somebody() -> (TestSystem, S3, PgPool, ApiProcess) {
    let mut system = system().await;
    let s3 = S3::start(None, 0).await.unwrap();
    system.use_bucket(&s3);
    let pool = system.pool().await;
    let api = system.serve().await;
    talk(&api, "s1").await;
    leave_contact(&pool, &api, "s1").await;
    (system, s3, pool, api)
}

async fn back_up(system: &TestSystem) {
    let output = system.run(&["backup"]).await;
    assert!(output.status.success(), "{output:?}");
}

/// A conversation of somebody who stays.
async fn somebody_else(api: &ApiProcess) {
    let question = "What does a sprint for somebody else cost?";
    api.ask("other", "m1", question).await.rest().await;
}

/// The records in the bucket.
fn records(s3: &S3) -> usize {
    s3.keys()
        .iter()
        .filter(|key| key.starts_with("erasures/"))
        .count()
}

#[tokio::test]
async fn a_restored_backup_forgets_again_who_was_erased_since_and_nobody_else() {
    let (system, _s3, _pool, api) = with_somebody().await;
    somebody_else(&api).await;
    back_up(&system).await;
    let erased = system.run(&["erase", "--email", ADDRESS]).await;
    assert!(erased.status.success(), "{erased:?}");

    let restored = Restored::of(&system, "latest").await;
    let said = &restored.said;
    assert!(said.contains("1 session forgotten again"), "{said}");
    assert_eq!(
        tables_with(&restored.pool, MARKER).await,
        Vec::<String>::new()
    );
    assert_eq!(restored.sessions().await, ["other"]);
    assert_eq!(system.count_logged(MARKER), 0);
    restored.drop().await;
}

#[tokio::test]
async fn who_came_back_after_an_erasure_is_not_erased_by_a_restore() {
    let (system, _s3, pool, api) = with_somebody().await;
    let erased = system.run(&["erase", "--email", ADDRESS]).await;
    assert!(erased.status.success(), "{erased:?}");
    talk(&api, "after").await;
    leave_contact(&pool, &api, "after").await;
    back_up(&system).await;

    let restored = Restored::of(&system, "latest").await;
    assert_eq!(restored.sessions().await, ["after"]);
    let leads: Vec<String> = query_scalar("select session_id from handoff_records")
        .fetch_all(&restored.pool)
        .await
        .unwrap();
    assert_eq!(leads, ["after"]);
    restored.drop().await;
}

#[tokio::test]
async fn the_record_is_in_the_bucket_before_slack_is_asked_and_a_restore_holds_no_address() {
    let (system, s3, pool, _api) = with_somebody().await;
    system.people.slack.set_trouble(Some(Trouble::Status(500)));
    let erased = system
        .run(&["erase", "--email", ADDRESS, "--wait", "0"])
        .await;
    assert_eq!(erased.status.code(), Some(1), "{erased:?}");
    until(async || {
        let failed = "select exists (select 1 from queue.jobs
                                     where kind = 'privacy.erase' and jsonb_array_length(errors) > 0)";
        query_scalar::<_, bool>(failed).fetch_one(&pool).await.unwrap()
    })
    .await;
    assert_eq!(records(&s3), 1);
    // The request still needs the address.
    let address = ADDRESS.to_lowercase();
    assert_ne!(tables_with(&pool, &address).await, Vec::<String>::new());
    back_up(&system).await;

    system.people.slack.set_trouble(None);
    for soon in [
        "update queue.jobs set run_at = now() where kind = 'privacy.erase'",
        "select pg_notify('growth_chat', E'test\nq maintenance')",
    ] {
        query(soon).execute(&pool).await.unwrap();
    }
    let request: String = query_scalar("select request_id from privacy_requests")
        .fetch_one(&pool)
        .await
        .unwrap();
    until_done(&pool, &request).await;
    until(async || records(&s3) == 2).await;
    let restored = Restored::of(&system, "latest").await;
    for text in [MARKER, &address] {
        let found = tables_with(&restored.pool, text).await;
        assert_eq!(found, Vec::<String>::new(), "{text}");
    }
    restored.drop().await;
}

#[tokio::test]
async fn a_worker_without_a_bucket_says_so_and_the_next_backup_records_what_it_erased() {
    let mut system = system().await;
    let s3 = S3::start(None, 0).await.unwrap();
    let pool = system.pool().await;
    let api = system.serve().await;
    talk(&api, "s1").await;
    somebody_else(&api).await;
    system.use_bucket(&s3);
    back_up(&system).await;

    let (_, erased) = erase(&api, "s1").await;
    let request = erased["request_id"].as_str().unwrap();
    let receipt = until_done(&pool, request).await;
    let backups = receipt["statement"]["backups"].as_str().unwrap();
    assert!(backups.contains("in the database only"), "{backups}");
    system.until_logged("no bucket is configured", 1).await;
    let kept = "select record_kept from ops.privacy_requests";
    let is_kept: bool = query_scalar(kept).fetch_one(&pool).await.unwrap();
    assert!(!is_kept);
    let first = s3.keys();
    let first = first.iter().find_map(|key| {
        let name = key.strip_prefix("backups/backup-")?.strip_suffix(".json")?;
        Some(name.to_owned())
    });

    back_up(&system).await;
    assert_eq!(records(&s3), 1);
    let is_kept: bool = query_scalar(kept).fetch_one(&pool).await.unwrap();
    assert!(is_kept);
    let restored = Restored::of(&system, &first.unwrap()).await;
    assert_eq!(restored.sessions().await, ["other"]);
    restored.drop().await;
}

#[tokio::test]
async fn a_backup_that_can_not_record_an_erasure_is_none() {
    let mut system = system().await;
    let s3 = S3::start(None, 0).await.unwrap();
    system.use_bucket(&s3);
    let pool = system.pool().await;
    query(
        "insert into erasure_ledger (entry_id, scope, session_ids, requested_by, erased)
         values ('e1', 'conversation', '{s1}', 'visitor', '{}')",
    )
    .execute(&pool)
    .await
    .unwrap();
    s3.set_faults(Faults {
        put: Some(Fault::Refuse),
        ..Faults::default()
    });
    let output = system.run(&["backup"]).await;
    assert_eq!(output.status.code(), Some(1), "{output:?}");
    let reason: String = query_scalar("select reason from ops.backups")
        .fetch_one(&pool)
        .await
        .unwrap();
    let why = "the erasures could not be recorded in the bucket";
    assert!(reason.starts_with(why), "{reason}");
    s3.set_faults(Faults::default());
    back_up(&system).await;
    assert_eq!(records(&s3), 1);
}

#[tokio::test]
async fn a_request_that_needs_the_secret_says_so_and_is_seen_to_when_a_worker_has_it() {
    let mut system = system().await;
    system.unset("PRIVACY_SECRET");
    let pool = system.pool().await;
    let mut worker = system.worker().await;
    query("insert into sessions (session_id, status) values ('s1', 'open')")
        .execute(&pool)
        .await
        .unwrap();
    query("insert into messages (session_id, message_id, turn, role, body) values ('s1', 'm', 1, 'user', $1)")
        .bind(ADDRESS)
        .execute(&pool)
        .await
        .unwrap();
    let request: String = query_scalar("select ops.erase_email($1)")
        .bind(ADDRESS)
        .fetch_one(&pool)
        .await
        .unwrap();
    until(async || {
        let problem = "select coalesce(problem like 'PRIVACY_SECRET is not set%', false) from ops.privacy_requests";
        query_scalar(problem).fetch_one(&pool).await.unwrap()
    })
    .await;
    let receipt = system.run(&["erase", "--receipt", &request]).await;
    let said = String::from_utf8(receipt.stderr).unwrap();
    assert!(said.contains("PRIVACY_SECRET is not set"), "{said}");
    worker.stop().await;

    system.set("PRIVACY_SECRET", &"a".repeat(32));
    let _worker = system.worker().await;
    let receipt = until_done(&pool, &request).await;
    assert_eq!(receipt["statement"]["session_ids"][0], "s1");
    assert_eq!(tables_with(&pool, ADDRESS).await, Vec::<String>::new());
}

#[tokio::test]
async fn a_receipt_without_a_secret_says_that_it_is_not_signed() {
    let mut system = system().await;
    system.unset("PRIVACY_SECRET");
    let pool = system.pool().await;
    let api = system.serve().await;
    talk(&api, "s1").await;
    let (_, erased) = erase(&api, "s1").await;
    let receipt = until_done(&pool, erased["request_id"].as_str().unwrap()).await;
    let text = receipt["text"].as_str().unwrap();
    assert!(text.contains("not signed"), "{text}");
    assert!(text.contains("Contact details that were left"), "{text}");
    assert_eq!(receipt["signature"], Value::Null);
}
