//! `pg_dump` that dies, lies, or does not fit: nothing is at the key, and the row says why.

use super::support::{Fakes, Row, World, made};

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
    format!("[ \"$1\" = --version ] && exec \"$REAL/pg_dump\" --version\n{rest}")
}

#[tokio::test]
async fn pg_dump_that_is_killed_at_twenty_points_leaves_nothing() {
    let mut world = World::new().await;
    let good = made(world.back_up().await);
    let before = world.s3.keys();
    for point in 1..=20 {
        // The last one is behind the whole dump: it was killed nevertheless.
        let length = good.dump_bytes * point / 20 + if point == 20 { 10_000 } else { 0 };
        let fakes = Fakes::new(&[(
            "pg_dump",
            &with_version(&format!(
                "\"$REAL/pg_dump\" \"$@\" | head -c {length}\nkill -KILL $$"
            )),
        )]);
        world.set("PG_BIN_DIR", fakes.path().to_str().unwrap());
        world.back_up().await.unwrap_err();
        let runs = world.runs("backup").await;
        World::assert_failed(&runs, "pg_dump was ended by signal 9");
        assert_eq!(world.s3.keys(), before, "{length}");
        assert!(world.s3.uploads().is_empty(), "{length}");
    }
    world.environment.clear();
    made(world.back_up().await);
    let succeeded = |row: &&Row| row.status == "succeeded";
    let runs = world.runs("backup").await;
    assert_eq!(runs.iter().filter(succeeded).count(), 2);
    assert_eq!(runs.len(), 22);
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
async fn a_full_disk_behind_pg_dumps_pipe_is_told() {
    let script = with_version(
        "\"$REAL/pg_dump\" \"$@\" | head -c 30000\n\
         echo 'pg_dump: error: could not write to output file: No space left on device' >&2\nexit 1",
    );
    let reason = "pg_dump ended with exit code 1: pg_dump: error: could not write to output file: \
                  No space left on device";
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
