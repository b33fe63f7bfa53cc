//! Exactly one backup of a due time, whoever makes it and whoever dies.

use sqlx::query;
use store::backups::{self, Claim, Due, RunKind, Wanted};
use workers::backup::{Ask, BackupError, Ran};

use super::support::{DUMPS, Fakes, World, made, until};

fn due(text: &str) -> Due {
    Due {
        local: format!("{text}:00").parse().unwrap(),
        zone: "Europe/Berlin".to_owned(),
    }
}

/// A claim of what is due.
fn a_backup_of(due: &Due) -> Wanted<'_> {
    Wanted {
        kind: RunKind::Backup,
        due: Some(due),
        object_key: None,
        drill: false,
    }
}

#[tokio::test]
async fn of_processes_that_start_in_the_same_instant_one_makes_the_backup_of_the_due_time() {
    let world = World::new().await;
    let ask = Ask::Due(due("2026-11-21T02:00"));
    let runs = (0..6).map(|_| {
        let (backups, ask) = (world.backups(), ask.clone());
        async move { backups.run(&ask).await.unwrap() }
    });
    let ran = futures::future::join_all(runs).await;
    let made = ran.iter().filter(|ran| matches!(ran, Ran::Made(_)));
    assert_eq!(made.count(), 1, "and the others know that it is there");
    assert_eq!(world.s3.keys().len(), 2);
    let rows = world.runs("backup").await;
    assert_eq!(rows.len(), 1);
    assert_eq!(rows[0].status, "succeeded");
}

#[tokio::test]
async fn a_backup_by_hand_is_refused_while_another_one_runs_and_that_is_recorded() {
    let mut world = World::new().await;
    let fakes = Fakes::waiting(DUMPS);
    world.set("PG_BIN_DIR", fakes.path().to_str().unwrap());
    let backups = world.backups();
    let first = tokio::spawn(async move { backups.run(&Ask::ByHand).await });
    until(async || !world.s3.uploads().is_empty()).await;
    let refused = world.back_up().await.unwrap_err();
    assert!(matches!(refused, BackupError::Busy { .. }), "{refused}");
    World::assert_failed(
        &world.runs("backup").await,
        "another backup is being made, by run 1",
    );
    fakes.go();
    made(first.await.unwrap());
    assert_eq!(world.s3.keys().len(), 2);
}

#[tokio::test]
async fn who_waits_uses_up_no_number_of_a_run() {
    let mut world = World::new().await;
    let fakes = Fakes::waiting(DUMPS);
    world.set("PG_BIN_DIR", fakes.path().to_str().unwrap());
    let ask = Ask::Due(due("2026-11-21T02:00"));
    let (first, asked) = (world.backups(), ask.clone());
    let first = tokio::spawn(async move { first.run(&asked).await });
    until(async || !world.s3.uploads().is_empty()).await;
    let due = due("2026-11-21T02:00");
    let wanted = a_backup_of(&due);
    for _ in 0..10 {
        let claim = backups::claim(&world.pool, wanted).await.unwrap();
        assert!(matches!(claim, Claim::Busy { run_id: 1, .. }));
    }
    fakes.go();
    made(first.await.unwrap());
    let claim = backups::claim(&world.pool, wanted).await.unwrap();
    assert!(matches!(claim, Claim::Done));
    made(world.back_up().await);
    let newest = world.count("select max(run_id) from backup_runs").await;
    assert_eq!(newest, 2);
}

#[tokio::test]
async fn who_waits_for_a_run_that_fails_takes_over() {
    let mut world = World::new().await;
    let fakes = Fakes::waiting("exit 1");
    let second = world.backups();
    world.set("PG_BIN_DIR", fakes.path().to_str().unwrap());
    let first = world.backups();
    let ask = Ask::Due(due("2026-11-21T02:00"));
    let asked = ask.clone();
    let first = tokio::spawn(async move { first.run(&asked).await });
    until(async || !world.s3.uploads().is_empty()).await;
    let second = tokio::spawn(async move { second.run(&ask).await });
    fakes.go();
    first.await.unwrap().unwrap_err();
    made(second.await.unwrap());
    let rows = world.runs("backup").await;
    let statuses: Vec<&str> = rows.iter().map(|row| row.status.as_str()).collect();
    assert_eq!(statuses, ["failed", "succeeded"]);
}

/// Waits until a run has begun its upload and said so.
async fn until_noted(world: &World) {
    let noted = "select count(*) from backup_runs where upload_id is not null";
    until(async || world.count(noted).await > 0).await;
    assert_eq!(world.s3.uploads().len(), 1);
}

#[tokio::test]
async fn what_a_killed_run_left_is_cleared_up_and_the_due_time_gets_its_backup() {
    let mut world = World::new().await;
    let fakes = Fakes::waiting(DUMPS);
    let next = world.backups();
    world.set("PG_BIN_DIR", fakes.path().to_str().unwrap());
    let ask = Ask::Due(due("2026-11-21T02:00"));
    let (killed, asked) = (world.backups(), ask.clone());
    let killed = tokio::spawn(async move { killed.run(&asked).await });
    // Before its row names the upload nobody knows whose that is, and it stays for a day.
    until_noted(&world).await;
    killed.abort();
    assert!(killed.await.unwrap_err().is_cancelled());
    // Nobody renews it any more.
    world
        .execute("update backup_runs set lease_until = now() - interval '1 s'")
        .await;
    let vanished = "select count(*) from ops.backups where status = 'vanished'";
    assert_eq!(world.count(vanished).await, 1);
    let manifest = made(next.run(&ask).await);
    assert_eq!(world.count(vanished).await, 0);
    assert_eq!(manifest.name, "2026-11-21");
    assert!(world.s3.uploads().is_empty());
    let rows = world.runs("backup").await;
    assert_eq!(rows[0].reason.as_deref(), Some(backups::VANISHED));
    assert_eq!(rows[1].status, "succeeded");
}

#[tokio::test]
async fn a_run_that_was_frozen_and_comes_back_after_its_lease_writes_nothing() {
    let mut world = World::new().await;
    let fakes = Fakes::waiting(DUMPS);
    let next = world.backups();
    world.set("PG_BIN_DIR", fakes.path().to_str().unwrap());
    let ask = Ask::Due(due("2026-11-21T02:00"));
    let (frozen, asked) = (world.backups(), ask.clone());
    let frozen = tokio::spawn(async move { frozen.run(&asked).await });
    until_noted(&world).await;
    world
        .execute("update backup_runs set lease_until = now() - interval '1 s'")
        .await;
    let manifest = made(next.run(&ask).await);
    let bytes = std::fs::read(world.s3.path(&manifest.object)).unwrap();
    fakes.go();
    frozen.await.unwrap().unwrap_err();
    assert_eq!(world.s3.keys().len(), 2);
    assert_eq!(
        std::fs::read(world.s3.path(&manifest.object)).unwrap(),
        bytes
    );
    let rows = world.runs("backup").await;
    assert_eq!(rows[0].reason.as_deref(), Some(backups::VANISHED));
    assert_eq!(rows[1].status, "succeeded");
}

#[tokio::test]
async fn a_run_that_died_after_its_manifest_and_before_its_row_has_made_the_backup() {
    let world = World::new().await;
    let ask = Ask::Due(due("2026-11-21T02:00"));
    let manifest = made(world.backups().run(&ask).await);
    // As it was an instant before.
    query(
        "update backup_runs
         set status = 'running', finished_at = null, upload_id = 'gone', snapshot_at = null, bytes = null,
             lease_until = now() - interval '1 s'",
    )
    .execute(&world.pool)
    .await
    .unwrap();
    assert_eq!(world.backups().run(&ask).await.unwrap(), Ran::WasMade);
    assert_eq!(world.s3.keys().len(), 2);
    let rows = world.runs("backup").await;
    assert_eq!(rows.len(), 1);
    assert_eq!(rows[0].status, "succeeded");
    assert_eq!(
        rows[0].object_key.as_deref(),
        Some(manifest.object.as_str())
    );
}

#[tokio::test]
async fn a_run_that_died_after_its_object_and_before_its_manifest_has_made_nothing() {
    let world = World::new().await;
    let ask = Ask::Due(due("2026-11-21T02:00"));
    let first = made(world.backups().run(&ask).await);
    std::fs::remove_file(world.s3.path("backups/backup-2026-11-21.json")).unwrap();
    world
        .execute(
            "update backup_runs
             set status = 'running', finished_at = null, upload_id = 'gone', lease_until = now() - interval '1 s'",
        )
        .await;
    let second = made(world.backups().run(&ask).await);
    assert_eq!(second.name, first.name, "its key was free again");
    assert_ne!(second.run, first.run);
    assert_eq!(world.s3.keys().len(), 2);
}

#[tokio::test]
async fn a_run_that_made_the_backup_and_died_counts_though_an_earlier_one_left_something() {
    let world = World::new().await;
    let ask = Ask::Due(due("2026-11-21T02:00"));
    // It failed, and could not clear up after itself.
    query(
        "insert into backup_runs (kind, status, reason, object_key, upload_id, finished_at)
         values ('backup', 'failed', 'the bucket was away', 'backups/backup-2026-11-20.sql.gz', 'gone', now())",
    )
    .execute(&world.pool)
    .await
    .unwrap();
    made(world.backups().run(&ask).await);
    // So that the one before is still there to be cleared up after.
    world
        .execute(
            "update backup_runs
             set status = 'running', finished_at = null, upload_id = 'gone', lease_until = now() - interval '1 s'
             where status = 'succeeded'",
        )
        .await;
    world
        .execute("update backup_runs set upload_id = 'gone' where status = 'failed'")
        .await;
    assert_eq!(world.backups().run(&ask).await.unwrap(), Ran::WasMade);
    let rows = world.runs("backup").await;
    let statuses: Vec<&str> = rows.iter().map(|row| row.status.as_str()).collect();
    assert_eq!(statuses, ["failed", "succeeded"]);
    let left = "select count(*) from backup_runs where upload_id is not null";
    assert_eq!(world.count(left).await, 0, "both were seen to");
}

#[tokio::test]
async fn a_lease_that_ended_is_taken_over_and_one_that_holds_is_not() {
    let world = World::new().await;
    let due = due("2026-11-21T02:00");
    let wanted = a_backup_of(&due);
    let Claim::Ours(first) = backups::claim(&world.pool, wanted).await.unwrap() else {
        panic!("it is nobody else's");
    };
    let second = backups::claim(&world.pool, wanted).await.unwrap();
    assert!(matches!(second, Claim::Busy { run_id, .. } if run_id == first.run_id));
    assert!(backups::renew(&world.pool, first.token).await.unwrap());
    world
        .execute("update backup_runs set lease_until = now() - interval '1 s'")
        .await;
    let taken = backups::claim(&world.pool, wanted).await.unwrap();
    assert!(matches!(taken, Claim::Ours(_)));
    assert!(!backups::renew(&world.pool, first.token).await.unwrap());
    let note = backups::note_upload(&world.pool, first.token, "k", "u").await;
    assert!(!note.unwrap());
    let fail = backups::fail(&world.pool, first.token, "late", false).await;
    assert!(!fail.unwrap());
}
