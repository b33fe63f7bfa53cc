//! The bucket that breaks: each request in turn fails, hangs, or loses its answer.

use std::time::Duration;

use sandbox::s3::{Fault, Faults};
use workers::{backup::Ask, clients::bucket::Patience};

use super::support::{DUMPS, Fakes, World, made, until};

/// A world with a good backup, and a store that is broken since.
async fn broken(faults: Faults) -> World {
    let mut world = World::new().await;
    world.make_noise(13).await;
    made(world.back_up().await);
    world.patience = Patience {
        attempt: Duration::from_millis(1_500),
        ..world.patience
    };
    world.s3.set_faults(faults);
    world
}

/// The run fails for a reason and leaves nothing; mended, the next one goes well.
async fn fails_and_heals(faults: Faults, reason: &str) {
    let world = broken(faults).await;
    let before = world.s3.keys();
    world.back_up().await.unwrap_err();
    World::assert_failed(&world.runs("backup").await, reason);
    world.s3.set_faults(Faults::default());
    assert_eq!(world.s3.keys(), before, "good backups are untouched");
    made(world.back_up().await);
    assert!(world.s3.uploads().is_empty(), "the next run clears up");
    assert_eq!(world.s3.keys().len(), before.len() + 2);
}

macro_rules! each_fails_and_heals {
    ($($name:ident: $faults:expr, $reason:literal;)+) => {$(
        #[tokio::test]
        async fn $name() {
            fails_and_heals($faults, $reason).await;
        }
    )+};
}

fn part(number: i32, fault: Fault) -> Faults {
    Faults {
        part: Some((number, fault)),
        ..Faults::default()
    }
}

each_fails_and_heals! {
    the_first_part_is_refused: part(1, Fault::Refuse), "sending a part failed: the store answered 500";
    the_second_part_is_refused: part(2, Fault::Refuse), "sending a part failed: the store answered 500";
    the_first_part_is_not_answered: part(1, Fault::Hang), "sending a part failed: the store did not answer in time";
    the_last_part_is_not_answered: part(2, Fault::Hang), "sending a part failed: the store did not answer in time";
    the_answer_to_a_part_is_lost: part(2, Fault::LoseAnswer), "sending a part failed: the store answered 500";
    the_upload_is_not_begun: Faults { begin: Some(Fault::Refuse), ..Faults::default() },
        "beginning the upload failed: the store answered 500";
    the_upload_is_not_completed: Faults { complete: Some(Fault::Refuse), ..Faults::default() },
        "completing the upload failed: the store answered 500";
    the_completion_is_not_answered: Faults { complete: Some(Fault::Hang), ..Faults::default() },
        "completing the upload failed: the store did not answer in time";
    the_manifest_is_refused: Faults { put: Some(Fault::Refuse), ..Faults::default() },
        "writing an object failed: the store answered 500";
    the_manifest_is_not_answered: Faults { put: Some(Fault::Hang), ..Faults::default() },
        "writing an object failed: the store did not answer in time";
    the_bucket_is_gone: Faults { gone: true, ..Faults::default() }, "the store answered 404";
}

#[tokio::test]
async fn no_moment_of_the_database_is_held_while_the_bucket_is_asked() {
    let world = broken(Faults {
        begin: Some(Fault::Hang),
        ..Faults::default()
    })
    .await;
    let backups = world.backups();
    let running = tokio::spawn(async move { backups.run(&Ask::ByHand).await });
    let held = "select count(*) from pg_stat_activity where datname = current_database()
                and state = 'idle in transaction'";
    while !running.is_finished() {
        assert_eq!(world.count(held).await, 0);
    }
    running.await.unwrap().unwrap_err();
    World::assert_failed(&world.runs("backup").await, "beginning the upload failed");
}

#[tokio::test]
async fn a_completion_whose_answer_is_lost_is_a_backup_all_the_same() {
    let world = broken(Faults {
        complete: Some(Fault::LoseAnswer),
        ..Faults::default()
    })
    .await;
    let manifest = made(world.back_up().await);
    assert!(world.s3.keys().contains(&manifest.object));
    assert_eq!(
        world.runs("backup").await.last().unwrap().status,
        "succeeded"
    );
}

#[tokio::test]
async fn a_manifest_whose_answer_is_lost_is_a_backup_all_the_same() {
    let world = broken(Faults {
        put: Some(Fault::LoseAnswer),
        ..Faults::default()
    })
    .await;
    let manifest = made(world.back_up().await);
    assert_eq!(world.s3.keys().len(), 4);
    assert!(world.s3.keys().contains(&manifest.object));
}

#[tokio::test]
async fn an_object_that_could_not_be_deleted_is_deleted_by_the_next_run() {
    let world = broken(Faults {
        put: Some(Fault::Refuse),
        delete: Some(Fault::Refuse),
        ..Faults::default()
    })
    .await;
    world.back_up().await.unwrap_err();
    assert_eq!(
        world.s3.keys().len(),
        3,
        "an object without a manifest is left"
    );
    let listed = world.backups().restorer().list().await.unwrap();
    assert_eq!(listed.len(), 1, "and is no backup");
    world.s3.set_faults(Faults::default());
    made(world.back_up().await);
    assert_eq!(world.s3.keys().len(), 4);
}

#[tokio::test]
async fn a_store_that_knows_no_conditions_is_not_overwritten_either() {
    let mut world = World::new().await;
    world.s3.set_faults(Faults {
        no_conditions: true,
        ..Faults::default()
    });
    let first = made(world.back_up().await);
    let bytes = std::fs::read(world.s3.path(&first.object)).unwrap();
    let second = made(world.back_up().await);
    assert_ne!(first.object, second.object);
    assert_eq!(std::fs::read(world.s3.path(&first.object)).unwrap(), bytes);

    // Somebody puts an object at the key while the run is on its way there.
    let fakes = Fakes::waiting(DUMPS);
    for conditions in [false, true] {
        world.s3.set_faults(Faults {
            no_conditions: !conditions,
            ..Faults::default()
        });
        world.set("PG_BIN_DIR", fakes.path().to_str().unwrap());
        let backups = world.backups();
        let running = tokio::spawn(async move { backups.run(&Ask::ByHand).await });
        until(async || !world.s3.uploads().is_empty()).await;
        let key = world.s3.uploads().remove(0);
        std::fs::write(world.s3.path(&key), "somebody else's").unwrap();
        fakes.go();
        running.await.unwrap().unwrap_err();
        fakes.wait();
        World::assert_failed(
            &world.runs("backup").await,
            "somebody else has put an object",
        );
        let there = std::fs::read_to_string(world.s3.path(&key)).unwrap();
        assert_eq!(there, "somebody else's");
        std::fs::remove_file(world.s3.path(&key)).unwrap();
    }
}

#[tokio::test]
async fn a_wrong_key_is_told_without_being_shown() {
    let mut world = World::new().await;
    world.set("TIGRIS_SECRET_ACCESS_KEY", "hunter2");
    world.back_up().await.unwrap_err();
    let runs = world.runs("backup").await;
    World::assert_failed(&runs, "the store answered 403");
    assert!(!runs[0].reason.as_deref().unwrap().contains("hunter2"));
}
