//! A bucket into which somebody else writes: by mistake, or not.

use sandbox::postgres::TestDatabase;
use sqlx::query_scalar;
use store::backups::newest;
use workers::backup::{Ask, RestoreError, Which};

use super::{
    support::{Fakes, World, made, silently, unpacked},
    target::Target,
};

#[tokio::test]
async fn an_object_that_was_replaced_is_not_good_though_its_manifest_agrees_with_it() {
    let mut world = World::new().await;
    let manifest = made(world.back_up().await);
    let sql = unpacked(&world, &manifest.object).replace("tabbed", "TABBED");
    let told = world.replace(&manifest, &sql);
    let psql =
        "[ \"$1\" = --version ] && exec \"$REAL/psql\" --version\ntouch \"$(dirname \"$0\")/ran\"";
    let fakes = Fakes::new(&[("psql", psql)]);
    world.set("PG_BIN_DIR", fakes.path().to_str().unwrap());
    for drill in [false, true] {
        let error = world
            .backups()
            .verify(&Which::Latest, drill, &silently())
            .await
            .unwrap_err();
        assert!(
            matches!(&error, RestoreError::Replaced(run) if *run == manifest.run),
            "{error}"
        );
    }
    assert!(!fakes.path().join("ran").exists(), "before psql starts");
    assert_eq!(newest(&world.pool).await.unwrap().verified, None);

    // It could be restored: only the database that made it knows.
    world.environment.clear();
    world
        .execute("delete from backup_runs where kind = 'backup'")
        .await;
    let named = Which::Named(told.name.parse().unwrap());
    let verified = world.backups().verify(&named, false, &silently()).await;
    assert!(!verified.unwrap().is_own);
    assert_eq!(newest(&world.pool).await.unwrap().verified, None);
}

#[tokio::test]
async fn a_backup_of_another_database_in_the_same_bucket_counts_for_none_of_ours() {
    let world = World::new().await;
    let ours = made(world.back_up().await);
    let other = TestDatabase::create().await.unwrap();
    let theirs = made(world.backups_of(other.url()).run(&Ask::ByHand).await);
    assert!(theirs.snapshot_at > ours.snapshot_at);

    let backups = world.backups();
    let verify = async |which| backups.verify(&which, false, &silently()).await.unwrap();
    let verified = verify(Which::Named(theirs.name.parse().unwrap())).await;
    assert!(!verified.is_own);
    assert_eq!(newest(&world.pool).await.unwrap().verified, None);

    let verified = verify(Which::Latest).await;
    assert!(verified.is_own);
    assert_eq!(verified.manifest, ours);
    let newest = newest(&world.pool).await.unwrap();
    assert_eq!(newest.verified, Some(ours.snapshot_at));
}

#[tokio::test]
async fn the_newest_backup_is_missed_if_the_bucket_lost_it() {
    let world = World::new().await;
    made(world.back_up().await);
    let newest = made(world.back_up().await);
    std::fs::remove_file(world.s3.path(&newest.object)).unwrap();
    let error = world
        .backups()
        .verify(&Which::Latest, true, &silently())
        .await
        .unwrap_err();
    assert!(
        matches!(&error, RestoreError::Missing(name) if *name == newest.name),
        "{error}"
    );
}

#[tokio::test]
async fn commands_of_the_shell_that_stand_in_a_backup_are_not_run() {
    let world = World::new().await;
    let manifest = made(world.back_up().await);
    let sql = unpacked(&world, &manifest.object);
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("pwned");
    let command = format!("\\! touch {}\n", file.display());
    let key = sql
        .lines()
        .find_map(|line| line.strip_prefix("\\restrict "))
        .expect("pg_dump begins the restricted mode by itself");
    let leave = format!("\\unrestrict {key}\n");
    let end = sql
        .rfind("--\n-- PostgreSQL database dump complete")
        .unwrap();
    let (body, trailer) = sql.split_at(end);
    for tampered in [
        format!("{command}{sql}"),
        format!("{body}{command}{trailer}"),
        format!("{body}{leave}{command}{trailer}"),
        format!("{sql}{command}"),
        format!("{sql}{command}{leave}"),
        // With a pair of its own, and as one line with what may stay.
        format!("\\restrict x\n\\unrestrict x\n{command}{sql}"),
        format!("select 1 \\g |touch {}\n{sql}", file.display()),
    ] {
        let told = world.replace(&manifest, &tampered);
        let target = Target::new(&world).await;
        let error = target.restore_this(&world, &told).await.unwrap_err();
        assert!(matches!(error, RestoreError::Tool(_)), "{error}");
        assert!(!file.exists());
        assert_eq!(target.tables().await, 0);
        target.gone().await;
    }
}

#[tokio::test]
async fn a_psql_that_would_run_them_is_refused_before_it_runs() {
    let mut world = World::new().await;
    let mut manifest = made(world.back_up().await);
    manifest.pg_dump_version = "15.1".parse().unwrap();
    let fakes = Fakes::new(&[("psql", "echo 'psql (PostgreSQL) 15.13'")]);
    world.set("PG_BIN_DIR", fakes.path().to_str().unwrap());
    let target = Target::new(&world).await;
    let error = target.restore_this(&world, &manifest).await.unwrap_err();
    assert!(matches!(error, RestoreError::Unrestricted(_)), "{error}");
    assert!(error.to_string().contains("15.14"), "{error}");
    assert_eq!(target.tables().await, 0);
    target.gone().await;
}

#[tokio::test]
async fn a_manifest_names_its_database() {
    let world = World::new().await;
    let manifest = made(world.back_up().await);
    let name: String = query_scalar("select current_database()::text")
        .fetch_one(&world.pool)
        .await
        .unwrap();
    assert_eq!(manifest.database, Some(name));
}
