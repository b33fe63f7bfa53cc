//! A backup is good when it was restored and every count is right.

use std::io::Write;

use age::{secrecy::ExposeSecret, x25519::Identity};
use metrics_exporter_prometheus::PrometheusBuilder;
use sqlx::query_scalar;
use workers::{
    backup::{RestoreError, Which},
    retention::{Pace, RetentionDeps},
};

use super::support::{Fakes, World, made, silently, until};

/// The scratch databases of a world's database.
async fn scratch(world: &World) -> Vec<String> {
    query_scalar(
        "select datname::text from pg_database
         where starts_with(datname, 'growth_chat_verify_'
                || (select oid from pg_database where datname = current_database()) || '_')",
    )
    .fetch_all(&world.pool)
    .await
    .unwrap()
}

async fn verified_at(world: &World) -> bool {
    query_scalar("select verified_at is not null from backup_runs where kind = 'backup'")
        .fetch_one(&world.pool)
        .await
        .unwrap()
}

#[tokio::test]
async fn a_backup_that_can_be_restored_is_good_and_leaves_no_scratch_database() {
    let world = World::new().await;
    let manifest = made(world.back_up().await);
    assert!(!verified_at(&world).await);
    let verified = world
        .backups()
        .verify(&Which::Latest, false, &silently())
        .await
        .unwrap();
    assert_eq!(verified.manifest, manifest);
    assert_eq!(verified.rows, manifest.tables.values().sum::<i64>());
    assert!(verified_at(&world).await);
    assert!(scratch(&world).await.is_empty());
    let runs = world.runs("verify").await;
    assert_eq!(runs.len(), 1);
    assert_eq!(runs[0].status, "succeeded");
    assert_eq!(
        runs[0].object_key.as_deref(),
        Some(manifest.object.as_str())
    );
}

#[tokio::test]
async fn a_drill_goes_through_all_of_restore() {
    let world = World::new().await;
    made(world.back_up().await);
    let steps = std::sync::Arc::new(parking_lot::Mutex::new(Vec::<String>::new()));
    let heard = steps.clone();
    let say: workers::backup::Say =
        std::sync::Arc::new(move |step| heard.lock().push(step.to_owned()));
    world
        .backups()
        .verify(&Which::Latest, true, &say)
        .await
        .unwrap();
    let steps = steps.lock().join("\n");
    for step in [
        "comparing every table",
        "bringing the schema up to date",
        "holding what reaches outside",
        "replaying what was to be forgotten",
    ] {
        assert!(steps.contains(step), "{step}: {steps}");
    }
    assert!(verified_at(&world).await);
    assert!(scratch(&world).await.is_empty());
    // What was held was held there, not here.
    assert_eq!(world.count("select count(*) from queue.paused").await, 0);
    assert_eq!(
        world
            .count("select count(*) from ops.backups where kind = 'verify' and drill")
            .await,
        1
    );
}

#[tokio::test]
async fn what_a_drill_forgets_in_its_scratch_database_is_not_counted_as_forgotten_here() {
    let recorder = PrometheusBuilder::new().build_recorder();
    let _counted = metrics::set_default_local_recorder(&recorder);
    let told = || recorder.handle().render();
    let world = World::new().await;
    world
        .execute(
            "update sessions set status = 'closed', termination_type = 'visitor_closed',
                                 closed_at = now() - interval '91 days'",
        )
        .await;
    made(world.back_up().await);
    let verified = world
        .backups()
        .verify(&Which::Latest, true, &silently())
        .await;
    verified.unwrap();
    assert!(
        !told().contains("growth_chat_retention_deleted_total"),
        "{}",
        told()
    );

    let here = RetentionDeps {
        pool: world.pool.clone(),
        days: 90,
    };
    let (gone, _) = here.sweep(None, Pace::BesideTurns).await.unwrap();
    assert_eq!(gone.sessions, 3);
    assert!(
        told().contains("growth_chat_retention_deleted_total"),
        "{}",
        told()
    );
}

/// Spoils the object of a backup, and has it verified.
async fn spoilt(spoil: impl FnOnce(&mut Vec<u8>)) -> (World, RestoreError) {
    let world = World::new().await;
    let manifest = made(world.back_up().await);
    let path = world.s3.path(&manifest.object);
    let mut bytes = std::fs::read(&path).unwrap();
    spoil(&mut bytes);
    std::fs::write(path, bytes).unwrap();
    let error = world
        .backups()
        .verify(&Which::Latest, false, &silently())
        .await
        .unwrap_err();
    assert!(!verified_at(&world).await);
    assert!(scratch(&world).await.is_empty());
    (world, error)
}

#[tokio::test]
async fn a_flipped_bit_is_found() {
    let (world, error) = spoilt(|bytes| {
        let middle = bytes.len() / 2;
        bytes[middle] ^= 1;
    })
    .await;
    assert!(matches!(error, RestoreError::Damaged(_)), "{error}");
    World::assert_failed(&world.runs("verify").await, "the object is damaged");
}

#[tokio::test]
async fn an_object_that_ends_with_a_whole_gzip_member_too_early_is_found() {
    let (_, error) = spoilt(|bytes| {
        // An empty member in place of the data: what gzip itself takes for a whole file.
        let mut empty = Vec::new();
        let mut child = std::process::Command::new("gzip")
            .arg("--stdout")
            .stdin(std::process::Stdio::piped())
            .stdout(std::process::Stdio::piped())
            .spawn()
            .unwrap();
        child
            .stdin
            .take()
            .unwrap()
            .write_all(b"select 1;\n")
            .unwrap();
        empty.extend(child.wait_with_output().unwrap().stdout);
        *bytes = empty;
    })
    .await;
    assert!(matches!(error, RestoreError::Damaged(_)), "{error}");
}

#[tokio::test]
async fn rows_that_are_missing_are_found() {
    let world = World::new().await;
    let manifest = made(world.back_up().await);
    // As if the dump had lost one.
    let path = world
        .s3
        .path(&format!("backups/backup-{}.json", manifest.name));
    let mut told = manifest.clone();
    *told.tables.get_mut("public.messages").unwrap() += 1;
    std::fs::write(&path, told.to_json()).unwrap();
    let error = world
        .backups()
        .verify(&Which::Latest, false, &silently())
        .await
        .unwrap_err();
    assert!(matches!(error, RestoreError::Different(_)), "{error}");
    World::assert_failed(
        &world.runs("verify").await,
        "public.messages has 3 rows, the manifest says 4 rows",
    );
    assert!(!verified_at(&world).await);
}

#[tokio::test]
async fn a_psql_that_dies_is_told_and_its_database_goes() {
    let mut world = World::new().await;
    made(world.back_up().await);
    let fakes = Fakes::new(&[(
        "psql",
        "[ \"$1\" = --version ] && exec \"$REAL/psql\" --version\nhead -c 5000 > /dev/null\n\
         echo 'psql:<stdin>:9: ERROR:  53100' >&2\nexit 3",
    )]);
    world.set("PG_BIN_DIR", fakes.path().to_str().unwrap());
    world
        .backups()
        .verify(&Which::Latest, false, &silently())
        .await
        .unwrap_err();
    World::assert_failed(
        &world.runs("verify").await,
        "psql ended with exit code 3: psql:<stdin>:9: ERROR:  53100",
    );
    assert!(scratch(&world).await.is_empty());
}

#[tokio::test]
async fn a_scratch_database_that_a_crash_left_is_dropped_by_the_next_verify() {
    let mut world = World::new().await;
    made(world.back_up().await);
    let good = world.backups();
    // psql that never ends, and a process that is killed with it.
    let fakes = Fakes::new(&[(
        "psql",
        "[ \"$1\" = --version ] && exec \"$REAL/psql\" --version\nexec sleep 600",
    )]);
    world.set("PG_BIN_DIR", fakes.path().to_str().unwrap());
    let crashing = world.backups();
    let crashing =
        tokio::spawn(async move { crashing.verify(&Which::Latest, false, &silently()).await });
    until(async || !scratch(&world).await.is_empty()).await;
    crashing.abort();
    assert!(crashing.await.unwrap_err().is_cancelled());
    let left = scratch(&world).await;
    assert_eq!(left.len(), 1);
    // Of another database on the server, which this one leaves alone.
    world
        .execute("create database growth_chat_verify_1_other")
        .await;
    let busy = good.verify(&Which::Latest, false, &silently()).await;
    assert!(
        matches!(busy, Err(RestoreError::Busy(_))),
        "its lease holds"
    );
    world
        .execute(
            "update backup_runs set lease_until = now() - interval '1 s' where status = 'running'",
        )
        .await;
    good.verify(&Which::Latest, false, &silently())
        .await
        .unwrap();
    assert!(scratch(&world).await.is_empty());
    let others = world
        .count("select count(*) from pg_database where datname = 'growth_chat_verify_1_other'")
        .await;
    world
        .execute("drop database growth_chat_verify_1_other")
        .await;
    assert_eq!(others, 1);
}

#[tokio::test]
async fn an_encrypted_backup_is_verified_with_the_identity_and_not_without() {
    let mut world = World::new().await;
    let identity = Identity::generate();
    world.set("BACKUP_AGE_RECIPIENT", &identity.to_public().to_string());
    made(world.back_up().await);
    let verify = |world: &World| {
        let backups = world.backups();
        async move { backups.verify(&Which::Latest, false, &silently()).await }
    };
    let error = verify(&world).await.unwrap_err();
    assert!(matches!(error, RestoreError::NoIdentity), "{error}");
    world.set("BACKUP_AGE_IDENTITY", identity.to_string().expose_secret());
    verify(&world).await.unwrap();
}

#[tokio::test]
async fn there_is_nothing_to_verify_in_an_empty_bucket_and_that_is_recorded() {
    let world = World::new().await;
    let error = world
        .backups()
        .verify(&Which::Latest, false, &silently())
        .await
        .unwrap_err();
    assert!(matches!(error, RestoreError::Missing(_)), "{error}");
    World::assert_failed(
        &world.runs("verify").await,
        "the bucket has no backup of this database",
    );
}
