//! A database that was restored is the one that was backed up, and reaches nobody outside.

use std::collections::{BTreeMap, BTreeSet};

use sandbox::s3::Faults;
use sqlx::{AssertSqlSafe, PgPool, Row, query, query_scalar};
use workers::backup::{Manifest, RestoreError, Which, told};

use super::{
    support::{Fakes, World, hash_of, made},
    target::Target,
};

/// Every row of every table, hashed by table. What a restore changes is left out.
async fn contents(pool: &PgPool, manifest: &Manifest) -> BTreeMap<String, Option<String>> {
    let mut contents = BTreeMap::new();
    for table in manifest.tables.keys() {
        if ["public.backup_runs", "queue.paused", "queue.jobs"].contains(&table.as_str()) {
            continue;
        }
        let sql = format!("select md5(string_agg(t::text, '|' order by t::text)) from {table} t");
        let hash: Option<String> = query_scalar(AssertSqlSafe(sql))
            .fetch_one(pool)
            .await
            .unwrap();
        contents.insert(table.clone(), hash);
    }
    contents
}

/// What the roles may do, and what the schema says of itself.
async fn schema(pool: &PgPool) -> BTreeSet<String> {
    let rows = query(
        "select 'function ' || p.oid::regprocedure || ' '
                || coalesce((select string_agg(a::text, ',' order by a::text) from unnest(p.proacl) a), 'default') as line
         from pg_proc p where pronamespace in ('ops'::regnamespace, 'queue'::regnamespace)
         union all
         select 'relation ' || c.oid::regclass || ' ' || c.relkind::text || ' '
                || coalesce((select string_agg(a::text, ',' order by a::text) from unnest(c.relacl) a), 'default') || ' '
                || coalesce(md5(obj_description(c.oid, 'pg_class')), '')
         from pg_class c where relnamespace in ('ops'::regnamespace, 'queue'::regnamespace, 'public'::regnamespace)
         union all
         select 'constraint ' || conrelid::regclass || ' ' || conname || ' ' || contype::text || convalidated
         from pg_constraint where conrelid <> 0 and connamespace in ('queue'::regnamespace, 'public'::regnamespace)
         order by 1",
    )
    .fetch_all(pool)
    .await
    .unwrap();
    rows.iter().map(|row| row.get("line")).collect()
}

#[tokio::test]
async fn a_restored_database_has_every_row_and_every_privilege() {
    let world = World::new().await;
    let manifest = made(world.back_up().await);
    let target = Target::new(&world).await;
    let report = target.restore(&world).await.unwrap();
    assert_eq!(report.manifest, manifest);
    assert_eq!(report.rows, manifest.tables.values().sum::<i64>());
    assert!(report.lost.as_secs() < 120);
    let pool = target.pool().await;
    assert_eq!(
        contents(&pool, &manifest).await,
        contents(&world.pool, &manifest).await
    );
    let (restored, original) = (schema(&pool).await, schema(&world.pool).await);
    let different: Vec<&String> = restored.symmetric_difference(&original).collect();
    assert!(different.is_empty(), "{different:#?}");
    assert!(
        original.len() > 100,
        "only {} things were compared",
        original.len()
    );
    pool.close().await;
    target.gone().await;
}

#[tokio::test]
async fn what_reaches_outside_is_held_and_no_run_of_an_earlier_life_goes_on() {
    let world = World::new().await;
    made(world.back_up().await);
    let target = Target::new(&world).await;
    target.restore(&world).await.unwrap();
    let pool = target.pool().await;
    let held: Vec<String> = query_scalar("select queue from ops.queues where paused order by 1")
        .fetch_all(&pool)
        .await
        .unwrap();
    assert_eq!(held, ["handoff", "people", "webhooks"]);
    let status: String = query_scalar("select status from ops.backups")
        .fetch_one(&pool)
        .await
        .unwrap();
    assert_eq!(status, "failed", "it was running in its own dump");
    pool.close().await;
    target.gone().await;
}

#[tokio::test]
async fn a_database_that_is_not_empty_is_left_alone() {
    let world = World::new().await;
    made(world.back_up().await);
    let target = Target::new(&world).await;
    for (sql, found, undo) in [
        ("create table mine ()", "public.mine", "drop table mine"),
        ("create schema mine", "schema mine", "drop schema mine"),
    ] {
        let pool = target.pool().await;
        query(AssertSqlSafe(sql)).execute(&pool).await.unwrap();
        let error = target.restore(&world).await.unwrap_err();
        assert!(
            matches!(&error, RestoreError::NotEmpty(it) if it == found),
            "{error}"
        );
        query(AssertSqlSafe(undo)).execute(&pool).await.unwrap();
        pool.close().await;
    }
    target.gone().await;
}

#[tokio::test]
async fn an_older_psql_is_refused_before_it_runs() {
    let mut world = World::new().await;
    made(world.back_up().await);
    let fakes = Fakes::new(&[("psql", "echo 'psql (PostgreSQL) 16.4'")]);
    world.set("PG_BIN_DIR", fakes.path().to_str().unwrap());
    let target = Target::new(&world).await;
    let error = target.restore(&world).await.unwrap_err();
    assert!(matches!(error, RestoreError::TooOld { .. }), "{error}");
    assert_eq!(target.tables().await, 0);
    target.gone().await;
}

#[tokio::test]
async fn a_damaged_backup_restores_nothing_at_all() {
    let world = World::new().await;
    let manifest = made(world.back_up().await);
    let path = world
        .s3
        .path(&format!("backups/backup-{}.json", manifest.name));
    let wrong = Manifest {
        sha256: "0".repeat(64),
        ..manifest
    };
    std::fs::write(path, wrong.to_json()).unwrap();
    let target = Target::new(&world).await;
    let error = target.restore(&world).await.unwrap_err();
    assert!(
        error.to_string().contains("its SHA-256 is another one"),
        "{error}"
    );
    // Every statement had been run by then.
    assert_eq!(target.tables().await, 0);
    target.gone().await;
}

#[tokio::test]
async fn a_restore_that_is_killed_half_way_restores_nothing_at_all() {
    let mut world = World::new().await;
    made(world.back_up().await);
    // psql that is fed all of the dump, and whose feeder dies before it says that it was right.
    let fakes = Fakes::new(&[(
        "psql",
        "[ \"$1\" = --version ] && exec \"$REAL/psql\" --version\n\
         sed '/^COMMIT;$/d' | \"$REAL/psql\" \"$@\"; echo done > \"$(dirname \"$0\")/done\"",
    )]);
    world.set("PG_BIN_DIR", fakes.path().to_str().unwrap());
    let target = Target::new(&world).await;
    let error = target.restore(&world).await.unwrap_err();
    assert!(matches!(error, RestoreError::Different(_)), "{error}");
    assert!(fakes.path().join("done").exists());
    assert_eq!(target.tables().await, 0);
    target.gone().await;
}

#[tokio::test]
async fn the_newest_of_a_date_is_meant_by_the_date_and_each_by_its_name() {
    let world = World::new().await;
    let first = made(world.back_up().await);
    world.say_something(1).await;
    let second = made(world.back_up().await);
    let restorer = world.backups().restorer().clone();
    let find = |which: &str| {
        let (restorer, which) = (restorer.clone(), which.parse::<Which>().unwrap());
        async move { restorer.find(&which).await }
    };
    assert_eq!(find("latest").await.unwrap(), second);
    assert_eq!(find(&first.name).await.unwrap(), second);
    assert_eq!(find(&second.name).await.unwrap(), second);
    assert!(matches!(
        find("2020-01-01").await,
        Err(RestoreError::Missing(_))
    ));
    // An object without a manifest, and a manifest without its object, are no backups.
    std::fs::remove_file(world.s3.path(&second.object)).unwrap();
    assert_eq!(find("latest").await.unwrap(), first);
}

/// What the bucket remembers of somebody who was erased by an address.
pub(super) fn remember(world: &World, email_hash: &str) {
    let path = world.s3.path("erasures/er-1-0.json");
    std::fs::create_dir_all(path.parent().unwrap()).unwrap();
    let entry = serde_json::json!({
        "entry_id": "er-1",
        "scope": "person",
        "session_ids": [],
        "email_hash": email_hash,
        "requested_by": "operator",
        "erased": {},
        "erased_at": "2026-11-21T12:00:00Z",
    });
    std::fs::write(path, entry.to_string()).unwrap();
}

#[tokio::test]
async fn whether_the_erased_can_be_forgotten_again_is_known_before_anything_is_restored() {
    let mut world = World::new().await;
    made(world.back_up().await);
    let secret = "a".repeat(32);
    remember(&world, &hash_of("anna@example.com", &secret));
    let target = Target::new(&world).await;
    let error = target.restore(&world).await.unwrap_err();
    assert!(told(&error).contains("PRIVACY_SECRET is needed"), "{error}");
    assert_eq!(target.tables().await, 0);

    std::fs::write(world.s3.path("erasures/er-2-0.json"), "no entry").unwrap();
    world.set("PRIVACY_SECRET", &secret);
    let error = target.restore(&world).await.unwrap_err();
    assert!(
        told(&error).contains("the ledger's entry erasures/er-2-0.json can't be read"),
        "{error}"
    );
    assert_eq!(target.tables().await, 0);

    // So it can be repeated into the same database, as soon as what is missing is there.
    std::fs::remove_file(world.s3.path("erasures/er-2-0.json")).unwrap();
    let report = target.restore(&world).await.unwrap();
    assert_eq!(report.replayed.entries, 1);
    target.gone().await;
}

#[tokio::test]
async fn a_ledger_that_the_bucket_does_not_give_is_told_with_the_stores_own_word() {
    let world = World::new().await;
    let manifest = made(world.back_up().await);
    world.s3.set_faults(Faults {
        gone: true,
        ..Faults::default()
    });
    let target = Target::new(&world).await;
    let error = target.restore_this(&world, &manifest).await.unwrap_err();
    let told = told(&error);
    assert!(
        told.contains("the ledger of erasures could not be read") && told.contains("answered 404"),
        "{told}"
    );
    target.gone().await;
}
