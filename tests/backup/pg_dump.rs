//! `pg_dump` that dies, lies, or does not fit: nothing is at the key, and the row says why.

use std::collections::BTreeSet;

use super::support::{Fakes, Row, SAYS_ITS_VERSION, World, made, until};

/// A run by a `pg_dump` that does what the script says, which has to fail for a reason; then one by the
/// real one, which has to go well.
async fn fails_and_heals(script: &str, reason: &str) {
    let mut world = World::new().await;
    let good = made(world.back_up().await);
    let before = world.s3.keys();
    let fakes = Fakes::new(&[("pg_dump", script)]);
    world.set("PG_BIN_DIR", fakes.path().to_str().unwrap());
    world.back_up().await.unwrap_err();
    World::assert_failed(&world.runs("backup").await, reason);
    assert_eq!(world.s3.keys(), before, "good backups are untouched");
    assert!(world.s3.uploads().is_empty());
    world.environment.clear();
    let next = made(world.back_up().await);
    assert!(next.snapshot_at > good.snapshot_at);
}

/// Says its version, as the real one does.
fn with_version(rest: &str) -> String {
    format!("{SAYS_ITS_VERSION}\n{rest}")
}

/// The real `pg_dump`, killed when so many bytes of it have gone through.
fn killed_after(bytes: u64) -> String {
    with_version(&format!(
        "here=\"$(dirname \"$0\")\"\nmkfifo \"$here/pipe\"\n\
         # It stays open until then: nobody dies of a broken pipe first.\n\
         {{ exec 3< \"$here/pipe\"; head -c {bytes} <&3; kill -KILL $$; }} &\n\
         exec \"$REAL/pg_dump\" \"$@\" > \"$here/pipe\""
    ))
}

#[tokio::test]
async fn pg_dump_that_is_killed_at_twenty_points_leaves_nothing() {
    let mut world = World::new().await;
    // Noise: an object of three parts.
    world.make_noise(22).await;
    let good = made(world.back_up().await);
    assert_eq!(world.s3.parts(), 3);
    let before = world.s3.keys();
    // Before its first byte, in each part, near the end, and when all of it is there.
    let mut scripts: Vec<String> = (0..18)
        .map(|point| killed_after(good.dump_bytes * point / 18))
        .collect();
    // As near as can be: the last 64 KiB have room in the pipe, and it may have ended before.
    scripts.push(killed_after(good.dump_bytes - 70_000));
    // It can't be stopped between its last byte and its end: this one dies in its place.
    scripts.push(with_version("\"$REAL/pg_dump\" \"$@\"\nkill -KILL $$"));
    assert_eq!(scripts.len(), 20);
    let mut ended_in_part = BTreeSet::new();
    for (point, script) in scripts.iter().enumerate() {
        let fakes = Fakes::new(&[("pg_dump", script)]);
        world.set("PG_BIN_DIR", fakes.path().to_str().unwrap());
        let parts = world.s3.parts();
        world.back_up().await.unwrap_err();
        let runs = world.runs("backup").await;
        World::assert_failed(&runs, "pg_dump was ended by signal 9");
        assert_eq!(world.s3.keys(), before, "{point}");
        assert!(world.s3.uploads().is_empty(), "{point}");
        ended_in_part.insert(world.s3.parts() - parts);
    }
    assert_eq!(ended_in_part, BTreeSet::from([1, 2, 3]));
    world.environment.clear();
    made(world.back_up().await);
    let succeeded = |row: &&Row| row.status == "succeeded";
    let runs = world.runs("backup").await;
    assert_eq!(runs.iter().filter(succeeded).count(), 2);
    assert_eq!(runs.len(), 22);
}

#[tokio::test]
async fn nothing_of_a_run_goes_on_when_it_has_failed() {
    let mut world = World::new().await;
    let fakes = Fakes::waiting("exit 1");
    world.set("PG_BIN_DIR", fakes.path().to_str().unwrap());
    // Its count of the rows waits for this one.
    let mut locked = world.pool.begin().await.unwrap();
    sqlx::query("lock table messages in access exclusive mode")
        .execute(&mut *locked)
        .await
        .unwrap();
    let backups = world.backups();
    let running = tokio::spawn(async move { backups.run(&workers::backup::Ask::ByHand).await });
    let counting = "select count(*) from pg_stat_activity where datname = current_database()
                    and wait_event_type = 'Lock' and query like 'select count(*) from %'";
    until(async || world.count(counting).await == 1).await;
    fakes.go();
    running.await.unwrap().unwrap_err();
    World::assert_failed(
        &world.runs("backup").await,
        "pg_dump ended with exit code 1",
    );
    // The lock is still held, and nobody waits for it, nor keeps a snapshot.
    until(async || world.count(counting).await == 0).await;
    locked.rollback().await.unwrap();
}

#[tokio::test]
async fn half_a_dump_that_ends_with_exit_code_0_is_no_backup() {
    let script = with_version("\"$REAL/pg_dump\" \"$@\" | head -c 20000\nexit 0");
    fails_and_heals(&script, "the dump is not whole: its trailer is missing").await;
}

#[tokio::test]
async fn a_dump_whose_last_line_is_missing_is_no_backup() {
    let script = with_version("\"$REAL/pg_dump\" \"$@\" | sed '/database dump complete/d'");
    fails_and_heals(&script, "the dump is not whole: its trailer is missing").await;
}

#[tokio::test]
async fn no_dump_at_all_is_no_backup() {
    fails_and_heals(&with_version("exit 0"), "the dump is not whole").await;
}

#[tokio::test]
async fn a_full_disk_for_pg_dumps_output_is_told() {
    // Not in the place of the shell, which keeps our end open: an output that is closed is an end.
    let script = with_version("\"$REAL/pg_dump\" \"$@\" > /dev/full");
    let reason = "pg_dump ended with exit code 1: pg_dump: error: could not write to file: No space left on device";
    fails_and_heals(&script, reason).await;
}

#[tokio::test]
async fn what_pg_dump_says_of_rows_is_not_told() {
    let script = with_version(
        "echo 'pg_dump: error: query failed' >&2\n\
         echo 'pg_dump: detail: Failing row contains (anna@example.com)' >&2\nexit 1",
    );
    let mut world = World::new().await;
    let fakes = Fakes::new(&[("pg_dump", &script)]);
    world.set("PG_BIN_DIR", fakes.path().to_str().unwrap());
    world.back_up().await.unwrap_err();
    let runs = world.runs("backup").await;
    let reason = runs[0].reason.as_deref().unwrap();
    assert!(reason.ends_with("pg_dump: error: query failed"), "{reason}");
}

#[tokio::test]
async fn a_pg_dump_that_is_older_than_the_server_is_refused_before_it_runs() {
    let script = "[ \"$1\" = --version ] && echo 'pg_dump (PostgreSQL) 14.9' && exit 0\n\
                  touch \"$(dirname \"$0\")/ran\"; exit 1";
    let mut world = World::new().await;
    let fakes = Fakes::new(&[("pg_dump", script)]);
    world.set("PG_BIN_DIR", fakes.path().to_str().unwrap());
    world.back_up().await.unwrap_err();
    let runs = world.runs("backup").await;
    World::assert_failed(&runs, "pg_dump 14.9 is older than the server");
    World::assert_failed(&runs, "or set PG_BIN_DIR");
    assert!(!fakes.path().join("ran").exists());
    assert!(world.s3.keys().is_empty());
}

#[tokio::test]
async fn a_pg_dump_that_is_not_there_is_told_with_what_to_do() {
    let fakes = Fakes::new(&[]);
    let mut world = World::new().await;
    world.set("PG_BIN_DIR", fakes.path().to_str().unwrap());
    world.back_up().await.unwrap_err();
    World::assert_failed(&world.runs("backup").await, "pg_dump was not found");
}

#[tokio::test]
async fn a_pg_dump_that_does_not_start_is_told_with_its_own_words() {
    let script = "echo 'pg_dump: error while loading shared libraries: libpq.so.5' >&2; exit 127";
    let reason = "pg_dump ended with exit code 127: pg_dump: error while loading shared libraries: libpq.so.5";
    fails_and_heals(script, reason).await;
}

#[tokio::test]
async fn pg_dump_is_given_the_password_by_its_environment_and_none_of_our_secrets() {
    let script = "[ \"$1\" = --version ] && exec \"$REAL/pg_dump\" --version\n\
                  here=\"$(dirname \"$0\")\"\nenv > \"$here/environment\"\necho \"$@\" > \"$here/arguments\"\n\
                  exec \"$REAL/pg_dump\" \"$@\"";
    let mut world = World::new().await;
    let fakes = Fakes::new(&[("pg_dump", script)]);
    world.set("PG_BIN_DIR", fakes.path().to_str().unwrap());
    made(world.back_up().await);
    let read = |name| std::fs::read_to_string(fakes.path().join(name)).unwrap();
    let (environment, arguments) = (read("environment"), read("arguments"));
    let url = url::Url::parse(world.database.url()).unwrap();
    if let Some(password) = url.password() {
        assert!(environment.contains(&format!("PGPASSWORD={password}")));
        assert!(!arguments.contains(password), "{arguments}");
    }
    assert!(!arguments.contains("postgres://"), "{arguments}");
    for secret in ["TIGRIS", "CARGO", sandbox::s3::SECRET_ACCESS_KEY] {
        assert!(!environment.contains(secret), "{secret}");
    }
}
