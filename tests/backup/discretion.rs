//! A backup has everything in it, and keys to all of it in its hands: none of it is told, whatever fails,
//! and none of it stands in a command line.

use std::{cell::Cell, fs, process::Output};

use sandbox::{
    postgres::{create_database, database_url, drop_database},
    s3::{Fault, Faults, S3, SECRET_ACCESS_KEY},
};
use serde_json::Value;
use sqlx::{AssertSqlSafe, PgPool, query};

use super::support::Fakes;
use crate::support::{
    TestSystem,
    discretion::{Discretion, SECRETS, VISITORS},
};

/// Says its version as the real one does; then it fails, and tells all it knows of rows and of the way to
/// the database, in the line that is an operator's as well.
const TELLS_ALL: &str = "[ \"$1\" = --version ] && exec \"$REAL/PROGRAM\" --version\n\
    echo \"PROGRAM: error: connection to postgres://$PGUSER:$PGPASSWORD@$PGHOST:$PGPORT/$PGDATABASE failed\" >&2\n\
    echo \"PROGRAM: error: password=$PGPASSWORD\" >&2\n\
    echo 'PROGRAM: detail: Failing row contains (visitors-own-words@visitor.example)' >&2\n\
    echo 'DETAIL:  Key (body)=(visitors-own-words) already exists.' >&2\n\
    echo 'CONTEXT:  COPY messages, line 3: \"visitors-own-words\"' >&2\nexit 1";
/// The same of a server that quotes a value in its message itself.
const QUOTES_A_ROW: &str = "[ \"$1\" = --version ] && exec \"$REAL/PROGRAM\" --version\n\
    echo 'PROGRAM: error: query failed: ERROR:  invalid input syntax for type integer: \"visitors-own-words\"' >&2\n\
    exit 1";
/// Waits until somebody has looked at its arguments, and becomes the real one.
const WAITS: &str = "[ \"$1\" = --version ] && exec \"$REAL/PROGRAM\" --version\n\
    while [ ! -e \"$(dirname \"$0\")/seen\" ]; do sleep 0.01; done\n\
    exec \"$REAL/PROGRAM\" \"$@\"";

/// A system with the bucket and a conversation, whose secrets are marked; the store knows its keys.
async fn marked() -> (TestSystem, S3, Discretion) {
    let mut system = TestSystem::new().await;
    let s3 = S3::start(None, 0).await.unwrap();
    system.use_bucket(&s3);
    system.set("PRIVACY_SECRET", &"a".repeat(32));
    let discretion = Discretion::seed(&mut system).await.and(SECRET_ACCESS_KEY);
    for (name, value) in s3.environment() {
        system.set(name, &value);
    }
    let pool = system.pool().await;
    for statement in [
        "insert into sessions (session_id) values ('s1')",
        "insert into messages (session_id, message_id, role, turn, body)
         values ('s1', 'm-1', 'user', 1, 'visitors-own-words')",
    ] {
        query(statement).execute(&pool).await.unwrap();
    }
    (system, s3, discretion)
}

fn fakes(program: &str, script: &str) -> Fakes {
    let other = if program == "psql" { "pg_dump" } else { "psql" };
    let real = format!("exec \"$REAL/{other}\" \"$@\"");
    Fakes::new(&[
        (program, &script.replace("PROGRAM", program)),
        (other, &real),
    ])
}

#[track_caller]
fn assert_succeeded(output: &Output) {
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{said}");
}

/// An empty database on the server of the system.
struct Target {
    admin: String,
    name: String,
    url: String,
}

impl Target {
    async fn new(system: &TestSystem) -> Self {
        let admin = system.database_url();
        let name = format!("{}_again", admin.rsplit('/').next().unwrap());
        create_database(&admin, &name).await.unwrap();
        let url = database_url(&admin, &name).unwrap();
        Self { admin, name, url }
    }

    /// The address without its password, which goes by the environment.
    fn address(&self, system: &mut TestSystem) -> String {
        let mut url = url::Url::parse(&self.url).unwrap();
        if let Some(password) = url.password() {
            system.set("RESTORE_PASSWORD", password);
        }
        url.set_password(None).unwrap();
        url.into()
    }

    async fn gone(self) {
        drop_database(&self.admin, &self.name).await.unwrap();
    }
}

#[tokio::test]
async fn programs_that_fail_and_quote_make_nobody_tell() {
    let (mut system, _s3, discretion) = marked().await;
    assert_succeeded(&system.run(&["backup"]).await);
    let target = Target::new(&system).await;
    let into = target.address(&mut system);
    for script in [TELLS_ALL, QUOTES_A_ROW] {
        let dump = fakes("pg_dump", script);
        system.set("PG_BIN_DIR", dump.path().to_str().unwrap());
        let output = system.run(&["backup"]).await;
        assert_eq!(output.status.code(), Some(1), "{output:?}");
        discretion.look_at_output(&output);
        let load = fakes("psql", script);
        system.set("PG_BIN_DIR", load.path().to_str().unwrap());
        for words in [
            &["backup", "verify"][..],
            &["restore", "latest", "--into", &into],
        ] {
            let output = system.run(words).await;
            assert_eq!(output.status.code(), Some(1), "{words:?}: {output:?}");
            discretion.look_at_output(&output);
        }
    }
    let failed: i64 =
        sqlx::query_scalar("select count(*) from backup_runs where reason is not null")
            .fetch_one(&system.pool().await)
            .await
            .unwrap();
    assert_eq!(failed, 4);
    discretion.look_through(&system, &[]).await;
    target.gone().await;
}

#[tokio::test]
async fn a_row_that_can_not_be_restored_is_not_told() {
    let (mut system, _s3, discretion) = marked().await;
    let pool = system.pool().await;
    // True where it was made, and in no other database.
    let here = format!(
        "alter table messages add constraint only_here check (current_database() = '{}')",
        system.database_url().rsplit('/').next().unwrap()
    );
    query(AssertSqlSafe(here)).execute(&pool).await.unwrap();
    assert_succeeded(&system.run(&["backup"]).await);
    let target = Target::new(&system).await;
    let into = target.address(&mut system);
    for words in [
        &["backup", "verify"][..],
        &["restore", "latest", "--into", &into],
    ] {
        let output = system.run(words).await;
        let said = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(1), "{said}");
        assert!(said.contains("23514"), "{said}");
        discretion.look_at_output(&output);
    }
    discretion.look_through(&system, &[]).await;
    target.gone().await;
}

#[tokio::test]
async fn a_store_that_refuses_and_quotes_the_keys_makes_nobody_tell() {
    let (mut system, s3, discretion) = marked().await;
    assert_succeeded(&system.run(&["backup"]).await);
    // It learns the schedules.
    assert_succeeded(&system.run(&["tick"]).await);
    let quote = Some(Fault::Quote);
    for faults in [
        Faults {
            begin: quote,
            ..Faults::default()
        },
        Faults {
            part: Some((1, Fault::Quote)),
            ..Faults::default()
        },
        Faults {
            complete: quote,
            ..Faults::default()
        },
        Faults {
            put: quote,
            ..Faults::default()
        },
    ] {
        s3.set_faults(faults.clone());
        let output = system.run(&["backup"]).await;
        assert_eq!(output.status.code(), Some(1), "{faults:?}: {output:?}");
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(said.contains("the store answered 500"), "{said}");
        discretion.look_at_output(&output);
    }
    s3.set_faults(Faults::default());
    // Keys that the store does not know.
    for name in ["TIGRIS_SECRET_ACCESS_KEY", "TIGRIS_ACCESS_KEY_ID"] {
        system.set(name, SECRETS);
        for words in [
            &["backup"][..],
            &["backup", "list"],
            &["backup", "verify"],
            &[
                "restore",
                "latest",
                "--into",
                "postgres://postgres@127.0.0.1:1/none",
            ],
        ] {
            let output = system.run(words).await;
            assert_eq!(output.status.code(), Some(1), "{words:?}: {output:?}");
            let said = String::from_utf8_lossy(&output.stderr);
            assert!(said.contains("the store answered 403"), "{said}");
            discretion.look_at_output(&output);
        }
    }
    // A worker's job fails for the same reason.
    let pool = system.pool().await;
    let night = "update queue.schedules set settled = settled - interval '1 day', since = since - interval '1 day'";
    query(night).execute(&pool).await.unwrap();
    let output = system.run(&["tick"]).await;
    assert_eq!(output.status.code(), Some(1), "{output:?}");
    discretion.look_at_output(&output);
    let noted: i64 = sqlx::query_scalar(
        "select count(*) from queue.jobs where kind = 'backup.run' and errors::text like '%403%'",
    )
    .fetch_one(&pool)
    .await
    .unwrap();
    assert_eq!(noted, 1);
    discretion.look_through(&system, &[]).await;
}

#[tokio::test]
async fn no_command_line_has_a_secret_while_a_backup_is_made_and_restored() {
    let (mut system, _s3, discretion) = marked().await;
    let target = Target::new(&system).await;
    let into = target.address(&mut system);
    for (program, words) in [
        ("pg_dump", &["backup"][..]),
        ("psql", &["backup", "verify"]),
        ("psql", &["restore", "latest", "--into", &into]),
    ] {
        let fakes = fakes(program, WAITS);
        system.set("PG_BIN_DIR", fakes.path().to_str().unwrap());
        let met = Cell::new(0);
        let output = discretion
            .watch(&system, words, |line| {
                // Not when it only says its version.
                if line.contains(program) && line.contains("--no-password") {
                    met.set(met.get() + 1);
                    fs::write(fakes.path().join("seen"), "").unwrap();
                }
            })
            .await;
        assert_succeeded(&output);
        assert!(met.get() > 0, "{words:?}");
        discretion.look_at_output(&output);
    }
    let restored = PgPool::connect(&target.url).await.unwrap();
    let messages: Vec<Value> = sqlx::query_scalar("select to_jsonb(m) from messages m")
        .fetch_all(&restored)
        .await
        .unwrap();
    // What was looked for was there to be found.
    assert!(messages[0]["body"].to_string().contains(VISITORS));
    restored.close().await;
    discretion.look_through(&system, &[]).await;
    target.gone().await;
}
