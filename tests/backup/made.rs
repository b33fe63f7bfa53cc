//! A backup that goes well.

use std::io::Read;

use sandbox::s3::{Faults, Rule};
use sqlx::query_scalar;
use workers::backup::{Ask, Encryption, Manifest, due_at};

use super::support::{DUMPS, Fakes, World, made, unpacked, until};

#[tokio::test]
async fn a_backup_is_a_gzip_file_with_a_manifest_beside_it() {
    let world = World::new().await;
    let manifest = made(world.back_up().await);
    assert_eq!(
        world.s3.keys(),
        [
            format!("backups/backup-{}.json", manifest.name),
            manifest.object.clone()
        ]
    );
    let sql = unpacked(&world, &manifest.object);
    assert_eq!(sql.len() as u64, manifest.dump_bytes);
    assert!(sql.contains("-- PostgreSQL database dump complete"));
    let length = std::fs::metadata(world.s3.path(&manifest.object))
        .unwrap()
        .len();
    assert_eq!(length, manifest.bytes);

    let mut written = String::new();
    let path = world
        .s3
        .path(&format!("backups/backup-{}.json", manifest.name));
    std::fs::File::open(path)
        .unwrap()
        .read_to_string(&mut written)
        .unwrap();
    let read: Manifest = serde_json::from_str(&written).unwrap();
    assert_eq!(read, manifest);
    assert_eq!(manifest.tables["public.sessions"], 3);
    assert_eq!(manifest.tables["public.messages"], 3);
    // It was running when its moment was taken.
    assert_eq!(manifest.tables["public.backup_runs"], 1);
    assert!(manifest.schema_version.unwrap() >= 21);
    assert_eq!(manifest.encryption, Encryption::None);

    let row: (String, i64, String) =
        sqlx::query_as("select status, bytes, sha256 from ops.backups where object_key = $1")
            .bind(&manifest.object)
            .fetch_one(&world.pool)
            .await
            .unwrap();
    let expected = (
        "succeeded".to_owned(),
        length.cast_signed(),
        manifest.sha256,
    );
    assert_eq!(row, expected);
    let verify: String =
        query_scalar("select payload ->> 'name' from queue.jobs where kind = 'backup.verify'")
            .fetch_one(&world.pool)
            .await
            .unwrap();
    assert_eq!(verify, manifest.name);
}

#[tokio::test]
async fn a_large_backup_is_sent_in_parts_and_nothing_of_it_is_left_unfinished() {
    let world = World::new().await;
    world.make_noise(22).await;
    let manifest = made(world.back_up().await);
    assert_eq!(world.s3.parts(), 3, "{} bytes", manifest.bytes);
    assert!(world.s3.uploads().is_empty());
    assert_eq!(manifest.tables["public.noise"], 22_000);
    assert_eq!(
        unpacked(&world, &manifest.object).len() as u64,
        manifest.dump_bytes
    );
}

#[tokio::test]
async fn rows_that_come_while_the_dump_runs_are_in_neither_the_dump_nor_the_counts() {
    let world = World::new().await;
    // Between the export of the snapshot and pg_dump's first look.
    let slow = Fakes::waiting(DUMPS);
    let mut world = world;
    world.set("PG_BIN_DIR", slow.path().to_str().unwrap());
    let backups = world.backups();
    let running = tokio::spawn(async move { backups.run(&Ask::ByHand).await });
    let exported = "select count(*) from pg_stat_activity where datname = current_database()
                    and backend_xmin is not null and state = 'idle in transaction'";
    until(async || world.count(exported).await > 0).await;
    world.say_something(5).await;
    slow.go();
    let manifest = made(running.await.unwrap());
    assert_eq!(manifest.tables["public.sessions"], 3);
    let sql = unpacked(&world, &manifest.object);
    assert_eq!(sql.matches("\tm-1\t").count(), 3);
}

#[tokio::test]
async fn the_second_backup_of_a_date_has_its_time_in_its_name() {
    let world = World::new().await;
    let first = made(world.back_up().await);
    let second = made(world.back_up().await);
    assert_eq!(first.name.len(), "2026-11-21".len());
    assert_eq!(second.name.len(), "2026-11-21T0200".len());
    assert!(second.name.starts_with(&first.name));
    assert_eq!(world.s3.keys().len(), 4);
}

#[tokio::test]
async fn a_schedule_with_several_times_a_day_puts_the_time_into_the_name() {
    let mut world = World::new().await;
    world.set("BACKUP_SCHEDULE", "0 */6 * * *");
    world.set("BACKUP_TIMEZONE", "America/New_York");
    let backups = world.backups();
    let schedule = backups.config().schedule.clone();
    let due = due_at(&schedule, "2026-11-21T19:00:00Z".parse().unwrap()).unwrap();
    let manifest = made(backups.run(&Ask::Due(due)).await);
    assert_eq!(manifest.object, "backups/backup-2026-11-21T1200.sql.gz");
    assert_eq!(manifest.time_zone, "America/New_York");
}

#[tokio::test]
async fn the_store_is_told_to_delete_what_is_old_and_keeps_its_other_rules() {
    let mut world = World::new().await;
    let rule = |days| Rule {
        id: "growth-chat-backups".to_owned(),
        prefix: "backups/".to_owned(),
        days: Some(days),
    };
    made(world.back_up().await);
    assert_eq!(world.s3.rules(), [rule(90)]);
    world.set("BACKUP_RETENTION_DAYS", "30");
    made(world.back_up().await);
    assert_eq!(world.s3.rules(), [rule(30)]);
}

#[tokio::test]
async fn where_the_store_has_no_rules_old_backups_are_deleted_and_others_are_not() {
    let world = World::new().await;
    world.s3.set_faults(Faults {
        no_lifecycle: true,
        ..Faults::default()
    });
    let new = made(world.back_up().await);
    // Five of long ago, by their files' own times.
    let long_ago = std::time::SystemTime::UNIX_EPOCH;
    for day in 1..=5 {
        for kind in ["sql.gz", "json"] {
            let path = world
                .s3
                .path(&format!("backups/backup-2020-01-0{day}.{kind}"));
            let file = std::fs::File::create(path).unwrap();
            file.set_modified(long_ago).unwrap();
        }
    }
    made(world.back_up().await);
    let mut left = world.s3.keys();
    left.retain(|key| !key.contains(&new.name));
    // The newest three at all are the two of today and one of 2020.
    assert_eq!(
        left,
        [
            "backups/backup-2020-01-05.json",
            "backups/backup-2020-01-05.sql.gz"
        ]
    );
}

#[tokio::test]
async fn a_backup_of_a_recipient_can_not_be_read_without_the_identity() {
    let mut world = World::new().await;
    let recipient = age::x25519::Identity::generate().to_public().to_string();
    world.set("BACKUP_AGE_RECIPIENT", &recipient);
    let manifest = made(world.back_up().await);
    assert_eq!(manifest.encryption, Encryption::Age);
    assert!(manifest.object.ends_with(".sql.gz.age"));
    let object = std::fs::read(world.s3.path(&manifest.object)).unwrap();
    assert!(object.starts_with(b"age-encryption.org/v1\n"));
    // Nobody here could.
    assert_eq!(
        world
            .count("select count(*) from queue.jobs where kind = 'backup.verify'")
            .await,
        0
    );
}
