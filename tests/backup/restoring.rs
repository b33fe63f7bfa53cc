//! What a restore asks before it begins, what it keeps, and what it leaves when it dies.

use age::{secrecy::ExposeSecret, x25519::Identity};
use sqlx::{query, query_scalar};
use workers::backup::{Manifest, RestoreError, Which};

use super::{
    restored::remember,
    support::{Fakes, World, hash_of, made, silently},
    target::Target,
};

const ADDRESS: &str = "anna@example.com";

/// A session that was closed 200 days ago, and its one message.
async fn with_an_old_session(world: &World) {
    world
        .execute(
            "insert into sessions (session_id, status, closed_at, termination_type, last_turn)
             values ('old', 'closed', now() - interval '200 days', 'visitor_closed', 1)",
        )
        .await;
    world
        .execute(
            "insert into messages (session_id, message_id, turn, role, body)
             values ('old', 'm-1', 1, 'user', 'kept for a year')",
        )
        .await;
}

#[tokio::test]
async fn a_restore_forgets_by_the_rule_of_the_lost_database_and_never_by_a_default() {
    // The rule in the backup, the days that are told, and what the restore went by.
    for (rule, told, expected) in [
        (None, None, None),
        (Some(365), None, Some((365, 0))),
        (Some(90), None, Some((90, 1))),
        (Some(90), Some("365"), Some((365, 0))),
        (Some(365), Some("90"), Some((90, 1))),
    ] {
        let mut world = World::new().await;
        with_an_old_session(&world).await;
        if let Some(days) = rule {
            store::retention::save_days(&world.pool, days)
                .await
                .unwrap();
        }
        made(world.back_up().await);
        if let Some(told) = told {
            world.set("RETENTION_DAYS", told);
        }
        let target = Target::new(&world).await;
        let expired = target.restore(&world).await.unwrap().expired;
        let expired = expired.map(|expired| (expired.days, expired.sessions));
        assert_eq!(expired, expected, "{rule:?}, {told:?}");
        let pool = target.pool().await;
        let kept: i64 = query_scalar("select count(*) from messages where session_id = 'old'")
            .fetch_one(&pool)
            .await
            .unwrap();
        let forgotten = expected.map_or(0, |(_, sessions)| sessions);
        assert_eq!(kept, 1 - forgotten, "{rule:?}, {told:?}");
        pool.close().await;
        target.gone().await;
    }
}

#[tokio::test]
async fn a_restore_that_dies_with_the_commit_leaves_nothing_that_would_reach_outside() {
    let mut world = World::new().await;
    made(world.back_up().await);
    // psql commits, and then it is as if the machine had died.
    let fakes = Fakes::new(&[(
        "psql",
        "\"$REAL/psql\" \"$@\"; [ \"$1\" = --version ] || exit 1",
    )]);
    world.set("PG_BIN_DIR", fakes.path().to_str().unwrap());
    let target = Target::new(&world).await;
    let error = target.restore(&world).await.unwrap_err();
    assert!(matches!(error, RestoreError::Tool(_)), "{error}");
    let pool = target.pool().await;
    let sessions: i64 = query_scalar("select count(*) from sessions")
        .fetch_one(&pool)
        .await
        .unwrap();
    assert_eq!(sessions, 3, "it was committed");
    let held: Vec<String> = query_scalar("select queue from queue.paused order by 1")
        .fetch_all(&pool)
        .await
        .unwrap();
    assert_eq!(held, ["handoff", "people", "webhooks"]);
    let running: i64 = query_scalar("select count(*) from backup_runs where status = 'running'")
        .fetch_one(&pool)
        .await
        .unwrap();
    assert_eq!(running, 0);
    pool.close().await;
    target.gone().await;
}

#[tokio::test]
async fn a_queue_that_was_paused_before_stays_so_and_every_row_is_still_compared() {
    let world = World::new().await;
    for queue in ["handoff", "knowledge"] {
        query("insert into queue.paused (queue) values ($1)")
            .bind(queue)
            .execute(&world.pool)
            .await
            .unwrap();
    }
    let manifest = made(world.back_up().await);
    let target = Target::new(&world).await;
    let report = target.restore(&world).await.unwrap();
    assert_eq!(report.rows, manifest.tables.values().sum::<i64>());
    let pool = target.pool().await;
    let held: Vec<String> = query_scalar("select queue from queue.paused order by 1")
        .fetch_all(&pool)
        .await
        .unwrap();
    assert_eq!(held, ["handoff", "knowledge", "people", "webhooks"]);
    pool.close().await;
    target.gone().await;
}

#[tokio::test]
async fn another_identity_is_told_from_damage() {
    let mut world = World::new().await;
    let (mine, other) = (Identity::generate(), Identity::generate());
    world.set("BACKUP_AGE_RECIPIENT", &mine.to_public().to_string());
    made(world.back_up().await);
    world.environment.clear();
    world.set("BACKUP_AGE_IDENTITY", other.to_string().expose_secret());
    let target = Target::new(&world).await;
    let error = target.restore(&world).await.unwrap_err();
    assert!(matches!(error, RestoreError::OtherIdentity), "{error}");
    assert_eq!(target.tables().await, 0);
    target.gone().await;
}

#[tokio::test]
async fn a_backup_of_a_newer_version_is_left_to_that_version() {
    let world = World::new().await;
    let manifest = made(world.back_up().await);
    let newest = manifest.schema_version.unwrap();
    let newer = Manifest {
        schema_version: Some(newest + 1),
        ..manifest
    };
    let target = Target::new(&world).await;
    let error = target.restore_this(&world, &newer).await.unwrap_err();
    let told = workers::backup::told(&error);
    let expected = format!(
        "schema {} is newer than this program's {newest}",
        newest + 1
    );
    assert!(told.contains(&expected), "{told}");
    assert_eq!(target.tables().await, 0);
    target.gone().await;
}

#[tokio::test]
async fn what_differs_is_told_once() {
    let world = World::new().await;
    let manifest = made(world.back_up().await);
    let mut wrong = manifest.clone();
    *wrong.tables.get_mut("public.sessions").unwrap() += 1;
    let target = Target::new(&world).await;
    let error = target.restore_this(&world, &wrong).await.unwrap_err();
    let told = workers::backup::told(&error);
    assert_eq!(
        told,
        "the restored database differs from the manifest: public.sessions has 3 rows, the manifest says 4 rows"
    );
    target.gone().await;
}

#[tokio::test]
async fn addresses_that_were_erased_under_another_secret_are_noticed_before_anything_is_restored() {
    let mut world = World::new().await;
    let manifest = made(world.back_up().await);
    let (mine, other) = ("a".repeat(32), "b".repeat(32));
    world.set("PRIVACY_SECRET", &mine);
    let target = Target::new(&world).await;
    // One without the id of a key is of nobody.
    for hash in [
        hash_of(ADDRESS, &other),
        hash_of(ADDRESS, &mine)[8..].to_owned(),
    ] {
        remember(&world, &hash);
        let error = target.restore(&world).await.unwrap_err();
        let told = workers::backup::told(&error);
        assert!(told.contains("under another PRIVACY_SECRET"), "{told}");
        assert_eq!(target.tables().await, 0);
    }
    // Whoever has lost it must say so.
    let restorer = world.restorer().without_addresses();
    restorer
        .restore(&manifest, target.config(), &silently())
        .await
        .unwrap();
    target.gone().await;
    // With the right one it goes on.
    remember(&world, &hash_of(ADDRESS, &mine));
    let target = Target::new(&world).await;
    target.restore(&world).await.unwrap();
    target.gone().await;
}

/// Puts a copy of a backup, of another name and moment, beside it.
fn copy(world: &World, manifest: &Manifest, name: &str, hours_later: i64) -> Manifest {
    let object = manifest.object.replace(&manifest.name, name);
    std::fs::copy(world.s3.path(&manifest.object), world.s3.path(&object)).unwrap();
    let copied = Manifest {
        name: name.to_owned(),
        object,
        snapshot_at: manifest.snapshot_at + chrono::TimeDelta::hours(hours_later),
        ..manifest.clone()
    };
    let path = world.s3.path(&format!("backups/backup-{name}.json"));
    std::fs::write(path, copied.to_json()).unwrap();
    copied
}

#[tokio::test]
async fn the_latest_is_the_newest_by_its_moment_whatever_the_names_say() {
    let world = World::new().await;
    let manifest = made(world.back_up().await);
    let latest = copy(&world, &manifest, "2020-01-01", 1);
    for day in 2..8 {
        copy(&world, &manifest, &format!("2099-01-{day:02}"), -day);
    }
    let restorer = world.restorer();
    assert_eq!(restorer.find(&Which::Latest).await.unwrap(), latest);
    let listed = restorer.list().await.unwrap();
    assert_eq!(listed.last().unwrap().name.to_string(), "2020-01-01");
    assert_eq!(listed.first().unwrap().name.to_string(), "2099-01-07");
}

#[tokio::test]
async fn a_backup_that_cannot_be_read_is_named_and_blocks_no_other() {
    let world = World::new().await;
    let manifest = made(world.back_up().await);
    for (name, body) in [("2099-01-01", "{"), ("2099-01-02", r#"{"form": 2}"#)] {
        copy(&world, &manifest, name, 1);
        let path = world.s3.path(&format!("backups/backup-{name}.json"));
        std::fs::write(path, body).unwrap();
    }
    let restorer = world.restorer();
    assert_eq!(restorer.find(&Which::Latest).await.unwrap(), manifest);
    let named = "2099-01-01".parse().unwrap();
    let error = restorer.find(&Which::Named(named)).await.unwrap_err();
    let told = workers::backup::told(&error);
    assert!(
        told.starts_with("the backup 2099-01-01 can't be used: the manifest can't be read"),
        "{told}"
    );
    let listed = restorer.list().await.unwrap();
    let unreadable: Vec<String> = listed
        .iter()
        .filter(|found| found.manifest.is_err())
        .map(|found| found.name.to_string())
        .collect();
    assert_eq!(unreadable, ["2099-01-01", "2099-01-02"]);
}

#[tokio::test]
async fn the_bucket_says_of_a_backup_whether_it_was_ever_restored_for_a_proof() {
    let world = World::new().await;
    let manifest = made(world.back_up().await);
    let restorer = world.restorer();
    assert_eq!(restorer.proved_at(&manifest).await.unwrap(), None);
    assert_eq!(restorer.list().await.unwrap()[0].proved_at, None);
    let verify = async || {
        let backups = world.backups();
        backups.verify(&Which::Latest, false, &silently()).await
    };
    verify().await.unwrap();
    let proved_at = restorer.proved_at(&manifest).await.unwrap();
    assert!(proved_at.is_some_and(|at| at > manifest.snapshot_at));
    // The first time stays, and there is no second backup.
    verify().await.unwrap();
    let listed = restorer.list().await.unwrap();
    assert_eq!(listed.len(), 1);
    assert_eq!(listed[0].proved_at, proved_at);
    // It is the proof of what was restored, and of nothing else of that name.
    let other = Manifest {
        sha256: "0".repeat(64),
        ..manifest
    };
    assert_eq!(restorer.proved_at(&other).await.unwrap(), None);
}
